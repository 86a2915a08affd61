//! `xthread`: threads exchange blocks through shared slots. Each step allocates a block of a size drawn at random, swaps
//! it into a slot drawn at random, and reads and frees the block that was there, whoever allocated it.

const std = @import("std");
const measure = @import("measure.zig");
const team = @import("team.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;

pub const workload: run_module.Workload = .{
    .name = "xthread",
    .summary = "threads exchange blocks through shared slots: any frees what any allocated",
    .rows = &.{ rowOf("small", 16, 128), rowOf("mixed", 16, 1024) },
};

const slots_a_thread = 1024;
const pairs_total = 5_000_000;

fn rowOf(comptime name: []const u8, comptime size_min: usize, comptime size_max: usize) Row {
    return .{
        .id = "xthread-" ++ name,
        .label = std.fmt.comptimePrint("{d}–{d} B, 1,024 shared slots a thread", .{ size_min, size_max }),
        .threads = true,
        .quick = size_max == 1024,
        .live_bytes = slots_a_thread * (size_min + size_max) / 2,
        .peak_bytes = run_module.peakBytes(slots_a_thread, size_max, slots_a_thread * @sizeOf(Slot)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureSizes(run, size_min, size_max);
            }
        }.measureRow,
    };
}

/// Never empty once all are prepared. Swapped with acquire and release: who takes a block sees what was written to it.
const Slot = std.atomic.Value(*Header);

/// The beginning of a block. Its last byte holds the lowest byte of the size.
const Header = extern struct {
    size: usize align(1),

    fn lastByte(header: *Header) *u8 {
        return &@as([*]u8, @ptrCast(header))[header.size - 1];
    }

    inline fn allocate(size: usize) *Header {
        const header: *Header = @ptrCast(measure.allocate(size));
        header.size = size;
        header.lastByte().* = @truncate(size);
        return header;
    }
};

fn measureSizes(run: *Run, size_min: usize, size_max: usize) void {
    const slots = sharedSlots(run);
    const workers = run.array(Worker, run.threads);
    run.operations = run.scaled(pairs_total);
    for (workers, 0..) |*worker, index| {
        worker.* = .init(run, slots, index, size_min, size_max);
        worker.pairs = run_module.shareOf(run.operations, run.threads, index);
    }
    team.measureTeam(run, Worker, workers);
}

/// The sizes of the row that a soak goes on with.
pub const soak_sizes = .{ .least = 16, .most = 1024 };

/// The slots that all workers share.
pub fn sharedSlots(run: *const Run) []Slot {
    return run.array(Slot, slots_a_thread * run.threads);
}

pub const Worker = struct {
    run: *Run,
    slots: []Slot,
    index: usize,
    size_min: usize,
    size_max: usize,
    pairs: usize = 0,
    random: run_module.Random,

    pub fn init(run: *Run, slots: []Slot, index: usize, size_min: usize, size_max: usize) Worker {
        return .{
            .run = run,
            .slots = slots,
            .index = index,
            .size_min = size_min,
            .size_max = size_max,
            .random = .init(run.seed, index),
        };
    }

    /// The slots that nobody else fills and empties.
    fn ownSlots(worker: *Worker) []Slot {
        return worker.slots[worker.index * slots_a_thread ..][0..slots_a_thread];
    }

    pub fn prepare(worker: *Worker) void {
        for (worker.ownSlots()) |*slot| slot.* = .init(.allocate(worker.random.between(worker.size_min, worker.size_max)));
    }

    pub fn work(worker: *Worker) void {
        worker.exchange(worker.pairs);
    }

    pub noinline fn exchange(worker: *Worker, pairs: usize) void {
        // A copy, so that its state may stay in a register.
        var local = worker.*;
        for (0..pairs) |_| {
            const index, const extra = local.random.belowBoth(local.slots.len, local.size_max - local.size_min + 1);
            local.release(local.slots[index].swap(.allocate(local.size_min + extra), .acq_rel));
        }
        worker.random = local.random;
    }

    pub fn hold(_: *Worker) void {}

    pub fn finish(worker: *Worker) void {
        for (worker.ownSlots()) |*slot| worker.release(slot.raw);
    }

    inline fn release(worker: *const Worker, block: *Header) void {
        const size = block.size;
        const in_range = size >= worker.size_min and size <= worker.size_max;
        if (!in_range or block.lastByte().* != @as(u8, @truncate(size))) worker.run.failDamaged(worker.index);
        measure.free(block);
    }
};
