//! Cases about memory over time: many blocks in any order, memory that serves again, memory that
//! goes back, and memory that is out.

const std = @import("std");
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const run_module = @import("run.zig");
const Failure = @import("subject.zig").Failure;

const Run = run_module.Run;
const Block = run_module.Block;
const Random = run_module.Random;
const naturalAlignment = run_module.naturalAlignment;
const errno_no_memory = run_module.errno_no_memory;
const kib = run_module.kib;
const mib = run_module.mib;
const growth_allowance = run_module.growth_allowance;

pub fn manyBlocks(run: *Run) Failure!void {
    const count = 200_000;
    const blocks = try run.scratch(Block, count);
    defer run.freeScratch(blocks);
    var random: Random = .{ .state = 11 };
    for (0..2) |_| {
        for (blocks, 0..) |*block, index| {
            // One in a hundred above the small classes.
            block.* = try run.allocate(random.size(if (index % 100 == 0) 16 else 11));
            run.fill(block.*);
        }
        random.shuffle(Block, blocks);
        // Nine tenths go, their places are filled again beside the survivors, then all go.
        for (blocks[0 .. count / 10 * 9]) |block| try run.checkAndFree(block);
        for (blocks[0 .. count / 2]) |*block| {
            block.* = try run.allocate(random.size(10));
            run.fill(block.*);
        }
        random.shuffle(Block, blocks[0 .. count / 2]);
        for (blocks[0 .. count / 2]) |block| try run.checkAndFree(block);
        for (blocks[count / 10 * 9 ..]) |block| try run.checkAndFree(block);
    }
}

pub fn manyLargeBlocks(run: *Run) Failure!void {
    var live: [48]?Block = @splat(null);
    var random: Random = .{ .state = 23 };
    for (0..1500) |turn| {
        const place = &live[random.below(live.len)];
        const size = 16 * kib + random.below(if (turn % 20 == 0) 4 * mib else 300 * kib);
        if (place.*) |block| {
            if (turn % 3 == 0) {
                place.* = try run.resize(block, size);
            } else {
                try run.checkAndFree(block);
                place.* = null;
            }
        } else {
            const block = try run.allocate(size);
            run.fill(block);
            place.* = block;
        }
    }
    for (live) |maybe| if (maybe) |block| try run.checkAndFree(block);
}

pub fn reuseOne(run: *Run) Failure!void {
    for ([_]usize{ 1, 16, 100, 1000, 5000, 40_000, 300_000, 3 * mib }) |size| {
        const rounds: usize = if (size < 8 * kib) 1_000_000 else if (size < mib) 20_000 else 2000;
        var before: usize = 0;
        for (0..rounds) |round| {
            if (round == rounds / 10) before = try run.residentBytes();
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            pointer[0] = 1;
            pointer[size - 1] = 1;
            try run.give(pointer, size, naturalAlignment(size));
        }
        try run.expectGrowthWithin("one block taken and given back in a loop", before, growth_allowance + size);
    }
}

pub fn reuseBatches(run: *Run) Failure!void {
    const Place = struct { pointer: [*]u8 };
    for ([_]usize{ 8, 48, 200, 1000, 6000, 50_000 }) |size| {
        const count = std.math.clamp(4 * mib / size, 50, 4000);
        const places = try run.scratch(Place, count);
        defer run.freeScratch(places);
        var random: Random = .{ .state = size };
        const rounds = 60;
        var before: usize = 0;
        for (0..rounds) |round| {
            for (places) |*place| {
                const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
                pointer[0] = 1;
                pointer[size - 1] = 1;
                place.* = .{ .pointer = pointer };
            }
            // Measured at the peak, where every block is live, so that only lost blocks count; and when a quarantine is
            // full of blocks of this size, while memory of the size before may wait still to be given back.
            if (round == rounds / 2) before = try run.residentBytes();
            if (round == rounds - 1) {
                try run.expectGrowthWithin("batches taken and given back", before, growth_allowance);
            }
            random.shuffle(Place, places);
            for (places) |place| try run.give(place.pointer, size, naturalAlignment(size));
        }
    }
}

pub fn reuseAcrossSizes(run: *Run) Failure!void {
    const live_bytes = 16 * mib;
    const Place = struct { pointer: [*]u8 };
    const places = try run.scratch(Place, live_bytes / 24);
    defer run.freeScratch(places);
    const before = try run.residentBytes();
    // What one class has given back must serve the next: ten times 16 MiB, one after the other.
    for ([_]usize{ 24, 48, 100, 200, 500, 1000, 3000, 10_000, 50_000, 400_000 }) |size| {
        const count = live_bytes / size;
        for (places[0..count]) |*place| {
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            var offset: usize = 0;
            while (offset < size) : (offset += 4096) pointer[offset] = 1;
            place.* = .{ .pointer = pointer };
        }
        try run.expectGrowthWithin("16 MiB of one size after another", before, 4 * live_bytes);
        for (places[0..count]) |place| try run.give(place.pointer, size, naturalAlignment(size));
    }
}

/// Everything of the door that gives memory back, with indices that do not exist too.
fn flushAll(run: *Run) Failure!void {
    const c = run.family();
    run.armErrno();
    if (c.tiny) |tiny| {
        const beyond = [_]c_int{ -1, std.math.minInt(c_int), std.math.maxInt(c_int), tiny.class_count() };
        for (beyond) |index| tiny.flush(index);
        var class: c_int = 0;
        while (class < tiny.class_count()) : (class += 1) tiny.flush(class);
    }
    c.flush_all.?();
    if (c.purge) |call| _ = call();
    if (run.subject.contract.errno == .left_alone) try run.expectErrnoKept("a flush", 0);
}

pub fn flushLiveBlocks(run: *Run) Failure!void {
    // Before anything was allocated, a flush is nothing.
    try flushAll(run);
    var random: Random = .{ .state = 31 };
    const blocks = try run.scratch(Block, 20_000);
    defer run.freeScratch(blocks);
    for (blocks) |*block| {
        block.* = try run.allocate(random.size(14));
        run.fill(block.*);
    }
    random.shuffle(Block, blocks);
    // Ever fewer are live; all that still are must keep their bytes while what lies between them
    // goes back, and new blocks must not land on them.
    var live = blocks;
    while (live.len > 10) {
        const kept = live.len * 2 / 3;
        for (live[kept..]) |block| try run.checkAndFree(block);
        try flushAll(run);
        for (live[0 .. kept / 10]) |*block| {
            try run.checkAndFree(block.*);
            block.* = try run.allocate(random.size(14));
            run.fill(block.*);
        }
        live = live[0..kept];
        for (live) |block| try run.check(block);
    }
    for (live) |block| try run.checkAndFree(block);
    try flushAll(run);
}

pub fn flushGivesBack(run: *Run) Failure!void {
    const live_bytes = 32 * mib;
    const Place = struct { pointer: [*]u8 };
    const places = try run.scratch(Place, live_bytes / 16);
    defer run.freeScratch(places);
    @memset(std.mem.sliceAsBytes(places), 1);
    var random: Random = .{ .state = 41 };
    for ([_]usize{ 16, 100, 1000, 10_000, 100_000, 3 * mib }) |size| {
        try flushAll(run);
        const before = try run.residentBytes();
        const count = live_bytes / size;
        for (places[0..count]) |*place| {
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            @memset(pointer[0..size], 1);
            place.* = .{ .pointer = pointer };
        }
        random.shuffle(Place, places[0..count]);
        for (places[0..count]) |place| try run.give(place.pointer, size, naturalAlignment(size));
        try flushAll(run);
        var what_buffer: [80]u8 = undefined;
        const what = process.formatLine(&what_buffer, "after a flush of {d} freed blocks of {d} bytes", .{
            count, size,
        });
        try run.expectGrowthWithin(what, before, mib);
    }
}

pub fn outOfMemory(run: *Run) Failure!void {
    const budget = 96 * mib;
    const c = run.family();
    // Room for what the allocator may have kept from earlier cases, beyond the budget.
    const pointers = try run.scratch([*]u8, 4 * budget / 64);
    defer run.freeScratch(pointers);
    // The list is touched before the limit falls, and the allocator has begun to work.
    for (pointers) |*pointer| pointer.* = @ptrCast(pointers.ptr);
    try run.free(try run.allocate(100));

    const limit = process.limitAddressSpace(budget) catch |err| {
        return run.fail("cannot lower the limit of the address space: {t}", .{err});
    };
    defer limit.restore();
    for ([_]usize{ 100, 1000, 64, 6000, 40_000, 300_000, 3 * mib, 64 }) |size| {
        var count: usize = 0;
        while (count < pointers.len) : (count += 1) {
            run.armErrno();
            const zeroed = count % 2 == 1;
            const pointer = (if (zeroed) c.calloc(1, size) else c.malloc(size)) orelse break;
            try run.expectErrnoKept("malloc or calloc", size);
            pointers[count] = pointer;
            oracle_module.fillPattern(pointer[0..size], @intFromPtr(pointer));
        }
        if (count == pointers.len) {
            return run.fail("{d} blocks of {d} bytes fit under a limit of {d} bytes more", .{
                count, size, @as(usize, budget),
            });
        }
        try run.expectRefused("malloc or calloc at the limit", null, errno_no_memory, .{ size, 1 });
        // Half of the limit at least must be of use, also after other sizes had it all.
        if (count * size < budget / 2) {
            return run.fail("only {d} blocks of {d} bytes fit under a limit of {d} bytes", .{
                count, size, @as(usize, budget),
            });
        }
        // With nothing left, what fails must leave the block and the others as they are.
        run.armErrno();
        try run.expectRefused("realloc at the limit", c.realloc(pointers[0], size + budget), errno_no_memory, .{
            size, size + budget,
        });
        run.armErrno();
        try run.expectRefused("aligned_alloc at the limit", c.aligned_alloc(4096, budget), errno_no_memory, .{
            4096, budget,
        });
        for (pointers[0..count]) |pointer| {
            if (oracle_module.firstWrongByte(pointer[0..size], @intFromPtr(pointer))) |index| {
                return run.fail("byte {d} of block 0x{x} ({d} bytes) changed at the limit", .{
                    index, @intFromPtr(pointer), size,
                });
            }
        }
        for (pointers[0..count]) |pointer| try run.give(pointer, size, naturalAlignment(size));
    }
}
