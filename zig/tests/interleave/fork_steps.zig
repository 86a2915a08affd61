//! fork at every instruction of a thread's slow paths, in code optimised as the shipped objects are.
//!
//! The processor's trap flag stops the thread after each instruction. Then either another thread forks, whose child
//! uses all that is left of the stopped one; or the handler itself forks, whose child goes on from there. Where a lock
//! is held another thread would wait, so it does not fork; nor where no memory that a child could see has changed
//! since its last fork: the child would be the same.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const internals = @import("hakmem").internals;
const libc = @import("libc.zig");
const child = @import("child.zig");
const heap = internals.heap;
const lifecycle = internals.lifecycle;
const thread_slot = internals.thread_slot;
const Heap = heap.Heap;

const Forker = enum { another_thread, handler };

/// What a planted defect takes away.
const Defect = enum { none, busy_unsaid, locks_not_taken, interruptions_forgotten };

const Result = struct { instructions: usize = 0, locked: usize = 0, children: usize = 0, failed: usize = 0 };

var forker: Forker = undefined;
var defect: Defect = .none;
var result: Result = .{};
var in_child = false;
/// What a child could see, at the last fork.
var seen: Visible = undefined;
var stopped_heap: *Heap = undefined;

const Visible = struct {
    thread_heap: Heap,
    blocks: [256]usize,
    held: [child.held_count]usize,

    fn now() Visible {
        var visible: Visible = undefined;
        @memset(std.mem.asBytes(&visible), 0);
        const own = thread_slot.get();
        visible.thread_heap = own.*;
        visible.held = child.heldBlocks();
        // Both may be of different arrays for a moment; the words below the newer one are as good as any.
        const shelf = &own.shelves[child.class];
        if (shelf.base) |base| {
            const words = @min(shelf.words_owned, visible.blocks.len);
            @memcpy(visible.blocks[0..words], base[0..words]);
        }
        return visible;
    }
};

/// Stops and starts the trapping after each instruction.
fn toggle() void {
    @breakpoint();
}

const trap_trace = 2;
/// The word of the flags in x86-64's `ucontext_t`, and the trap flag in it.
const flags_word = (40 + 17 * 8) / 8;
const trap_flag = 1 << 8;

fn onTrap(_: linux.SIG, info: *const linux.siginfo_t, context: ?*anyopaque) callconv(.c) void {
    const words: [*]u64 = @ptrCast(@alignCast(context.?));
    if (info.code != trap_trace) {
        if (!in_child) words[flags_word] ^= trap_flag;
        return;
    }
    result.instructions += 1;
    if (result.failed > 0) return;
    var states: [locks_count]usize = undefined;
    var held = false;
    for (lifecycle.all_locks, &states) |lock, *state| {
        state.* = lock.state.raw;
        held = held or state.* != 0;
    }
    if (held) result.locked += 1;
    switch (forker) {
        .handler => {
            forkHere(&states);
            if (in_child) words[flags_word] &= ~@as(u64, trap_flag);
        },
        .another_thread => {
            if (held) {
                if (defect != .locks_not_taken) {
                    @memset(std.mem.asBytes(&seen), 0xff);
                    return;
                }
                for (lifecycle.all_locks) |lock| lock.state.raw = 0;
            }
            const visible = Visible.now();
            if (!held and std.mem.eql(u8, std.mem.asBytes(&visible), std.mem.asBytes(&seen))) return;
            seen = visible;
            stopped_heap = thread_slot.get();
            turn.pass(.forker);
            turn.await(.stopped);
            for (lifecycle.all_locks, states) |lock, state| lock.state.raw = state;
        },
    }
}

const locks_count = lifecycle.all_locks.len;

/// Which of the two threads goes on.
const turn = struct {
    const Turn = enum(u32) { stopped, forker, over };
    var now: std.atomic.Value(u32) = .init(@backingInt(Turn.stopped));

    fn pass(to: Turn) void {
        // Partner: the load in `await`.
        now.store(@backingInt(to), .release);
        internals.os.wake(&now);
    }

    /// True if it is over.
    fn awaitOrOver(mine: Turn) bool {
        while (true) {
            // Partner: the store in `pass`.
            const seen_turn: Turn = @fromBackingInt(now.load(.acquire));
            if (seen_turn == mine) return false;
            if (seen_turn == .over) return true;
            internals.os.wait(&now, @backingInt(seen_turn));
        }
    }

    fn await(mine: Turn) void {
        _ = awaitOrOver(mine);
    }
};

/// The other thread, with a heap of its own.
fn forkOnDemand() void {
    _ = lifecycle.enter();
    turn.pass(.stopped);
    while (!turn.awaitOrOver(.forker)) {
        libc.beforeFork();
        const pid = std.c.fork();
        if (pid == 0) {
            if (defect == .busy_unsaid and stopped_heap.kind == .live) stopped_heap.busy = false;
            limitChild();
            libc.afterForkInChild();
            checkAndEnd();
        }
        libc.afterForkInParent();
        awaitChild(pid);
        turn.pass(.stopped);
    }
    libc.key_destructor.?(thread_slot.get());
}

/// In the thread that was interrupted. The locks that it holds stay its own.
fn forkHere(before: *const [locks_count]usize) void {
    libc.beforeFork();
    if (defect == .interruptions_forgotten) {
        for (lifecycle.all_locks) |lock| lock.interruptions = 0;
    }
    const pid = std.c.fork();
    if (pid == 0) {
        in_child = true;
        limitChild();
        libc.afterForkInChild();
        if (!areAs(before)) linux.exit_group(1);
        return;
    }
    libc.afterForkInParent();
    if (!areAs(before)) result.failed += 1;
    awaitChild(pid);
}

fn areAs(before: *const [locks_count]usize) bool {
    for (lifecycle.all_locks, before) |lock, state| {
        if (lock.state.raw != state or lock.interruptions != 0) return false;
    }
    return true;
}

fn limitChild() void {
    if (defect != .none) _ = linux.close(2);
    // Broken lists can have no end, and a lock may wait for ever.
    const seconds: linux.rlimit = .{ .cur = 1, .max = 1 };
    _ = linux.prlimit(0, .CPU, &seconds, null);
    _ = std.c.alarm(30);
}

fn awaitChild(pid: std.c.pid_t) void {
    result.children += 1;
    var status: c_int = 1;
    if (pid > 0) {
        while (std.c.waitpid(pid, &status, 0) < 0) {}
    }
    if (status != 0) result.failed += 1;
}

fn checkAndEnd() noreturn {
    child.check(asAnother) catch |err| {
        std.debug.print("in the child: {t}\n", .{err});
        linux.exit_group(1);
    };
    linux.exit_group(0);
}

fn asAnother(run: *const fn () anyerror!void) anyerror!void {
    const Call = struct {
        var outcome: anyerror!void = {};
        fn call(what: *const fn () anyerror!void) void {
            outcome = what();
        }
    };
    const thread = try std.Thread.spawn(.{}, Call.call, .{run});
    thread.join();
    return Call.outcome;
}

fn stepThrough(who: Forker, planted: Defect, comptime victim: fn () void) !Result {
    if (builtin.cpu.arch != .x86_64) {
        const root = @import("root");
        if (@hasDecl(root, "skip_reason")) root.skip_reason = "needs the trap flag of x86-64";
        return error.SkipZigTest;
    }
    const action: linux.Sigaction = .{
        .handler = .{ .sigaction = onTrap },
        .mask = linux.sigemptyset(),
        .flags = linux.SA.SIGINFO,
    };
    var before: linux.Sigaction = undefined;
    if (linux.errno(linux.sigaction(.TRAP, &action, &before)) != .SUCCESS) return error.NoHandler;
    defer _ = linux.sigaction(.TRAP, &before, null);

    // The C library reads the clock again whenever it moves meanwhile, which it does at this speed.
    internals.os.clock_set = 1;
    defer internals.os.clock_set = null;
    forker = who;
    defect = planted;
    result = .{};
    child.reset();
    @memset(std.mem.asBytes(&seen), 0xff);
    const thread = if (who == .another_thread) another: {
        turn.now.store(@backingInt(turn.Turn.forker), .monotonic);
        const thread = try std.Thread.spawn(.{}, forkOnDemand, .{});
        turn.await(.stopped);
        break :another thread;
    } else null;
    thread_slot.set(@constCast(&heap.empty_heap));
    toggle();
    victim();
    toggle();
    if (in_child) checkAndEnd();
    if (thread) |another| {
        turn.pass(.over);
        another.join();
    }
    heap.flushMagazines();
    libc.key_destructor.?(thread_slot.get());
    return result;
}

fn endOfThread() void {
    child.flushes();
    libc.key_destructor.?(thread_slot.get());
    thread_slot.set(@constCast(&heap.empty_heap));
    child.freeAll();
}

fn say(what: Result) !void {
    var buffer: [200]u8 = undefined;
    const text = try std.fmt.bufPrint(&buffer, "{d} instructions, {d} of them under a lock, {d} children\n", .{
        what.instructions, what.locked, what.children,
    });
    _ = linux.write(1, text.ptr, text.len);
}

test "interleave: fork at every instruction of refills, growth and flushes of a magazine" {
    const found = try stepThrough(.another_thread, .none, child.missesAndOverflows);
    try say(found);
    try std.testing.expectEqual(0, found.failed);
    try std.testing.expect(found.instructions > 3_000 and found.locked > 1_000 and found.children > 200);
}

test "interleave: fork at every instruction of flushing all, and of the end of a thread" {
    const found = try stepThrough(.another_thread, .none, endOfThread);
    try say(found);
    try std.testing.expectEqual(0, found.failed);
    try std.testing.expect(found.instructions > 3_000 and found.locked > 1_000 and found.children > 50);
}

test "interleave: fork in a signal handler at every instruction of a refill and a flush" {
    const found = try stepThrough(.handler, .none, child.shortFlush);
    try say(found);
    try std.testing.expectEqual(0, found.failed);
    try std.testing.expectEqual(found.instructions, found.children);
    try std.testing.expect(found.instructions > 500 and found.locked > 200);
}

test "interleave: fork at every instruction, planted: a slow path that does not say that it is busy" {
    const found = try stepThrough(.another_thread, .busy_unsaid, child.missesAndOverflows);
    try std.testing.expect(found.failed > 0);
}

test "interleave: fork at every instruction, planted: a handler that takes no locks" {
    const found = try stepThrough(.another_thread, .locks_not_taken, child.shortFlush);
    try std.testing.expect(found.failed > 0);
}

test "interleave: fork in a signal handler, planted: a fork that forgets what it interrupted" {
    const found = try stepThrough(.handler, .interruptions_forgotten, child.shortFlush);
    try std.testing.expect(found.failed > 0);
}
