//! The dynamic loader: keeps this object in the process for good, and tells which function a name means.
//!
//! The destructor of the thread key lies in it, threads may end after `dlclose`, and blocks may be in use then.

const std = @import("std");
const builtin = @import("builtin");

const DlInfo = extern struct {
    path: ?[*:0]const u8,
    base: ?*anyopaque,
    symbol: ?[*:0]const u8,
    address: ?*anyopaque,
};

extern fn dladdr(address: *const anyopaque, info: *DlInfo) c_int;
extern fn dlopen(path: [*:0]const u8, mode: c_int) ?*anyopaque;
extern fn dlsym(handle: ?*anyopaque, name: [*:0]const u8) ?*const anyopaque;

const rtld_lazy = 1;
const rtld_noload = if (builtin.os.tag == .macos) 0x10 else 4;
/// All objects of the process, in the loader's order (dlfcn.h).
const rtld_default: ?*anyopaque = if (builtin.os.tag == .macos) @ptrFromInt(std.math.maxInt(usize) - 1) else null;
const rtld_nodelete = if (builtin.os.tag == .macos) 0x80 else 0x1000;

/// Opens the object that `address` lies in once more, never to be closed. May allocate by libc's malloc.
pub fn stayLoaded(address: *const anyopaque) void {
    var info: DlInfo = undefined;
    if (dladdr(address, &info) == 0) return;
    _ = dlopen(info.path orelse return, rtld_lazy | rtld_noload | rtld_nodelete);
}

/// The process finds this function under this name, so the object was there from the start, by LD_PRELOAD or by
/// linking, and the loader will not unload it.
pub fn isGlobal(name: [*:0]const u8, function: *const anyopaque) bool {
    return find(name) == function;
}

/// The function that the process finds under this name. May allocate by libc's malloc if there is none.
pub fn find(name: [*:0]const u8) ?*const anyopaque {
    return dlsym(rtld_default, name);
}
