//! Cases about sizes: every small one, every power of two, zero, the impossible, calloc and
//! usable sizes.

const std = @import("std");
const run_module = @import("run.zig");
const impossible = @import("impossible.zig");
const Failure = @import("subject.zig").Failure;

const Run = run_module.Run;
const Block = run_module.Block;
const boundarySizes = run_module.boundarySizes;
const naturalAlignment = run_module.naturalAlignment;
const errno_no_memory = run_module.errno_no_memory;
const kib = run_module.kib;
const mib = run_module.mib;
const hugeSizesFor = impossible.hugeSizesFor;
const overflowing_products = impossible.overflowing_products;
const huge_products = impossible.huge_products;

pub fn freeNull(run: *Run) Failure!void {
    // First of all cases, so that in a process of its own the allocator's first call is this one.
    const c = run.family();
    for (0..100_000) |_| {
        run.armErrno();
        c.free(null);
        try run.expectErrnoKept("free(NULL)", 0);
    }
    // NULL must not have entered any list of free blocks.
    for (0..1000) |index| {
        const block = try run.allocate(index);
        run.fill(block);
        try run.checkAndFree(block);
    }
}

pub fn usableSize(run: *Run) Failure!void {
    const c = run.family();
    run.armErrno();
    const of_null = c.usable_size(null);
    if (of_null != 0) return run.fail("usable size of NULL is {d}", .{of_null});
    try run.expectErrnoKept("usable size of NULL", 0);
    const sizes = try boundarySizes(run, 2 * mib);
    defer sizes.deinit(run);
    for (sizes.items) |size| {
        // All that the neighbours may use is written, then all that the middle one may use.
        var neighbours: [3]Block = undefined;
        for (&neighbours) |*block| block.* = try run.allocate(size);
        run.fill(neighbours[0]);
        run.fill(neighbours[2]);
        run.fill(neighbours[1]);
        for (neighbours) |block| try run.checkAndFree(block);
    }
}

pub fn sizesSmall(run: *Run) Failure!void {
    const first: usize = if (run.subject.contract.zero_sizes) 0 else 1;
    const last = 4096;
    const blocks = try run.scratch(Block, last + 1);
    defer run.freeScratch(blocks);
    for (0..3) |round| {
        for (first..last + 1) |size| {
            blocks[size] = try run.allocate(size);
            run.fill(blocks[size]);
        }
        // The order of freeing differs each round: up, down, then odd sizes before even ones.
        for (0..2) |half| {
            for (first..last + 1) |index| {
                if (round < 2 and half == 1) continue;
                if (round == 2 and index % 2 == half) continue;
                try run.checkAndFree(blocks[if (round == 1) last - (index - first) else index]);
            }
        }
    }
}

pub fn sizesPowers(run: *Run) Failure!void {
    for (0..27) |exponent| {
        const power = @as(usize, 1) << @intCast(exponent);
        var blocks: [3]Block = undefined;
        for (&blocks, [_]usize{ @max(1, power - 1), power, power + 1 }) |*block, size| {
            block.* = try run.allocate(size);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
}

pub fn sizesSampled(run: *Run) Failure!void {
    var live: [8]?Block = @splat(null);
    var size: usize = 4097;
    var turn: usize = 0;
    // A prime step meets each remainder of every page, slab and cache line size.
    while (size < 2 * mib) : (size += 8209) {
        const place = &live[turn % live.len];
        turn += 1;
        if (place.*) |block| try run.checkAndFree(block);
        const block = try run.allocate(size);
        run.fill(block);
        place.* = block;
    }
    for (live) |maybe| if (maybe) |block| try run.checkAndFree(block);
}

pub fn zeroSizes(run: *Run) Failure!void {
    const c = run.family();
    var blocks: [1000]Block = undefined;
    for (0..2) |_| {
        for (&blocks, 0..) |*block, index| {
            run.armErrno();
            // The oracle claims at least one granule for each, so two of the same address overlap.
            block.* = switch (index % 5) {
                0 => try run.adopt("malloc", c.malloc(0), 0, .@"8"),
                1 => try run.adopt("calloc(0, 24)", c.calloc(0, 24), 0, .@"8"),
                2 => try run.adopt("calloc(24, 0)", c.calloc(24, 0), 0, .@"8"),
                3 => try run.adopt("realloc(NULL, 0)", c.realloc(null, 0), 0, .@"8"),
                4 => try run.adopt("aligned_alloc(64, 0)", c.aligned_alloc(64, 0), 0, .@"64"),
                else => unreachable,
            };
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // Growing a block of size zero is an ordinary realloc.
    var block = try run.allocate(0);
    run.fill(block);
    block = try run.resize(block, 100);
    try run.checkAndFree(block);
}

pub fn callocZeroed(run: *Run) Failure!void {
    const small = try boundarySizes(run, 128 * kib);
    defer small.deinit(run);
    for (small.items) |size| try callocAfterDirt(run, size, std.math.clamp(128 * kib / size, 1, 40));
    for ([_]usize{ 100_000, 256 * kib, mib - 16, mib, mib + 1, 2 * mib, 4 * mib - 4096, 5_000_000, 33 * mib }) |size| {
        try callocAfterDirt(run, size, if (size < 4 * mib) 2 else 1);
        // A freed block of which only the last byte was written: a mark "known to be zero" must
        // have gone with that one write.
        const dirtied = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
        dirtied[size - 1] = 0x55;
        try run.give(dirtied, size, naturalAlignment(size));
        try run.free(try run.allocateZeroed(1, size));
        // Shrunk in place, so that the tail goes back apart from the head.
        var shrunk = try run.allocate(size);
        run.fill(shrunk);
        shrunk = try run.resize(shrunk, size / 2);
        try run.checkAndFree(shrunk);
        try run.free(try run.allocateZeroed(size, 1));
    }
}

fn callocAfterDirt(run: *Run, size: usize, count: usize) Failure!void {
    var blocks: [40]Block = undefined;
    for (blocks[0..count]) |*block| {
        block.* = try run.allocate(size);
        @memset(block.pointer[0..block.usable], 0xaa);
    }
    for (blocks[0..count]) |block| try run.free(block);
    for (blocks[0..count], 0..) |*block, index| {
        block.* = switch (index % 3) {
            0 => try run.allocateZeroed(1, size),
            1 => try run.allocateZeroed(size, 1),
            2 => if (size % 2 == 0) try run.allocateZeroed(2, size / 2) else try run.allocateZeroed(1, size),
            else => unreachable,
        };
        @memset(block.pointer[0..block.usable], 0x77);
    }
    for (blocks[0..count]) |block| try run.free(block);
}

pub fn callocLazy(run: *Run) Failure!void {
    // Memory fresh from the system is zero already: to clear it would only make it resident.
    const c = run.family();
    const before = try run.residentBytes();
    const size = run_module.roomySize(1024 * mib);
    const huge = c.calloc(size / 4096, 4096) orelse return run.fail("calloc of {d} bytes returned NULL", .{size});
    try run.expectGrowthWithin("calloc of memory that nobody has touched", before, 4 * mib);
    // Not all of it need be fresh: a part may have served an earlier case.
    var large: [100][*]u8 = undefined;
    for (&large) |*block| {
        block.* = c.calloc(1, 900 * kib) orelse return run.fail("calloc of 900 KiB returned NULL", .{});
    }
    try run.expectGrowthWithin("calloc of 100 blocks of 900 KiB that nobody has touched", before, 40 * mib);
    for ([_]usize{ 0, size / 2, size - 1 }) |at| {
        if (huge[at] != 0) return run.fail("byte {d} of {d} is 0x{x}", .{ at, size, huge[at] });
    }
    for (large) |block| {
        if (block[0] != 0 or block[900 * kib - 1] != 0) return run.fail("a block of 900 KiB is not zero", .{});
        c.free(block);
    }
    c.free(huge);
}

pub fn callocOverflow(run: *Run) Failure!void {
    const c = run.family();
    for (overflowing_products ++ huge_products) |pair| {
        run.armErrno();
        try run.expectRefused("calloc", c.calloc(pair[0], pair[1]), errno_no_memory, pair);
    }
}

pub fn hugeSizes(run: *Run) Failure!void {
    // Each is asked for with small blocks alive, which must stay as they are.
    var witnesses: [16]Block = undefined;
    for (&witnesses, 0..) |*block, index| {
        block.* = try run.allocate(@as(usize, 17) << @intCast(index));
        run.fill(block.*);
    }
    for (hugeSizesFor(run)) |size| {
        try run.expectRefused("malloc", run.take(size), errno_no_memory, .{ size, 0 });
        for ([_]std.mem.Alignment{ .@"8", .@"16", .@"64", .fromByteUnits(4096), .fromByteUnits(mib) }) |alignment| {
            run.armErrno();
            const pointer = switch (run.subject.door) {
                .c => |*c| c.aligned_alloc(alignment.toByteUnits(), size),
                .zig => |zig| zig.rawAlloc(size, alignment, @returnAddress()),
            };
            try run.expectRefused("aligned_alloc", pointer, errno_no_memory, .{ alignment.toByteUnits(), size });
        }
        switch (run.subject.door) {
            .c => |*c| {
                run.armErrno();
                try run.expectRefused("calloc", c.calloc(size, 1), errno_no_memory, .{ size, 1 });
                run.armErrno();
                try run.expectRefused("realloc of NULL", c.realloc(null, size), errno_no_memory, .{ 0, size });
                if (c.memalign) |call| {
                    run.armErrno();
                    try run.expectRefused("memalign", call(256, size), errno_no_memory, .{ 256, size });
                }
            },
            .zig => {},
        }
    }
    for (witnesses) |block| try run.checkAndFree(block);
}
