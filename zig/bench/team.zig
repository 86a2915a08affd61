//! Threads of a row: they start together, and the measured part ends when the last is done.
//!
//! Each worker is bound to a processor, in turn: else the same row takes three times as long when the
//! scheduler happens to put two that hand each other blocks on one processor or on two.
//!
//! Threads are libc's, so that the allocator sees them come and go. Their stacks are the program's own:
//! libc neither maps nor keeps any. What of a stack is touched counts as live, which is the same few pages
//! for all allocators, but for what one has in thread-local storage. libc itself asks the allocator for a small table
//! for each thread (its DTV), which is the one block that no workload counts.
//!
//! Nobody spins without end: who waits long gives up the processor, so more threads than cores end too.

const std = @import("std");
const linux = std.os.linux;
const measure = @import("measure.zig");
const Run = @import("run.zig").Run;

pub const threads_max = 256;

/// Thread-local storage lies in it too.
const stack_bytes = 1024 * 1024;

/// Memory for one thread at a time.
pub const Stack = struct {
    memory: [*]u8,

    pub fn init() Stack {
        return .{ .memory = measure.mapUntouched(stack_bytes) };
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

/// The processors that this process may use.
pub const Processors = struct {
    set: linux.cpu_set_t,

    pub fn init() Processors {
        var processors: Processors = undefined;
        switch (linux.errno(linux.sched_getaffinity(0, @sizeOf(linux.cpu_set_t), &processors.set))) {
            .SUCCESS => return processors,
            else => |errno| measure.fail("cannot tell on which processors to run: {s}", .{@tagName(errno)}),
        }
    }

    /// Binds the calling thread, and those that it starts from now on, to one of them. Those with the same
    /// remainder of `index` share one.
    pub fn bind(processors: *const Processors, index: usize) void {
        var rest = index % linux.CPU_COUNT(processors.set);
        var only: linux.cpu_set_t = @splat(0);
        for (processors.set, &only) |allowed, *word| {
            if (rest >= @popCount(allowed)) {
                rest -= @popCount(allowed);
                continue;
            }
            var bits = allowed;
            for (0..rest) |_| bits &= bits - 1;
            word.* = bits & (~bits + 1);
            break;
        }
        linux.sched_setaffinity(0, &only) catch |err| measure.fail("cannot run on a processor of its own: {s}", .{@errorName(err)});
    }
};

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
        index: usize,
        processors: *const Processors,
        barrier: *Barrier,
        ended_ns: u64,

        fn body(member: *@This()) void {
            member.processors.bind(member.index);
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
    const processors: Processors = .init();
    const members = run.array(Member, workers.len);
    const stacks = run.array(Stack, workers.len);
    const threads = run.array(std.c.pthread_t, workers.len);
    for (stacks) |*stack| stack.* = .init();
    run.readBase();

    for (threads, stacks, members, workers, 0..) |*thread, stack, *member, *worker, index| {
        member.* = .{ .worker = worker, .index = index, .processors = &processors, .barrier = &barrier, .ended_ns = 0 };
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

test "a barrier lets nobody pass before all have come, round after round" {
    const Walker = struct {
        barrier: *Barrier,
        steps: *[4]std.atomic.Value(u32),
        index: usize,
        ahead: u32 = 0,

        fn walk(walker: *@This()) void {
            for (1..200) |step| {
                walker.steps[walker.index].store(@intCast(step), .release);
                walker.barrier.wait();
                // Nobody may still be at an earlier step.
                for (walker.steps) |*other| walker.ahead += @intFromBool(other.load(.acquire) < step);
                walker.barrier.wait();
            }
        }
    };
    var barrier: Barrier = .{ .count = 4 };
    var steps: [4]std.atomic.Value(u32) = @splat(.init(0));
    var walkers: [4]Walker = undefined;
    var threads: [4]std.c.pthread_t = undefined;
    for (&walkers, &threads, 0..) |*walker, *thread, index| {
        walker.* = .{ .barrier = &barrier, .steps = &steps, .index = index };
        thread.* = Stack.init().spawn(Walker, Walker.walk, walker);
    }
    for (threads) |thread| join(thread);
    for (walkers) |walker| try std.testing.expectEqual(0, walker.ahead);
}

test "workers are bound to one allowed processor each, in turn" {
    const before: Processors = .init();
    defer linux.sched_setaffinity(0, &before.set) catch unreachable;
    const count = linux.CPU_COUNT(before.set);
    var taken: linux.cpu_set_t = @splat(0);
    for (0..count) |index| {
        before.bind(index);
        const bound: Processors = .init();
        try std.testing.expectEqual(1, linux.CPU_COUNT(bound.set));
        for (bound.set, before.set, &taken) |now, allowed, *sum| {
            try std.testing.expectEqual(0, now & ~allowed);
            try std.testing.expectEqual(0, now & sum.*);
            sum.* |= now;
        }
        before.bind(index + count);
        try std.testing.expectEqual(bound.set, Processors.init().set);
    }
}
