//! When free granules that are resident go back to the system.
//!
//! What is freed waits. A program that frees much often asks for as much a moment later, and to give a page back and
//! fetch it again costs more than all that the allocator does with the blocks in it. So a granule goes when nobody has
//! wanted it for a while: what stayed free all through a period is spare, and goes in the slow paths after it. All that
//! is freed has so gone two periods later, given slow paths by then.
//!
//! Waiting never adds to the most that the process held: for each granule without pages that is taken into use, one
//! that waits goes. And a share always stays, for a heap that is never still.
//!
//! The low-water mark over a period is how tcmalloc shrinks its thread caches ("scavenging"); jemalloc gives dirty
//! pages back by a clock too ("decay").
//!
//! All state is guarded by the lock of the page heap. Times are in milliseconds, and 0 where there is no clock: then
//! nothing waits.

const std = @import("std");
const atomic = @import("../platform/atomic.zig");

pub const period_milliseconds = 400;

pub const Retention = struct {
    /// Granules that are to go.
    pending: usize = 0,
    /// The fewest free resident granules that there were in this period.
    unused: usize = 0,
    /// When the period ends; 0 while there is nothing to find out.
    due: usize = 0,

    /// Free granules wait: `spare` of them more than may always stay. `clock` is asked where a period begins.
    pub inline fn noteFree(retention: *Retention, spare: usize, clock: fn () usize) void {
        if (spare != 0 and retention.due == 0) retention.begin(spare, clock());
    }

    /// Free granules were taken into use: `spare` of them are left.
    pub inline fn noteFewer(retention: *Retention, spare: usize) void {
        retention.unused = @min(retention.unused, spare);
        retention.pending = @min(retention.pending, spare);
    }

    /// Granules without pages were taken into use, while `spare` others wait.
    pub inline fn noteFresh(retention: *Retention, granules: usize, spare: usize) void {
        retention.pending = @min(retention.pending + granules, spare);
    }

    /// Granules went back, as many as that; none if the system refuses. `spare` of those that wait are left.
    pub fn noteGone(retention: *Retention, granules: usize, spare: usize) void {
        // What the system refuses now it most likely refuses a moment later.
        retention.pending = if (granules == 0) 0 else @min(retention.pending -| granules, spare);
    }

    /// How many granules go in one slow path: an eighth of what is to go, so that none takes long where there is much,
    /// and at least 4 MiB.
    pub fn slice(retention: *const Retention) usize {
        return @min(retention.pending, @max(64, retention.pending / 8));
    }

    /// Ends the period if its time has come. `spare` is as in `noteFree`.
    pub fn tick(retention: *Retention, now: usize, spare: usize) void {
        if (retention.due == 0 or now < retention.due) return;
        retention.pending = @min(@max(retention.pending, retention.unused), spare);
        if (spare == 0) retention.reset() else retention.begin(spare, now);
    }

    /// Nothing waits any more.
    pub fn reset(retention: *Retention) void {
        retention.pending = 0;
        retention.unused = 0;
        retention.setDue(0);
    }

    /// Whether `tick` may have something to do. Asked without the lock.
    pub inline fn isDue(retention: *const Retention) bool {
        // Partner: the store in `setDue`. A stale answer only delays the work to the next slow path.
        return atomic.load(usize, &retention.due, .monotonic) != 0;
    }

    /// Whether the period lasts still. Asked without the lock.
    pub fn isBefore(retention: *const Retention, now: usize) bool {
        // Partner: the store in `setDue`, as in `isDue`.
        return now < atomic.load(usize, &retention.due, .monotonic);
    }

    fn begin(retention: *Retention, spare: usize, now: usize) void {
        if (now == 0) {
            retention.pending = spare;
            return;
        }
        retention.setDue(now + period_milliseconds);
        retention.unused = spare;
    }

    fn setDue(retention: *Retention, due: usize) void {
        // Partner: the load in `isDue`.
        atomic.store(usize, &retention.due, due, .monotonic);
    }
};

fn noClock() usize {
    return 0;
}

fn testClock() usize {
    return test_now;
}

var test_now: usize = 0;

test "retention: what stays free for a period goes, what is wanted again stays" {
    var retention: Retention = .{};
    test_now = 10_000;
    retention.noteFree(0, testClock);
    try std.testing.expect(!retention.isDue());
    // A heap of 100 granules is emptied and filled in turn.
    for (0..50) |_| {
        retention.noteFree(100, testClock);
        try std.testing.expect(retention.isDue());
        test_now += 150;
        retention.tick(test_now, 100);
        retention.noteFewer(0);
        try std.testing.expectEqual(0, retention.pending);
    }
    // The last turn, after which only 60 are wanted.
    const last = test_now;
    retention.noteFree(100, testClock);
    while (test_now < last + 2 * period_milliseconds) : (test_now += 50) {
        retention.noteFewer(40);
        retention.tick(test_now, 100);
    }
    try std.testing.expectEqual(40, retention.pending);
    try std.testing.expectEqual(40, retention.slice());
    retention.noteGone(40, 60);
    try std.testing.expectEqual(0, retention.pending);
    // Then nothing is.
    retention.tick(test_now + period_milliseconds, 60);
    retention.tick(test_now + 2 * period_milliseconds, 60);
    try std.testing.expectEqual(60, retention.pending);
    retention.noteGone(60, 0);
    retention.tick(test_now + 3 * period_milliseconds, 0);
    try std.testing.expectEqual(Retention{}, retention);
}

test "retention: fresh granules drive out as many that wait, and what is wanted again drives out nothing" {
    var retention: Retention = .{};
    test_now = 10_000;
    retention.noteFree(100, testClock);
    retention.noteFresh(30, 100);
    retention.noteFresh(30, 100);
    try std.testing.expectEqual(60, retention.pending);
    retention.noteFewer(20);
    try std.testing.expectEqual(20, retention.pending);
    retention.noteFresh(1 << 20, 20);
    try std.testing.expectEqual(20, retention.pending);
    // The system refuses: nothing more is tried until the period ends.
    retention.noteGone(0, 20);
    try std.testing.expectEqual(0, retention.pending);
    retention.tick(10_000 + period_milliseconds, 20);
    try std.testing.expectEqual(20, retention.pending);
}

test "retention: without a clock nothing waits, and much goes in a few steps" {
    var retention: Retention = .{};
    var spare: usize = 100_000;
    retention.noteFree(spare, noClock);
    try std.testing.expect(!retention.isDue());
    var steps: usize = 0;
    while (retention.pending != 0) : (steps += 1) {
        const slice = retention.slice();
        try std.testing.expect(slice <= @max(64, spare / 8));
        spare -= slice;
        retention.noteGone(slice, spare);
    }
    try std.testing.expectEqual(0, spare);
    try std.testing.expect(steps < 70);
}

test "retention: all that is free goes within two periods of steps, and never more than is spare, in any order of events" {
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    var retention: Retention = .{};
    test_now = 1;
    var spare: usize = 0;
    for (0..100_000) |_| {
        const granules = random.uintAtMost(usize, 500);
        switch (random.uintLessThan(u8, 5)) {
            0 => {
                spare += granules;
                retention.noteFree(spare, testClock);
            },
            1 => {
                spare -|= granules;
                retention.noteFewer(spare);
            },
            2 => retention.noteFresh(granules, spare),
            3 => {
                const gone = @min(retention.slice(), granules);
                spare -= gone;
                if (retention.pending != 0) retention.noteGone(gone, spare);
            },
            else => {
                test_now += random.uintAtMost(usize, 300);
                retention.tick(test_now, spare);
            },
        }
        try std.testing.expect(retention.pending <= spare);
        try std.testing.expect(spare == 0 or retention.isDue());
        if (random.uintLessThan(u16, 1000) != 0) continue;
        // The program is done with it.
        const end = test_now + 2 * period_milliseconds;
        while (test_now < end) {
            test_now += 50;
            retention.tick(test_now, spare);
            while (retention.pending != 0) {
                const slice = retention.slice();
                spare -= slice;
                retention.noteGone(slice, spare);
            }
        }
        try std.testing.expectEqual(0, spare);
    }
}
