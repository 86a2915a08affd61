//! The lock: two threads and three, its owner mark and contended bit, and the thread that walks through all locks
//! while it forks.

const std = @import("std");
const explorer = @import("explorer");
const internals = @import("hakmem").internals;
const locking = internals.lock;
const thread_slot = internals.thread_slot;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

var lock: locking.Lock = .{};
var other: locking.Lock = .{};
var total: usize = 0;
/// Whether the forking thread is inside, for the others to see.
var forking = false;

fn isLock(step: Step) bool {
    return step.address == @intFromPtr(&lock.state);
}

fn isUnlock(step: Step) bool {
    return isLock(step) and step.kind == .swap;
}

const contended = 1;

/// A thread that slept goes inside.
fn isEntryAfterSleep(step: Step) bool {
    return isLock(step) and step.kind == .exchange and step.value == thread_slot.threadMark() | contended;
}

/// A thread about to sleep marks the word that names another.
fn isMarkBeforeSleep(step: Step) bool {
    return isLock(step) and step.kind == .exchange and step.value & contended != 0 and !isEntryAfterSleep(step);
}

fn reset() !void {
    lock = .{};
    other = .{};
    total = 0;
    forking = false;
}

fn work() void {
    lock.lock();
    explorer.writeData(&total);
    total += 1;
    lock.unlock();
}

fn workTwice() void {
    work();
    work();
}

fn finished(comptime expected: usize) fn () anyerror!void {
    return struct {
        fn check() !void {
            try std.testing.expect(!lock.isHeld());
            try std.testing.expect(!other.isHeld());
            try std.testing.expectEqual(0, lock.interruptions + other.interruptions);
            try std.testing.expectEqual(expected, total);
        }
    }.check;
}

const two_threads: Scenario = .{
    .threads = &.{ workTwice, workTwice },
    .before = reset,
    .after = finished(4),
    .preemptions = 5,
    .spurious = true,
};

const three_threads: Scenario = .{
    .threads = &.{ work, work, work },
    .before = reset,
    .after = finished(3),
    .preemptions = 3,
    .spurious = true,
};

test "interleave: the lock, two threads that take it twice each" {
    try explorer.explore(two_threads, .{ .schedules_min = 10_000 });
}

test "interleave: the lock, three threads, one of which wakes the next" {
    try explorer.explore(three_threads, .{ .schedules_min = 10_000 });
}

test "interleave: the lock, planted: an unlock that wakes nobody" {
    const message = try explorer.expectFound(three_threads.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .wake) .dropped else null;
        }
    }.planted));
    try expectStart("all threads wait", message);
}

test "interleave: the lock, planted: a waiter that does not mark the word before it sleeps" {
    const message = try explorer.expectFound(two_threads.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isMarkBeforeSleep(step)) .dropped else null;
        }
    }.planted));
    // It never sleeps, so a schedule in which only it goes on has no end.
    try expectStart("no end", message);
}

test "interleave: the lock, planted: a thread that slept goes inside as if nobody slept beside it" {
    const message = try explorer.expectFound(three_threads.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isEntryAfterSleep(step)) .{ .writes = step.value & ~@as(u64, contended) } else null;
        }
    }.planted));
    try expectStart("all threads wait", message);
}

test "interleave: the lock, planted: taking it in two steps" {
    const message = try explorer.expectFound(three_threads.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isLock(step) and step.kind == .exchange and !isMarkBeforeSleep(step)) .torn else null;
        }
    }.planted));
    try expectStart("a race", message);
}

test "interleave: the lock, planted: an unlock that reads and writes in two steps" {
    const message = try explorer.expectFound(three_threads.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isUnlock(step)) .torn else null;
        }
    }.planted));
    try expectStart("all threads wait", message);
}

test "interleave: the lock, planted: an unlock that does not release, a taking that does not acquire" {
    for ([_]*const fn (Step) ?Defect{
        struct {
            fn planted(step: Step) ?Defect {
                return if (isUnlock(step)) .weakened else null;
            }
        }.planted,
        struct {
            fn planted(step: Step) ?Defect {
                return if (isLock(step) and step.kind == .exchange) .weakened else null;
            }
        }.planted,
        struct {
            fn planted(step: Step) ?Defect {
                return if (isEntryAfterSleep(step)) .weakened else null;
            }
        }.planted,
    }) |planted| {
        try expectStart("a race", try explorer.expectFound(two_threads.with(planted)));
    }
}

/// As fork's handlers do, with a handler of another library between them that allocates.
fn fork() void {
    if (!lock.tryLock()) lock.lock();
    if (!other.tryLock()) other.lock();
    locking.Passage.open();
    forking = true;
    lock.lock();
    explorer.writeData(&total);
    other.lock();
    total += 1;
    other.unlock();
    lock.unlock();
    forking = false;
    locking.Passage.close();
    lock.endFork();
    other.endFork();
    workInBoth();
}

fn workInBoth() void {
    lock.lock();
    other.lock();
    explorer.writeData(&total);
    if (forking) explorer.fail("inside while another thread forks", .{});
    total += 1;
    other.unlock();
    lock.unlock();
}

const passage: Scenario = .{
    .threads = &.{ fork, workInBoth, workInBoth },
    .before = reset,
    .after = finished(4),
    .preemptions = 3,
};

test "interleave: a forking thread walks through the locks it holds, and nobody else does" {
    try explorer.explore(passage, .{ .schedules_min = 3_000 });
}

test "interleave: a forking thread, planted: a passage never opened, one never closed" {
    const Mark = struct {
        fn is(step: Step) bool {
            return step.kind == .store and step.bytes == 8 and !isLock(step);
        }
    };
    // It says that it would wait for itself.
    try expectStart("a crash", try explorer.expectFound(passage.with(struct {
        fn planted(step: Step) ?Defect {
            return if (Mark.is(step) and step.value != 0) .dropped else null;
        }
    }.planted)));
    try expectStart("all threads wait", try explorer.expectFound(passage.with(struct {
        fn planted(step: Step) ?Defect {
            return if (Mark.is(step) and step.value == 0) .dropped else null;
        }
    }.planted)));
}

pub fn expectStart(expected: []const u8, message: []const u8) !void {
    if (std.mem.startsWith(u8, message, expected)) return;
    std.debug.print("expected \"{s}\", found \"{s}\"\n", .{ expected, message });
    return error.FoundOtherwise;
}
