//! Cases for what only some doors have: sized frees, hakmem's batches and tiny classes, and the
//! parts of Zig's allocator interface that C lacks.

const std = @import("std");
const run_module = @import("run.zig");
const impossible = @import("impossible.zig");
const Failure = @import("subject.zig").Failure;

const Run = run_module.Run;
const Block = run_module.Block;
const boundarySizes = run_module.boundarySizes;
const naturalAlignment = run_module.naturalAlignment;
const mib = run_module.mib;
const size_max = run_module.size_max;
const huge_sizes = impossible.huge_sizes;
const hugeSizesFor = impossible.hugeSizesFor;
const growth_allowance = run_module.growth_allowance;

pub fn freeSized(run: *Run) Failure!void {
    const c = run.family();
    const sizes = try boundarySizes(run, mib);
    defer sizes.deinit(run);
    run.armErrno();
    c.free_sized.?(null, 100);
    try run.expectErrnoKept("free_sized(NULL)", 100);
    var before: usize = 0;
    // Some 80 MiB each round: what is not really freed shows in the last four, which are allowed as much as four times
    // one. In the first two an allocator may learn what is worth keeping.
    for (0..6) |round| {
        for (sizes.items) |size| {
            const block = try run.allocate(size);
            run.fill(block);
            try run.unclaim(block);
            run.armErrno();
            c.free_sized.?(block.pointer, size);
            try run.expectErrnoKept("free_sized", size);
            if (c.free_aligned_sized) |call| {
                const aligned = try run.allocateAligned(.@"64", size);
                run.fill(aligned);
                try run.unclaim(aligned);
                run.armErrno();
                call(aligned.pointer, 64, size);
                try run.expectErrnoKept("free_aligned_sized", size);
            }
        }
        if (round == 1) before = try run.residentBytes();
    }
    try run.expectGrowthWithin("blocks freed by free_sized", before, 4 * growth_allowance);
}

pub fn batch(run: *Run) Failure!void {
    const calls = run.family().batch.?;
    var blocks: [300]Block = undefined;
    var pointers: [300]?[*]u8 = undefined;
    for ([_]usize{ 0, 1, 8, 16, 100, 1024, 1025, 6000, 40_000, 200_000, 2 * mib }) |size| {
        for ([_]usize{ 0, 1, 7, 64, 300 }) |wanted| {
            const count = if (size > 100_000) @min(wanted, 7) else wanted;
            run.armErrno();
            const got = calls.malloc(size, count, &pointers);
            if (got != count) return run.fail("a batch of {d} blocks of {d} bytes gave {d}", .{ count, size, got });
            for (blocks[0..count], pointers[0..count]) |*block, pointer| {
                block.* = try run.adopt("malloc of a batch", pointer, size, naturalAlignment(size));
                run.fill(block.*);
            }
            for (blocks[0..count], 0..) |block, index| {
                try run.check(block);
                // One in three is freed alone and leaves a NULL behind, which is nothing.
                if (index % 3 == 1) {
                    try run.free(block);
                    pointers[index] = null;
                } else try run.unclaim(block);
            }
            run.armErrno();
            calls.free(&pointers, count);
            try run.expectErrnoKept("free of a batch", size);
        }
    }
    // What cannot be had is counted as not given, and errno is left alone as by every hak_* call.
    for (huge_sizes) |size| {
        run.armErrno();
        const got = calls.malloc(size, 3, &pointers);
        if (got != 0) return run.fail("a batch of 3 blocks of {d} bytes gave {d}", .{ size, got });
        try run.expectErrnoKept("malloc of an impossible batch", size);
    }
}

pub fn tinyClasses(run: *Run) Failure!void {
    const tiny = run.family().tiny.?;
    const count = tiny.class_count();
    if (count < 1) return run.fail("there are {d} tiny classes", .{count});
    var previous: usize = 0;
    var class: c_int = 0;
    while (class < count) : (class += 1) {
        const size = tiny.class_size(class);
        if (size <= previous) {
            return run.fail("class {d} has {d} bytes, the one before {d}", .{ class, size, previous });
        }
        // Every size from the end of the class below to this one's belongs here.
        for (previous + 1..size + 1) |wanted| {
            const found = tiny.class_of(wanted);
            if (found != class) {
                return run.fail("{d} bytes belong to class {d}, expected {d}", .{ wanted, found, class });
            }
            const block = try run.allocate(wanted);
            if (block.usable != size) {
                return run.fail("a block of {d} bytes of class {d} has the usable size {d}, expected {d}", .{
                    wanted, class, block.usable, size,
                });
            }
            run.fill(block);
            try run.checkAndFree(block);
        }
        previous = size;
    }
    for ([_]usize{ previous + 1, 1 << 20, size_max }) |beyond| {
        if (tiny.class_of(beyond) != -1) {
            return run.fail("{d} bytes belong to tiny class {d}", .{ beyond, tiny.class_of(beyond) });
        }
    }
    for ([_]c_int{ -1, count, std.math.minInt(c_int), std.math.maxInt(c_int) }) |outside| {
        if (tiny.class_size(outside) != 0) {
            return run.fail("class {d} of {d} has {d} bytes", .{ outside, count, tiny.class_size(outside) });
        }
    }
}

pub fn zigResize(run: *Run) Failure!void {
    const zig = run.subject.door.zig;
    const sizes = try boundarySizes(run, 4 * mib);
    defer sizes.deinit(run);
    for (sizes.items) |size| {
        for ([_]usize{ @max(1, size / 2), @max(1, size - 1), size, size + 1, size + 7, size * 2 }) |wanted| {
            var block = try run.allocate(size);
            run.fill(block);
            const neighbour = try run.allocate(size);
            run.fill(neighbour);
            // A true answer means that the block is now the wanted size at the same place.
            if (zig.rawResize(block.pointer[0..block.size], block.alignment, wanted, @returnAddress())) {
                try run.checkBytes("after resize", block.pointer, @min(size, wanted), block.key(), block);
                try run.unclaim(block);
                block = try run.adopt("resize", block.pointer, wanted, block.alignment);
                run.fill(block);
            } else {
                try run.check(block);
                if (wanted == size) return run.fail("a resize of {d} bytes to the same size is refused", .{size});
            }
            try run.checkAndFree(neighbour);
            try run.checkAndFree(block);
        }
    }
    for (hugeSizesFor(run)) |huge| {
        const block = try run.allocate(100);
        run.fill(block);
        if (zig.rawResize(block.pointer[0..100], block.alignment, huge, @returnAddress())) {
            return run.fail("a block of 100 bytes claims to have grown to {d}", .{huge});
        }
        try run.checkAndFree(block);
    }
}

pub fn zigStandardSuite(run: *Run) Failure!void {
    const zig = run.subject.door.zig;
    std.heap.testAllocator(zig) catch |err| return run.fail("std.heap.testAllocator: {t}", .{err});
    std.heap.testAllocatorAligned(zig) catch |err| return run.fail("std.heap.testAllocatorAligned: {t}", .{err});
    std.heap.testAllocatorLargeAlignment(zig) catch |err| {
        return run.fail("std.heap.testAllocatorLargeAlignment: {t}", .{err});
    };
    std.heap.testAllocatorAlignedShrink(zig) catch |err| {
        return run.fail("std.heap.testAllocatorAlignedShrink: {t}", .{err});
    };
}
