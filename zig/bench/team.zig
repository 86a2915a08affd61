//! Threads of a row: they start together, and the measured part ends when the last is done.
//!
//! Threads are libc's, so that the allocator sees them come and go. Their stacks are arrays of the
//! workload: mapped, touched and counted in the base figure of RSS. libc itself asks the allocator for
//! a small table for each thread (its DTV), which is the one block that no workload counts.
//!
//! Nobody spins without end: who waits long gives up the processor, so more threads than cores end too.

const std = @import("std");
const linux = std.os.linux;
const measure = @import("measure.zig");
const Run = @import("run.zig").Run;

pub const threads_max = 256;

const stack_bytes = 256 * 1024;
/// What is touched of it before the base figure is read. No workload and no allocator known needs more.
const stack_used_bytes = 32 * 1024;

/// Memory for one thread at a time.
pub const Stack = struct {
    memory: [*]u8,

    pub fn init() Stack {
        const memory = measure.mapUntouched(stack_bytes);
        // It grows downwards.
        measure.touchForWriting(memory + stack_bytes - stack_used_bytes, stack_used_bytes);
        return .{ .memory = memory };
    }

    /// Starts a thread that calls `body` with `context`, which must live until the thread is joined.
    pub fn spawn(stack: Stack, comptime Context: type, comptime body: fn (context: *Context) void, context: *Context) std.c.pthread_t {
        const entry = struct {
            fn entry(argument: ?*anyopaque) callconv(.c) ?*anyopaque {
                body(@ptrCast(@alignCast(argument)));
                return null;
            }
        }.entry;
        var attributes: std.c.pthread_attr_t = undefined;
        var thread: std.c.pthread_t = undefined;
        require(std.c.pthread_attr_init(&attributes));
        require(std.c.pthread_attr_setstack(&attributes, stack.memory, stack_bytes));
        require(std.c.pthread_create(&thread, &attributes, &entry, context));
        require(std.c.pthread_attr_destroy(&attributes));
        return thread;
    }
};

/// Waits for the end of a thread.
pub fn join(thread: std.c.pthread_t) void {
    require(std.c.pthread_join(thread, null));
}

fn require(result: std.c.E) void {
    if (result != .SUCCESS) measure.fail("cannot start or join a thread: {s}: use fewer with --threads", .{@tagName(result)});
}

/// Lets a number of threads go on when all of them have come.
pub const Barrier = struct {
    count: u32,
    arrived: std.atomic.Value(u32) = .init(0),
    round: std.atomic.Value(u32) = .init(0),

    pub fn wait(barrier: *Barrier) void {
        const round = barrier.round.load(.monotonic);
        // Acquire and release: what each did before the barrier is seen by all behind it.
        if (barrier.arrived.fetchAdd(1, .acq_rel) + 1 == barrier.count) {
            barrier.arrived.store(0, .monotonic);
            // Pairs with the acquire below.
            barrier.round.store(round +% 1, .release);
            _ = linux.futex_3arg(&barrier.round.raw, .{ .cmd = .WAKE, .private = true }, std.math.maxInt(i32));
            return;
        }
        // Pairs with the release above.
        while (barrier.round.load(.acquire) == round) {
            _ = linux.futex_4arg(&barrier.round.raw, .{ .cmd = .WAIT, .private = true }, round, null);
        }
    }
};

/// For a loop that waits for another thread: spins a little, then lets others run.
pub const Patience = struct {
    spins: u32 = 0,

    /// What the handing over of a cache line takes is a small part of it; a time slice is far more.
    const spins_max = 100;

    pub fn wait(patience: *Patience) void {
        if (patience.spins < spins_max) {
            patience.spins += 1;
            std.atomic.spinLoopHint();
        } else {
            _ = linux.sched_yield();
        }
    }
};

/// Runs the workers, each in a thread of its own, and measures what they do together. `Worker` has:
///
///   `prepare`  before it is measured
///   `work`     what is measured
///   `hold`     after it: brings the live blocks to their high point, at which RSS is read
///   `finish`   checks the blocks and frees them
pub fn measureTeam(run: *Run, comptime Worker: type, workers: []Worker) void {
    const Member = struct {
        worker: *Worker,
        barrier: *Barrier,
        ended_ns: u64,

        fn body(member: *@This()) void {
            member.worker.prepare();
            member.barrier.wait();
            member.barrier.wait();
            member.worker.work();
            member.ended_ns = measure.wallTimeNs();
            member.barrier.wait();
            member.barrier.wait();
            member.worker.hold();
            member.barrier.wait();
            member.barrier.wait();
            member.worker.finish();
        }
    };
    var barrier: Barrier = .{ .count = @intCast(workers.len + 1) };
    const members = run.array(Member, workers.len);
    const stacks = run.array(Stack, workers.len);
    const threads = run.array(std.c.pthread_t, workers.len);
    for (stacks) |*stack| stack.* = .init();
    run.readBase();

    for (threads, stacks, members, workers) |*thread, stack, *member, *worker| {
        member.* = .{ .worker = worker, .barrier = &barrier, .ended_ns = 0 };
        thread.* = stack.spawn(Member, Member.body, member);
    }
    barrier.wait();
    // All are prepared.
    run.start();
    barrier.wait();
    barrier.wait();
    // All have worked.
    var ended_ns: u64 = 0;
    for (members) |member| ended_ns = @max(ended_ns, member.ended_ns);
    run.stopAt(ended_ns);
    barrier.wait();
    barrier.wait();
    // All hold their blocks.
    run.readLive();
    barrier.wait();
    for (threads) |thread| join(thread);
    run.readAfter();
}
