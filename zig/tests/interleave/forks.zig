//! fork at every step of another thread's slow paths: a real fork, whose child finds the memory as it was at that
//! step, runs the allocator's handler, and uses what is left of the thread that is gone. And fork in a signal handler
//! at every step of its own thread, whose child goes on from there.

const std = @import("std");
const explorer = @import("explorer");
const internals = @import("hakmem").internals;
const libc = @import("libc.zig");
const child = @import("child.zig");
const expectStart = @import("lock.zig").expectStart;
const unusedClass = @import("heaps.zig").unusedClass;
const heap = internals.heap;
const superslab = internals.superslab;
const central = internals.central;
const lifecycle = internals.lifecycle;
const locking = internals.lock;
const thread_slot = internals.thread_slot;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

fn emptyProcess() !void {
    // So that the first schedule finds the memory of magazines as it is left to the others.
    child.missesAndOverflows();
    child.freeAll();
    heap.flushMagazines();
    child.reset();
}

fn nothingLeft() !void {
    heap.flushMagazines();
    central.verify();
    superslab.verify();
}

fn fork() void {
    heap.free(heap.allocate(child.size) orelse explorer.fail("no memory", .{}));
    libc.beforeFork();
    const pid = std.c.fork();
    if (pid < 0) explorer.fail("no child", .{});
    if (pid == 0) {
        explorer.beAlone();
        libc.afterForkInChild();
        checkAndEnd();
    }
    libc.afterForkInParent();
    if (explorer.awaitChild(pid) == .failed) explorer.failAsSaid();
    explorer.countOne();
}

fn checkAndEnd() noreturn {
    child.check(asAnother) catch |err| explorer.fail("in the child: {t}", .{err});
    std.os.linux.exit_group(0);
}

fn asAnother(run: *const fn () anyerror!void) anyerror!void {
    explorer.renew();
    try run();
}

fn forking(comptime victim: fn () void) Scenario {
    return .{
        .threads = &.{ victim, fork },
        .before = emptyProcess,
        .after = nothingLeft,
        .preemptions = 1,
        .aside = unusedClass,
    };
}

fn missesAndOverflows() void {
    child.missesAndOverflows();
}

fn flushes() void {
    child.flushes();
}

test "interleave: fork at every step of refills, growth and flushes of a magazine" {
    try explorer.explore(forking(missesAndOverflows), .{ .schedules_min = 400, .counted_min = 400 });
}

test "interleave: fork at every step of flushing all, and of the end of a thread" {
    try explorer.explore(forking(flushes), .{ .schedules_min = 200, .counted_min = 200 });
}

/// A store to some heap's `busy`: the only stores of a byte 0 or 1 into a heap.
fn isBusy(step: Step) bool {
    if (step.kind != .store or step.bytes != 1) return false;
    const own = thread_slot.get();
    return step.address == @intFromPtr(&own.busy);
}

test "interleave: fork, planted: a slow path that does not say that it is busy" {
    _ = try explorer.expectFound(forking(missesAndOverflows).with(struct {
        fn planted(step: Step) ?Defect {
            return if (isBusy(step) and step.value == 1) .dropped else null;
        }
    }.planted));
}

test "interleave: fork, planted: busy said after the change" {
    _ = try explorer.expectFound(forking(missesAndOverflows).with(struct {
        fn planted(step: Step) ?Defect {
            // Past a refill's or a flush's last unlock, before the new top.
            return if (isBusy(step) and step.value == 1) .{ .late = 12 } else null;
        }
    }.planted));
}

test "interleave: fork, planted: a handler that leaves a lock held in the child" {
    try expectStart("in the child: LockHeld", try explorer.expectFound(forking(missesAndOverflows).with(struct {
        fn planted(step: Step) ?Defect {
            const lock = @intFromPtr(&superslab.locks()[0].state);
            return if (explorer.isAlone() and step.kind == .swap and step.address == lock) .dropped else null;
        }
    }.planted)));
}

// fork in a signal handler that interrupts the first thread.

const Locks = [lifecycle.all_locks.len]bool;

/// No step of the schedule, unlike the lock's own question.
fn holds(lock: *const locking.Lock) bool {
    return lock.state.raw & ~@as(usize, 1) == thread_slot.threadMark();
}

/// What the calling thread holds.
fn ownLocks() Locks {
    var own: Locks = undefined;
    for (&own, lifecycle.all_locks) |*is_own, lock| is_own.* = holds(lock);
    return own;
}

fn expectOwnLocks(expected: Locks) void {
    for (expected, lifecycle.all_locks) |is_own, lock| {
        if (is_own and !holds(lock)) explorer.fail("the interrupted code has lost a lock", .{});
        if (!is_own and holds(lock)) explorer.fail("the fork has left a lock held", .{});
    }
}

fn anyOf(locks: Locks) bool {
    return std.mem.indexOfScalar(bool, &locks, true) != null;
}

/// The mark of the thread in the prepare handler.
var preparing: usize = 0;

fn prepare() void {
    preparing = thread_slot.threadMark();
    libc.beforeFork();
    preparing = 0;
}

/// The child goes on with the interrupted code.
fn goOnInChild(own: Locks) void {
    const pid = std.c.fork();
    if (pid < 0) explorer.fail("no child", .{});
    if (pid == 0) {
        explorer.beAlone();
        libc.afterForkInChild();
        expectOwnLocks(own);
        return;
    }
    libc.afterForkInParent();
    expectOwnLocks(own);
    if (explorer.awaitChild(pid) == .failed) explorer.failAsSaid();
}

/// Counts the forks that interrupted the allocator with a lock held.
fn forkInHandler() void {
    const own = ownLocks();
    prepare();
    if (anyOf(own)) explorer.countOne();
    goOnInChild(own);
}

/// Counts those that could not get a lock, since its thread waits for the interrupted code.
fn forkWithout() void {
    const own = ownLocks();
    prepare();
    const got = ownLocks();
    if (std.mem.indexOfScalar(bool, &got, false) != null) explorer.countOne();
    goOnInChild(own);
}

fn forkForgetfully() void {
    const own = ownLocks();
    prepare();
    // Of the first lock the handlers ask more than whose it is.
    for (lifecycle.all_locks[1..]) |lock| lock.interruptions = 0;
    goOnInChild(own);
}

fn shortFlush() void {
    child.shortFlush();
}

fn shortFlushOf(size: usize) void {
    var blocks: [5]*anyopaque = undefined;
    for (&blocks) |*block| block.* = heap.allocate(size) orelse explorer.fail("no memory", .{});
    for (blocks) |block| heap.free(block);
    heap.flushMagazine(internals.size_class.of(size));
}

fn besideInSameClass() void {
    shortFlushOf(child.size);
}

const other_size = 512;

fn besideInOtherClass() void {
    shortFlushOf(other_size);
}

fn checkBothAndEnd() noreturn {
    shortFlushOf(other_size);
    checkAndEnd();
}

/// Only steps of locks are points. What lies between two is tried at every instruction in `fork_steps.zig`.
fn notLocking(step: Step) bool {
    if (unusedClass(step)) return true;
    return switch (step.kind) {
        .exchange, .swap, .wait, .wake => false,
        .load, .store, .add, .read, .write => true,
    };
}

fn interrupting(comptime beside: fn () void, handler: *const fn () void) Scenario {
    return .{
        .threads = &.{ shortFlush, beside },
        .before = emptyProcess,
        .after = nothingLeft,
        .preemptions = 1,
        .aside = notLocking,
        .handler = handler,
        .end_in_child = checkBothAndEnd,
    };
}

test "interleave: fork in a signal handler that interrupted its thread anywhere, beside another thread" {
    try explorer.explore(interrupting(besideInSameClass, &forkInHandler), .{ .schedules_min = 500, .counted_min = 200 });
}

test "interleave: fork in a signal handler that waits for a thread that waits for the interrupted code" {
    try explorer.explore(interrupting(besideInOtherClass, &forkWithout), .{ .schedules_min = 500, .counted_min = 2 });
}

test "interleave: fork in a signal handler, planted: a fork that forgets what it interrupted" {
    const message = try explorer.expectFound(interrupting(besideInSameClass, &forkForgetfully));
    try expectStart("the interrupted code has lost a lock", message);
}

test "interleave: fork in a signal handler, planted: locks of threads that are gone stay held in the child" {
    const message = try explorer.expectFound(interrupting(besideInOtherClass, &forkWithout).with(struct {
        fn planted(step: Step) ?Defect {
            return if (explorer.isAlone() and step.kind == .store and isLockState(step)) .dropped else null;
        }
        fn isLockState(step: Step) bool {
            for (lifecycle.all_locks) |lock| if (step.address == @intFromPtr(&lock.state)) return true;
            return false;
        }
    }.planted));
    try expectStart("a lock is held by a thread that is gone", message);
}

// The wake that the interrupted code owes: another thread sleeps on a lock that is free, inside another lock.

const purging = superslab.locks()[0];
const page_heap = superslab.locks()[1];
/// The first thread has got the lock that it may have slept for.
var was_inside = false;

fn neverInside() !void {
    try emptyProcess();
    was_inside = false;
    preparing = 0;
}

fn goInside() void {
    page_heap.lock();
    was_inside = true;
    page_heap.unlock();
}

fn goInsideToo() void {
    page_heap.lock();
    page_heap.unlock();
}

/// Takes the page heap's lock inside `purging`.
fn purge() void {
    _ = superslab.purge();
}

fn prepareInHandler() void {
    const own = ownLocks();
    prepare();
    libc.afterForkInParent();
    expectOwnLocks(own);
}

fn prepareBeforeInside() void {
    if (!was_inside) prepareInHandler();
}

fn elsewhere(step: Step) bool {
    const of_purge = step.address == @intFromPtr(&purging.state) or step.address == @intFromPtr(&page_heap.state);
    return !of_purge or notLocking(step);
}

fn wakesNobody(step: Step) ?Defect {
    return if (step.kind == .wake and preparing == thread_slot.threadMark()) .dropped else null;
}

/// Between the release of the lock and the wake.
const owing_a_wake: Scenario = .{
    .threads = &.{ goInside, purge },
    .before = neverInside,
    .after = nothingLeft,
    .preemptions = 3,
    .aside = elsewhere,
    .handler = prepareInHandler,
};

/// Waked, and not yet inside.
const having_a_wake: Scenario = .{
    .threads = &.{ goInside, purge, goInsideToo },
    .before = neverInside,
    .after = nothingLeft,
    .preemptions = 2,
    .aside = elsewhere,
    .handler = prepareBeforeInside,
};

test "interleave: fork in a signal handler that came between the release of a lock and the wake" {
    try explorer.explore(owing_a_wake, .{ .schedules_min = 500 });
}

test "interleave: fork in a signal handler that came between the wake and the taking of a lock" {
    try explorer.explore(having_a_wake, .{ .schedules_min = 500 });
}

test "interleave: fork in a signal handler, planted: a fork that wakes nobody before it sleeps" {
    for ([_]Scenario{ owing_a_wake, having_a_wake }) |scenario| {
        const message = try explorer.expectFound(scenario.with(wakesNobody));
        try expectStart("all threads wait: A asleep on a lock B asleep on a lock", message);
    }
}
