//! Cases about realloc and its kin: bytes survive over every class boundary, failure leaves the
//! block alone, and the odd arguments.

const std = @import("std");
const run_module = @import("run.zig");
const impossible = @import("impossible.zig");
const process = @import("../process.zig");
const Failure = @import("subject.zig").Failure;

const Run = run_module.Run;
const Block = run_module.Block;
const Random = run_module.Random;
const boundarySizes = run_module.boundarySizes;
const naturalAlignment = run_module.naturalAlignment;
const errno_no_memory = run_module.errno_no_memory;
const kib = run_module.kib;
const mib = run_module.mib;
const ptrdiff_max = run_module.ptrdiff_max;
const size_max = run_module.size_max;
const hugeSizesFor = impossible.hugeSizesFor;
const overflowing_products = impossible.overflowing_products;
const huge_products = impossible.huge_products;

pub fn reallocarray(run: *Run) Failure!void {
    const call = run.family().reallocarray.?;
    for ([_]usize{ 24, 3000, 200_000, 3 * mib }) |size| {
        var block = try run.allocate(size);
        run.fill(block);
        for (overflowing_products ++ huge_products) |pair| {
            run.armErrno();
            try run.expectRefused("reallocarray", call(block.pointer, pair[0], pair[1]), errno_no_memory, pair);
            try run.check(block);
        }
        try run.unclaim(block);
        run.armErrno();
        const grown = try run.adopt("reallocarray", call(block.pointer, 3, size), 3 * size, naturalAlignment(3 * size));
        try run.checkBytes("after reallocarray", grown.pointer, size, block.key(), grown);
        block = grown;
        run.fill(block);
        try run.checkAndFree(block);
    }
    run.armErrno();
    const fresh = try run.adopt("reallocarray of NULL", call(null, 10, 12), 120, .@"16");
    run.fill(fresh);
    try run.checkAndFree(fresh);
}

pub fn reallocNull(run: *Run) Failure!void {
    const c = run.family();
    const sizes = try boundarySizes(run, 4 * mib);
    defer sizes.deinit(run);
    for (sizes.items) |size| {
        run.armErrno();
        const block = try run.adopt("realloc of NULL", c.realloc(null, size), size, naturalAlignment(size));
        run.fill(block);
        try run.checkAndFree(block);
    }
    for ([_]usize{ ptrdiff_max + 1, size_max }) |size| {
        run.armErrno();
        try run.expectRefused("realloc of NULL", c.realloc(null, size), errno_no_memory, .{ 0, size });
    }
}

pub fn reallocContents(run: *Run) Failure!void {
    const boundaries = try boundarySizes(run, 64 * kib);
    defer boundaries.deinit(run);
    const sizes = boundaries.items;
    // Over each boundary, up and down again.
    for (sizes[0 .. sizes.len - 1], sizes[1..]) |lower, upper| {
        var block = try run.allocate(lower);
        run.fill(block);
        block = try run.resize(block, upper);
        block = try run.resize(block, lower);
        try run.checkAndFree(block);
    }
    // From each size to a spread of all others.
    for (sizes, 0..) |from, offset| {
        var index = offset % 11;
        while (index < sizes.len) : (index += 11) {
            var block = try run.allocate(from);
            run.fill(block);
            block = try run.resize(block, sizes[index]);
            try run.checkAndFree(block);
        }
    }
    // Through the large sizes, with a second block alive that may stand in the way.
    const large = [_]usize{
        20_000,      32 * kib,    32 * kib + 1, 70_000,  128 * kib - 24, 128 * kib, 300_000, mib - 1,
        mib,         mib + 1,     2 * mib - 16, 2 * mib, 2 * mib + 1,    3_333_333, 4 * mib, 5 * mib + 17,
        8 * mib - 1, 8 * mib + 1, 100,          1,
    };
    var random: Random = .{ .state = 5 };
    var blocks: [2]Block = undefined;
    for (&blocks) |*block| {
        block.* = try run.allocate(1000);
        run.fill(block.*);
    }
    for (0..120) |turn| {
        const block = &blocks[turn % 2];
        block.* = try run.resize(block.*, large[random.below(large.len)]);
    }
    for (blocks) |block| try run.checkAndFree(block);
}

pub fn reallocGrowth(run: *Run) Failure!void {
    // By doubling to 256 MiB, and down again.
    var block = try run.allocate(1);
    run.fill(block);
    while (block.size < 256 * mib) block = try run.resize(block, block.size * 2);
    while (block.size > 100) block = try run.resize(block, block.size / 13);
    try run.checkAndFree(block);
    // By half as much again, beside a second block that grows in turn.
    var pair: [2]Block = undefined;
    for (&pair) |*half| {
        half.* = try run.allocate(10);
        run.fill(half.*);
    }
    while (pair[1].size < 16 * mib) {
        for (&pair) |*half| half.* = try run.resize(half.*, half.size + half.size / 2);
    }
    for (pair) |half| try run.checkAndFree(half);
}

pub fn reallocAppend(run: *Run) Failure!void {
    // A buffer that grows byte by byte, as a naive string does.
    var block = try run.allocate(1);
    run.fill(block);
    while (block.size < 5000) block = try run.resize(block, block.size + 1);
    while (block.size > 1) block = try run.resize(block, block.size - 1);
    // And page by page, off the page boundary.
    while (block.size < 2 * mib) block = try run.resize(block, block.size + 12_289);
    try run.checkAndFree(block);
}

pub fn reallocShrink(run: *Run) Failure!void {
    const Shrink = struct { count: usize, from: usize, to: usize };
    for ([_]Shrink{
        .{ .count = 1, .from = 64 * mib, .to = 2 * mib },
        .{ .count = 48, .from = mib, .to = 200 * kib },
        .{ .count = 400, .from = 100_000, .to = 1000 },
    }) |shrink| {
        const blocks = try run.scratch(Block, shrink.count);
        defer run.freeScratch(blocks);
        for (blocks) |*block| {
            block.* = try run.allocate(shrink.from);
            run.fill(block.*);
        }
        const before = try run.residentBytes();
        for (blocks) |*block| block.* = try run.resize(block.*, shrink.to);
        run.family().flush_all.?();
        const freed = shrink.count * (shrink.from - shrink.to);
        try run.expectFallBy("blocks made smaller by realloc", before, freed / 4 * 3);
        for (blocks) |block| try run.checkAndFree(block);
    }
}

pub fn reallocMovesPages(run: *Run) Failure!void {
    // Growing by doubling to 1 GiB, where every page is touched that was there at the beginning.
    const c = run.family();
    const last = run_module.roomySize(1024 * mib);
    var size: usize = 64 * mib;
    var block = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
    const touched = size / 4096;
    for (0..touched) |page| @as(*usize, @ptrCast(@alignCast(block + page * 4096))).* = page ^ size;
    const key = size;
    const before = process.minorFaults();
    while (size < last) {
        size *= 2;
        block = c.realloc(block, size) orelse return run.fail("realloc to {d} bytes returned NULL", .{size});
    }
    const faults = process.minorFaults() - before;
    if (faults > touched / 16) {
        return run.fail("{d} page faults while a block with {d} pages grew: it was copied", .{ faults, touched });
    }
    for (0..touched) |page| {
        const found = @as(*usize, @ptrCast(@alignCast(block + page * 4096))).*;
        if (found != page ^ key) return run.fail("page {d} of {d} changed", .{ page, touched });
    }
    if (block[size - 1] != 0) return run.fail("the last byte of {d} is not fresh", .{size});
    c.free(block);
}

pub fn reallocToZero(run: *Run) Failure!void {
    const c = run.family();
    for ([_]usize{ 1, 8, 16, 100, 4096, 40_000, 300_000, 3 * mib }) |size| {
        // Enough that each block kept by mistake would show as resident memory.
        const rounds = std.math.clamp(64 * mib / size, 20, 300_000);
        var before: usize = 0;
        for (0..rounds) |round| {
            if (round == rounds / 10) before = try run.residentBytes();
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            pointer[0] = 1;
            pointer[size - 1] = 1;
            run.armErrno();
            if (c.realloc(pointer, 0)) |p| {
                return run.fail("realloc(0x{x}, 0) of a block of {d} bytes returned 0x{x}, expected NULL", .{
                    @intFromPtr(pointer), size, @intFromPtr(p),
                });
            }
            try run.expectErrnoKept("realloc to zero", size);
        }
        try run.expectGrowthWithin("realloc(p, 0) in a loop", before, 2 * mib + 2 * size);
    }
}

pub fn reallocFailure(run: *Run) Failure!void {
    for ([_]usize{ 1, 8, 100, 1024, 5000, 40_000, 300_000, mib, 3 * mib }) |size| {
        const block = try run.allocate(size);
        run.fill(block);
        for (hugeSizesFor(run)) |huge| {
            run.armErrno();
            const result = switch (run.subject.door) {
                .c => |*c| c.realloc(block.pointer, huge),
                .zig => |zig| Run.resizeZig(zig, block, huge),
            };
            try run.expectRefused("realloc", result, errno_no_memory, .{ block.address(), huge });
            try run.check(block);
        }
        try run.checkAndFree(block);
    }
}
