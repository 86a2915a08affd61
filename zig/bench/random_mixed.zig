//! `random-mixed`: 400 slots; each step frees the block in a slot drawn at random and puts one of 16–1024 B, drawn too,
//! in its place. The blocks are touched at both ends or written whole. With threads, each has its own slots.

const std = @import("std");
const measure = @import("measure.zig");
const team = @import("team.zig");
const slots_module = @import("slots.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;
const Slots = slots_module.Slots;
const Touch = slots_module.Touch;

pub const workload: run_module.Workload = .{
    .name = "random-mixed",
    .summary = "blocks of 16–1024 B replaced in 400 slots at random",
    .rows = &.{ rowOf(.ends, false), rowOf(.whole, false), rowOf(.ends, true), rowOf(.whole, true) },
};

const slot_count = 400;
const size_min = 16;
const size_max = 1024;

fn rowOf(comptime touch: Touch, comptime threads: bool) Row {
    return .{
        .id = "random-mixed-" ++ (if (threads) "threads-" else "") ++ @tagName(touch),
        .label = "400 slots, 16–1024 B, " ++ (if (touch == .ends) "both ends touched" else "written whole") ++
            (if (threads) ", each thread its own" else ""),
        .threads = threads,
        .quick = touch == .ends,
        .live_bytes = slot_count * (size_min + size_max) / 2,
        .peak_bytes = run_module.peakBytes(slot_count, size_max, slot_count * @sizeOf(slots_module.Slot)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                const pairs = run.scaled(if (touch == .ends) 20_000_000 else 10_000_000);
                if (threads) measureThreads(run, pairs, touch) else measureSingle(run, pairs, touch);
            }
        }.measureRow,
    };
}

pub fn shapeOf(touch: Touch) slots_module.Shape {
    return .{ .slot_count = slot_count, .size_min = size_min, .size_max = size_max, .touch = touch };
}

fn measureSingle(run: *Run, pairs: usize, comptime touch: Touch) void {
    slots_module.measureReplacing(run, comptime shapeOf(touch), pairs);
}

fn measureThreads(run: *Run, pairs: usize, comptime touch: Touch) void {
    const Worker = struct {
        run: *Run,
        slots: Slots,
        pairs: usize,

        pub fn prepare(worker: *@This()) void {
            worker.slots.fill(touch);
        }
        pub fn work(worker: *@This()) void {
            worker.slots.replace(worker.pairs, touch);
        }
        pub fn hold(_: *@This()) void {}
        pub fn finish(worker: *@This()) void {
            worker.slots.check(worker.run, touch);
            worker.slots.freeAll();
        }
    };
    const workers = run.array(Worker, run.threads);
    for (workers, 0..) |*worker, index| worker.* = .{
        .run = run,
        .slots = .init(run, slot_count, size_min, size_max, index),
        .pairs = run_module.shareOf(pairs, run.threads, index),
    };
    run.operations = pairs;
    team.measureTeam(run, Worker, workers);
}
