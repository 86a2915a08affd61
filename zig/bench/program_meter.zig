//! Runs one real program to its end and tells what it used: CPU time, peak RSS and page faults.
//!
//!   hak-program-meter FIGURES OUTPUT [NAME=VALUE…] -- PROGRAM [ARGUMENT…]
//!
//! PROGRAM is a path. It gets the environment with NAME=VALUE added (the `LD_PRELOAD`, which this process
//! itself must not have), /dev/null to read, and the file OUTPUT for standard output and standard error.
//! The file FIGURES gets one line of JSON:
//! `{"status":N,"signal":N,"cpu_ns":N,"peak_rss_bytes":N,"minor_faults":N,"major_faults":N}`, or
//! `{"error":"…"}`. The exit status is the program's, or 128 and the signal that ended it.
//!
//! The figures are those of `wait4`: of the program and of all processes that it started and waited for.
//! CPU time and faults are sums, peak RSS is that of the largest process. The kernel lets a process's peak
//! start at the RSS of whoever forked it; that is why this program stands between, which is small: its
//! own RSS, about 1 MiB, is the least that can be reported.

const std = @import("std");
const linux = std.os.linux;
const measure = @import("measure.zig");

extern "c" fn putenv(setting: [*:0]const u8) c_int;

pub export fn main(argc: c_int, argv: [*:null]?[*:0]const u8) c_int {
    const count: usize = @intCast(argc);
    if (count < 5) measure.fail("usage: hak-program-meter FIGURES OUTPUT [NAME=VALUE…] -- PROGRAM [ARGUMENT…]", .{});
    // From here on the figures, or what is wrong, go where they belong.
    moveTo(create(argv[1].?), &.{1});
    const output = create(argv[2].?);
    const separator = for (3..count) |index| {
        if (std.mem.eql(u8, std.mem.span(argv[index].?), "--")) break index;
    } else count;
    if (separator + 1 >= count) measure.fail("no program is named after --", .{});
    const program = argv + separator + 1;
    const settings = argv[3..separator];

    const child: linux.pid_t = @intCast(checked(linux.fork(), "fork"));
    if (child == 0) become(program, settings, output);
    var status: i32 = 0;
    var usage: linux.rusage = undefined;
    while (true) switch (linux.errno(linux.wait4(child, &status, 0, &usage))) {
        .SUCCESS => break,
        .INTR => {},
        else => |errno| measure.fail("cannot wait for the program: {s}", .{@tagName(errno)}),
    };
    const word: u32 = @bitCast(status);
    const signal = word & 0x7f;
    const exit_status = (word >> 8) & 0xff;
    var line: measure.Line = .{};
    line.print("{{\"status\":{d},\"signal\":{d},\"cpu_ns\":{d},\"peak_rss_bytes\":{d},\"minor_faults\":{d},\"major_faults\":{d}}}\n", .{
        exit_status,
        signal,
        nanoseconds(usage.utime) + nanoseconds(usage.stime),
        1024 * usage.maxrss,
        usage.minflt,
        usage.majflt,
    });
    line.send();
    return @intCast(if (signal == 0) exit_status else 128 + signal);
}

/// What the child does after the fork.
fn become(program: [*:null]?[*:0]const u8, settings: []const ?[*:0]const u8, output: linux.fd_t) noreturn {
    // Whoever kills this program means the other.
    _ = linux.prctl(@backingInt(linux.PR.SET_PDEATHSIG), @backingInt(linux.SIG.KILL), 0, 0, 0);
    for (settings) |setting| {
        if (putenv(setting.?) != 0) measure.fail("no memory for the environment", .{});
    }
    const nothing: linux.fd_t = @intCast(checked(linux.open("/dev/null", .{ .ACCMODE = .RDONLY }, 0), "open /dev/null"));
    moveTo(nothing, &.{0});
    moveTo(output, &.{ 1, 2 });
    const errno = linux.errno(linux.execve(program[0].?, program, std.c.environ));
    measure.fail("cannot run {s}: {s}", .{ program[0].?, @tagName(errno) });
}

fn create(path: [*:0]const u8) linux.fd_t {
    const flags: linux.O = .{ .ACCMODE = .WRONLY, .CREAT = true, .TRUNC = true };
    return @intCast(checked(linux.open(path, flags, 0o600), "create a file"));
}

/// Makes a file the standard one of these numbers.
fn moveTo(file: linux.fd_t, numbers: []const linux.fd_t) void {
    for (numbers) |number| _ = checked(linux.dup2(file, number), "dup2");
    _ = linux.close(file);
}

fn checked(result: usize, what: []const u8) usize {
    return switch (linux.errno(result)) {
        .SUCCESS => result,
        else => |errno| measure.fail("cannot {s}: {s}", .{ what, @tagName(errno) }),
    };
}

fn nanoseconds(time: linux.timeval) u64 {
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.usec)) * std.time.ns_per_us;
}
