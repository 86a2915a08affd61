//! What the allocator as a whole must do: the conformance suite (which ends with the standard library's own
//! allocator tests) through the Zig door, memory that goes back, refused system calls, and threads that free each other's blocks.

const std = @import("std");
const suite = @import("suite");
const hakmem = @import("../hakmem.zig");
const heap = @import("heap.zig");
const lifecycle = @import("lifecycle.zig");
const os = @import("../platform/os.zig");
const central = @import("../motion/central.zig");
const superslabs = @import("../memory/superslab.zig");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const stats = @import("../seeing/stats.zig");

test "heap: passes the conformance suite" {
    try suite.runAllocator(hakmem.allocator);
}

test "heap: after a flush no superslab is left, whatever the order of freeing" {
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const blocks = try gpa.alloc([*]u8, 60_000);
    defer gpa.free(blocks);
    for ([_]bool{ false, true }) |shuffled| {
        for (blocks) |*block| {
            const size = random.uintLessThan(usize, if (random.uintLessThan(u8, 20) == 0) 40_000 else 600);
            block.* = heap.allocate(size).?;
            @memset(block.*[0..size], 0xaa);
        }
        if (shuffled) random.shuffle([*]u8, blocks);
        for (blocks) |block| heap.free(block);
        heap.flushMagazines();
        central.verify();
        superslabs.verify();
        const snapshot = stats.gather();
        try std.testing.expectEqual(0, snapshot.superslabs);
        try std.testing.expectEqual(0, snapshot.slabs);
        try std.testing.expectEqual(0, snapshot.magazine_bytes + snapshot.cold_bytes);
        try std.testing.expectEqual(0, snapshot.dirty_bytes + snapshot.large_bytes + snapshot.huge_bytes);
    }
}

test "heap: flushing one class returns its blocks and no others" {
    heap.flushMagazines();
    const block = heap.allocate(40).?;
    const other = heap.allocate(100).?;
    heap.free(block);
    heap.free(other);
    const before = stats.gather();
    heap.flushMagazine(size_class.of(40));
    const after = stats.gather();
    try std.testing.expectEqual(2, before.slabs);
    try std.testing.expectEqual(1, after.slabs);
    try std.testing.expect(after.magazine_bytes > 0 and after.magazine_bytes < before.magazine_bytes);
    heap.flushMagazines();
    try std.testing.expectEqual(0, stats.gather().slabs);
}

test "heap: a system call refused anywhere gives null or a good block, and all is well afterwards" {
    defer os.refusal = .{};
    const sizes = [_]usize{ 8, 24, 100, 1000, 5000, 33_000, 131_072, 131_073, 700_000, 1 << 20, 3 << 20 };
    var refused_once = false;
    for ([_]usize{ 1, 3, std.math.maxInt(usize) }) |refuse_count| {
        for (1..60) |number| {
            heap.flushMagazines();
            os.refusal = .{ .refuse_from = number, .refuse_count = refuse_count };
            var blocks: [sizes.len * 4]?[*]u8 = @splat(null);
            for (&blocks, 0..) |*block, at| {
                const size = sizes[at % sizes.len];
                block.* = heap.allocate(size);
                if (block.*) |memory| {
                    @memset(memory[0..size], @intCast(at));
                    if (heap.resize(memory, size * 2)) |moved| {
                        @memset(moved[size .. size * 2], @intCast(at));
                        block.* = moved;
                    } else {
                        @memset(memory[0..size], @intCast(at));
                        // The block is as it was: only its first half holds the pattern.
                        heap.free(memory);
                        block.* = null;
                    }
                }
                if (block.* == null) refused_once = true;
            }
            for (blocks, 0..) |block, at| {
                const memory = block orelse continue;
                for (memory[0 .. sizes[at % sizes.len] * 2]) |byte| {
                    if (byte != @as(u8, @intCast(at))) return error.ContentsLost;
                }
                heap.free(memory);
            }
            os.refusal = .{};
            central.verify();
            superslabs.verify();
        }
    }
    try std.testing.expect(refused_once);
    heap.flushMagazines();
    superslabs.verify();
    try std.testing.expectEqual(0, stats.gather().superslabs);
    const block = heap.allocate(100).?;
    heap.free(block);
}

test "heap: threads free each other's blocks, and nothing is left when they have ended" {
    const thread_count = 4;
    const Exchange = struct {
        var mailboxes: [256]std.atomic.Value(usize) = @splat(.init(0));

        fn work(seed: u64) void {
            var random_source = std.Random.DefaultPrng.init(seed);
            const random = random_source.random();
            for (0..60_000) |_| {
                const size = 16 + random.uintLessThan(usize, if (random.uintLessThan(u8, 50) == 0) 9000 else 400);
                const block: [*]usize = @ptrCast(@alignCast(heap.allocate(size).?));
                block[0] = size;
                block[1] = @intFromPtr(block) ^ size;
                // Partner: itself in the other threads. What is put in is taken out by exactly one.
                const taken = mailboxes[random.uintLessThan(usize, mailboxes.len)].swap(@intFromPtr(block), .acq_rel);
                if (taken != 0) release(taken);
            }
        }

        fn release(address: usize) void {
            const block: [*]usize = @ptrFromInt(address);
            if (block[1] != address ^ block[0]) @panic("a block changed while it was in use");
            if (heap.usableBytes(block) < block[0]) @panic("a block is smaller than asked for");
            block[1] = 0;
            heap.free(block);
        }
    };
    heap.flushMagazines();
    var threads: [thread_count]std.Thread = undefined;
    for (&threads, 0..) |*thread, number| {
        thread.* = try std.Thread.spawn(.{}, Exchange.work, .{std.testing.random_seed + number});
    }
    for (threads) |thread| thread.join();
    for (&Exchange.mailboxes) |*mailbox| {
        const left = mailbox.swap(0, .acq_rel);
        if (left != 0) Exchange.release(left);
    }
    heap.flushMagazines();
    central.verify();
    superslabs.verify();
    const snapshot = stats.gather();
    try std.testing.expectEqual(0, snapshot.superslabs);
    try std.testing.expectEqual(0, snapshot.magazine_bytes + snapshot.cold_bytes);
    try std.testing.expectEqual(1, snapshot.threads);
}

test "heap: a request to flush reaches a thread at its next slow path" {
    const Other = struct {
        var step: std.atomic.Value(u32) = .init(0);

        fn await(value: u32) void {
            // Partner: the stores below and in the test.
            while (step.load(.acquire) != value) std.atomic.spinLoopHint();
        }

        fn work() void {
            heap.free(heap.allocate(48).?);
            step.store(1, .release);
            await(2);
            // A size not used yet: its magazine is empty, so this is a slow path.
            heap.free(heap.allocate(900).?);
            step.store(3, .release);
            await(4);
        }
    };
    heap.flushMagazines();
    const thread = try std.Thread.spawn(.{}, Other.work, .{});
    Other.await(1);
    const held = lifecycle.count().magazine_bytes;
    try std.testing.expect(held >= 48);
    heap.flushMagazines();
    try std.testing.expectEqual(held, lifecycle.count().magazine_bytes);
    Other.step.store(2, .release);
    Other.await(3);
    // Only the magazine of the 900-byte request is left.
    const class = size_class.of(900);
    try std.testing.expectEqual(0, lifecycle.count().magazine_bytes % size_class.blockBytes(class));
    try std.testing.expectEqual(0, central.count(size_class.of(48)).slabs);
    Other.step.store(4, .release);
    thread.join();
}

test "heap: usable size, resize in place and giving back the tail of a large block" {
    const small = heap.allocate(100).?;
    try std.testing.expectEqual(112, heap.usableBytes(small));
    try std.testing.expectEqual(small, heap.resize(small, 112).?);
    const moved = heap.resize(small, 20).?;
    try std.testing.expect(heap.usableBytes(moved) < 100);
    heap.free(moved);

    const large = heap.allocate(1 << 20).?;
    try std.testing.expectEqual(large, heap.resize(large, 200 * 1024).?);
    try std.testing.expectEqual(4 * geometry.granule_bytes, heap.usableBytes(large));
    heap.free(large);
    heap.flushMagazines();
}

test "heap: a large block grows where it lies as long as what lies behind it is free" {
    heap.flushMagazines();
    defer heap.flushMagazines();
    var bytes: usize = geometry.small_bytes_max + 4096;
    const first: [*]u8 = heap.allocate(bytes).?;
    var block = first;
    var written: usize = 0;
    while (bytes <= geometry.large_bytes_max) : (bytes += 4096) {
        block = heap.resize(block, bytes).?;
        try std.testing.expectEqual(first, block);
        @memset(block[written..bytes], @truncate(bytes >> 12));
        written = bytes;
    }
    // Its neighbour stops it; the bytes come along.
    block = heap.resize(block, 300_000).?;
    try std.testing.expectEqual(first, block);
    const neighbour = heap.allocate(200_000).?;
    @memset(neighbour[0..200_000], 0x55);
    block = heap.resize(block, 700_000).?;
    try std.testing.expect(block != first);
    var at: usize = geometry.small_bytes_max + 4096;
    while (at + 4096 <= 300_000) : (at += 4096) {
        try std.testing.expectEqual(@as(u8, @truncate((at + 4096) >> 12)), block[at]);
    }
    for (neighbour[0..200_000]) |byte| if (byte != 0x55) return error.NeighbourChanged;
    heap.free(neighbour);
    heap.free(block);
    superslabs.verify();
}

test "heap: a mapping that is remapped to less gives its tail back, through the Zig door too" {
    const before = stats.gather().huge_bytes;
    const block = try hakmem.allocator.alloc(u8, 64 << 20);
    const shrunk = hakmem.allocator.remap(block, 2 << 20).?;
    defer hakmem.allocator.free(shrunk);
    try std.testing.expectEqual(before + (2 << 20), stats.gather().huge_bytes);
}

test "heap: a block that goes up and down across the largest run stays a mapping, and gives its tail back" {
    var block = heap.allocate(geometry.large_bytes_max + 4096).?;
    const blocks = stats.gather().huge_blocks;
    for (0..20) |turn| {
        const bytes = if (turn % 2 == 0) geometry.large_bytes_max - 4096 else geometry.large_bytes_max + 4096;
        block = heap.resize(block, bytes).?;
        try std.testing.expectEqual(blocks, stats.gather().huge_blocks);
        try std.testing.expect(heap.usableBytes(block) - bytes < geometry.granule_bytes);
    }
    // Far below it moves among the others.
    block = heap.resize(block, 200_000).?;
    try std.testing.expectEqual(blocks - 1, stats.gather().huge_blocks);
    heap.free(block);
    heap.flushMagazines();
}
