//! `calloc`: blocks of zeros replaced in slots in turn. Each is read whole, and must be zero; then a byte of every page and
//! the last byte are written, so that whoever hands the memory out again must clear it.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Row = run_module.Row;
const kib = run_module.kib;
const mib = run_module.mib;

extern "c" fn calloc(count: usize, size: usize) ?[*]align(@alignOf(usize)) u8;

pub const workload: run_module.Workload = .{
    .name = "calloc",
    .summary = "blocks of zeros, replaced in slots and read whole",
    .rows = &.{
        rowOf("64", "64 slots, 64 B", 64, 64, 10_000_000),
        rowOf("4k", "64 slots, 4 KiB", 64, 4 * kib, 2_000_000),
        rowOf("1m", "4 slots, 1 MiB", 4, mib, 4_000),
    },
};

fn rowOf(comptime name: []const u8, comptime label: []const u8, comptime slot_count: usize, comptime size: usize, comptime pairs: usize) Row {
    return .{
        .id = "calloc-" ++ name,
        .label = label,
        .quick = size == 64 or size == mib,
        .live_bytes = slot_count * size,
        .peak_bytes = run_module.peakBytes(slot_count, size, slot_count * @sizeOf([*]u8)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureSize(run, slot_count, size, pairs);
            }
        }.measureRow,
    };
}

fn measureSize(run: *Run, slot_count: usize, size: usize, pairs: usize) void {
    const slots = run.array([*]u8, slot_count);
    run.operations = run.scaled(pairs);
    run.readBase();
    for (slots) |*slot| slot.* = allocate(size);
    replace(slots, 10 * slot_count, size);

    run.start();
    replace(slots, run.operations, size);
    run.stop();

    run.readLive();
    for (slots, 0..) |slot, index| {
        if (!slots_module.holds(slot[0..size], fill, .pages)) run.failDamaged(index);
        measure.free(slot);
    }
    run.readAfter();
}

const fill = 0xa5;

noinline fn replace(slots: [][*]u8, count: usize, size: usize) void {
    var index: usize = 0;
    for (0..count) |_| {
        measure.free(slots[index]);
        slots[index] = allocate(size);
        index = if (index + 1 == slots.len) 0 else index + 1;
    }
}

inline fn allocate(size: usize) [*]u8 {
    const block = calloc(1, size) orelse measure.outOfMemory(size);
    measure.escape(block);
    const words: []const usize = @ptrCast(block[0..size]);
    var difference: usize = 0;
    for (words) |word| difference |= word;
    if (difference != 0) measure.fail("calloc gave a block of {d} bytes that is not all zero", .{size});
    slots_module.write(block[0..size], fill, .pages);
    return block;
}
