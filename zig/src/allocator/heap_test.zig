//! What the allocator as a whole must do: the conformance suite (which ends with the standard library's own
//! allocator tests) through the Zig door, memory that goes back, refused system calls, and threads that free each other's blocks.

const std = @import("std");
const suite = @import("suite");
const hakmem = @import("../hakmem.zig");
const heap = @import("heap.zig");
const lifecycle = @import("lifecycle.zig");
const os = @import("../platform/os.zig");
const central = @import("../motion/central.zig");
const process_limit = @import("../memory/process_limit.zig");
const superslabs = @import("../memory/superslab.zig");
const space = @import("../memory/space.zig");
const metadata = @import("../memory/metadata.zig");
const thread_slot = @import("../platform/thread_slot.zig");
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

/// Allocates blocks of `size` until one is of a class above its own, and returns how many were not. Null if none is.
fn untilBorrowed(size: usize, blocks: [][*]u8) ?usize {
    for (blocks, 0..) |*block, count| {
        block.* = heap.allocate(size) orelse return null;
        if (heap.usableBytes(block.*) != size) return count;
    }
    return null;
}

test "heap: a class that would touch a page takes what larger ones have to spare, and it goes back to these" {
    const size = 1024;
    const larger = size_class.of(size) + 1;
    const larger_bytes = size_class.blockBytes(larger);
    heap.flushMagazines();
    defer heap.flushMagazines();
    const own = thread_slot.get();
    // Blocks that were handed out, more than the pages of any refill have.
    var spare: [150][*]u8 = undefined;
    for (&spare) |*block| block.* = heap.allocate(larger_bytes).?;
    var blocks: [200][*]u8 = undefined;
    // Nobody has any to spare: what is fresh in a magazine stays with its class.
    try std.testing.expectEqual(null, untilBorrowed(size, &blocks));
    for (blocks) |block| heap.free(block);
    heap.flushMagazine(size_class.of(size));

    for (spare) |block| heap.free(block);
    const spare_before = own.shelves[larger].count(&own.magazines[larger]);
    const of_page = untilBorrowed(size, &blocks).?;
    const borrowed = blocks[of_page];
    try std.testing.expectEqual(larger_bytes, heap.usableBytes(borrowed));
    try std.testing.expectEqual(0, of_page * size % @min(os.pageBytes(), geometry.granule_bytes));
    try std.testing.expectEqual(spare_before - 1, own.shelves[larger].count(&own.magazines[larger]));
    // A block that must lie at a multiple of more than 16 bytes is of its own class, and so are those behind it.
    const aligned = heap.allocateAligned(size, size).?;
    try std.testing.expectEqual(size, heap.usableBytes(aligned));
    heap.free(aligned);
    heap.free(borrowed);
    try std.testing.expectEqual(spare_before, own.shelves[larger].count(&own.magazines[larger]));
    for (blocks[0..of_page]) |block| heap.free(block);
}

test "heap: a thread that was asked to flush borrows no more before it has" {
    heap.flushMagazines();
    defer heap.flushMagazines();
    const own = thread_slot.get();
    const larger = size_class.of(1024) + 1;
    var spare: [150][*]u8 = undefined;
    for (&spare) |*block| block.* = heap.allocate(size_class.blockBytes(larger)).?;
    for (spare) |block| heap.free(block);
    var blocks: [200][*]u8 = undefined;
    const count = untilBorrowed(1024, &blocks).? + 1;
    _ = process_limit.requestFlush();
    const block = heap.allocate(1024).?;
    try std.testing.expectEqual(1024, heap.usableBytes(block));
    try std.testing.expectEqual(0, own.shelves[larger].count(&own.magazines[larger]));
    heap.free(block);
    for (blocks[0..count]) |each| heap.free(each);
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

extern fn fork() c_int;
extern fn waitpid(pid: c_int, status: *c_int, options: c_int) c_int;
extern fn _exit(status: c_int) noreturn;

/// Every path that makes system calls, once: each block is filled, checked and freed, whether or not it could be had
/// and could be changed.
const Paths = struct {
    const size_list = [_]usize{ 8, 100, 3000, 40_000, 131_072, 200_000, 1 << 20, 3 << 20 };

    fn run() !void {
        const thread = try std.Thread.spawn(.{}, threadWork, .{});
        thread.join();
        try blocks();
        try largeAndHuge();
        try giveBack();
        try forked();
    }

    /// Its heap, its magazines, and their flush when it ends.
    fn threadWork() void {
        var held: [300]?[*]u8 = undefined;
        for (&held, 0..) |*block, at| block.* = filled(size_list[at % 4]);
        for (held, 0..) |block, at| release(block, size_list[at % 4]);
    }

    fn blocks() !void {
        for (size_list) |size| {
            release(filled(size), size);
            if (heap.allocateZeroed(size)) |memory| {
                for (memory[0..size]) |byte| if (byte != 0) return error.NotZero;
                heap.free(memory);
            }
            for ([_]usize{ 64, 4096, 1 << 16, 1 << 17, 8 << 20 }) |alignment| {
                const memory = heap.allocateAligned(size, alignment) orelse continue;
                if (@intFromPtr(memory) % alignment != 0) return error.NotAligned;
                memory[size - 1] = 1;
                heap.free(memory);
            }
        }
    }

    fn largeAndHuge() !void {
        // No block that waits: the second lies below the first and touches it, so that it must move to grow.
        heap.flushMagazines();
        const above = filled(4 << 20);
        var size: usize = 4 << 20;
        var block = filled(size);
        for ([_]usize{ 5 << 20, 7 << 20, 3 << 20, 1 << 20, 300_000, 140_000, 50_000, 2 << 20 }) |wanted| {
            const memory = block orelse break;
            const moved = heap.resize(memory, wanted) orelse continue;
            for (moved[0..@min(size, wanted)]) |byte| if (byte != pattern) return error.ContentsLost;
            @memset(moved[0..wanted], pattern);
            block = moved;
            size = wanted;
        }
        release(block, size);
        release(above, 4 << 20);
    }

    /// Many superslabs, freed so that some are empty and others dirty.
    fn giveBack() !void {
        var held: [60]?[*]u8 = undefined;
        for (&held) |*block| block.* = filled(100_000);
        for (held, 0..) |block, at| if (at % 7 != 0) release(block, 100_000);
        heap.flushMagazine(size_class.of(100_000));
        _ = heap.purge();
        for (held, 0..) |block, at| if (at % 7 == 0) release(block, 100_000);
        heap.flushMagazines();
    }

    fn forked() !void {
        const block = filled(1000);
        const child = fork();
        if (child == 0) {
            release(block, 1000);
            for (size_list) |size| release(filled(size), size);
            _exit(0);
        }
        release(block, 1000);
        if (child < 0) return error.NoFork;
        var status: c_int = undefined;
        if (waitpid(child, &status, 0) != child or status != 0) return error.ChildFailed;
    }

    const pattern = 0xa5;

    fn filled(size: usize) ?[*]u8 {
        const memory = heap.allocate(size) orelse return null;
        @memset(memory[0..size], pattern);
        return memory;
    }

    fn release(block: ?[*]u8, size: usize) void {
        const memory = block orelse return;
        for (memory[0..size]) |byte| if (byte != pattern) @panic("a block changed while it was in use");
        heap.free(memory);
    }
};

test "heap: any one system call refused, or all from it on, over every path; then memory serves other sizes" {
    defer os.refusal = .{};
    var refused: std.EnumSet(os.Call) = .empty;
    for ([_]usize{ 1, std.math.maxInt(usize) }) |refuse_count| {
        var number: usize = 1;
        while (true) : (number += 1) {
            heap.flushMagazines();
            os.refusal = .{ .refuse_from = number, .refuse_count = refuse_count };
            const result = Paths.run();
            const calls = os.refusal.calls;
            refused.setUnion(os.refusal.refused);
            os.refusal = .{};
            try result;
            central.verify();
            superslabs.verify();
            // What could not be given back meanwhile goes now, and nothing is lost.
            heap.flushMagazines();
            const snapshot = stats.gather();
            try std.testing.expectEqual(0, snapshot.superslabs + snapshot.huge_bytes + snapshot.dirty_bytes);
            try std.testing.expectEqual(0, snapshot.magazine_bytes + snapshot.cold_bytes + space.keptBytes());
            for (Paths.size_list) |size| Paths.release(Paths.filled(size) orelse return error.StillRefused, size);
            if (calls < number) break;
        }
        try std.testing.expect(number > 40);
    }
    // The page map's own test refuses to tell the limit, and those of the page heap what only larger heaps ask for;
    // files are read where the process starts.
    const elsewhere: std.EnumSet(os.Call) = .initMany(&.{ .limit, .populate, .huge_pages, .resident, .read_file });
    try std.testing.expect(refused.unionWith(elsewhere).eql(.full));
}

test "heap: a thread that cannot have a heap is served from what is free" {
    const Other = struct {
        var served: std.atomic.Value(usize) = .init(0);
        var without_heap: std.atomic.Value(usize) = .init(0);
        var arrived: std.atomic.Value(usize) = .init(0);

        fn work() void {
            for ([_]usize{ 40, 5000, 200_000 }) |size| {
                const block = heap.allocate(size) orelse continue;
                @memset(block[0..size], 1);
                heap.free(block);
                _ = served.fetchAdd(1, .monotonic);
            }
            if (thread_slot.get().kind == .empty) _ = without_heap.fetchAdd(1, .monotonic);
            // All stay until the last has come, so that none gets the heap of another.
            // Partner: itself, in the other threads.
            _ = arrived.fetchAdd(1, .acq_rel);
            while (arrived.load(.acquire) < thread_count) std.atomic.spinLoopHint();
        }

        const thread_count = 16;
    };
    heap.flushMagazines();
    const keeper = heap.allocate(40).?;
    defer heap.free(keeper);
    // No record can be had any more.
    defer os.refusal = .{};
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    var records: [4096]?[*]align(64) u8 = @splat(null);
    for (&records) |*record| record.* = metadata.allocate(@sizeOf(heap.Heap)) orelse break;
    defer for (records) |record| if (record) |memory| metadata.free(memory, @sizeOf(heap.Heap));
    try std.testing.expectEqual(null, records[records.len - 1]);

    var threads: [Other.thread_count]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Other.work, .{});
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(3 * Other.thread_count, Other.served.raw);
    try std.testing.expect(Other.without_heap.raw > 0);
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

test "heap: where threads come and go, a heap waits for the next one with all its blocks" {
    const Worker = struct {
        const sizes = [_]usize{ 320, 384, 448, 512, 640, 768, 896, 1024 };
        /// As many as its magazines hold once they have grown, and more than a part of half a MiB.
        fn work() void {
            var held: [sizes.len][120]?*anyopaque = undefined;
            for (0..10) |_| {
                for (sizes, &held) |size, *blocks| for (blocks) |*block| {
                    block.* = heap.allocate(size);
                };
                for (&held) |*blocks| for (blocks) |block| heap.free(block);
            }
        }
    };
    heap.flushMagazines();
    defer heap.flushMagazines();
    // A machine may be so slow that half a second goes by from one thread to the next.
    for (0..20) |_| {
        for (0..2) |_| {
            const thread = try std.Thread.spawn(.{}, Worker.work, .{});
            thread.join();
        }
        const held = lifecycle.count().magazine_bytes;
        if (held == 0) continue;
        try std.testing.expect(held > 512 * 1024);
        heap.flushMagazines();
        try std.testing.expectEqual(0, lifecycle.count().magazine_bytes);
        return;
    }
    return error.NothingKept;
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

test "heap: a block that outgrows a run goes to the start of a mapping that waits, and grows there" {
    heap.flushMagazines();
    defer heap.flushMagazines();
    const waiting = heap.allocate(16 << 20).?;
    heap.free(waiting);
    var block = heap.allocate(geometry.large_bytes_max).?;
    @memset(block[0..geometry.large_bytes_max], 0x5a);
    for ([_]usize{ 2 << 20, 5 << 20, 16 << 20 }) |bytes| {
        block = heap.resize(block, bytes).?;
        try std.testing.expectEqual(waiting, block);
        try std.testing.expectEqual(bytes, heap.usableBytes(block));
        try std.testing.expectEqual((16 << 20) - bytes, stats.gather().huge_cached_bytes);
    }
    try std.testing.expect(std.mem.findNone(u8, block[0..geometry.large_bytes_max], &.{0x5a}) == null);
    heap.free(block);
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

test "heap: a block of every small size that must be zero is, as far as it may be used, and no other block is cleared" {
    for (0..geometry.tiny_bytes_max + 1) |size| {
        var blocks: [5][*]u8 = undefined;
        for (&blocks) |*block| {
            block.* = heap.allocate(size).?;
            @memset(block.*[0..heap.usableBytes(block.*)], 0x5a);
        }
        heap.free(blocks[2]);
        const zeroed = heap.allocateZeroedFast(size) orelse heap.allocateZeroed(size).?;
        try std.testing.expectEqual(blocks[2], zeroed);
        for (zeroed[0..size]) |byte| try std.testing.expectEqual(0, byte);
        for ([_]usize{ 0, 1, 3, 4 }) |other| {
            const bytes = blocks[other][0..heap.usableBytes(blocks[other])];
            for (bytes) |byte| try std.testing.expectEqual(0x5a, byte);
            heap.free(bytes.ptr);
        }
        heap.free(zeroed);
    }
}

test "heap: under a limit the count is what is there, blocks in all sizes fit again, and failed requests change nothing" {
    const gpa = std.testing.allocator;
    heap.flushMagazines();
    defer process_limit.set(null, 0);
    defer os.refusal = .{};
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const most = lifecycle.countedBytes() + (24 << 20);
    process_limit.set(most, lifecycle.countedBytes());
    var blocks: std.ArrayList([]u8) = .empty;
    defer blocks.deinit(gpa);
    var failed: usize = 0;
    for (0..30_000) |step| {
        // Each phase has sizes of its own.
        const size = @as(usize, 8) << random.intRangeAtMost(u5, @intCast(step / 5000), @intCast(step / 5000 + 13));
        if (random.uintLessThan(u8, 64) == 0) os.refusal = .{ .refuse_from = random.intRangeAtMost(usize, 1, 5), .refuse_count = 2 };
        if (random.uintLessThan(u8, 5) < 3) {
            if (heap.allocate(size)) |memory| {
                try blocks.append(gpa, memory[0..size]);
                @memset(memory[0..size], @truncate(size));
            } else failed += 1;
        } else if (blocks.items.len > 0) {
            const block = blocks.swapRemove(random.uintLessThan(usize, blocks.items.len));
            const present = if (random.boolean()) block.ptr else heap.resize(block.ptr, size) orelse block.ptr;
            if (present[0] != @as(u8, @truncate(block.len))) return error.ContentsLost;
            heap.free(present);
        }
        os.refusal = .{};
        try std.testing.expect(process_limit.counted() <= most);
        if (step % 500 == 0) try std.testing.expectEqual(lifecycle.countedBytes(), process_limit.counted());
    }
    try std.testing.expect(failed > 100);
    for (blocks.items) |block| heap.free(block.ptr);
    // All of it can be had again in any size, without a flush in between.
    for ([_]usize{ 16, 4096, 96 << 10, 1 << 20, 3 << 20 }) |size| {
        blocks.clearRetainingCapacity();
        var bytes: usize = 0;
        while (heap.allocate(size)) |memory| : (bytes += size) try blocks.append(gpa, memory[0..size]);
        try std.testing.expect(bytes > 18 << 20);
        for (blocks.items) |block| heap.free(block.ptr);
    }
    heap.flushMagazines();
    try std.testing.expectEqual(lifecycle.countedBytes(), process_limit.counted());
}

test "heap: a forked child counts what it has, not what threads that are gone were about to take" {
    defer process_limit.set(null, 0);
    heap.free(heap.allocate(100).?);
    const present = lifecycle.countedBytes();
    process_limit.set(present + (64 << 20), present);
    try std.testing.expect(process_limit.take(32 << 20));
    const child = fork();
    if (child == 0) _exit(@intFromBool(process_limit.counted() != lifecycle.countedBytes()));
    try std.testing.expect(child > 0);
    try std.testing.expectEqual(present + (32 << 20), process_limit.counted());
    var status: c_int = undefined;
    try std.testing.expectEqual(child, waitpid(child, &status, 0));
    try std.testing.expectEqual(0, status);
}

test "heap: as a limit comes near other threads flush, at a large block too" {
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
            heap.free(heap.allocate(200_000).?);
            step.store(3, .release);
            await(4);
        }
    };
    heap.flushMagazines();
    defer process_limit.set(null, 0);
    const thread = try std.Thread.spawn(.{}, Other.work, .{});
    Other.await(1);
    try std.testing.expectEqual(1, central.count(size_class.of(48)).slabs);
    const present = lifecycle.countedBytes();
    process_limit.set(2 * present + (16 << 20), present);
    const block = heap.allocate(9 << 20).?;
    Other.step.store(2, .release);
    Other.await(3);
    heap.flushMagazines();
    try std.testing.expectEqual(0, central.count(size_class.of(48)).slabs);
    Other.step.store(4, .release);
    thread.join();
    heap.free(block);
    heap.flushMagazines();
}
