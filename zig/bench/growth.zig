//! `growth`: blocks of one size are allocated and written whole, and none is freed: what fresh memory costs. The freeing
//! is not measured.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Row = run_module.Row;
const mib = run_module.mib;

pub const workload: run_module.Workload = .{
    .name = "growth",
    .summary = "fresh memory: blocks allocated and written whole, none freed meanwhile",
    .rows = rows: {
        @setEvalBranchQuota(100_000);
        var rows: []const Row = &.{};
        for (.{ 16, 256 }) |live_mib| {
            for (.{ 16, 64, 256, 1024 }) |size| rows = rows ++ .{rowOf(size, live_mib)};
        }
        break :rows rows;
    },
};

fn rowOf(comptime size: usize, comptime live_mib: usize) Row {
    const count = live_mib * mib / size;
    return .{
        .id = std.fmt.comptimePrint("growth-{d}-{d}m", .{ size, live_mib }),
        .label = std.fmt.comptimePrint("{d} B up to {d} MiB live", .{ size, live_mib }),
        .operation = .block,
        .blocks_scale = true,
        .quick = live_mib == 16 and (size == 16 or size == 256),
        .live_bytes = count * size,
        .peak_bytes = run_module.peakBytes(count, size, count * @sizeOf([*]u8)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureSize(run, run.scaled(count), size);
            }
        }.measureRow,
    };
}

fn measureSize(run: *Run, count: usize, size: usize) void {
    const blocks = run.array([*]u8, count);
    run.operations = count;
    run.readBase();

    run.start();
    allocateAll(blocks, size);
    run.stop();

    run.readLive();
    for (blocks, 0..) |block, index| {
        if (!slots_module.holds(block[0..size], measure.fillOf(index), .whole)) run.failDamaged(index);
    }
    for (blocks) |block| measure.free(block);
    run.readAfter();
}

/// Allocates and writes each block whole.
pub noinline fn allocateAll(blocks: [][*]u8, size: usize) void {
    for (blocks, 0..) |*slot, index| {
        const block = measure.allocate(size);
        @memset(block[0..size], measure.fillOf(index));
        measure.escape(block);
        slot.* = block;
    }
}
