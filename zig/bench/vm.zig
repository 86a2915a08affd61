//! `vm`: one block of 2 or 64 MiB is allocated and freed, over and over: untouched, a byte written in every page, or
//! written whole.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Row = run_module.Row;
const mib = run_module.mib;

pub const workload: run_module.Workload = .{
    .name = "vm",
    .summary = "one block of 2 or 64 MiB allocated and freed, over and over",
    .rows = &.{
        rowOf(2, .untouched, 1_000_000),
        rowOf(2, .pages, 25_000),
        rowOf(2, .whole, 5_000),
        rowOf(64, .untouched, 20_000),
        rowOf(64, .pages, 8),
        rowOf(64, .whole, 8),
    },
};

const Touch = enum { untouched, pages, whole };

fn rowOf(comptime size_mib: usize, comptime touch: Touch, comptime pairs: usize) Row {
    const size = size_mib * mib;
    return .{
        .id = std.fmt.comptimePrint("vm-{d}m-{t}", .{ size_mib, touch }),
        .label = std.fmt.comptimePrint("1 × {d} MiB, {s}", .{ size_mib, switch (touch) {
            .untouched => "untouched",
            .pages => "a byte a page",
            .whole => "written whole",
        } }),
        .quick = touch == .pages,
        .live_bytes = size,
        .peak_bytes = run_module.peakBytes(1, size, 0),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureTouch(run, size, touch, pairs);
            }
        }.measureRow,
    };
}

fn measureTouch(run: *Run, size: usize, comptime touch: Touch, pairs: usize) void {
    run.operations = run.scaled(pairs);
    run.readBase();
    // An allocator may choose by the first one what becomes of the next.
    repeatPairs(1, size, touch);

    run.start();
    repeatPairs(run.operations, size, touch);
    run.stop();

    const block = measure.allocate(size);
    write(block[0..size], 7, touch);
    run.readLive();
    const whole = switch (touch) {
        .untouched => true,
        .pages => slots_module.holds(block[0..size], 7, .pages),
        .whole => slots_module.holds(block[0..size], 7, .whole),
    };
    if (!whole) run.failDamaged(0);
    measure.free(block);
    run.readAfter();
}

noinline fn repeatPairs(count: usize, size: usize, comptime touch: Touch) void {
    for (0..count) |index| {
        const block = measure.allocate(size);
        write(block[0..size], measure.fillOf(index), touch);
        measure.escape(block);
        measure.free(block);
    }
}

inline fn write(block: []u8, fill: u8, comptime touch: Touch) void {
    switch (touch) {
        .untouched => {},
        .pages => slots_module.write(block, fill, .pages),
        .whole => slots_module.write(block, fill, .whole),
    }
}
