//! The operating system: every system call of the allocator is made here, and here tests refuse them.
//!
//! Nothing in this file allocates, takes a lock or touches `errno`: the calls are made directly, and what
//! the kernel said is kept in `last_error` for the log line of whoever must give up.
//! A refused call is a normal result (null or false), never a crash.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const atomic = @import("atomic.zig");
const assert = std.debug.assert;

pub const Protection = enum { none, read, read_write };

/// The error number of the last refused call, whichever thread made it. For log lines only.
var last_error_number: u32 = 0;

pub fn lastError() u32 {
    return @atomicLoad(u32, &last_error_number, .monotonic);
}

/// Tests make calls fail: the call numbered `refuse_from` and `refuse_count - 1` calls after it.
pub const Refusal = struct {
    calls: usize = 0,
    refuse_from: usize = std.math.maxInt(usize),
    refuse_count: usize = 0,

    fn refuses(self: *Refusal) bool {
        self.calls += 1;
        return self.calls >= self.refuse_from and self.calls - self.refuse_from < self.refuse_count;
    }
};

pub var refusal: if (builtin.is_test) Refusal else void = if (builtin.is_test) .{} else {};

inline fn refused() bool {
    if (!builtin.is_test) return false;
    if (!refusal.refuses()) return false;
    @atomicStore(u32, &last_error_number, @backingInt(linux.E.NOMEM), .monotonic);
    return true;
}

fn succeeded(result: usize) bool {
    const code = linux.errno(result);
    if (code == .SUCCESS) return true;
    @atomicStore(u32, &last_error_number, @backingInt(code), .monotonic);
    return false;
}

fn protectionFlags(protection: Protection) linux.PROT {
    return switch (protection) {
        .none => .{},
        .read => .{ .READ = true },
        .read_write => .{ .READ = true, .WRITE = true },
    };
}

/// Maps `bytes` of zeroed memory, at `hint` if the kernel finds that place free. Null when refused.
pub fn map(bytes: usize, protection: Protection, hint: usize) ?usize {
    if (refused()) return null;
    const result = linux.mmap(
        @ptrFromInt(hint),
        bytes,
        protectionFlags(protection),
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = protection != .read_write },
        -1,
        0,
    );
    return if (succeeded(result)) result else null;
}

/// As `map`, at a multiple of `alignment`, which is a power of two and at least a page.
pub fn mapAligned(bytes: usize, alignment: usize, protection: Protection, hint: usize) ?usize {
    assert(std.math.isPowerOfTwo(alignment));
    const first = map(bytes, protection, hint) orelse return null;
    if (first & (alignment - 1) == 0) return first;
    _ = unmap(first, bytes);

    const padded, const overflow = @addWithOverflow(bytes, alignment);
    if (overflow != 0) return null;
    const start = map(padded, protection, 0) orelse return null;
    const aligned = std.mem.alignForward(usize, start, alignment);
    // A refused trim leaves address space mapped that nobody touches: it costs no memory.
    if (aligned != start) _ = unmap(start, aligned - start);
    const end = aligned + bytes;
    if (end != start + padded) _ = unmap(end, start + padded - end);
    return aligned;
}

pub fn unmap(address: usize, bytes: usize) bool {
    if (refused()) return false;
    return succeeded(linux.munmap(@ptrFromInt(address), bytes));
}

/// Gives the pages back at once; they read as zero afterwards.
pub fn release(address: usize, bytes: usize) bool {
    if (refused()) return false;
    return succeeded(linux.madvise(@ptrFromInt(address), bytes, linux.MADV.DONTNEED));
}

/// Keeps the kernel from backing the range with 2 MiB pages. A kernel without such pages refuses,
/// which is as good.
pub fn smallPages(address: usize, bytes: usize) void {
    if (refused()) return;
    _ = linux.madvise(@ptrFromInt(address), bytes, linux.MADV.NOHUGEPAGE);
}

pub fn makeWritable(address: usize, bytes: usize) bool {
    if (refused()) return false;
    return succeeded(linux.mprotect(@ptrFromInt(address), bytes, protectionFlags(.read_write)));
}

pub const Resized = enum { done, no_room, not_one_mapping };

/// Grows or shrinks a mapping where it lies.
pub fn resizeInPlace(address: usize, bytes: usize, new_bytes: usize) Resized {
    if (refused()) return .no_room;
    const result = linux.mremap(@ptrFromInt(address), bytes, new_bytes, .{}, null);
    if (succeeded(result)) return .done;
    return if (linux.errno(result) == .FAULT) .not_one_mapping else .no_room;
}

/// Unmaps the target of a move that failed. The kernel may have unmapped it already, as older ones do before they
/// find that they cannot move; then the place is taken once more, so that nobody else's mapping is hit.
pub fn unmapIfOurs(target: usize, bytes: usize) void {
    _ = linux.mmap(
        @ptrFromInt(target),
        bytes,
        .{},
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED_NOREPLACE = true },
        -1,
        0,
    );
    _ = unmap(target, bytes);
}

/// Moves the pages of a mapping onto `target`, a mapping of the caller's own of `target_bytes`,
/// which is replaced.
pub fn move(address: usize, bytes: usize, target: usize, target_bytes: usize) bool {
    if (refused()) return false;
    return succeeded(linux.mremap(
        @ptrFromInt(address),
        bytes,
        target_bytes,
        .{ .MAYMOVE = true, .FIXED = true },
        @ptrFromInt(target),
    ));
}

/// The bytes of address space that the process may have (RLIMIT_AS); the largest number when there is no limit.
pub fn addressSpaceLimit() usize {
    var limit: linux.rlimit = undefined;
    if (!succeeded(linux.prlimit(0, .AS, null, &limit))) return std.math.maxInt(usize);
    return limit.cur;
}

/// The key of the page size in the auxiliary vector (elf.h).
const at_pagesz = 6;

extern fn getauxval(kind: usize) usize;

/// The page size of the running kernel: 4, 16 or 64 KiB.
pub fn pageBytes() usize {
    return getauxval(at_pagesz);
}

/// Sleeps while `word` holds `value`. Its partner is `wake`. A spurious return is allowed.
pub fn wait(word: *const atomic.Value(u32), value: u32) void {
    if (atomic.explored) return atomic.explorer.wait(&word.raw, value);
    _ = linux.futex_4arg(&word.raw, .{ .cmd = .WAIT, .private = true }, value, null);
}

pub fn wake(word: *const atomic.Value(u32)) void {
    if (atomic.explored) return atomic.explorer.wake(&word.raw);
    _ = linux.futex_3arg(&word.raw, .{ .cmd = .WAKE, .private = true }, 1);
}

/// Writes to standard error. What cannot be written is lost: there is nobody to tell. A pipe that nobody reads does
/// not end the process: the signal of that is held back, and taken away if it came from here.
pub fn writeError(text: []const u8) void {
    const pipe_signal = @as(u64, 1) << (@backingInt(linux.SIG.PIPE) - 1);
    const block = 0;
    const set_mask = 2;
    var mask: u64 = undefined;
    var pending: u64 = 0;
    _ = linux.syscall4(.rt_sigprocmask, block, @intFromPtr(&pipe_signal), @intFromPtr(&mask), @sizeOf(u64));
    _ = linux.syscall2(.rt_sigpending, @intFromPtr(&pending), @sizeOf(u64));
    defer {
        if (pending & pipe_signal == 0) {
            const at_once: linux.timespec = .{ .sec = 0, .nsec = 0 };
            _ = linux.syscall4(.rt_sigtimedwait, @intFromPtr(&pipe_signal), 0, @intFromPtr(&at_once), @sizeOf(u64));
        }
        _ = linux.syscall4(.rt_sigprocmask, set_mask, @intFromPtr(&mask), 0, @sizeOf(u64));
    }
    var rest = text;
    while (rest.len > 0) {
        const written = linux.write(2, rest.ptr, rest.len);
        switch (linux.errno(written)) {
            .SUCCESS => rest = rest[written..],
            .INTR => {},
            else => return,
        }
    }
}

extern fn abort() noreturn;

/// Ends the process with SIGABRT.
pub fn die() noreturn {
    abort();
}

test "os: a refused call is reported, and only the numbered ones are refused" {
    defer refusal = .{};
    refusal = .{ .refuse_from = 2, .refuse_count = 1 };
    const first = map(1 << 16, .read_write, 0).?;
    try std.testing.expectEqual(null, map(1 << 16, .read_write, 0));
    try std.testing.expectEqual(@backingInt(linux.E.NOMEM), lastError());
    const third = map(1 << 16, .read_write, 0).?;
    try std.testing.expect(unmap(first, 1 << 16));
    try std.testing.expect(unmap(third, 1 << 16));
}

test "os: aligned mappings are aligned, zeroed and as long as asked" {
    for ([_]usize{ 1 << 16, 1 << 21, 1 << 24 }) |alignment| {
        const address = mapAligned(3 << 16, alignment, .read_write, 0).?;
        defer _ = unmap(address, 3 << 16);
        try std.testing.expectEqual(0, address % alignment);
        const memory: [*]u8 = @ptrFromInt(address);
        for (memory[0 .. 3 << 16]) |byte| if (byte != 0) return error.NotZero;
        memory[(3 << 16) - 1] = 1;
        try std.testing.expect(release(address, 3 << 16));
        try std.testing.expectEqual(0, memory[(3 << 16) - 1]);
    }
}
