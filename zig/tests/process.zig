//! What the test programs need of the process: whole lines on stdout and stderr, the resident
//! size, the limit of the address space, and one line where a crash would say nothing.
//!
//! Nothing here allocates, so it works in a signal handler, in a child after fork, and beside an
//! allocator that is broken. It speaks to Linux by system call.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;

comptime {
    // Zig's std refers to it, and musl has it only since 1.2.5: without it the program would not start. Nobody calls it.
    if (builtin.abi.isMusl()) @export(&noStatx, .{ .name = "statx", .linkage = .weak });
}

fn noStatx() callconv(.c) c_int {
    std.c._errno().* = @backingInt(linux.E.NOSYS);
    return -1;
}

pub const Stream = enum(i32) { stdout = 1, stderr = 2 };

/// Formats into the buffer; what does not fit is cut off.
pub fn formatLine(buffer: []u8, comptime format: []const u8, args: anytype) []const u8 {
    var writer: std.Io.Writer = .fixed(buffer);
    writer.print(format, args) catch |err| switch (err) {
        // The buffer is full: the beginning of the line says the most.
        error.WriteFailed => {},
    };
    return writer.buffered();
}

/// Prints one whole line with a single system call, so that lines of several threads or processes
/// do not mix.
pub fn printLine(stream: Stream, comptime format: []const u8, args: anytype) void {
    var buffer: [1024]u8 = undefined;
    const line = formatLine(buffer[0 .. buffer.len - 1], format, args);
    buffer[line.len] = '\n';
    writeAll(stream, buffer[0 .. line.len + 1]);
}

pub fn writeAll(stream: Stream, bytes: []const u8) void {
    var rest = bytes;
    while (rest.len > 0) {
        const written = linux.write(@backingInt(stream), rest.ptr, rest.len);
        switch (linux.errno(written)) {
            .SUCCESS => rest = rest[written..],
            .INTR => {},
            // Nobody reads any more; the exit status still tells the outcome.
            else => return,
        }
    }
}

/// Ends the process at once: no exit handlers, no destructors.
pub fn exitNow(status: u8) noreturn {
    linux.exit_group(status);
}

/// The exact resident size. The cheaper `statm` lags behind by what each CPU has not summed yet.
pub fn residentBytes() error{ CannotRead, Malformed }!usize {
    return readKibibytes("/proc/self/smaps_rollup", "\nRss:");
}

/// Pages that the kernel had to bring in or map so far, without reading from a disk.
pub fn minorFaults() usize {
    var usage: linux.rusage = undefined;
    _ = linux.getrusage(linux.rusage.SELF, &usage);
    return @intCast(usage.minflt);
}

/// The bytes of address space that the process may have; the largest number when there is no limit.
pub fn addressSpaceLimit() usize {
    var limit: linux.rlimit = undefined;
    if (linux.errno(linux.getrlimit(.AS, &limit)) != .SUCCESS) return std.math.maxInt(usize);
    return limit.cur;
}

fn virtualBytes() error{ CannotRead, Malformed }!usize {
    return readKibibytes("/proc/self/status", "\nVmSize:");
}

fn readKibibytes(path: [*:0]const u8, label: []const u8) error{ CannotRead, Malformed }!usize {
    var buffer: [4096]u8 = undefined;
    const text = try readFile(path, &buffer);
    const start = std.mem.find(u8, text, label) orelse return error.Malformed;
    var words = std.mem.tokenizeAny(u8, text[start + label.len ..], " \t");
    const word = words.next() orelse return error.Malformed;
    const kibibytes = std.fmt.parseInt(usize, word, 10) catch return error.Malformed;
    return kibibytes * 1024;
}

/// Reads as much of a file as fits.
pub fn readFile(path: [*:0]const u8, buffer: []u8) error{CannotRead}![]const u8 {
    const opened = linux.open(path, .{ .ACCMODE = .RDONLY, .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return error.CannotRead;
    const descriptor: linux.fd_t = @intCast(opened);
    defer _ = linux.close(descriptor);
    var length: usize = 0;
    while (length < buffer.len) {
        const got = linux.read(descriptor, buffer[length..].ptr, buffer.len - length);
        switch (linux.errno(got)) {
            .SUCCESS => if (got == 0) break else {
                length += got;
            },
            .INTR => {},
            else => return error.CannotRead,
        }
    }
    return buffer[0..length];
}

/// The limit that was in force, to be put back.
pub const AddressSpaceLimit = struct {
    before: linux.rlimit,

    pub fn restore(limit: AddressSpaceLimit) void {
        _ = linux.setrlimit(.AS, &limit.before);
    }
};

/// Lets the address space of the process grow by no more than this.
pub fn limitAddressSpace(growth_bytes: usize) error{ CannotRead, Malformed, Refused }!AddressSpaceLimit {
    growStack();
    const used = try virtualBytes();
    var before: linux.rlimit = undefined;
    if (linux.errno(linux.getrlimit(.AS, &before)) != .SUCCESS) return error.Refused;
    const lowered: linux.rlimit = .{ .cur = @min(used + growth_bytes, before.max), .max = before.max };
    if (linux.errno(linux.setrlimit(.AS, &lowered)) != .SUCCESS) return error.Refused;
    return .{ .before = before };
}

/// Keeps huge pages out of this process and its children, so that a resident size says what was
/// touched, whatever the machine's setting is. A kernel without the call has nothing to turn off.
pub fn withoutHugePages() void {
    _ = linux.prctl(@backingInt(linux.PR.SET_THP_DISABLE), 1, 0, 0, 0);
}

/// A main thread's stack grows when it is touched, which the limit would refuse with a crash.
noinline fn growStack() void {
    var pages: [256 * 1024]u8 = undefined;
    var offset: usize = 0;
    while (offset < pages.len) : (offset += std.heap.page_size_min) {
        @as(*volatile u8, &pages[offset]).* = 0;
    }
}

/// Nanoseconds on a clock that only moves forward. For limits on hangs, never for a measurement.
pub fn monotonicNanoseconds() u64 {
    var now: linux.timespec = undefined;
    _ = linux.clock_gettime(.MONOTONIC, &now);
    return @as(u64, @intCast(now.sec)) * std.time.ns_per_s + @as(u64, @intCast(now.nsec));
}

pub fn sleepMicroseconds(count: u32) void {
    const request: linux.timespec = .{ .sec = count / 1_000_000, .nsec = @as(isize, count % 1_000_000) * 1000 };
    _ = linux.nanosleep(&request, null);
}

pub fn yieldProcessor() void {
    _ = linux.sched_yield();
}

/// Says what the program was doing, into the buffer.
pub const Describe = *const fn (buffer: []u8) []const u8;

var describe_activity: Describe = undefined;

const crash_signals = [_]linux.SIG{ .SEGV, .BUS, .ILL, .FPE, .ABRT, .TRAP, .SYS, .ALRM };

/// Undoes `reportCrashes`, for a child whose crash is what is looked for.
pub fn leaveCrashesAlone() void {
    for (crash_signals) |signal| {
        const action: linux.Sigaction = .{ .handler = .{ .handler = null }, .mask = linux.sigemptyset(), .flags = 0 };
        _ = linux.sigaction(signal, &action, null);
    }
}

/// Turns a crash, an abort and an expired alarm into one line on stdout,
/// `fail ACTIVITY: …`, and exit status 1.
pub fn reportCrashes(describe: Describe) void {
    describe_activity = describe;
    for (crash_signals) |signal| {
        const action: linux.Sigaction = .{
            .handler = .{ .sigaction = onSignal },
            .mask = linux.sigfillset(),
            // One shot: a second crash, inside the handler, ends the process by the signal itself.
            .flags = linux.SA.SIGINFO | linux.SA.RESETHAND,
        };
        _ = linux.sigaction(signal, &action, null);
    }
}

fn onSignal(signal: linux.SIG, info: *const linux.siginfo_t, _: ?*anyopaque) callconv(.c) void {
    var buffer: [400]u8 = undefined;
    const activity = describe_activity(&buffer);
    switch (signal) {
        .ALRM => printLine(.stdout, "fail {s}: hung: no end within the limit", .{activity}),
        .ABRT => printLine(.stdout, "fail {s}: abort was called", .{activity}),
        else => {
            const address = @intFromPtr(info.fields.sigfault.addr);
            printLine(.stdout, "fail {s}: signal {t} at address 0x{x}", .{ activity, signal, address });
        },
    }
    exitNow(1);
}
