//! Blocks of random sizes in slots, replaced one at a time: what several workloads do.

const std = @import("std");
const measure = @import("measure.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Random = run_module.Random;

/// What of a new block is written: its first and last byte; a byte of every page and the last; every byte.
pub const Touch = enum { ends, pages, whole };

pub const Slot = struct {
    block: [*]u8,
    size: usize,
};

pub const Slots = struct {
    slots: []Slot,
    size_min: usize,
    size_max: usize,
    random: Random,

    /// Each `stream`, a thread say, draws a sequence of its own. The slots are empty: `fill` comes first.
    pub fn init(run: *const Run, slot_count: usize, size_min: usize, size_max: usize, stream: u64) Slots {
        return .{
            .slots = run.array(Slot, slot_count),
            .size_min = size_min,
            .size_max = size_max,
            .random = .init(run.seed, stream),
        };
    }

    pub fn fill(slots: *Slots, comptime touch: Touch) void {
        for (slots.slots, 0..) |*slot, index| {
            put(slot, index, slots.random.between(slots.size_min, slots.size_max), touch);
        }
    }

    /// So many times frees the block in a slot drawn at random, and puts a new one there.
    pub noinline fn replace(slots: *Slots, times: usize, comptime touch: Touch) void {
        // A copy, so that its state may stay in a register.
        var local = slots.*;
        for (0..times) |_| {
            const index, const extra = local.random.belowBoth(local.slots.len, local.size_max - local.size_min + 1);
            const slot = &local.slots[index];
            measure.free(slot.block);
            put(slot, index, local.size_min + extra, touch);
        }
        slots.random = local.random;
    }

    inline fn put(slot: *Slot, index: usize, size: usize, comptime touch: Touch) void {
        const block = measure.allocate(size);
        write(block[0..size], fillOf(index), touch);
        measure.escape(block);
        slot.* = .{ .block = block, .size = size };
    }

    /// Cheaper than `measure.fillOf`, as it is made for every block while the clock runs.
    inline fn fillOf(index: usize) u8 {
        return @truncate(index ^ 0xa5);
    }

    /// Ends the program if a block does not hold what was written.
    pub fn check(slots: *const Slots, run: *const Run, comptime touch: Touch) void {
        for (slots.slots, 0..) |slot, index| {
            if (!holds(slot.block[0..slot.size], fillOf(index), touch)) run.failDamaged(index);
        }
    }

    pub fn freeAll(slots: *const Slots) void {
        for (slots.slots) |slot| measure.free(slot.block);
    }
};

pub inline fn write(block: []u8, fill: u8, comptime touch: Touch) void {
    switch (touch) {
        .ends => block[0] = fill,
        .pages => {
            var offset: usize = 0;
            while (offset < block.len) : (offset += std.heap.page_size_min) block[offset] = fill;
        },
        .whole => @memset(block, fill),
    }
    block[block.len - 1] = fill;
}

/// Whether the block holds what `write` wrote.
pub fn holds(block: []const u8, fill: u8, comptime touch: Touch) bool {
    var difference: u8 = block[block.len - 1] ^ fill;
    switch (touch) {
        .ends => difference |= block[0] ^ fill,
        .pages => {
            var offset: usize = 0;
            while (offset < block.len) : (offset += std.heap.page_size_min) difference |= block[offset] ^ fill;
        },
        .whole => for (block) |byte| {
            difference |= byte ^ fill;
        },
    }
    return difference == 0;
}

pub const Shape = struct {
    slot_count: usize,
    size_min: usize,
    size_max: usize,
    touch: Touch,
};

/// A whole row of one thread that replaces blocks in slots.
pub fn measureReplacing(run: *Run, comptime shape: Shape, pairs: usize) void {
    var slots: Slots = .init(run, shape.slot_count, shape.size_min, shape.size_max, 0);
    run.operations = pairs;
    run.readBase();
    slots.fill(shape.touch);
    // A steady state: each slot has been replaced some times.
    slots.replace(10 * shape.slot_count, shape.touch);

    run.start();
    slots.replace(pairs, shape.touch);
    run.stop();

    run.readLive();
    slots.check(run, shape.touch);
    slots.freeAll();
    run.readAfter();
}

test "what was written is found again, and a changed byte is noticed where it was written" {
    var block: [10_000]u8 = undefined;
    inline for (.{ Touch.ends, Touch.pages, Touch.whole }) |touch| {
        @memset(&block, 0);
        write(&block, 7, touch);
        try std.testing.expect(holds(&block, 7, touch));
        for ([_]struct { usize, bool }{
            .{ 0, true },
            .{ 4096, touch != .ends },
            .{ 5000, touch == .whole },
            .{ block.len - 1, true },
        }) |case| {
            const index, const noticed = case;
            block[index] +%= 1;
            try std.testing.expectEqual(!noticed, holds(&block, 7, touch));
            block[index] -%= 1;
        }
    }
}
