//! `false-sharing`: threads write small blocks often. If two threads have blocks in one cache line, they slow each other
//! down. Actively, an allocator gives neighbouring blocks to different threads; passively, it gives a block that came
//! from another thread to whoever freed it. After Hoard's cache-thrash and cache-scratch (Berger, McKinley, Blumofe,
//! Wilson 2000).

const std = @import("std");
const measure = @import("measure.zig");
const team = @import("team.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;

pub const workload: run_module.Workload = .{
    .name = "false-sharing",
    .summary = "threads write small blocks often; do they share cache lines?",
    .rows = &.{ rowOf(.active), rowOf(.passive) },
};

const Manner = enum { active, passive };

const block_bytes = 8;
/// Blocks that a thread has at a time.
const block_count = 16;
const writes_a_block = 50;
const pairs_total = 12_000_000;

fn rowOf(comptime manner: Manner) Row {
    return .{
        .id = "false-sharing-" ++ @tagName(manner),
        .label = "8 B, 50 writes each, " ++ switch (manner) {
            .active => "each thread its own",
            .passive => "the first ones from one thread",
        },
        .threads = true,
        .quick = true,
        .live_bytes = block_count * block_bytes,
        .peak_bytes = run_module.peakBytes(block_count, block_bytes, 0),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureManner(run, manner);
            }
        }.measureRow,
    };
}

fn measureManner(run: *Run, manner: Manner) void {
    const workers = run.array(Worker, run.threads);
    const rounds = @max(1, run.scaled(pairs_total) / block_count);
    run.operations = rounds * block_count;
    for (workers, 0..) |*worker, index| worker.* = .{
        .run = run,
        .workers = workers,
        .index = index,
        .manner = manner,
        .rounds = run_module.shareOf(rounds, run.threads, index),
        .blocks = undefined,
    };
    team.measureTeam(run, Worker, workers);
}

const Worker = struct {
    run: *Run,
    workers: []Worker,
    index: usize,
    manner: Manner,
    rounds: usize,
    /// Of this thread, also those that another allocated for it.
    blocks: [block_count]*volatile Counter align(128),

    const Counter = u64;

    pub fn prepare(worker: *Worker) void {
        switch (worker.manner) {
            .active => worker.allocateAll(),
            // Neighbours go to different threads.
            .passive => if (worker.index == 0) for (0..block_count) |turn| {
                for (worker.workers) |*other| other.blocks[turn] = allocate();
            },
        }
    }

    pub fn work(worker: *Worker) void {
        for (0..worker.rounds) |_| {
            worker.writeAll();
            worker.freeAll();
            worker.allocateAll();
        }
    }

    pub fn hold(_: *Worker) void {}

    pub fn finish(worker: *Worker) void {
        worker.writeAll();
        for (worker.blocks, 0..) |block, turn| {
            if (block.* != writes_a_block - 1 + worker.tag(turn)) worker.run.failDamaged(turn);
        }
        worker.freeAll();
    }

    fn allocate() *volatile Counter {
        return @ptrCast(@alignCast(measure.allocate(block_bytes)));
    }

    fn allocateAll(worker: *Worker) void {
        for (&worker.blocks) |*block| block.* = allocate();
    }

    fn writeAll(worker: *Worker) void {
        for (worker.blocks, 0..) |block, turn| {
            for (0..writes_a_block) |value| block.* = value + worker.tag(turn);
        }
    }

    /// No two blocks that are live at once get the same.
    fn tag(worker: *const Worker, turn: usize) Counter {
        return worker.index * block_count + turn;
    }

    fn freeAll(worker: *Worker) void {
        for (worker.blocks) |block| measure.free(@volatileCast(block));
    }
};
