//! `tight`: one block is allocated, its first word written, and freed, over and over. The least that a pair can cost.

const std = @import("std");
const measure = @import("measure.zig");
const Run = @import("run.zig").Run;
const Row = @import("run.zig").Row;
const Workload = @import("run.zig").Workload;
const peakBytes = @import("run.zig").peakBytes;

pub const workload: Workload = .{
    .name = "tight",
    .summary = "one block allocated and freed, over and over",
    .rows = &.{ rowOf(16, false), rowOf(64, true), rowOf(256, false) },
};

const pairs = 20_000_000;

fn rowOf(comptime size: usize, comptime quick: bool) Row {
    return .{
        .id = std.fmt.comptimePrint("tight-{d}", .{size}),
        .label = std.fmt.comptimePrint("1 × {d} B", .{size}),
        .quick = quick,
        .live_bytes = size,
        .peak_bytes = peakBytes(1, size, 0),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureSize(run, size);
            }
        }.measureRow,
    };
}

fn measureSize(run: *Run, size: usize) void {
    run.operations = run.scaled(pairs);
    run.readBase();
    repeatPairs(1000, size);

    run.start();
    repeatPairs(run.operations, size);
    run.stop();

    const block = measure.allocate(size);
    run.readLive();
    measure.free(block);
    run.readAfter();
}

noinline fn repeatPairs(count: usize, size: usize) void {
    for (0..count) |index| {
        const block = measure.allocate(size);
        const word: *align(1) usize = @ptrCast(block);
        word.* = index;
        measure.escape(block);
        measure.free(block);
    }
}
