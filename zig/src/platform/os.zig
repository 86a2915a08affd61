//! The operating system: every system call of the allocator is made here, and here tests refuse them.
//!
//! Nothing in this file allocates, takes a lock or touches `errno`: the calls are made directly, and what
//! the kernel said is kept in `last_error` for the log line of whoever must give up.
//! A refused call is a normal result (null or false), never a crash.

const std = @import("std");
const builtin = @import("builtin");
const build_options = @import("build_options");
/// The calls in the form that Linux has them. Darwin answers in the same form.
const linux = switch (builtin.os.tag) {
    .linux => std.os.linux,
    .macos => @import("darwin.zig"),
    else => @compileError("no operating system layer for " ++ @tagName(builtin.os.tag)),
};
const atomic = @import("atomic.zig");
const cost = @import("cost.zig");
const assert = std.debug.assert;

pub const Protection = enum { none, read, read_write };

/// The error number of the last refused call, whichever thread made it. For log lines only.
var last_error_number: u32 = 0;

pub fn lastError() u32 {
    return atomic.load(u32, &last_error_number, .monotonic);
}

/// The calls that the system may refuse.
pub const Call = enum { map, unmap, release, small_pages, huge_pages, populate, resident, make_writable, resize, move, limit, read_file };

/// Tests make calls fail: the call numbered `refuse_from` and `refuse_count - 1` calls after it, of those that are
/// not spared.
pub const Refusal = struct {
    calls: usize = 0,
    refuse_from: usize = std.math.maxInt(usize),
    refuse_count: usize = 0,
    spared: std.EnumSet(Call) = .empty,
    /// What was refused so far, so that a test can say that it left none out.
    refused: std.EnumSet(Call) = .empty,

    fn refuses(self: *Refusal, call: Call) bool {
        if (self.spared.contains(call)) return false;
        // Partner: itself, in another thread. The number only chooses which call fails.
        const number = atomic.add(usize, &self.calls, 1, .monotonic) + 1;
        if (number < self.refuse_from or number - self.refuse_from >= self.refuse_count) return false;
        self.refused.insert(call);
        return true;
    }
};

/// The unit tests and the fuzzer can refuse calls. Where an explorer has the atomics, each call would be one more step.
const can_refuse = (builtin.is_test and !atomic.explored) or build_options.test_hooks;

pub var refusal: if (can_refuse) Refusal else void = if (can_refuse) .{} else {};

inline fn refused(call: Call) bool {
    if (!can_refuse) return false;
    if (!refusal.refuses(call)) return false;
    atomic.store(u32, &last_error_number, @backingInt(linux.E.NOMEM), .monotonic);
    return true;
}

fn succeeded(result: usize) bool {
    const code = linux.errno(result);
    if (code == .SUCCESS) return true;
    atomic.store(u32, &last_error_number, @backingInt(code), .monotonic);
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
    if (refused(.map)) return null;
    if (injectedPageBytes()) |page_bytes| return mapOnPages(bytes, protection, hint, page_bytes);
    return mapAnywhere(bytes, protection, hint);
}

fn mapAnywhere(bytes: usize, protection: Protection, hint: usize) ?usize {
    cost.called(.calls_map);
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

/// As a kernel with larger pages would.
fn mapOnPages(bytes: usize, protection: Protection, hint: usize, page_bytes: usize) ?usize {
    assert(bytes % page_bytes == 0);
    const first = mapAnywhere(bytes, protection, hint) orelse return null;
    if (first % page_bytes == 0) return first;
    assert(succeeded(linux.munmap(@ptrFromInt(first), bytes)));
    const start = mapAnywhere(bytes + page_bytes, protection, 0) orelse return null;
    const address = std.mem.alignForward(usize, start, page_bytes);
    if (address != start) assert(succeeded(linux.munmap(@ptrFromInt(start), address - start)));
    const tail = start + page_bytes - address;
    if (tail != 0) assert(succeeded(linux.munmap(@ptrFromInt(address + bytes), tail)));
    return address;
}

/// The kernel takes nothing but whole pages: with those of 4 KiB, where most tests run, mistakes would not show.
fn checkPages(address: usize, bytes: usize) void {
    if (builtin.is_test) assert(address % pageBytes() == 0 and bytes % pageBytes() == 0 and bytes > 0);
}

pub fn unmap(address: usize, bytes: usize) bool {
    checkPages(address, bytes);
    if (refused(.unmap)) return false;
    cost.called(.calls_unmap);
    return succeeded(linux.munmap(@ptrFromInt(address), bytes));
}

/// Gives the pages back at once; they read as zero afterwards.
pub fn release(address: usize, bytes: usize) bool {
    checkPages(address, bytes);
    if (refused(.release)) return false;
    cost.called(.calls_release);
    return succeeded(linux.madvise(@ptrFromInt(address), bytes, linux.MADV.DONTNEED));
}

/// Keeps the kernel from backing the range with 2 MiB pages. A kernel without such pages refuses,
/// which is as good.
pub fn smallPages(address: usize, bytes: usize) void {
    checkPages(address, bytes);
    if (refused(.small_pages)) return;
    cost.called(.calls_advise);
    _ = linux.madvise(@ptrFromInt(address), bytes, linux.MADV.NOHUGEPAGE);
}

/// Lets the kernel back the range with 2 MiB pages at the first touch. Whether it will is not known: it agrees where it
/// never does so.
pub fn hugePages(address: usize, bytes: usize) bool {
    checkPages(address, bytes);
    if (builtin.os.tag != .linux or refused(.huge_pages)) return false;
    cost.called(.calls_advise);
    return succeeded(linux.madvise(@ptrFromInt(address), bytes, linux.MADV.HUGEPAGE));
}

/// madvise's wish for writable pages at once, since Linux 5.14 (madvise(2)).
const madv_populate_write = 23;

pub const Populated = enum {
    done,
    /// Not this time: some of the pages may be there.
    failed,
    /// The system knows no such call.
    unknown,
};

/// Makes every page of the range resident and writable, as a write to each would. What was in them stays.
pub fn populate(address: usize, bytes: usize) Populated {
    checkPages(address, bytes);
    if (builtin.os.tag != .linux) return .unknown;
    if (refused(.populate)) return .failed;
    cost.called(.calls_populate);
    const result = linux.madvise(@ptrFromInt(address), bytes, madv_populate_write);
    if (succeeded(result)) return .done;
    return if (linux.errno(result) == .INVAL) .unknown else .failed;
}

/// The page at `address` is resident. False where the system does not say.
pub fn isResident(address: usize) bool {
    if (builtin.os.tag != .linux or refused(.resident)) return false;
    cost.called(.calls_look);
    var state: [1]u8 = .{0};
    // With pages larger than those of the kernel, as tests have them, the first one speaks for all.
    if (!succeeded(linux.mincore(@ptrFromInt(address), 1, &state))) return false;
    return state[0] & 1 != 0;
}

/// What tests put in place of the clock below.
pub var test_clock: if (builtin.is_test) ?*const fn () u64 else void = if (builtin.is_test) null else {};

/// The time in nanoseconds that the calling thread has run: others that run meanwhile do not count.
/// It starts anew in a forked child.
pub fn threadTime() u64 {
    if (builtin.is_test) if (test_clock) |clock| return clock();
    if (builtin.os.tag != .linux) return 0;
    var time: linux.timespec = undefined;
    cost.called(.calls_clock);
    const result = linux.syscall2(.clock_gettime, @backingInt(linux.CLOCK.THREAD_CPUTIME_ID), @intFromPtr(&time));
    if (linux.errno(result) != .SUCCESS) return 0;
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

pub fn makeWritable(address: usize, bytes: usize) bool {
    checkPages(address, bytes);
    if (refused(.make_writable)) return false;
    cost.called(.calls_protect);
    return succeeded(linux.mprotect(@ptrFromInt(address), bytes, protectionFlags(.read_write)));
}

/// Takes the pages back and makes every access a fault; the place stays taken until `unmap`.
pub fn seal(address: usize, bytes: usize) bool {
    if (refused(.map)) return false;
    cost.called(.calls_map);
    const result = linux.mmap(
        @ptrFromInt(address),
        bytes,
        .{},
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = true },
        -1,
        0,
    );
    return succeeded(result);
}

pub const Resized = enum { done, no_room, not_one_mapping };

/// Grows or shrinks a mapping where it lies.
pub fn resizeInPlace(address: usize, bytes: usize, new_bytes: usize) Resized {
    checkPages(address, bytes);
    checkPages(address, new_bytes);
    if (refused(.resize)) return .no_room;
    cost.called(.calls_remap);
    const result = linux.mremap(@ptrFromInt(address), bytes, new_bytes, .{}, null);
    if (succeeded(result)) return .done;
    return if (linux.errno(result) == .FAULT) .not_one_mapping else .no_room;
}

/// Takes the target of a move that failed once more, if the kernel has unmapped it already, as older ones do before
/// they find that they cannot move: whoever unmaps it next must not hit somebody else's mapping.
pub fn takeTargetAgain(target: usize, bytes: usize) void {
    if (refused(.map)) return;
    cost.called(.calls_map);
    _ = linux.mmap(
        @ptrFromInt(target),
        bytes,
        .{},
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED_NOREPLACE = true },
        -1,
        0,
    );
}

/// Moves the pages of a mapping onto `target`, a mapping of the caller's own of `target_bytes`,
/// which is replaced.
pub fn move(address: usize, bytes: usize, target: usize, target_bytes: usize) bool {
    checkPages(address, bytes);
    checkPages(target, target_bytes);
    if (refused(.move)) return false;
    cost.called(.calls_remap);
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
    if (refused(.limit)) return std.math.maxInt(usize);
    cost.called(.calls_limit);
    var limit: linux.rlimit = undefined;
    if (!succeeded(linux.prlimit(0, .AS, null, &limit))) return std.math.maxInt(usize);
    return limit.cur;
}

/// The first bytes of a file, as many as fit in `buffer`. Null when it cannot be read.
pub fn readFile(path: [*:0]const u8, buffer: []u8) ?[]const u8 {
    if (builtin.os.tag != .linux or refused(.read_file)) return null;
    cost.called(.calls_file);
    const opened = linux.openat(linux.AT.FDCWD, path, .{ .CLOEXEC = true }, 0);
    if (!succeeded(opened)) return null;
    const file: linux.fd_t = @intCast(opened);
    defer {
        cost.called(.calls_file);
        _ = linux.close(file);
    }
    var length: usize = 0;
    while (length < buffer.len) {
        cost.called(.calls_file);
        const got = linux.read(file, buffer.ptr + length, buffer.len - length);
        switch (linux.errno(got)) {
            .SUCCESS => if (got == 0) break,
            .INTR => continue,
            else => return null,
        }
        length += got;
    }
    return buffer[0..length];
}

/// The key of the page size in the auxiliary vector (elf.h).
const at_pagesz = 6;

extern fn getauxval(kind: usize) usize;

/// The page size of the running kernel: 4, 16 or 64 KiB; a constant where the processor knows only one.
pub fn pageBytes() usize {
    if (builtin.os.tag != .linux) return linux.pageBytes();
    if (injectedPageBytes()) |page_bytes| return page_bytes;
    const only_one = std.heap.page_size_min == std.heap.page_size_max;
    return if (only_one) std.heap.page_size_min else getauxval(at_pagesz);
}

/// The unit tests run once for each page size: their runner says which one to take for the kernel's.
inline fn injectedPageBytes() ?usize {
    if (!builtin.is_test) return null;
    const root = @import("root");
    return if (@hasDecl(root, "page_bytes")) root.page_bytes else null;
}

/// The key of the mark that the process has more rights than its caller (elf.h).
const at_secure = 23;

pub fn hasMoreRights() bool {
    if (builtin.os.tag != .linux) return linux.hasMoreRights();
    return getauxval(at_secure) != 0;
}

/// A clock that the C library answers from memory which the kernel keeps up to date (the vDSO), so without a system
/// call where there is such memory. It moves in steps of a few milliseconds.
const coarse_clock: std.c.clockid_t = if (builtin.os.tag == .linux) .MONOTONIC_COARSE else .MONOTONIC_RAW_APPROX;

/// Tests set the clock; where an explorer has the threads, it always stands still.
const can_set_clock = builtin.is_test or build_options.test_hooks;

pub var clock_set: if (can_set_clock) ?usize else void = if (!can_set_clock) {} else if (atomic.explored) 1 else null;

/// Milliseconds since some moment before the process began. 0 where there is no clock.
pub fn milliseconds() usize {
    if (can_set_clock) if (clock_set) |set| return set;
    var time: std.c.timespec = undefined;
    if (std.c.clock_gettime(coarse_clock, &time) != 0) return 0;
    return @intCast(time.sec * 1000 + @divTrunc(time.nsec, 1_000_000));
}

pub const Environment = [*:null]const ?[*:0]const u8;

extern const environ: ?Environment;
/// Where the kernel put argc, the arguments and the environment; the loader of glibc knows it from the start.
const stack_end: ?*const ?[*]const usize = if (builtin.abi.isGnu())
    @extern(?*const ?[*]const usize, .{ .name = "__libc_stack_end", .linkage = .weak })
else
    null;

/// The environment as the process found it. The loader and other libraries allocate before libc has set `environ`.
/// Null where neither says.
pub fn environment() ?Environment {
    if (builtin.os.tag != .linux) return linux.environment();
    if (environ) |variables| return variables;
    const start = (stack_end orelse return null).* orelse return null;
    const argument_count = start[0];
    return @ptrCast(start + 1 + argument_count + 1);
}

/// Sleeps while `word` holds `value`. Its partner is `wake`. A spurious return is allowed.
pub fn wait(word: *const atomic.Value(u32), value: u32) void {
    if (atomic.explored) return atomic.explorer.wait(&word.raw, value);
    cost.called(.calls_wait);
    _ = linux.futex_4arg(&word.raw, .{ .cmd = .WAIT, .private = true }, value, null);
}

pub fn wake(word: *const atomic.Value(u32)) void {
    if (atomic.explored) return atomic.explorer.wake(&word.raw);
    cost.called(.calls_wake);
    _ = linux.futex_3arg(&word.raw, .{ .cmd = .WAKE, .private = true }, 1);
}

/// Lets other threads run.
pub fn sleep(microseconds: u31) void {
    if (atomic.explored) return atomic.explorer.sleep();
    cost.called(.calls_sleep);
    const time: linux.timespec = .{ .sec = 0, .nsec = @as(isize, microseconds) * 1000 };
    _ = linux.nanosleep(&time, null);
}

/// Writes to standard error. What cannot be written is lost: there is nobody to tell. A pipe that nobody reads does
/// not end the process: the signal of that is held back, and taken away if it came from here.
pub fn writeError(text: []const u8) void {
    if (builtin.os.tag != .linux) return linux.writeError(text);
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
        cost.called(.calls_write);
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
