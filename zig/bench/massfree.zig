//! `massfree`: a million blocks of one size are freed, in the order of allocation or at random. Only the freeing is
//! measured; before each round all are allocated and written whole.

const std = @import("std");
const measure = @import("measure.zig");
const growth = @import("growth.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Row = run_module.Row;

pub const workload: run_module.Workload = .{
    .name = "massfree",
    .summary = "a million blocks freed; the allocating is not measured",
    .rows = &.{ rowOf(16, .sequential), rowOf(16, .random), rowOf(256, .sequential), rowOf(256, .random) },
};

const Pattern = enum { sequential, random };

const count_full = 1_000_000;

fn rowOf(comptime size: usize, comptime pattern: Pattern) Row {
    return .{
        .id = std.fmt.comptimePrint("massfree-{d}-{t}", .{ size, pattern }),
        .label = std.fmt.comptimePrint("1,000,000 × {d} B, {t}", .{ size, pattern }),
        .operation = .block,
        .blocks_scale = true,
        .quick = pattern == .sequential,
        .live_bytes = count_full * size,
        .peak_bytes = run_module.peakBytes(count_full, size, count_full * @sizeOf([*]u8)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measurePattern(run, size, if (size == 16) 20 else 3, pattern);
            }
        }.measureRow,
    };
}

fn measurePattern(run: *Run, size: usize, rounds: usize, pattern: Pattern) void {
    const blocks = run.array([*]u8, run.scaled(count_full));
    var random: run_module.Random = .init(run.seed, 0);
    run.operations = rounds * blocks.len;
    run.readBase();
    for (0..rounds) |round| {
        growth.allocateAll(blocks, size);
        if (round == 0) run.readLive();
        for (blocks, 0..) |block, index| {
            if (!slots_module.holds(block[0..size], measure.fillOf(index), .whole)) run.failDamaged(index);
        }
        if (pattern == .random) random.shuffle([*]u8, blocks);

        run.start();
        freeAll(blocks);
        run.stop();
    }
    run.readAfter();
}

noinline fn freeAll(blocks: []const [*]u8) void {
    for (blocks) |block| measure.free(block);
}
