//! `churn`: threads come and go. Each frees what the one before it left, allocates 300 blocks of 16–512 B, frees nine of
//! ten of them, and ends. What it leaves is so freed by another thread.

const std = @import("std");
const measure = @import("measure.zig");
const team = @import("team.zig");
const slots_module = @import("slots.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;

pub const workload: run_module.Workload = .{
    .name = "churn",
    .summary = "threads come, allocate, and go; what they leave is freed by others",
    .rows = &.{.{
        .id = "churn",
        .label = "threads of 300 blocks of 16–512 B, a tenth left to the next",
        .threads = true,
        .operation = .thread,
        .quick = true,
        .live_bytes = block_count * (size_min + size_max) / 2,
        .peak_bytes = run_module.peakBytes(block_count, size_max, 0),
        .measure = measureRow,
    }},
};

const block_count = 300;
/// One in so many blocks is left.
const left_step = 10;
const size_min = 16;
const size_max = 512;
const threads_total = 6_000;

fn measureRow(run: *Run) void {
    const workers = run.array(Worker, run.threads);
    run.operations = run.scaled(threads_total);
    for (workers, 0..) |*worker, index| worker.* = .{
        .run = run,
        .stack = .init(),
        .blocks = run.array(slots_module.Slot, block_count),
        .random = .init(run.seed, index),
        .thread_count = run_module.shareOf(run.operations, run.threads, index),
        .pause = .{ .count = 2 },
        .last = undefined,
    };
    team.measureTeam(run, Worker, workers);
}

/// Starts threads one after the other. It frees and allocates nothing itself.
const Worker = struct {
    run: *Run,
    stack: team.Stack,
    blocks: []slots_module.Slot,
    random: run_module.Random,
    thread_count: usize,
    /// Where the last thread and its starter wait for each other.
    pause: team.Barrier,
    last: std.c.pthread_t,

    pub fn prepare(worker: *Worker) void {
        team.join(worker.stack.spawn(Worker, first, worker));
    }

    pub fn work(worker: *Worker) void {
        for (0..worker.thread_count) |_| team.join(worker.stack.spawn(Worker, next, worker));
    }

    /// The high point: a thread has allocated all its blocks.
    pub fn hold(worker: *Worker) void {
        worker.last = worker.stack.spawn(Worker, end, worker);
        worker.pause.wait();
    }

    pub fn finish(worker: *Worker) void {
        worker.pause.wait();
        team.join(worker.last);
    }

    fn first(worker: *Worker) void {
        worker.allocateAll();
        worker.freeMost();
    }

    fn next(worker: *Worker) void {
        worker.freeLeft();
        worker.allocateAll();
        worker.freeMost();
    }

    fn end(worker: *Worker) void {
        worker.freeLeft();
        worker.allocateAll();
        worker.pause.wait();
        worker.pause.wait();
        worker.freeMost();
        worker.freeLeft();
    }

    fn allocateAll(worker: *Worker) void {
        for (worker.blocks, 0..) |*slot, index| {
            const size = worker.random.between(size_min, size_max);
            const block = measure.allocate(size);
            slots_module.write(block[0..size], measure.fillOf(index), .ends);
            slot.* = .{ .block = block, .size = size };
        }
    }

    fn freeMost(worker: *Worker) void {
        for (worker.blocks, 0..) |slot, index| {
            if (index % left_step != 0) worker.release(slot, index);
        }
    }

    fn freeLeft(worker: *Worker) void {
        var index: usize = 0;
        while (index < worker.blocks.len) : (index += left_step) worker.release(worker.blocks[index], index);
    }

    /// Reads the block, as a program does that was handed it, and frees it.
    fn release(worker: *Worker, slot: slots_module.Slot, index: usize) void {
        if (!slots_module.holds(slot.block[0..slot.size], measure.fillOf(index), .ends)) worker.run.failDamaged(index);
        measure.free(slot.block);
    }
};
