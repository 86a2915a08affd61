//! `larson`: a server whose threads come and go, after Larson and Krishnan ("Memory Allocation for Long-Running Server
//! Applications", 1998). Each thread replaces random blocks of 8–1000 B of an array; after a while it ends and hands the
//! array on to a new thread, which so frees the blocks of another.

const std = @import("std");
const team = @import("team.zig");
const slots_module = @import("slots.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Slots = slots_module.Slots;

pub const workload: run_module.Workload = .{
    .name = "larson",
    .summary = "threads replace blocks of an array and hand it on to new threads",
    .rows = &.{.{
        .id = "larson",
        .label = "5,000 blocks of 8–1000 B a thread, handed on 20 times",
        .threads = true,
        .quick = true,
        .live_bytes = slot_count * (size_min + size_max) / 2,
        .peak_bytes = run_module.peakBytes(slot_count, size_max, slot_count * @sizeOf(slots_module.Slot)),
        .measure = measureRow,
    }},
};

const slot_count = 5_000;
const size_min = 8;
const size_max = 1_000;
const pairs_total = 6_000_000;
/// Threads that an array goes through.
const threads_an_array = 20;

pub const shape: slots_module.Shape = .{ .slot_count = slot_count, .size_min = size_min, .size_max = size_max, .touch = .ends };
/// What a thread does before it hands its array on, where there is one array.
pub const pairs_a_thread = pairs_total / threads_an_array;

fn measureRow(run: *Run) void {
    const pairs = run.scaled(pairs_total);
    const workers = run.array(Worker, run.threads);
    for (workers, 0..) |*worker, index| worker.* = .{
        .run = run,
        .stack = .init(),
        .slots = .init(run, slot_count, size_min, size_max, index),
        .pairs = run_module.shareOf(pairs, run.threads, index),
        .pairs_next = 0,
    };
    run.operations = pairs;
    team.measureTeam(run, Worker, workers);
}

/// Starts the threads of one array, one after the other. It frees and allocates nothing between them.
const Worker = struct {
    run: *Run,
    stack: team.Stack,
    slots: Slots,
    pairs: usize,
    /// What the next thread is to do.
    pairs_next: usize,

    pub fn prepare(worker: *Worker) void {
        worker.slots.fill(.ends);
    }

    pub fn work(worker: *Worker) void {
        var rest = worker.pairs;
        while (rest > 0) : (rest -= worker.pairs_next) {
            worker.pairs_next = @min(rest, std.math.divCeil(usize, worker.pairs, threads_an_array) catch unreachable);
            team.join(worker.stack.spawn(Worker, replace, worker));
        }
    }

    fn replace(worker: *Worker) void {
        worker.slots.replace(worker.pairs_next, .ends);
    }

    pub fn hold(_: *Worker) void {}

    pub fn finish(worker: *Worker) void {
        worker.slots.check(worker.run, .ends);
        worker.slots.freeAll();
    }
};
