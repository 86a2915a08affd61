//! What all threads share, class by class: the cold magazine and the list of slabs that can give blocks.
//!
//! A refill takes from the cold magazine, then from slabs, a bitmap word at a time; a flush fills the cold
//! magazine and sets the rest in the bitmaps. The cold magazine is a stack, so what one thread frees another
//! gets while it is still in the cache. It serves only processes with several threads: alone, a thread would
//! only carry its blocks to and fro.
//!
//! A slab that becomes empty goes back to the page heap, unless it is the last one that its class has to give
//! from, so that a program that allocates and frees one block does not fetch a slab each time.
//!
//! One lock a class. Lock order: class, then page heap, then page map, registry and metadata.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const page_map = @import("../memory/page_map.zig");
const registry = @import("../memory/registry.zig");
const metadata = @import("../memory/metadata.zig");
const superslabs = @import("../memory/superslab.zig");
const Superslab = superslabs.Superslab;
const Slab = @import("../memory/slab.zig").Slab;
const atomic = @import("../platform/atomic.zig");
const os = @import("../platform/os.zig");
const Lock = @import("../platform/lock.zig").Lock;
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const cost = @import("../platform/cost.zig");
const assert = std.debug.assert;
const Class = size_class.Class;

const Central = struct {
    /// Guards everything below, and the slabs of the class. On a cache line of its own.
    lock: Lock align(64) = .{},
    /// Slabs that can give blocks, the one that got a block back last first.
    slabs: ?*Slab = null,
    cold: ?[*]usize = null,
    cold_count: u32 = 0,
    slab_count: u32 = 0,
    /// Blocks that the slabs have handed out: with programs, in magazines, or cold.
    in_use: usize = 0,
};

pub const Counts = struct {
    slabs: usize = 0,
    /// Blocks in the cold magazine.
    cold_blocks: usize = 0,
    /// Blocks free in the bitmaps of slabs that are listed.
    free_blocks: usize = 0,
    /// Blocks of slabs in use that were never handed out.
    fresh_blocks: usize = 0,
};

/// What becomes of a slab that is empty.
pub const Emptied = enum {
    /// It goes back to the page heap, but for the last one that the class has to give from.
    keep_last,
    end,
};

var centrals: [size_class.count + 1]Central = @splat(.{});

/// Threads with a heap. The cold magazines serve only when there are several.
var threads: usize = 0;

/// Every lock, in lock order.
pub fn locks() [size_class.count]*Lock {
    var result: [size_class.count]*Lock = undefined;
    for (&result, centrals[1..]) |*entry, *central| entry.* = &central.lock;
    return result;
}

/// Whether several threads have a heap; of a moment ago.
pub fn isShared() bool {
    // Partner: `setThreads`. A stale answer only sends blocks the other way.
    return atomic.load(usize, &threads, .monotonic) > 1;
}

pub fn setThreads(count_now: usize) void {
    // Partner: the load in `isShared`.
    cost.wrote(&threads);
    atomic.store(usize, &threads, count_now, .monotonic);
}

pub const Taken = struct {
    /// How many. Zero only when the OS refuses memory.
    blocks: u32,
    /// None of them was ever handed out. They are neighbours then, from the highest address down.
    fresh: bool = false,
    /// Nothing is left of the class but blocks of which the first would touch a page.
    dry: bool = false,
};

/// Moves up to `want` free blocks of a class into `out`. Fresh ones come alone, when there are no others.
pub fn take(class: Class, out: [*]usize, want: u32) Taken {
    const central = &centrals[class];
    central.lock.lock();
    defer central.lock.unlock();
    if (central.cold_count > 0) {
        const taken = @min(want, central.cold_count);
        cost.add(.cold_hits, 1);
        cost.add(.cold_blocks, taken);
        central.cold_count -= taken;
        @memcpy(out[0..taken], central.cold.?[central.cold_count..][0..taken]);
        return .{ .blocks = taken };
    }
    var taken: Taken = .{ .blocks = 0 };
    while (taken.blocks < want) {
        const slab = central.slabs orelse slab: {
            // More blocks are welcome, but not worth another slab,
            if (taken.blocks > 0) break;
            break :slab begin(central, class) orelse break;
        };
        var most = want - taken.blocks;
        if (slab.free == 0) {
            // nor a page.
            if (taken.blocks > 0) break;
            most = @min(most, freshBlocks(central, slab));
            taken.fresh = true;
        }
        taken.blocks += slab.take(out + taken.blocks, most);
        if (slab.ahead_granules != 0 and slab.isCarved()) caughtUp(slab);
        if (!slab.hasBlocks()) unlist(central, slab);
    }
    setInUse(central, central.in_use + taken.blocks);
    taken.dry = isDry(central);
    return taken;
}

/// How many fresh blocks to take at once: those that end in the page where the first one ends, since a page that one class
/// has touched is no other's. More where many are in use, so that a class that grows is seldom here.
fn freshBlocks(central: *const Central, slab: *const Slab) u32 {
    const block_bytes = size_class.blockBytes(slab.class);
    const offset = slab.carved * block_bytes;
    const page_end = std.mem.alignForward(usize, offset + block_bytes, os.pageBytes());
    const of_page = (page_end - offset) / block_bytes;
    if (central.in_use <= fresh_share * of_page) return @intCast(of_page);
    // Partner: the store in `setThreads`. A stale answer only makes it more blocks or fewer.
    const threads_now = @max(1, atomic.load(usize, &threads, .monotonic));
    return @intCast(@max(of_page, central.in_use / (fresh_share * threads_now)));
}

/// Of what is in use of a class, a thread takes at most 1 in so many fresh at once, but for those of a page.
const fresh_share = 8;

/// Whether the next block that the class gives touches a page that none of its blocks has touched.
fn isDry(central: *const Central) bool {
    const slab = central.slabs orelse return true;
    // Where the first slab has no free block, no other has: it has fresh ones, and such a slab is the last.
    if (slab.free != 0) return false;
    const block_bytes = size_class.blockBytes(slab.class);
    const carved_bytes = slab.carved * block_bytes;
    return carved_bytes + block_bytes > std.mem.alignForward(usize, carved_bytes, os.pageBytes());
}

/// Blocks of the class that slabs have handed out and not got back; of a moment ago.
pub fn inUse(class: Class) usize {
    // Partner: the store in `setInUse`.
    return atomic.load(usize, &centrals[class].in_use, .monotonic);
}

fn setInUse(central: *Central, blocks: usize) void {
    // Partner: the load in `inUse`.
    atomic.store(usize, &central.in_use, blocks, .monotonic);
}

/// Takes blocks back from a thread's magazine, the oldest first.
pub fn flush(class: Class, blocks: []const usize) void {
    cost.flushed(blocks.len);
    const central = &centrals[class];
    central.lock.lock();
    const kept = keepCold(central, class, blocks);
    const twice = @intFromBool(canary.is(.flush_twice) and kept > 0);
    put(central, class, blocks[0 .. blocks.len - kept + twice], .keep_last);
    central.lock.unlock();
    superslabs.settle();
}

/// Takes blocks back past the cold magazine.
pub fn giveBack(class: Class, blocks: []const usize, emptied: Emptied) void {
    cost.flushed(blocks.len);
    const central = &centrals[class];
    central.lock.lock();
    put(central, class, blocks, emptied);
    central.lock.unlock();
    superslabs.settle();
}

/// Empties the cold magazine and returns every empty slab of the class to the page heap.
pub fn giveBackAll(class: Class) void {
    const central = &centrals[class];
    central.lock.lock();
    if (central.cold) |cold| {
        put(central, class, cold[0..central.cold_count], .end);
        central.cold_count = 0;
        metadata.free(@ptrCast(@alignCast(cold)), coldBytes(class));
        central.cold = null;
    }
    var listed = central.slabs;
    while (listed) |slab| {
        listed = slab.next;
        if (slab.isEmpty()) end(central, slab);
    }
    central.lock.unlock();
    superslabs.settle();
}

pub fn count(class: Class) Counts {
    const central = &centrals[class];
    central.lock.lock();
    defer central.lock.unlock();
    var result: Counts = .{ .slabs = central.slab_count, .cold_blocks = central.cold_count };
    var listed = central.slabs;
    while (listed) |slab| : (listed = slab.next) {
        result.free_blocks += slab.free;
        result.fresh_blocks += size_class.shapes[class].blocks - slab.carved;
    }
    return result;
}

/// The most blocks a cold magazine holds: 64 KiB of them, at most 1024; none where that is under four.
fn coldBlocksMax(class: Class) u32 {
    const blocks: u32 = @intCast(@min(1024, 64 * 1024 / size_class.blockBytes(class)));
    return if (blocks < 4) 0 else blocks;
}

fn coldBytes(class: Class) usize {
    return coldBlocksMax(class) * @sizeOf(usize);
}

/// Puts the newest of `blocks` on the cold magazine. Returns how many it took.
fn keepCold(central: *Central, class: Class, blocks: []const usize) usize {
    if (!isShared()) return 0;
    const room = coldBlocksMax(class) -| central.cold_count;
    const kept = @min(room, blocks.len);
    if (kept == 0) return 0;
    const cold = central.cold orelse cold: {
        const memory = metadata.allocate(coldBytes(class)) orelse return 0;
        central.cold = @ptrCast(memory);
        break :cold central.cold.?;
    };
    cost.wrote(cold[central.cold_count..][0..kept]);
    @memcpy(cold[central.cold_count..][0..kept], blocks[blocks.len - kept ..]);
    central.cold_count += @intCast(kept);
    return kept;
}

fn put(central: *Central, class: Class, blocks: []const usize, emptied: Emptied) void {
    const shape = &size_class.shapes[class];
    const block_bytes: usize = shape.block_bytes;
    var rest = blocks;
    while (rest.len > 0) {
        const address = rest[0];
        const superslab = registry.find(Superslab, address) orelse blameFreed(address, class);
        const slab = superslab.slabOf(address);
        // The slab changed its class since the block was put in the magazine, so it was free then.
        if (slab.class != class) blameFreed(address, class);
        // Blocks allocated one after the other are mostly neighbours, and freed in that order or its reverse.
        const step = if (rest.len > 1) rest[1] -% address else 0;
        if (step == block_bytes or step == 0 -% block_bytes) {
            const length = neighbours(slab, rest, step);
            slab.putRun(@min(address, rest[length - 1]), length);
            rest = rest[length..];
        } else {
            slab.put(address);
            rest = rest[1..];
        }
        if (!slab.listed) list(central, slab);
        if (slab.isEmpty() and !(emptied == .keep_last and slab.isOnly())) end(central, slab);
        const scattered = rest[0..@min(rest.len, scattered_blocks)];
        rest = rest[if (shape.granules == 1) putScattered(true, class, scattered) else putScattered(false, class, scattered)..];
    }
    // Only now: blocks freed twice may be more than those in use, and have ended the process.
    setInUse(central, central.in_use - blocks.len);
}

/// Blocks that go one by one before the next look for neighbours, which random order has none of.
const scattered_blocks = 32;

/// Takes blocks back as long as nothing else than a bit and a count changes; returns how many those were.
inline fn putScattered(comptime one_granule: bool, class: Class, blocks: []const usize) usize {
    const shape = &size_class.shapes[class];
    const block_bytes: usize = shape.block_bytes;
    const reciprocal = shape.reciprocal;
    if (blocks.len == 0) return 0;
    const part = registry.partOf(blocks[0]) orelse return 0;
    for (blocks, 0..) |address, at| {
        // In random order a branch on whether the superslab is the last one's would be a coin toss.
        const superslab = part.find(Superslab, address) orelse return at;
        const granule = superslab.granuleOf(address);
        const slab = &superslab.slabs[if (one_granule) granule else superslab.run_start[granule]];
        const offset = if (one_granule) address & (geometry.granule_bytes - 1) else address - slab.base;
        if (slab.class != class or !slab.putPlain(offset, block_bytes, reciprocal)) return at;
    }
    return blocks.len;
}

noinline fn blameFreed(address: usize, class: Class) noreturn {
    @branchHint(.cold);
    fatal.misuse(.{
        .kind = .double_free,
        .address = address,
        .block_bytes = size_class.blockBytes(class),
        .state = .free,
    });
}

/// How many of `blocks` lie `step` bytes from one to the next, and all in `slab`; the first two do.
inline fn neighbours(slab: *const Slab, blocks: []const usize, step: usize) u32 {
    const shape = &size_class.shapes[slab.class];
    const first = shape.index(blocks[0] - slab.base);
    const in_slab = if (step == shape.block_bytes) shape.blocks - first else first + 1;
    const most: u32 = @intCast(@min(blocks.len, in_slab));
    // Several at once, without a branch for each.
    const lanes = 8;
    const steps = std.simd.iota(usize, lanes) *% @as(@Vector(lanes, usize), @splat(step));
    var length: u32 = 0;
    var expected = blocks[0];
    while (length + lanes <= most) : (length += lanes) {
        const found: @Vector(lanes, usize) = blocks[length..][0..lanes].*;
        if (@reduce(.Or, found ^ (@as(@Vector(lanes, usize), @splat(expected)) +% steps)) != 0) break;
        expected +%= lanes *% step;
    }
    while (length < most and blocks[length] == expected) : (length += 1) expected +%= step;
    return length;
}

/// Gives the class one more slab.
fn begin(central: *Central, class: Class) ?*Slab {
    const run = superslabs.allocateRun(size_class.shapes[class].granules, filling(class)) orelse return null;
    const slab = &run.superslab.slabs[run.start];
    slab.begin(run.address(), run.words(), class);
    slab.ahead_granules = run.ahead;
    page_map.write(run.address(), size_class.shapes[class].granules, class);
    central.slab_count += 1;
    list(central, slab);
    return slab;
}

fn filling(class: Class) superslabs.Filling {
    return if (size_class.blockBytes(class) <= geometry.dense_bytes_max) .dense else .sparse;
}

/// The pages of a slab that were resident ahead of its blocks count no more.
noinline fn caughtUp(slab: *Slab) void {
    superslabs.caughtUp(slab.ahead_granules);
    slab.ahead_granules = 0;
}

/// Returns an empty slab to the page heap.
fn end(central: *Central, slab: *Slab) void {
    const class = slab.class;
    unlist(central, slab);
    if (slab.ahead_granules != 0) caughtUp(slab);
    slab.end();
    central.slab_count -= 1;
    page_map.write(slab.base, size_class.shapes[class].granules, 0);
    const superslab = registry.find(Superslab, slab.base).?;
    superslabs.freeRun(superslab, superslab.granuleOf(slab.base));
}

fn list(central: *Central, slab: *Slab) void {
    assert(!slab.listed);
    slab.listed = true;
    slab.previous = null;
    slab.next = central.slabs;
    cost.wrote(slab);
    cost.wroteBehind(&central.slabs);
    if (central.slabs) |head| head.previous = slab;
    central.slabs = slab;
}

fn unlist(central: *Central, slab: *Slab) void {
    assert(slab.listed);
    slab.listed = false;
    cost.wrote(slab);
    cost.wroteBehind(&slab.next);
    cost.wroteBehind(&slab.previous);
    if (slab.next) |next| next.previous = slab.previous;
    if (slab.previous) |previous| previous.next = slab.next else central.slabs = slab.next;
    slab.next = null;
    slab.previous = null;
}

/// Panics unless the lists and every listed slab are whole. For tests.
pub fn verify() void {
    for (centrals[1..], 1..) |*central, class| {
        central.lock.lock();
        defer central.lock.unlock();
        var listed = central.slabs;
        while (listed) |slab| : (listed = slab.next) {
            assert(slab.class == class);
            assert(slab.listed and slab.hasBlocks());
            // None is begun while another is listed, and what comes into the list later comes before it.
            assert(slab.isCarved() or slab.next == null);
            if (slab.next) |next| assert(next.previous == slab);
            slab.verify();
        }
    }
}

test "central: blocks of every class come and go without overlap, and all memory returns" {
    try std.testing.expect(page_map.start());
    defer setThreads(0);
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    for ([_]usize{ 1, 2 }) |thread_count| {
        setThreads(thread_count);
        for (1..size_class.count + 1) |class_number| {
            const class: Class = @intCast(class_number);
            const before = superslabs.count().used_granules;
            var held: [700]usize = undefined;
            var held_count: usize = 0;
            for (0..60) |_| {
                const want = random.intRangeAtMost(u32, 1, 64);
                const taken = take(class, held[held_count..].ptr, want).blocks;
                try std.testing.expect(taken >= 1 and taken <= want);
                for (held[held_count..][0..taken]) |address| {
                    const stamp: *usize = @ptrFromInt(address);
                    stamp.* = address;
                    try std.testing.expectEqual(class, page_map.entry(address));
                }
                held_count += taken;
                if (held_count < held.len - 64 and random.boolean()) continue;
                random.shuffle(usize, held[0..held_count]);
                const given = random.uintAtMost(usize, held_count);
                for (held[0..held_count]) |address| {
                    try std.testing.expectEqual(address, @as(*usize, @ptrFromInt(address)).*);
                    @as(*usize, @ptrFromInt(address)).* = 0;
                }
                flush(class, held[held_count - given ..][0..given]);
                held_count -= given;
                for (held[0..held_count]) |address| @as(*usize, @ptrFromInt(address)).* = address;
                verify();
            }
            giveBack(class, held[0..held_count], .keep_last);
            giveBackAll(class);
            verify();
            try std.testing.expectEqual(Counts{}, count(class));
            try std.testing.expectEqual(before, superslabs.count().used_granules);
        }
    }
    _ = superslabs.purge();
    superslabs.verify();
}

test "central: fresh blocks come by pages, alone and from the highest down, and it is said when the next touches a page" {
    try std.testing.expect(page_map.start());
    for (1..size_class.count + 1) |class_number| {
        const class: Class = @intCast(class_number);
        const shape = &size_class.shapes[class];
        const page_bytes = os.pageBytes();
        var held: [256]usize = undefined;
        const first = take(class, &held, held.len);
        try std.testing.expect(first.fresh);
        // All that end in the page where the first ends.
        const pages_end = std.mem.alignForward(usize, shape.block_bytes, page_bytes);
        const of_page: u32 = @intCast(@min(pages_end / shape.block_bytes, shape.blocks));
        try std.testing.expectEqual(@min(held.len, of_page), first.blocks);
        for (held[0..first.blocks], 0..) |address, at| try std.testing.expectEqual(held[0] - at * shape.block_bytes, address);
        // The next one begins behind these, in a page that they touched or not.
        const carved_bytes = first.blocks * @as(usize, shape.block_bytes);
        const has_room = carved_bytes + shape.block_bytes <= std.mem.alignForward(usize, carved_bytes, page_bytes);
        try std.testing.expectEqual(!has_room or first.blocks == shape.blocks, first.dry);
        // What was handed out before comes first, and no fresh ones with it.
        giveBack(class, held[0..1], .keep_last);
        var again: [2]usize = undefined;
        const second = take(class, &again, 2);
        try std.testing.expectEqual(1, second.blocks);
        try std.testing.expectEqual(held[0], again[0]);
        try std.testing.expect(!second.fresh);
        try std.testing.expectEqual(first.dry, second.dry);
        giveBack(class, held[0..first.blocks], .end);
        giveBackAll(class);
        try std.testing.expectEqual(Counts{}, count(class));
    }
}
