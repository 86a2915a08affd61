//! What operations may cost other threads, by the counting build: no figure here is a time.
//!
//! Bounds come from the geometry: how many blocks a refill brings, how many of them a bitmap line says, and how many
//! lines a slab's record and its links take. docs/SCALING.md shows what is measured.

const std = @import("std");
const hakmem = @import("hakmem");
const internals = hakmem.internals;
const cost = internals.cost;
const heap = internals.heap;
const geometry = internals.geometry;
const size_class = internals.size_class;
const refill_blocks = internals.magazine.refill_blocks;
const words_max = internals.magazine.words_max;
const Name = cost.Name;
const expect = std.testing.expect;

const line_bytes = 64;
const line_words = line_bytes / @sizeOf(u64);

comptime {
    std.debug.assert(cost.counting);
    // A whole magazine that is flushed at once has its lines told apart.
    for (words_max) |words| std.debug.assert(2 * @as(usize, words) <= cost.lines_max);
}

/// All counts as they were.
const Before = struct {
    counts: std.EnumArray(Name, u64),

    fn now() Before {
        var before: Before = .{ .counts = .initFill(0) };
        for (std.enums.values(Name)) |name| before.counts.set(name, cost.sum(name));
        return before;
    }

    fn since(before: *const Before, name: Name) u64 {
        return cost.sum(name) - before.counts.get(name);
    }

    fn all(before: *const Before) std.EnumArray(Name, u64) {
        var result: std.EnumArray(Name, u64) = .initUndefined();
        for (std.enums.values(Name)) |name| result.set(name, before.since(name));
        return result;
    }
};

fn pairs(size: usize, count: usize) !void {
    for (0..count) |_| {
        const block = heap.allocate(size) orelse return error.OutOfMemory;
        heap.free(block);
    }
}

/// Allocates all of `blocks`, then frees them in the order in which they came, `rounds` times.
fn batches(size: usize, blocks: []*anyopaque, rounds: usize) !void {
    for (0..rounds) |_| {
        for (blocks) |*block| block.* = heap.allocate(size) orelse return error.OutOfMemory;
        for (blocks) |block| heap.free(block);
    }
}

test "costs: a pair from the magazine takes no lock, no atomic, no bitmap word and no line of another thread" {
    const count = 1000;
    var size: usize = 1;
    while (size <= geometry.tiny_bytes_max) : (size += 7) {
        // The first pair fills the magazine.
        try pairs(size, 2);
        const before: Before = .now();
        try pairs(size, count);
        for (std.enums.values(Name)) |name| {
            const expected: u64 = switch (name) {
                // The page map's byte of each free, and the magazine's top at each of both.
                .loads_monotonic => count,
                .stores_unordered => 2 * count,
                else => 0,
            };
            std.testing.expectEqual(expected, before.since(name)) catch |err| {
                std.debug.print("{s} of {d} pairs of {d} bytes\n", .{ @tagName(name), count, size });
                return err;
            };
        }
    }
}

/// The most shared lines for each block of a class that comes or goes: those of a refill of neighbours, which are the
/// class's own, and for each slab its record, those of its two neighbours in the list, and the lines of its bitmap.
fn linesOfBlock(class: size_class.Class) f64 {
    const blocks = refill_blocks[class];
    // Neighbours may begin anywhere, and so lie in one slab and one line more.
    const slabs = 1 + (std.math.divCeil(usize, blocks, size_class.shapes[class].blocks) catch unreachable);
    const bitmap_lines = slabs + (std.math.divCeil(usize, blocks, line_words * geometry.word_blocks) catch unreachable);
    const lines = 1 + 3 * slabs + bitmap_lines;
    return @as(f64, @floatFromInt(lines)) / @as(f64, @floatFromInt(blocks));
}

test "costs: beyond the magazine, shared lines are those of whole refills and flushes, and few a block" {
    const gpa = std.testing.allocator;
    for ([_]usize{ 16, 64, 256 }) |size| {
        const class = size_class.of(size);
        for ([_]usize{ 2, 4, 16 }) |magazines_full| {
            const count = magazines_full * words_max[class];
            const blocks = try gpa.alloc(*anyopaque, count);
            defer gpa.free(blocks);
            try batches(size, blocks, 2);
            const before: Before = .now();
            const rounds = 4;
            try batches(size, blocks, rounds);
            const moved = before.since(.refilled_blocks) + before.since(.flushed_blocks);
            // All that does not fit into the magazine goes and comes again in each round.
            try expect(before.since(.flushed_blocks) >= rounds * (count - words_max[class]));
            const lines: f64 = @floatFromInt(before.since(.shared_writes));
            const bound = linesOfBlock(class) * @as(f64, @floatFromInt(moved));
            if (lines > bound) {
                std.debug.print("{d} × {d} B: {d} lines for {d} blocks moved, at most {d}\n", .{ count, size, lines, moved, bound });
                return error.TooManySharedLines;
            }
            // Each lock is worth its while. The last blocks of a slab, and a magazine that has shrunk, make less.
            try expect(before.since(.refilled_blocks) >= before.since(.refills) * refill_blocks[class] / 2);
        }
    }
}

/// Threads that do one batch each in turn, so that the figures repeat.
const Turns = struct {
    size: usize,
    count: usize,
    threads: usize,
    turn: std.atomic.Value(usize) = .init(0),
    failed: std.atomic.Value(bool) = .init(false),

    fn work(turns: *Turns, number: usize, rounds: usize) void {
        turns.tryWork(number, rounds) catch turns.failed.store(true, .release);
    }

    fn tryWork(turns: *Turns, number: usize, rounds: usize) !void {
        const blocks = try std.heap.page_allocator.alloc(*anyopaque, turns.count);
        defer std.heap.page_allocator.free(blocks);
        for (0..rounds) |round| {
            const mine = round * turns.threads + number;
            while (turns.turn.load(.acquire) != mine) std.Thread.yield() catch {};
            defer turns.turn.store(mine + 1, .release);
            try batches(turns.size, blocks, 1);
        }
    }

    /// All threads live through `rounds` turns each.
    fn run(turns: *Turns, rounds: usize) !void {
        var threads: [16]std.Thread = undefined;
        for (threads[0..turns.threads], 0..) |*thread, number| {
            thread.* = try std.Thread.spawn(.{}, work, .{ turns, number, rounds });
        }
        for (threads[0..turns.threads]) |thread| thread.join();
        turns.turn.store(0, .release);
        try expect(!turns.failed.load(.acquire));
    }
};

test "costs: shared lines of an operation do not rise with the number of threads" {
    const size = 64;
    const count = 2 * @as(usize, words_max[size_class.of(size)]);
    var alone: f64 = 0;
    for ([_]usize{ 1, 2, 4, 8, 16 }) |threads| {
        var turns: Turns = .{ .size = size, .count = count, .threads = threads };
        // What the beginnings and ends of threads cost is in both, and falls out.
        const short: Before = .now();
        try turns.run(2);
        const ends = short.all();
        const long: Before = .now();
        try turns.run(6);
        const counts = long.all();
        var more: std.EnumArray(Name, f64) = .initUndefined();
        for (std.enums.values(Name)) |name| {
            more.set(name, @as(f64, @floatFromInt(counts.get(name))) - @as(f64, @floatFromInt(ends.get(name))));
        }
        const moved = more.get(.refilled_blocks) + more.get(.flushed_blocks);
        if (threads == 1) alone = more.get(.shared_writes) / moved;
        // Where there are several, a block may go by the cold magazine: its address is written in a line of eight, of
        // which two flushes may share one.
        const cold = more.get(.cold_blocks) / line_words + more.get(.flushes);
        if (threads == 1) continue;
        const bound = alone * moved + cold;
        if (more.get(.shared_writes) > bound) {
            std.debug.print("{d} threads: {d} lines for {d} blocks moved, at most {d}\n", .{ threads, more.get(.shared_writes), moved, bound });
            return error.TooManySharedLines;
        }
    }
}

/// Threads that in turn free blocks drawn at random from what all have allocated, and put new ones in their places.
const Exchange = struct {
    blocks: []?*anyopaque,
    threads: usize,
    turn: std.atomic.Value(usize) = .init(0),
    failed: std.atomic.Value(bool) = .init(false),
    /// Of the last half of the rounds.
    counts: std.EnumArray(Name, u64) = .initFill(0),

    const size = 1024;
    const rounds = 40;
    /// Twice what a magazine holds.
    const replaced = 2 * @as(usize, words_max[size_class.of(size)] - 1);

    fn work(exchange: *Exchange, number: usize) void {
        var random_source: std.Random.DefaultPrng = .init(number);
        const random = random_source.random();
        var before: Before = undefined;
        for (0..rounds) |round| {
            const mine = round * exchange.threads + number;
            while (exchange.turn.load(.acquire) != mine) std.Thread.yield() catch {};
            defer exchange.turn.store(mine + 1, .release);
            if (number == 0 and round == rounds / 2) before = .now();
            var places: [replaced]*?*anyopaque = undefined;
            for (&places) |*place| {
                place.* = &exchange.blocks[random.uintLessThan(usize, exchange.blocks.len)];
                heap.free(place.*.*);
                place.*.* = null;
            }
            for (places) |place| {
                if (place.* == null) place.* = heap.allocate(size);
                if (place.* == null) exchange.failed.store(true, .release);
            }
            if (number == 0 and round == rounds - 1) exchange.counts = before.all();
        }
    }
};

test "costs: threads that replace each other's blocks at random exchange them past the bitmaps" {
    for ([_]usize{ 1, 2, 4, 8, 16 }) |thread_count| {
        // So many that a cold magazine may hold what a thread frees at once.
        var blocks: [16 * Exchange.replaced]?*anyopaque = undefined;
        for (&blocks) |*block| block.* = heap.allocate(Exchange.size) orelse return error.OutOfMemory;
        defer for (blocks) |block| heap.free(block);
        var exchange: Exchange = .{ .blocks = &blocks, .threads = thread_count };
        var threads: [16]std.Thread = undefined;
        for (threads[0..thread_count], 0..) |*thread, number| {
            thread.* = try std.Thread.spawn(.{}, Exchange.work, .{ &exchange, number });
        }
        for (threads[0..thread_count]) |thread| thread.join();
        try expect(!exchange.failed.load(.acquire));
        const counts = &exchange.counts;
        try expect(counts.get(.flushed_blocks) > 0);
        try std.testing.expectEqual(0, counts.get(.bitmap_words));
        // The class's line each time, and eight addresses a line, of which two flushes may share one.
        const bound = counts.get(.refills) + 2 * counts.get(.flushes) + counts.get(.flushed_blocks) / line_words;
        const lines = counts.get(.shared_writes);
        if (lines > bound) {
            std.debug.print("{d} threads: {d} lines, at most {d}\n", .{ thread_count, lines, bound });
            return error.TooManySharedLines;
        }
    }
}

test "costs: what ended threads did is in the sums" {
    // No heap has blocks before nor afterwards, those that wait for a thread included.
    _ = hakmem.purge();
    const before: Before = .now();
    var turns: Turns = .{ .size = 48, .count = 3_000, .threads = 3 };
    try turns.run(1);
    _ = hakmem.purge();
    try expect(before.since(.refilled_blocks) >= turns.count);
    try std.testing.expectEqual(before.since(.refilled_blocks), before.since(.flushed_blocks));
}

test "costs: a line counts once while a lock is held, and each time outside" {
    var lock: internals.lock.Lock = .{};
    const memory = try std.testing.allocator.alignedAlloc(u64, .@"64", 3 * line_words);
    defer std.testing.allocator.free(memory);
    var before: Before = .now();
    for (0..5) |_| cost.wrote(memory[0..2]);
    try std.testing.expectEqual(5, before.since(.shared_writes));
    for (0..2) |_| {
        before = .now();
        lock.lock();
        for (0..5) |_| cost.wrote(memory);
        cost.wrote(&memory[line_words]);
        lock.unlock();
        // The lock's own line and the three.
        try std.testing.expectEqual(4, before.since(.shared_writes));
        try std.testing.expectEqual(1, before.since(.locks));
        try std.testing.expectEqual(2, before.since(.atomics));
    }
    before = .now();
    try expect(lock.tryLock());
    try expect(!lock.tryLock());
    lock.unlock();
    try std.testing.expectEqual(1, before.since(.shared_writes));
    try std.testing.expectEqual(3, before.since(.atomics));
    try std.testing.expectEqual(1, before.since(.rmw_failed));
}

test "costs: system calls are counted by kind" {
    const before: Before = .now();
    const mapped = internals.os.map(1 << 16, .read_write, 0).?;
    try expect(internals.os.release(mapped, 1 << 16));
    try expect(internals.os.unmap(mapped, 1 << 16));
    for ([_]Name{ .calls_map, .calls_release, .calls_unmap }) |name| try std.testing.expectEqual(1, before.since(name));
    try std.testing.expectEqual(3, before.since(.system_calls));
}
