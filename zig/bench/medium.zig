//! `medium`: 64 slots of blocks of 1–100 KiB, replaced at random; touched at both ends, or a byte in every page.

const std = @import("std");
const slots_module = @import("slots.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;
const kib = run_module.kib;

pub const workload: run_module.Workload = .{
    .name = "medium",
    .summary = "blocks of 1–100 KiB replaced in 64 slots at random",
    .rows = &.{ rowOf(.ends), rowOf(.pages) },
};

const slot_count = 64;
const size_min = 1 * kib;
const size_max = 100 * kib;

pub fn shapeOf(touch: slots_module.Touch) slots_module.Shape {
    return .{ .slot_count = slot_count, .size_min = size_min, .size_max = size_max, .touch = touch };
}

fn rowOf(comptime touch: slots_module.Touch) Row {
    return .{
        .id = "medium-" ++ @tagName(touch),
        .label = "64 slots, 1–100 KiB, " ++ (if (touch == .ends) "both ends touched" else "a byte a page"),
        .quick = touch == .pages,
        .live_bytes = slot_count * (size_min + size_max) / 2,
        .peak_bytes = run_module.peakBytes(slot_count, size_max, slot_count * @sizeOf(slots_module.Slot)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                const pairs = run.scaled(if (touch == .ends) 1_000_000 else 500_000);
                slots_module.measureReplacing(run, comptime shapeOf(touch), pairs);
            }
        }.measureRow,
    };
}
