//! fork at every step of another thread's slow paths: a real fork, whose child finds the memory as it was at that
//! step, runs the allocator's handler, and uses what is left of the thread that is gone.

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
const thread_slot = internals.thread_slot;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

fn emptyProcess() !void {
    heap.free(heap.allocate(child.size) orelse return error.NoMemory);
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
        child.check(explorer.renew) catch |err| explorer.fail("in the child: {t}", .{err});
        std.os.linux.exit_group(0);
    }
    libc.afterForkInParent();
    if (explorer.awaitChild(pid) == .failed) explorer.failAsSaid();
    explorer.countOne();
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
