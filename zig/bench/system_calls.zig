//! Counts the system calls of this process during chosen stretches, whatever allocator it has.
//!
//! How it works: the process forks, and the parent follows the child by ptrace, which stops it at each system call. All
//! else runs at full speed. The child tells by memory that both share when to count, so that telling is no system call
//! itself, and which of its threads only wait for one another at the moment.
//!
//! Guarantees: without `follow` nothing is traced, and marking costs a store. What a signal handler or another process
//! of the child does is not told apart; there is none here.

const std = @import("std");
const linux = std.os.linux;
const measure = @import("measure.zig");
const team = @import("team.zig");

const number_max = 1024;

/// Both processes see it. Plain words: the child writes the first two, and the parent reads them while the thread that it
/// looks at is stopped; the parent writes `counts`, and the child reads them when nothing is counted.
const Shared = struct {
    counting: bool,
    /// The ids of threads whose calls are the driver's own; 0 where there is none.
    own: [team.threads_max + 1]std.atomic.Value(linux.pid_t),
    /// By number of the system call.
    counts: [number_max]u64,
};

/// Null where nothing is traced.
var shared_or_none: ?*Shared = null;

/// Forks, and returns in the child, which is followed from then on. The parent ends as the child does.
pub fn follow() void {
    const address = linux.mmap(null, @sizeOf(Shared), .{ .READ = true, .WRITE = true }, .{ .TYPE = .SHARED, .ANONYMOUS = true }, -1, 0);
    _ = checked(address, "map memory for counting system calls");
    const shared: *Shared = @ptrFromInt(address);
    shared_or_none = shared;
    const tracer = linux.getpid();
    // libc's, so that the allocator and libc itself know of it.
    const child = std.c.fork();
    if (child < 0) measure.fail("cannot fork to count system calls", .{});
    if (child != 0) Tracer.run(shared, child);
    // Whoever kills the tracer means both. Without this, a tracer killed too early left a child that stays stopped.
    _ = linux.prctl(@backingInt(linux.PR.SET_PDEATHSIG), @backingInt(linux.SIG.KILL), 0, 0, 0);
    if (linux.getppid() != tracer) linux.exit_group(1);
    _ = checked(linux.ptrace(linux.PTRACE.TRACEME, 0, 0, 0, 0), "be traced (ptrace)");
    _ = checked(linux.kill(linux.getpid(), .STOP), "stop for the tracer");
}

/// Counts from here to `end`, but for threads that wait.
pub fn begin() void {
    const shared = shared_or_none orelse return;
    @memset(&shared.counts, 0);
    @as(*volatile bool, &shared.counting).* = true;
}

pub fn end() void {
    const shared = shared_or_none orelse return;
    @as(*volatile bool, &shared.counting).* = false;
}

/// A thread that at times does nothing but the driver's own work.
pub const Thread = struct {
    index: usize,
    id: linux.pid_t,

    /// Called by the thread, with an index that no other has.
    pub fn init(index: usize) Thread {
        return .{ .index = index, .id = linux.gettid() };
    }

    /// What the thread calls from here to `works` is not counted. Monotonic: the tracer looks for the id only while this
    /// thread stands still.
    pub fn waits(thread: Thread) void {
        if (shared_or_none) |shared| shared.own[thread.index].store(thread.id, .monotonic);
    }

    pub fn works(thread: Thread) void {
        if (shared_or_none) |shared| shared.own[thread.index].store(0, .monotonic);
    }
};

/// `{"name":count,…}` of what `begin` and `end` enclosed, or `null` where nothing is traced.
pub fn print(line: *measure.Line) void {
    const shared = shared_or_none orelse return line.print("null", .{});
    line.print("{{", .{});
    var first = true;
    for (shared.counts, 0..) |count, number| {
        if (count == 0) continue;
        line.print("{s}\"", .{if (first) "" else ","});
        if (std.enums.fromInt(linux.SYS, number)) |call| line.print("{t}", .{call}) else line.print("number {d}", .{number});
        line.print("\":{d}", .{count});
        first = false;
    }
    line.print("}}", .{});
}

const Tracer = struct {
    /// What `ptrace(2)` and `linux/ptrace.h` name, and the standard library does not.
    const get_syscall_info = 0x420e;
    const options: usize = 1 << 0 | 1 << 3; // TRACESYSGOOD, TRACECLONE
    const wait_all = 0x4000_0000; // __WALL
    const entry = 1;
    /// SIGTRAP as TRACESYSGOOD marks it.
    const at_call = 0x80 | @as(u32, @backingInt(linux.SIG.TRAP));

    const SyscallInfo = extern struct {
        op: u8,
        arch: u32,
        instruction_pointer: u64,
        stack_pointer: u64,
        number: u64,
        arguments: [6]u64,
    };

    fn run(shared: *Shared, child: linux.pid_t) noreturn {
        const first = wait(child);
        // It ended before it could be traced, and has said why.
        if (first.ended) |status| linux.exit_group(status);
        require(linux.ptrace(linux.PTRACE.SETOPTIONS, child, 0, options, 0), child);
        resumeThread(child, 0, child);
        while (true) {
            const stop = wait(-1);
            if (stop.ended) |status| {
                if (stop.thread == child) linux.exit_group(status);
                continue;
            }
            var signal: u32 = 0;
            if (stop.signal == at_call) {
                count(shared, stop.thread, child);
            } else if (stop.signal != @backingInt(linux.SIG.TRAP) and stop.signal != @backingInt(linux.SIG.STOP)) {
                // TRAP tells of a new thread, and STOP is how that begins. All else is the child's to have.
                signal = stop.signal;
            }
            resumeThread(stop.thread, signal, child);
        }
    }

    const Stop = struct { thread: linux.pid_t, ended: ?u8, signal: u32 };

    fn wait(whom: linux.pid_t) Stop {
        var status: i32 = undefined;
        while (true) {
            const result = linux.wait4(whom, @ptrCast(&status), wait_all, null);
            switch (linux.errno(result)) {
                .SUCCESS => {
                    const word: u32 = @bitCast(status);
                    const low: u8 = @truncate(word & 0x7f);
                    const high: u8 = @truncate(word >> 8);
                    return .{
                        .thread = @intCast(result),
                        .ended = if (low == 0) high else if (low == 0x7f) null else 128 + low,
                        .signal = high,
                    };
                },
                .INTR => {},
                else => |errno| measure.fail("cannot wait for the traced process: {s}", .{@tagName(errno)}),
            }
        }
    }

    fn count(shared: *Shared, thread: linux.pid_t, child: linux.pid_t) void {
        if (!@as(*volatile bool, &shared.counting).*) return;
        for (&shared.own) |*own| {
            if (own.load(.monotonic) == thread) return;
        }
        var info: SyscallInfo = undefined;
        const got = linux.ptrace(get_syscall_info, thread, @sizeOf(SyscallInfo), @intFromPtr(&info), 0);
        if (linux.errno(got) == .SRCH) return;
        require(got, child);
        if (info.op == entry) shared.counts[@min(info.number, number_max - 1)] += 1;
    }

    fn resumeThread(thread: linux.pid_t, signal: u32, child: linux.pid_t) void {
        const result = linux.ptrace(linux.PTRACE.SYSCALL, thread, 0, signal, 0);
        // A thread that is killed meanwhile is there no more.
        if (linux.errno(result) != .SRCH) require(result, child);
    }

    fn require(result: usize, child: linux.pid_t) void {
        if (linux.errno(result) == .SUCCESS) return;
        _ = linux.kill(child, .KILL);
        _ = checked(result, "trace a process of its own (ptrace)");
    }
};

fn checked(result: usize, what: []const u8) usize {
    return switch (linux.errno(result)) {
        .SUCCESS => result,
        else => |errno| measure.fail("cannot {s}: {s}", .{ what, @tagName(errno) }),
    };
}
