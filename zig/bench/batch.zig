//! `batch`: many blocks of one size are allocated, the first word of each is written, and all are freed in
//! a given order; again and again.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;

pub const workload: run_module.Workload = .{
    .name = "batch",
    .summary = "many blocks allocated, then all freed in a given order, again and again",
    .rows = rows: {
        @setEvalBranchQuota(100_000);
        var rows: []const Row = &.{};
        for (.{ 1_000, 10_000, 100_000 }) |count| {
            for (.{ 16, 64, 256 }) |size| {
                for (.{ Order.lifo, Order.fifo, Order.random }) |order| {
                    rows = rows ++ .{rowOf(count, size, order)};
                }
            }
        }
        break :rows rows;
    },
};

/// The block that is freed first: the newest, the oldest, any.
const Order = enum { lifo, fifo, random };

/// Larger blocks take longer with many allocators.
fn pairsOf(size: usize) usize {
    return if (size < 256) 10_000_000 else 5_000_000;
}

fn rowOf(comptime count: usize, comptime size: usize, comptime order: Order) Row {
    return .{
        .id = std.fmt.comptimePrint("batch-{d}-{d}-{t}", .{ count, size, order }),
        .label = std.fmt.comptimePrint("{s} × {d} B, {s}", .{ grouped(count), size, switch (order) {
            .lifo => "LIFO",
            .fifo => "FIFO",
            .random => "random",
        } }),
        .quick = size == 64 and order == .random and count != 1_000,
        .live_bytes = count * size,
        .peak_bytes = run_module.peakBytes(count, size, count * (@sizeOf([*]u8) + @sizeOf(u32))),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureOrder(run, count, size, order);
            }
        }.measureRow,
    };
}

/// "10,000"
fn grouped(comptime count: usize) []const u8 {
    return std.fmt.comptimePrint("{d},000", .{count / 1000});
}

fn measureOrder(run: *Run, count: usize, size: usize, order: Order) void {
    const blocks = run.array([*]u8, count);
    // Which block is freed as the first, second, … Not used by the other orders, but there, so that all have the
    // same arrays.
    const turns = run.array(u32, count);
    for (turns, 0..) |*turn, index| turn.* = @intCast(index);
    var random: run_module.Random = .init(run.seed, 0);
    random.shuffle(u32, turns);
    const rounds = @max(1, run.scaled(pairsOf(size)) / count);
    run.operations = rounds * count;
    run.readBase();
    runRound(blocks, turns, size, order);

    run.start();
    for (0..rounds) |_| runRound(blocks, turns, size, order);
    run.stop();

    allocateAll(blocks, size);
    run.readLive();
    for (blocks, 0..) |block, index| {
        if (wordOf(block).* != index) run.failDamaged(index);
    }
    freeAll(blocks, turns, order);
    run.readAfter();
}

fn runRound(blocks: [][*]u8, turns: []const u32, size: usize, order: Order) void {
    allocateAll(blocks, size);
    freeAll(blocks, turns, order);
}

noinline fn allocateAll(blocks: [][*]u8, size: usize) void {
    for (blocks, 0..) |*slot, index| {
        const block = measure.allocate(size);
        wordOf(block).* = index;
        slot.* = block;
    }
}

noinline fn freeAll(blocks: []const [*]u8, turns: []const u32, order: Order) void {
    switch (order) {
        .lifo => {
            var rest = blocks.len;
            while (rest > 0) {
                rest -= 1;
                measure.free(blocks[rest]);
            }
        },
        .fifo => for (blocks) |block| measure.free(block),
        .random => for (turns) |turn| measure.free(blocks[turn]),
    }
}

fn wordOf(block: [*]u8) *align(1) usize {
    return @ptrCast(block);
}
