//! `fragment`: 100,000 blocks of 16–8192 B are written whole and nine of ten freed at random, which leaves holes of all
//! sizes (first row); then blocks of another size are to fit into them (second row).

const std = @import("std");
const measure = @import("measure.zig");
const growth = @import("growth.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Slot = slots_module.Slot;

pub const workload: run_module.Workload = .{
    .name = "fragment",
    .summary = "nine blocks of ten freed at random, then blocks of another size",
    .rows = &.{
        .{
            .id = "fragment-free",
            .label = "100,000 × 16–8192 B, 90 % freed at random; RSS after it",
            .operation = .block,
            .blocks_scale = true,
            .quick = true,
            .live_bytes = kept_count * size_mean,
            .peak_bytes = peak_bytes,
            .measure = struct {
                fn measureRow(run: *Run) void {
                    measurePart(run, .free);
                }
            }.measureRow,
        },
        .{
            .id = "fragment-reuse",
            .label = "then 90,000 × 1,000 B written whole",
            .operation = .block,
            .blocks_scale = true,
            .live_bytes = kept_count * size_mean + (block_count - kept_count) * reuse_size,
            .peak_bytes = peak_bytes,
            .measure = struct {
                fn measureRow(run: *Run) void {
                    measurePart(run, .reuse);
                }
            }.measureRow,
        },
    },
};

const Part = enum { free, reuse };

const block_count = 100_000;
const kept_count = block_count / 10;
const size_min = 16;
const size_max = 8192;
const size_mean = (size_min + size_max) / 2;
const reuse_size = 1_000;
const rounds = 3;
const peak_bytes = run_module.peakBytes(block_count, size_mean, block_count * (@sizeOf(Slot) + @sizeOf([*]u8)));

fn measurePart(run: *Run, part: Part) void {
    const blocks = run.array(Slot, @max(10, run.scaled(block_count)));
    const others = run.array([*]u8, blocks.len - blocks.len / 10);
    var random: run_module.Random = .init(run.seed, 0);
    run.operations = rounds * others.len;
    run.readBase();
    for (0..rounds) |round| {
        const last = round == rounds - 1;
        for (blocks) |*slot| {
            const size = random.between(size_min, size_max);
            slot.* = .{ .block = measure.allocate(size), .size = size };
            @memset(slot.block[0..size], fillOf(size));
        }
        random.shuffle(Slot, blocks);
        const freed, const kept = .{ blocks[0..others.len], blocks[others.len..] };

        if (part == .free) run.start();
        freeAll(freed);
        if (part == .free) run.stop();
        if (part == .free and last) run.readLive();

        if (part == .reuse) {
            run.start();
            growth.allocateAll(others, reuse_size);
            run.stop();
            if (last) run.readLive();
            for (others, 0..) |block, index| {
                if (!slots_module.holds(block[0..reuse_size], measure.fillOf(index), .whole)) run.failDamaged(index);
                measure.free(block);
            }
        }

        for (kept, 0..) |slot, index| {
            if (!slots_module.holds(slot.block[0..slot.size], fillOf(slot.size), .whole)) run.failDamaged(index);
        }
        freeAll(kept);
    }
    run.readAfter();
}

/// Made from the size, as the shuffle changes the index.
fn fillOf(size: usize) u8 {
    return measure.fillOf(size);
}

noinline fn freeAll(blocks: []const Slot) void {
    for (blocks) |slot| measure.free(slot.block);
}
