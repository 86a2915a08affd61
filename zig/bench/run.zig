//! A row of the benchmark, and one run of it.
//!
//! Guarantees: the figures of a run are those of its measured part alone, which is whatever lies between
//! `start` and `stop`; these may take turns several times. Own arrays lie in the base figure of RSS.
//!
//! A workload calls, in this order: `array` for each array of its own; `readBase`; what it does before it
//! is measured; `start`, the measured part, `stop`; `readLive` while the blocks of the high point are
//! live; after the last block is freed `readAfter`.

const std = @import("std");
const linux = std.os.linux;
const measure = @import("measure.zig");
const costs = @import("costs.zig");

pub const kib = 1024;
pub const mib = 1024 * kib;

/// What the figures per operation are of: a malloc and its free; one malloc or one free; one realloc;
/// the life of a thread.
pub const Operation = enum { pair, block, resize, thread };

pub const Workload = struct {
    name: []const u8,
    /// One line.
    summary: []const u8,
    rows: []const Row,
};

pub const Row = struct {
    id: []const u8,
    label: []const u8,
    /// It runs with `--threads=N`; without, with one thread.
    threads: bool = false,
    operation: Operation = .pair,
    /// It is one of the few of its workload that a short look takes.
    quick: bool = false,
    /// `--scale` makes its blocks fewer, not its rounds.
    blocks_scale: bool = false,
    /// Bytes asked for in the blocks of the high point of live memory; of one thread where it has several.
    live_bytes: usize,
    /// What the greediest allocator may need for that, and own arrays; of one thread where it has several.
    peak_bytes: usize,
    measure: *const fn (run: *Run) void,
};

/// What a row with so many blocks may need: an allocator may round up by a quarter, put a header before
/// each block, and hold some memory whatever is asked of it. `own_bytes` are arrays of the workload.
pub fn peakBytes(count: usize, size: usize, own_bytes: usize) usize {
    return count * (size + size / 4 + 32) + own_bytes + 8 * mib;
}

pub const Run = struct {
    row: *const Row,
    threads: usize = 1,
    seed: u64 = 1,
    scale: f64 = 1,

    operations: u64 = 0,
    measured: Reading = .{},
    base_rss_bytes: u64 = 0,
    live_rss_bytes: u64 = 0,
    after_rss_bytes: u64 = 0,
    costs: costs.Counts = @splat(0),

    started: Reading = .{},
    costs_started: costs.Counts = @splat(0),

    /// A number of operations, as `--scale` has it: at least one.
    pub fn scaled(run: *const Run, count: usize) usize {
        const product = run.scale * @as(f64, @floatFromInt(count));
        return @max(1, @as(usize, @intFromFloat(@round(product))));
    }

    /// An array of the workload's own: no allocator's, and touched. What is in it is undefined.
    pub fn array(run: *const Run, comptime T: type, count: usize) []T {
        _ = run;
        const memory = measure.mapTouched(@max(1, count) * @sizeOf(T));
        return @as([*]T, @ptrCast(@alignCast(memory)))[0..count];
    }

    pub fn readBase(run: *Run) void {
        const peak_bytes: f64 = @floatFromInt(run.row.peak_bytes * run.threads);
        measure.warmMemory(@intFromFloat(peak_bytes * if (run.row.blocks_scale) run.scale else 1));
        measure.touchCode();
        // The first readings fault in whatever reading needs, so that the later ones do not count it.
        _ = measure.residentBytes();
        _ = Reading.now();
        costs.read(&run.costs_started);
        run.base_rss_bytes = measure.residentBytes();
    }

    pub fn start(run: *Run) void {
        costs.read(&run.costs_started);
        run.started = .now();
    }

    pub fn stop(run: *Run) void {
        run.stopAt(null);
    }

    /// As `stop`, where what is measured had ended at that wall time.
    pub fn stopAt(run: *Run, wall_ns: ?u64) void {
        var ended: Reading = .now();
        if (wall_ns) |earlier| ended.wall_ns = earlier;
        var counts: costs.Counts = undefined;
        costs.read(&counts);
        run.measured.add(ended, run.started);
        for (&run.costs, counts, run.costs_started) |*sum, after, before| sum.* += after - before;
    }

    pub fn readLive(run: *Run) void {
        run.live_rss_bytes = measure.residentBytes();
    }

    pub fn readAfter(run: *Run) void {
        run.after_rss_bytes = measure.residentBytes();
    }

    /// Ends the program: a block does not hold what was written to it.
    pub fn failDamaged(run: *const Run, index: usize) noreturn {
        measure.fail("row {s}: block {d} does not hold what was written to it: the allocator gave it to another or lost it", .{ run.row.id, index });
    }

    pub fn print(run: *const Run, malloc_path: []const u8, free_path: []const u8) void {
        var line: measure.Line = .{};
        line.print("{{\"row\":", .{});
        line.string(run.row.id);
        line.print(",\"threads\":{d},\"operations\":{d},\"cpu_ns\":{d},\"wall_ns\":{d}", .{
            run.threads, run.operations, run.measured.cpu_ns, run.measured.wall_ns,
        });
        line.print(",\"base_rss_bytes\":{d},\"live_rss_bytes\":{d},\"after_rss_bytes\":{d}", .{
            run.base_rss_bytes, run.live_rss_bytes, run.after_rss_bytes,
        });
        line.print(",\"minor_faults\":{d},\"major_faults\":{d},\"malloc_path\":", .{
            run.measured.minor_faults, run.measured.major_faults,
        });
        line.string(malloc_path);
        line.print(",\"free_path\":", .{});
        line.string(free_path);
        line.print(",\"costs\":", .{});
        costs.print(&line, &run.costs);
        line.print("}}\n", .{});
        line.send();
    }
};

/// Clocks and faults of the process: at a moment, or between two.
const Reading = struct {
    cpu_ns: u64 = 0,
    wall_ns: u64 = 0,
    minor_faults: u64 = 0,
    major_faults: u64 = 0,

    fn now() Reading {
        var usage: linux.rusage = undefined;
        // It refuses only arguments that do not occur here.
        _ = linux.getrusage(linux.rusage.SELF, &usage);
        return .{
            .minor_faults = @intCast(usage.minflt),
            .major_faults = @intCast(usage.majflt),
            .cpu_ns = measure.cpuTimeNs(),
            .wall_ns = measure.wallTimeNs(),
        };
    }

    fn add(sum: *Reading, after: Reading, before: Reading) void {
        sum.cpu_ns += after.cpu_ns - before.cpu_ns;
        sum.wall_ns += after.wall_ns - before.wall_ns;
        sum.minor_faults += after.minor_faults - before.minor_faults;
        sum.major_faults += after.major_faults - before.major_faults;
    }
};

/// Marsaglia's xorshift64 ("Xorshift RNGs", 2003, triple 13, 7, 17): six instructions a number, so that drawing
/// costs little beside malloc.
pub const Random = struct {
    state: u64,

    /// A sequence of its own for each `stream`, a thread say.
    pub fn init(seed: u64, stream: u64) Random {
        // SplitMix64's finisher (Steele, Lea, Flood 2014): neighbouring seeds give unlike states. 0 is the one
        // state that xorshift never leaves.
        var x = seed +% 0x9E37_79B9_7F4A_7C15 *% (stream +% 1);
        x = (x ^ (x >> 30)) *% 0xBF58_476D_1CE4_E5B9;
        x = (x ^ (x >> 27)) *% 0x94D0_49BB_1331_11EB;
        return .{ .state = @max(1, x ^ (x >> 31)) };
    }

    pub inline fn next(random: *Random) u64 {
        var x = random.state;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        random.state = x;
        return x;
    }

    /// A number below `limit`, at most 2^32: from the upper half of a number drawn (Lemire 2019, without rejection).
    pub inline fn below(random: *Random, limit: usize) usize {
        return ((random.next() >> 32) * limit) >> 32;
    }

    pub inline fn between(random: *Random, least: usize, most: usize) usize {
        return least + random.below(most - least + 1);
    }

    /// Two numbers of one draw: one below each limit, at most 2^32, from its upper and from its lower half.
    pub inline fn belowBoth(random: *Random, first: usize, second: usize) struct { usize, usize } {
        const drawn = random.next();
        return .{ ((drawn >> 32) * first) >> 32, ((drawn & 0xffff_ffff) * second) >> 32 };
    }

    /// Puts the items in an order drawn at random (Fisher and Yates).
    pub fn shuffle(random: *Random, comptime T: type, items: []T) void {
        var rest = items.len;
        while (rest > 1) : (rest -= 1) std.mem.swap(T, &items[rest - 1], &items[random.below(rest)]);
    }
};

/// What worker `index` of so many does of `total`: shares differ by one at most.
pub fn shareOf(total: usize, workers: usize, index: usize) usize {
    return total / workers + @intFromBool(index < total % workers);
}

test "shares add up" {
    for ([_]usize{ 0, 1, 7, 100 }) |total| {
        for ([_]usize{ 1, 2, 3, 64 }) |workers| {
            var sum: usize = 0;
            for (0..workers) |index| sum += shareOf(total, workers, index);
            try std.testing.expectEqual(total, sum);
        }
    }
}

test "random numbers stay within their limits, reach them, and are the same for the same seed" {
    var random: Random = .init(1, 0);
    var again: Random = .init(1, 0);
    var other: Random = .init(1, 1);
    var seen: [5]usize = @splat(0);
    var same: usize = 0;
    for (0..1000) |_| {
        const drawn = random.between(3, 7);
        seen[drawn - 3] += 1;
        try std.testing.expectEqual(drawn, again.between(3, 7));
        same += @intFromBool(drawn == other.between(3, 7));
    }
    for (seen) |times| try std.testing.expect(times > 100);
    try std.testing.expect(same < 400);
}

test "both numbers of a draw stay within their limits, reach them, and are not bound to each other" {
    var random: Random = .init(3, 0);
    var seen: [4][4]usize = @splat(@splat(0));
    for (0..1600) |_| {
        const first, const second = random.belowBoth(4, 4);
        seen[first][second] += 1;
    }
    for (seen) |row| {
        for (row) |times| try std.testing.expect(times > 60 and times < 140);
    }
}

test "a shuffle keeps every item and moves most" {
    var items: [100]u32 = undefined;
    for (&items, 0..) |*item, index| item.* = @intCast(index);
    var random: Random = .init(7, 0);
    random.shuffle(u32, &items);
    var seen: std.StaticBitSet(100) = .empty;
    var moved: usize = 0;
    for (items, 0..) |item, index| {
        seen.set(item);
        moved += @intFromBool(item != index);
    }
    try std.testing.expectEqual(100, seen.count());
    try std.testing.expect(moved > 80);
}
