//! `realloc`: vectors that grow by half each time, as those of programs do, and write what they gained; and blocks that
//! shrink.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const slots_module = @import("slots.zig");
const Run = run_module.Run;
const Slot = slots_module.Slot;
const kib = run_module.kib;
const mib = run_module.mib;

extern "c" fn realloc(block: ?*anyopaque, size: usize) ?[*]u8;

pub const workload: run_module.Workload = .{
    .name = "realloc",
    .summary = "vectors that grow by half each time, and blocks that shrink",
    .rows = &.{
        .{
            .id = "realloc-vector",
            .label = "one vector, 16 B to 16 MiB by × 1.5",
            .operation = .resize,
            .quick = true,
            .live_bytes = sizeAfter(vector_resizes),
            // The old and the new block at once.
            .peak_bytes = run_module.peakBytes(2, sizeAfter(vector_resizes), 0),
            .measure = measureVector,
        },
        .{
            .id = "realloc-interleaved",
            .label = "1,000 vectors in turn, 16 B to 4 KiB by × 1.5",
            .operation = .resize,
            .live_bytes = interleaved_count * sizeAfter(interleaved_resizes),
            .peak_bytes = run_module.peakBytes(2 * interleaved_count, sizeAfter(interleaved_resizes), interleaved_count * @sizeOf(Slot)),
            .measure = measureInterleaved,
        },
        .{
            .id = "realloc-shrink",
            .label = "200 blocks in turn, 64 KiB to 1 KiB by ÷ 1.5; RSS once they are small",
            .operation = .resize,
            .live_bytes = shrink_count * shrink_last,
            .peak_bytes = run_module.peakBytes(shrink_count, shrink_first, shrink_count * @sizeOf(Slot)),
            .measure = measureShrink,
        },
    },
};

const size_first = 16;

/// The size of a vector that has grown so many times.
fn sizeAfter(comptime resizes: usize) usize {
    var size: usize = size_first;
    for (0..resizes) |_| size = grown(size);
    return size;
}

fn grown(size: usize) usize {
    return size + size / 2;
}

/// The first to reach 16 MiB.
const vector_resizes = 35;
const vector_rounds = 100;

fn measureVector(run: *Run) void {
    const rounds = run.scaled(vector_rounds);
    run.operations = rounds * vector_resizes;
    var vector: [1]Slot = undefined;
    run.readBase();
    growAndFree(&vector, vector_resizes);

    run.start();
    for (0..rounds) |_| growAndFree(&vector, vector_resizes);
    run.stop();

    endGrown(run, &vector, vector_resizes);
}

const interleaved_count = 1_000;
const interleaved_resizes = 14;
const interleaved_rounds = 150;

fn measureInterleaved(run: *Run) void {
    const vectors = run.array(Slot, interleaved_count);
    const rounds = run.scaled(interleaved_rounds);
    run.operations = rounds * interleaved_count * interleaved_resizes;
    run.readBase();
    growAndFree(vectors, interleaved_resizes);

    run.start();
    for (0..rounds) |_| growAndFree(vectors, interleaved_resizes);
    run.stop();

    endGrown(run, vectors, interleaved_resizes);
}

noinline fn growAndFree(vectors: []Slot, resizes: usize) void {
    grow(vectors, resizes);
    for (vectors) |vector| measure.free(vector.block);
}

/// Each vector in turn grows once, so many times.
fn grow(vectors: []Slot, resizes: usize) void {
    for (vectors, 0..) |*vector, index| {
        const block = measure.allocate(size_first);
        @memset(block[0..size_first], measure.fillOf(index));
        vector.* = .{ .block = block, .size = size_first };
    }
    for (0..resizes) |_| {
        for (vectors, 0..) |*vector, index| {
            const size = grown(vector.size);
            const block = realloc(vector.block, size) orelse measure.outOfMemory(size);
            @memset(block[vector.size..size], measure.fillOf(index));
            measure.escape(block);
            vector.* = .{ .block = block, .size = size };
        }
    }
}

/// One more round, at whose high point RSS is read and the contents are checked.
fn endGrown(run: *Run, vectors: []Slot, resizes: usize) void {
    grow(vectors, resizes);
    run.readLive();
    checkAndFree(run, vectors);
    run.readAfter();
}

fn checkAndFree(run: *Run, blocks: []const Slot) void {
    for (blocks, 0..) |slot, index| {
        if (!slots_module.holds(slot.block[0..slot.size], measure.fillOf(index), .whole)) run.failDamaged(index);
        measure.free(slot.block);
    }
}

const shrink_count = 200;
const shrink_first = 64 * kib;
const shrink_resizes = 10;
const shrink_rounds = 200;

fn shrunk(size: usize) usize {
    return size * 2 / 3;
}

const shrink_last = last: {
    var size: usize = shrink_first;
    for (0..shrink_resizes) |_| size = shrunk(size);
    break :last size;
};

fn measureShrink(run: *Run) void {
    const blocks = run.array(Slot, shrink_count);
    const rounds = run.scaled(shrink_rounds);
    run.operations = rounds * shrink_count * shrink_resizes;
    run.readBase();
    for (0..rounds) |round| {
        for (blocks, 0..) |*slot, index| {
            slot.* = .{ .block = measure.allocate(shrink_first), .size = shrink_first };
            @memset(slot.block[0..shrink_first], measure.fillOf(index));
        }

        run.start();
        shrink(blocks);
        run.stop();

        if (round == rounds - 1) run.readLive();
        checkAndFree(run, blocks);
    }
    run.readAfter();
}

noinline fn shrink(blocks: []Slot) void {
    for (0..shrink_resizes) |_| {
        for (blocks) |*slot| {
            const size = shrunk(slot.size);
            const block = realloc(slot.block, size) orelse measure.outOfMemory(size);
            slot.* = .{ .block = block, .size = size };
        }
    }
}

comptime {
    std.debug.assert(sizeAfter(vector_resizes) >= 16 * mib and sizeAfter(vector_resizes - 1) < 16 * mib);
    std.debug.assert(sizeAfter(interleaved_resizes) >= 4 * kib and sizeAfter(interleaved_resizes - 1) < 4 * kib);
    std.debug.assert(shrink_last >= kib and shrunk(shrink_last) < kib);
}
