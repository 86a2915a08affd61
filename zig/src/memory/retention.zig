//! How much free memory stays resident beyond the budget, because the program is known to ask for it again.
//!
//! What is freed goes back at once: a program may never want it again. Where fresh pages are taken soon after pages
//! went back, that was a mistake, and as many granules may stay free and resident from then on. A program that fills
//! and empties its heap in turn pays for its pages once or twice, not in each turn. What stayed free all through a
//! period of half a second is not kept any more, so all of it is gone a second after the last turn, given a slow path
//! of any thread by then.
//!
//! The low-water mark over a period is how tcmalloc shrinks its thread caches ("scavenging").
//!
//! All state is guarded by the lock of the page heap.

const std = @import("std");
const atomic = @import("../platform/atomic.zig");

pub const period_milliseconds = 500;

pub const Retention = struct {
    /// Granules that may stay beyond the budget.
    kept: usize = 0,
    /// Granules that went back in this period and in the one before, and were not asked for again.
    purged: usize = 0,
    purged_before: usize = 0,
    /// The fewest free resident granules that there were in this period.
    unused: usize = 0,
    /// When the period ends, in milliseconds; 0 while there is nothing to find out.
    due: usize = 0,

    /// Granules went back to the system though the program had not asked for that. `now` is 0 without a clock.
    pub fn notePurged(retention: *Retention, granules: usize, now: usize) void {
        if (now == 0 or granules == 0) return;
        retention.purged += granules;
        if (retention.due == 0) retention.begin(now, 0);
    }

    /// Granules without pages were taken into use.
    pub inline fn noteFresh(retention: *Retention, granules: usize) void {
        if (retention.due != 0) retention.regret(granules);
    }

    fn regret(retention: *Retention, granules: usize) void {
        const lately = @min(granules, retention.purged);
        const before = @min(granules - lately, retention.purged_before);
        retention.purged -= lately;
        retention.purged_before -= before;
        retention.kept += lately + before;
    }

    /// There are so many free resident granules, fewer than a moment ago.
    pub inline fn noteFewer(retention: *Retention, resident: usize) void {
        retention.unused = @min(retention.unused, resident);
    }

    /// Ends the period if its time has come. `resident` is as in `noteFewer`. True when less is kept from now on.
    pub fn tick(retention: *Retention, now: usize, resident: usize) bool {
        if (retention.due == 0 or now < retention.due) return false;
        const before = retention.kept;
        retention.kept -|= retention.unused;
        retention.purged_before = retention.purged;
        retention.purged = 0;
        if (retention.kept == 0 and retention.purged_before == 0) retention.reset() else retention.begin(now, resident);
        return retention.kept < before;
    }

    /// Forgets everything: all that is free is to go.
    pub fn reset(retention: *Retention) void {
        retention.kept = 0;
        retention.purged = 0;
        retention.purged_before = 0;
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

    fn begin(retention: *Retention, now: usize, resident: usize) void {
        retention.setDue(now + period_milliseconds);
        retention.unused = resident;
    }

    fn setDue(retention: *Retention, due: usize) void {
        // Partner: the load in `isDue`.
        atomic.store(usize, &retention.due, due, .monotonic);
    }
};

test "retention: what goes back and is asked for again is kept, until it stays unused for a period" {
    var retention: Retention = .{};
    // Fresh memory alone teaches nothing.
    retention.noteFresh(1000);
    try std.testing.expectEqual(0, retention.kept);
    // A heap of 100 granules, emptied and filled again; 30 may always stay.
    retention.notePurged(70, 10_000);
    retention.noteFresh(60);
    try std.testing.expectEqual(60, retention.kept);
    retention.noteFresh(60);
    try std.testing.expectEqual(70, retention.kept);
    // Turns without end: all free, all in use.
    var now: usize = 10_000;
    for (0..50) |_| {
        now += 200;
        retention.noteFewer(0);
        _ = retention.tick(now, 100);
        try std.testing.expectEqual(70, retention.kept);
    }
    // The last turn, then only half of it is used.
    retention.noteFewer(0);
    _ = retention.tick(now + 600, 100);
    retention.noteFewer(40);
    try std.testing.expect(!retention.tick(now + 700, 100));
    try std.testing.expect(retention.tick(now + 1200, 60));
    try std.testing.expectEqual(30, retention.kept);
    // Nothing is used.
    try std.testing.expect(retention.tick(now + 1800, 60));
    try std.testing.expectEqual(Retention{}, retention);
}

test "retention: what is asked for a second later is no mistake, nor is anything without a clock" {
    var retention: Retention = .{};
    retention.notePurged(70, 10_000);
    _ = retention.tick(10_500, 0);
    _ = retention.tick(11_000, 0);
    retention.noteFresh(70);
    try std.testing.expectEqual(Retention{}, retention);
    retention.notePurged(70, 0);
    retention.noteFresh(70);
    try std.testing.expectEqual(Retention{}, retention);
}

test "retention: never more is kept than went back and was asked for, in any order of events" {
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    var retention: Retention = .{};
    var now: usize = 1;
    var purged_ever: usize = 0;
    var fresh_ever: usize = 0;
    for (0..100_000) |_| {
        const granules = random.uintAtMost(usize, 500);
        switch (random.uintLessThan(u8, 4)) {
            0 => {
                retention.notePurged(granules, now);
                purged_ever += granules;
            },
            1 => {
                retention.noteFresh(granules);
                fresh_ever += granules;
            },
            2 => retention.noteFewer(granules),
            else => {
                now += random.uintAtMost(usize, 300);
                const before = retention.kept;
                const less = retention.tick(now, granules);
                try std.testing.expectEqual(retention.kept < before, less);
            },
        }
        try std.testing.expect(retention.kept <= @min(purged_ever, fresh_ever));
    }
}
