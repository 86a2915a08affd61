//! What libc does for the allocator at the end of a thread and at fork, with the hands of the tests on it: these
//! functions stand in for those of libc in the whole test program.

const internals = @import("hakmem").internals;
const atomic = internals.atomic;

const Destructor = *const fn (?*anyopaque) callconv(.c) void;
const Handler = *const fn () callconv(.c) void;

pub var handlers_registered: usize = 0;
var prepare: Handler = undefined;
var parent: Handler = undefined;
var child: Handler = undefined;

/// The destructor and value of the key, where no explorer keeps them.
pub var key_destructor: ?Destructor = null;
pub var key_value: ?*anyopaque = null;

export fn pthread_key_create(key: *c_uint, destructor: Destructor) c_int {
    key.* = 1;
    key_destructor = destructor;
    if (atomic.explored) atomic.explorer.setKeyDestructor(destructor);
    return 0;
}

export fn pthread_setspecific(_: c_uint, value: ?*const anyopaque) c_int {
    key_value = @constCast(value);
    if (atomic.explored) atomic.explorer.setKeyValue(value);
    return 0;
}

export fn __register_atfork(before: Handler, in_parent: Handler, in_child: Handler, _: ?*anyopaque) c_int {
    handlers_registered += 1;
    prepare = before;
    parent = in_parent;
    child = in_child;
    return 0;
}

pub fn beforeFork() void {
    prepare();
}

pub fn afterForkInParent() void {
    parent();
}

pub fn afterForkInChild() void {
    child();
}
