//! How long single operations take, at a price that leaves the others as they were: a tick counter read before and
//! after one operation of some hundred, and a table of counts.
//!
//! A bucket is at most 1/32 wide of what it holds, so a quantile is off by 1.6 % at most. The two readings of the counter
//! themselves, some ten nanoseconds, are in every figure.

const std = @import("std");
const builtin = @import("builtin");
const measure = @import("measure.zig");
const Random = @import("run.zig").Random;

/// On average one operation of so many is timed.
const gap_mean = 256;

/// Ticks of a counter of constant rate: on x86-64 the processor's, which is not serialised, so that it waits for nothing
/// and blurs by some nanoseconds; elsewhere the clock.
pub inline fn ticksNow() u64 {
    if (comptime builtin.cpu.arch != .x86_64) return measure.wallTimeNs();
    var low: u32 = undefined;
    var high: u32 = undefined;
    asm volatile ("rdtsc"
        : [low] "={eax}" (low),
          [high] "={edx}" (high),
        :
        : .{ .memory = true });
    return @as(u64, high) << 32 | low;
}

/// A moment on both clocks.
pub const Moment = struct {
    ticks: u64,
    ns: u64,

    pub fn now() Moment {
        return .{ .ticks = ticksNow(), .ns = measure.wallTimeNs() };
    }

    /// Nanoseconds a tick between two moments.
    pub fn rateSince(end: Moment, start: Moment) f64 {
        const ticks: f64 = @floatFromInt(@max(1, end.ticks -| start.ticks));
        return @as(f64, @floatFromInt(@max(1, end.ns -| start.ns))) / ticks;
    }
};

/// What one thread found in an epoch.
pub const Meter = struct {
    random: Random,
    operations: u64 = 0,
    histogram: Histogram = .{},

    pub fn init(seed: u64, index: usize) Meter {
        // Streams that no workload draws from.
        return .{ .random = .init(seed, 1 << 32 | index) };
    }

    pub fn reset(meter: *Meter) void {
        meter.operations = 0;
        meter.histogram = .{};
    }

    /// Lets the worker go on until a moment in ticks, or until it has done so many operations. Gaps are drawn at random,
    /// so that an operation that recurs with a period, such as the refill of a magazine, is neither always met nor never.
    pub fn follow(meter: *Meter, worker: anytype, deadline: u64, operations_max: u64) void {
        var done: u64 = 0;
        while (done < operations_max) {
            const gap = meter.random.between(1, 2 * gap_mean - 1);
            worker.step(gap);
            const before = ticksNow();
            worker.step(1);
            const after = ticksNow();
            // Processors may differ by some ticks.
            meter.histogram.add(after -| before);
            done += gap + 1;
            if (after >= deadline) break;
        }
        meter.operations += done;
    }
};

/// How often each length of time occurred, in buckets whose widths grow with what they hold.
pub const Histogram = struct {
    counts: [bucket_count]u32 = @splat(0),

    /// A power of two is cut into so many buckets.
    const parts = 32;
    const parts_log2: comptime_int = std.math.log2_int(u32, parts);
    /// Below this each value has a bucket of its own.
    const exact = 2 * parts;
    const bucket_count = exact + (64 - parts_log2 - 1) * parts;

    pub inline fn add(histogram: *Histogram, value: u64) void {
        histogram.counts[bucketOf(value)] += 1;
    }

    pub fn addAll(sum: *Histogram, other: *const Histogram) void {
        for (&sum.counts, other.counts) |*count, more| count.* += more;
    }

    pub fn total(histogram: *const Histogram) u64 {
        var sum: u64 = 0;
        for (histogram.counts) |count| sum += count;
        return sum;
    }

    /// What `per_mille` of 1000 do not exceed; 0 where there is nothing.
    pub fn quantile(histogram: *const Histogram, per_mille: u64) u64 {
        const all = histogram.total();
        // The rank, from 1, rounded up.
        const rank = @max(1, (all * per_mille + 999) / 1000);
        var seen: u64 = 0;
        for (histogram.counts, 0..) |count, bucket| {
            seen += count;
            if (seen >= rank) return middleOf(bucket);
        }
        return 0;
    }

    inline fn bucketOf(value: u64) usize {
        if (value < exact) return value;
        const power: usize = 63 - @clz(value);
        const part = (value >> @intCast(power - parts_log2)) - parts;
        return exact + (power - parts_log2 - 1) * parts + part;
    }

    fn middleOf(bucket: usize) u64 {
        if (bucket < exact) return bucket;
        const shift: u6 = @intCast((bucket - exact) / parts + 1);
        const least = (parts + (bucket - exact) % parts) << shift;
        return least + (@as(u64, 1) << shift) / 2;
    }
};

test "a bucket's middle lies in it and is near what it holds; buckets follow each other without a gap" {
    var last: usize = 0;
    var value: u64 = 0;
    while (value < 1 << 20) : (value += 1) {
        const bucket = Histogram.bucketOf(value);
        try std.testing.expect(bucket == last or bucket == last + 1);
        last = bucket;
        const middle = Histogram.middleOf(bucket);
        try std.testing.expectEqual(bucket, Histogram.bucketOf(middle));
        try std.testing.expect(@max(value, middle) - @min(value, middle) <= value / 64 + 1);
    }
    try std.testing.expectEqual(Histogram.bucket_count - 1, Histogram.bucketOf(std.math.maxInt(u64)));
}

test "quantiles are those of a sorted list" {
    var random: Random = .init(5, 0);
    var values: [5000]u64 = undefined;
    var histogram: Histogram = .{};
    try std.testing.expectEqual(0, histogram.quantile(500));
    for (&values) |*value| {
        // Every power of two as often as every other, as with times.
        value.* = random.next() >> @intCast(random.below(64));
        histogram.add(value.*);
    }
    std.mem.sort(u64, &values, {}, std.sort.asc(u64));
    for ([_]u64{ 0, 1, 500, 900, 990, 999, 1000 }) |per_mille| {
        const rank = @max(1, (values.len * per_mille + 999) / 1000);
        const expected = values[rank - 1];
        const found = histogram.quantile(per_mille);
        try std.testing.expect(@max(expected, found) - @min(expected, found) <= expected / 64 + 1);
    }
}

test "a meter counts every operation, and stops at the number or at the moment" {
    const Worker = struct {
        done: u64 = 0,
        fn step(worker: *@This(), times: usize) void {
            worker.done += times;
        }
    };
    var worker: Worker = .{};
    var meter: Meter = .init(1, 0);
    meter.follow(&worker, std.math.maxInt(u64), 100_000);
    try std.testing.expectEqual(worker.done, meter.operations);
    try std.testing.expect(worker.done >= 100_000 and worker.done < 100_000 + 2 * gap_mean);
    const samples = meter.histogram.total();
    try std.testing.expect(samples > 100_000 / gap_mean * 3 / 4 and samples < 100_000 / gap_mean * 5 / 4);
    // A moment that has passed: one sample more.
    meter.follow(&worker, 0, std.math.maxInt(u64));
    try std.testing.expectEqual(samples + 1, meter.histogram.total());
    try std.testing.expectEqual(worker.done, meter.operations);
}
