//! Darwin's calls in the form of Linux's, for `os.zig`: what comes back is the result, or an error number below zero.
//!
//! Through libc, since Darwin promises no system call numbers; `errno` stays as it was. Three things are otherwise
//! there: MADV_DONTNEED leaves the contents, so fresh zeroed pages are mapped over the old ones; mappings neither
//! grow nor move; and a thread waits on a word by `__ulock_wait`.

const std = @import("std");

pub const E = std.c.E;
pub const PROT = std.c.PROT;
pub const rlimit = std.c.rlimit;
pub const timespec = std.c.timespec;
pub const MADV = struct {
    pub const DONTNEED = 4;
    pub const NOHUGEPAGE = 15;
};

const MapFlags = struct {
    TYPE: enum { PRIVATE },
    ANONYMOUS: bool,
    NORESERVE: bool = false,
    FIXED: bool = false,
    /// Darwin has only the kind that replaces: refused.
    FIXED_NOREPLACE: bool = false,
};

const MoveFlags = struct { MAYMOVE: bool = false, FIXED: bool = false };

const c = struct {
    extern fn mmap(hint: ?*anyopaque, bytes: usize, protection: PROT, flags: c_int, file: c_int, offset: i64) usize;
    extern fn munmap(address: *const anyopaque, bytes: usize) c_int;
    extern fn mprotect(address: *const anyopaque, bytes: usize, protection: PROT) c_int;
    extern fn getrlimit(resource: c_int, limit: *rlimit) c_int;
    extern fn getpagesize() c_int;
    extern fn issetugid() c_int;
    /// A library has no `environ` of its own to look at.
    extern fn _NSGetEnviron() *[*:null]const ?[*:0]const u8;
    extern fn nanosleep(time: *const timespec, left: ?*timespec) c_int;
    extern fn write(file: c_int, text: [*]const u8, bytes: usize) isize;
    extern fn pthread_sigmask(how: c_int, set: *const u32, before: ?*u32) c_int;
    extern fn sigpending(set: *u32) c_int;
    extern fn sigwait(set: *const u32, signal: *c_int) c_int;

    const map_private = 0x0002;
    const map_fixed = 0x0010;
    const map_noreserve = 0x0040;
    const map_anonymous = 0x1000;
    const rlimit_as = 5;
    const sig_block = 1;
    const sig_setmask = 3;
};

pub fn errno(result: usize) E {
    const signed: isize = @bitCast(result);
    return if (signed < 0 and signed > -4096) @fromBackingInt(@intCast(-signed)) else .SUCCESS;
}

fn refusal(code: E) usize {
    return @bitCast(-@as(isize, @backingInt(code)));
}

/// What a call of libc returned, of which all bits set mean that it failed; `errno` becomes `before` again.
fn outcome(result: usize, before: c_int) usize {
    if (result != std.math.maxInt(usize)) return result;
    const code = std.c._errno().*;
    std.c._errno().* = before;
    return @bitCast(-@as(isize, code));
}

fn status(result: c_int, before: c_int) usize {
    return outcome(@bitCast(@as(isize, result)), before);
}

pub fn mmap(hint: ?*anyopaque, bytes: usize, protection: PROT, flags: MapFlags, file: i32, offset: i64) usize {
    if (flags.FIXED_NOREPLACE) return refusal(.OPNOTSUPP);
    const before = std.c._errno().*;
    var all: c_int = c.map_private | c.map_anonymous;
    if (flags.NORESERVE) all |= c.map_noreserve;
    if (flags.FIXED) all |= c.map_fixed;
    return outcome(c.mmap(hint, bytes, protection, all, file, offset), before);
}

pub fn munmap(address: *const anyopaque, bytes: usize) usize {
    const before = std.c._errno().*;
    return status(c.munmap(address, bytes), before);
}

pub fn mprotect(address: *const anyopaque, bytes: usize, protection: PROT) usize {
    const before = std.c._errno().*;
    return status(c.mprotect(address, bytes, protection), before);
}

pub fn madvise(address: *anyopaque, bytes: usize, advice: u32) usize {
    // There are no huge pages to be kept away.
    if (advice == MADV.NOHUGEPAGE) return refusal(.INVAL);
    std.debug.assert(advice == MADV.DONTNEED);
    const readable: PROT = .{ .READ = true, .WRITE = true };
    return mmap(address, bytes, readable, .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .FIXED = true }, -1, 0);
}

/// Shrinking is unmapping the end. Nothing else can be had.
pub fn mremap(address: *const anyopaque, bytes: usize, new_bytes: usize, flags: MoveFlags, target: ?*anyopaque) usize {
    if (flags.FIXED or target != null or new_bytes > bytes) return refusal(.NOMEM);
    const start = @intFromPtr(address);
    if (new_bytes == bytes) return start;
    const ended = munmap(@ptrFromInt(start + new_bytes), bytes - new_bytes);
    return if (errno(ended) == .SUCCESS) start else ended;
}

pub fn prlimit(_: i32, resource: enum { AS }, _: ?*const rlimit, limit: *rlimit) usize {
    const before = std.c._errno().*;
    return switch (resource) {
        .AS => status(c.getrlimit(c.rlimit_as, limit), before),
    };
}

pub fn pageBytes() usize {
    return @intCast(c.getpagesize());
}

pub fn hasMoreRights() bool {
    return c.issetugid() != 0;
}

pub fn environment() [*:null]const ?[*:0]const u8 {
    return c._NSGetEnviron().*;
}

pub fn nanosleep(time: *const timespec, left: ?*timespec) usize {
    const before = std.c._errno().*;
    return status(c.nanosleep(time, left), before);
}

const Futex = struct { cmd: enum { WAIT, WAKE }, private: bool };

/// A return for no reason is allowed, so what `__ulock_wait` says is not looked at.
pub fn futex_4arg(word: *const u32, operation: Futex, value: u32, _: ?*const anyopaque) usize {
    std.debug.assert(operation.cmd == .WAIT and operation.private);
    _ = std.c.__ulock_wait(.{ .op = .COMPARE_AND_WAIT, .NO_ERRNO = true }, word, value, 0);
    return 0;
}

/// Wakes one thread. A signal may end the call before it has: then it is made again.
pub fn futex_3arg(word: *const u32, operation: Futex, count: u32) usize {
    std.debug.assert(operation.cmd == .WAKE and operation.private and count == 1);
    while (true) {
        const woken = std.c.__ulock_wake(.{ .op = .COMPARE_AND_WAIT, .NO_ERRNO = true }, word, 0);
        if (woken >= 0) return 0;
        switch (errno(@bitCast(@as(isize, woken)))) {
            .INTR, .CANCELED => {},
            else => return 0,
        }
    }
}

/// As `os.writeError`.
pub fn writeError(text: []const u8) void {
    const before = std.c._errno().*;
    defer std.c._errno().* = before;
    const pipe_signal = @as(u32, 1) << (@backingInt(std.c.SIG.PIPE) - 1);
    var mask: u32 = 0;
    var pending: u32 = 0;
    _ = c.pthread_sigmask(c.sig_block, &pipe_signal, &mask);
    _ = c.sigpending(&pending);
    const pending_before = pending;
    var rest = text;
    while (rest.len > 0) {
        const written = c.write(2, rest.ptr, rest.len);
        if (written >= 0) {
            rest = rest[@intCast(written)..];
        } else if (std.c._errno().* != @backingInt(E.INTR)) break;
    }
    _ = c.sigpending(&pending);
    var signal: c_int = 0;
    if (pending & ~pending_before & pipe_signal != 0) _ = c.sigwait(&pipe_signal, &signal);
    _ = c.pthread_sigmask(c.sig_setmask, &mask, null);
}
