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
const slabs = @import("../memory/slab.zig");
const Slab = slabs.Slab;
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
    cold_count: u16 = 0,
    /// Blocks that the array of the cold magazine has room for.
    cold_room: u16 = 0,
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

/// How blocks that were flushed lay.
pub const Order = enum {
    /// Mostly as neighbours, one after the other.
    ordered,
    /// Each took a look-up of its own.
    scattered,
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
        central.cold_count -= @intCast(taken);
        @memcpy(out[0..taken], central.cold.?[central.cold_count..][0..taken]);
        return .{ .blocks = taken };
    }
    // From the end on, so that the lowest address of all comes last, which is taken first.
    var taken: Taken = .{ .blocks = 0 };
    var missing: u32 = want;
    while (missing > 0) {
        // More blocks are welcome, but not worth another slab,
        const slab = slabToTake(central, class, missing == want) orelse break;
        var most = missing;
        if (slab.freeBlocks() == 0) {
            // nor a page.
            if (missing < want) break;
            most = @min(most, freshBlocks(central, slab));
            taken.fresh = true;
        }
        missing -= slab.take(out + missing, most);
        if (slab.ahead_granules != 0 and slab.isCarved()) caughtUp(slab);
        if (!slab.hasBlocks()) unlist(central, slab);
        if (taken.fresh) break;
    }
    taken.blocks = want - missing;
    if (missing > 0) @memmove(out[0..taken.blocks], out[missing..want]);
    setInUse(central, central.in_use + taken.blocks);
    taken.dry = isDry(central);
    return taken;
}

/// The slab to take blocks from. It is the first, but where that would touch fresh pages: then the next, or a new one in
/// a granule that is resident. Else each round of a program would go on in another slab that the last round left in part.
fn slabToTake(central: *Central, class: Class, may_begin: bool) ?*Slab {
    const listed = central.slabs orelse return if (may_begin) begin(central, class) else null;
    if (!listed.wouldTouch()) return listed;
    if (listed.next) |next| {
        if (!next.wouldTouch()) return next;
    }
    if (!superslabs.hasResident() or !isOneDenseGranule(class)) return listed;
    if (!may_begin) return null;
    return begin(central, class) orelse listed;
}

/// A free granule that is resident is all that a slab of the class needs.
fn isOneDenseGranule(class: Class) bool {
    return size_class.shapes[class].granules == 1 and filling(class) == .dense;
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
    if (!touchesPage(slab)) return false;
    return if (slab.next) |next| touchesPage(next) else true;
}

fn touchesPage(slab: *const Slab) bool {
    if (slab.freeBlocks() != 0) return false;
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

/// Takes blocks back from a thread's magazine, the oldest first. Null when no slab got any.
pub fn flush(class: Class, blocks: []const usize) ?Order {
    cost.flushed(blocks.len);
    const central = &centrals[class];
    central.lock.lock();
    const kept = keepCold(central, class, blocks);
    const twice = @intFromBool(canary.is(.flush_twice) and kept > 0);
    const given = blocks[0 .. blocks.len - kept + twice];
    const looks = put(central, class, given, .keep_last);
    if (central.cold_count > coldBlocksKept(central, class)) shedCold(central, class, blocks.len);
    central.lock.unlock();
    superslabs.settle();
    if (given.len == 0) return null;
    return if (looks <= given.len / 4) .ordered else .scattered;
}

/// Takes blocks back past the cold magazine.
pub fn giveBack(class: Class, blocks: []const usize, emptied: Emptied) void {
    cost.flushed(blocks.len);
    const central = &centrals[class];
    central.lock.lock();
    _ = put(central, class, blocks, emptied);
    central.lock.unlock();
    superslabs.settle();
}

/// Empties the cold magazine and returns every empty slab of the class to the page heap.
pub fn giveBackAll(class: Class) void {
    const central = &centrals[class];
    central.lock.lock();
    if (central.cold) |cold| {
        _ = put(central, class, cold[0..central.cold_count], .end);
        central.cold_count = 0;
        metadata.free(@ptrCast(@alignCast(cold)), bytesOf(central.cold_room));
        central.cold = null;
        central.cold_room = 0;
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
        result.free_blocks += slab.freeBlocks();
        result.fresh_blocks += size_class.shapes[class].blocks - slab.carved;
    }
    return result;
}

/// The most blocks that go to a cold magazine: 64 KiB of them or an eighth of what is in use of the class, as many threads
/// exchange more than few, but at most 1024; none where 64 KiB are under four.
fn coldBlocksMax(central: *const Central, class: Class) usize {
    const least = cold_blocks_least[class];
    return if (least == 0) 0 else @max(least, @min(central.in_use / 8, cold_blocks_most));
}

/// The array of a cold magazine at first.
const cold_blocks_least: [size_class.count + 1]u16 = makeColdBlocks();
const cold_blocks_most = 1024;

fn makeColdBlocks() [size_class.count + 1]u16 {
    var blocks: [size_class.count + 1]u16 = @splat(0);
    for (blocks[1..], size_class.shapes[1..]) |*entry, shape| {
        const fitting = @min(cold_blocks_most, 64 * 1024 / shape.block_bytes);
        if (fitting >= 4) entry.* = fitting;
    }
    return blocks;
}

fn bytesOf(blocks: usize) usize {
    return blocks * @sizeOf(usize);
}

/// Puts the newest of `blocks` on the cold magazine. Returns how many it took.
fn keepCold(central: *Central, class: Class, blocks: []const usize) usize {
    if (!isShared()) return 0;
    const wanted = @min(blocks.len, coldBlocksMax(central, class) -| central.cold_count);
    if (wanted == 0) return 0;
    if (central.cold_count + wanted > central.cold_room) growCold(central, class, central.cold_count + wanted);
    const kept = @min(wanted, central.cold_room - central.cold_count);
    if (kept == 0) return 0;
    const room = central.cold.?[central.cold_count..][0..kept];
    cost.wrote(room);
    @memcpy(room, blocks[blocks.len - kept ..]);
    central.cold_count += @intCast(kept);
    return kept;
}

/// Makes room for `blocks`; leaves the array as it is when the OS refuses.
noinline fn growCold(central: *Central, class: Class, blocks: usize) void {
    @branchHint(.unlikely);
    const room = @max(cold_blocks_least[class], std.math.ceilPowerOfTwoAssert(usize, blocks));
    const new: [*]usize = @ptrCast(metadata.allocate(bytesOf(room)) orelse return);
    if (central.cold) |old| {
        cost.wrote(new[0..central.cold_count]);
        @memcpy(new[0..central.cold_count], old[0..central.cold_count]);
        metadata.free(@ptrCast(@alignCast(old)), bytesOf(central.cold_room));
    }
    central.cold = new;
    central.cold_room = @intCast(room);
}

/// The most blocks that stay in a cold magazine as less and less is in use: twice as many as go there, as what is in use
/// goes up and down.
fn coldBlocksKept(central: *const Central, class: Class) usize {
    return 2 * coldBlocksMax(central, class);
}

/// Gives back what the cold magazine has too many, at most as many as were flushed.
noinline fn shedCold(central: *Central, class: Class, flushed: usize) void {
    @branchHint(.unlikely);
    const gone = @min(central.cold_count - coldBlocksKept(central, class), flushed);
    central.cold_count -= @intCast(gone);
    _ = put(central, class, central.cold.?[central.cold_count..][0..gone], .keep_last);
}

/// Sets the bits of blocks. Returns how often a slab was looked up.
fn put(central: *Central, class: Class, blocks: []const usize, emptied: Emptied) usize {
    const block_bytes = size_class.blockBytes(class);
    var rest = blocks;
    var looks: usize = 0;
    while (rest.len > 0) {
        looks += 1;
        const address = rest[0];
        const superslab = registry.find(Superslab, address) orelse blameFreed(address, class);
        const slab = superslab.slabOf(address);
        // The slab changed its class since the block was put in the magazine, so it was free then.
        if (slab.class != class) blameFreed(address, class);
        // Blocks allocated one after the other are mostly neighbours, and freed in that order or its reverse.
        const step = if (rest.len > 1) rest[1] -% address else 0;
        const length = if (step == block_bytes or step == 0 -% block_bytes) neighbours(slab, rest, step) else 1;
        if (length > 1) slab.putRun(@min(address, rest[length - 1]), length) else slab.put(address);
        rest = rest[length..];
        noteChange(central, slab, emptied);
        if (length >= ordered_blocks) continue;
        const scattered = rest[0..@min(rest.len, scattered_blocks)];
        const done = switch (Shape.of(class)) {
            inline else => |shape| putScattered(shape, central, class, scattered, emptied),
        };
        looks += done;
        rest = rest[done..];
    }
    // Only now: blocks freed twice may be more than those in use, and have ended the process.
    setInUse(central, central.in_use - blocks.len);
    return looks;
}

/// The slab got a block back, and is listed again if it had none; or goes if all are back.
fn noteChange(central: *Central, slab: *Slab, emptied: Emptied) void {
    if (!slab.listed) list(central, slab);
    if (slab.isEmpty() and !(emptied == .keep_last and slab.isOnly())) end(central, slab);
}

/// As `noteChange`, apart from a loop that does without mostly.
noinline fn noteChangeRarely(central: *Central, slab: *Slab, emptied: Emptied) void {
    @branchHint(.cold);
    noteChange(central, slab, emptied);
}

/// After so many neighbours the next look is for neighbours again: a refill brings them word by word of the bitmap.
const ordered_blocks = 8;
/// Else so many blocks go one by one before the next look, as random order has no neighbours.
const scattered_blocks = 32;

/// How the slab of an address and the bit of its block are found.
const Shape = enum {
    /// A granule is a slab, and the bitmap lies outside its record.
    outside,
    /// A granule is a slab.
    own,
    /// A slab may be several granules.
    granules,

    inline fn of(class: Class) Shape {
        if (!slabs.isOwn(class)) return .outside;
        return if (size_class.shapes[class].granules == 1) .own else .granules;
    }
};

/// Takes blocks back one by one up to one that is not in use, or not as easily found; returns how many those were.
inline fn putScattered(comptime shape: Shape, central: *Central, class: Class, blocks: []const usize, emptied: Emptied) usize {
    const reciprocal = size_class.shapes[class].reciprocal;
    if (blocks.len == 0) return 0;
    const part = registry.partOf(blocks[0]) orelse return 0;
    for (blocks, 0..) |address, at| {
        // In random order a branch on whether the superslab is the last one's would be a coin toss.
        const superslab = part.find(Superslab, address) orelse return at;
        const granule = superslab.granuleOf(address);
        const slab = &superslab.slabs[if (shape == .granules) superslab.run_start[granule] else granule];
        const offset = if (shape == .granules) address - slab.base else address & (geometry.granule_bytes - 1);
        if (slab.class != class) return at;
        switch (slab.putAt(shape != .outside, offset, reciprocal)) {
            .plain => {},
            .changed => noteChangeRarely(central, slab, emptied),
            .refused => return at,
        }
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
    const Lanes = @Vector(lanes, usize);
    var expected_lanes = @as(Lanes, @splat(blocks[0])) +% std.simd.iota(usize, lanes) *% @as(Lanes, @splat(step));
    const lanes_step: Lanes = @splat(lanes *% step);
    var length: u32 = 0;
    while (length + lanes <= most) : (length += lanes) {
        const found: Lanes = blocks[length..][0..lanes].*;
        if (@reduce(.Or, found ^ expected_lanes) != 0) break;
        expected_lanes +%= lanes_step;
    }
    var expected = expected_lanes[0];
    while (length < most and blocks[length] == expected) : (length += 1) expected +%= step;
    return length;
}

/// Gives the class one more slab.
fn begin(central: *Central, class: Class) ?*Slab {
    const granules = size_class.shapes[class].granules;
    const run = superslabs.allocateSlab(granules, filling(class), slabs.wordsOutside(class)) orelse return null;
    const slab = &run.superslab.slabs[run.start];
    slab.begin(run.address(), run.words, class);
    slab.ahead_granules = run.ahead;
    slab.fresh = run.fresh;
    page_map.write(run.address(), granules, class);
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
    const partial = slab.fresh and !slab.isCarved();
    const words = slab.end();
    central.slab_count -= 1;
    page_map.write(slab.base, size_class.shapes[class].granules, 0);
    const superslab = registry.find(Superslab, slab.base).?;
    superslabs.freeSlab(superslab, superslab.granuleOf(slab.base), words, slabs.wordsOutside(class), partial);
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

/// Panics unless the lists, every listed slab and the cold magazines are whole. For tests.
pub fn verify() void {
    for (centrals[1..], 1..) |*central, class| {
        central.lock.lock();
        defer central.lock.unlock();
        assert(central.cold_count <= central.cold_room);
        assert(central.cold_room <= cold_blocks_most);
        assert((central.cold == null) == (central.cold_room == 0));
        assert(central.cold_count <= central.in_use);
        var listed = central.slabs;
        while (listed) |slab| : (listed = slab.next) {
            assert(slab.class == class);
            assert(slab.listed and slab.hasBlocks());
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
                _ = flush(class, held[held_count - given ..][0..given]);
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

test "central: a cold magazine holds more the more is in use, and gives it back as less is" {
    try std.testing.expect(page_map.start());
    setThreads(2);
    defer setThreads(0);
    const step = 50;
    for ([_]usize{ 48, 1024, 16 * 1024, 64 * 1024 }) |bytes| {
        const class = size_class.of(bytes);
        const least = cold_blocks_least[class];
        var held: [10_000]usize = undefined;
        var taken: usize = 0;
        while (taken < held.len) taken += take(class, held[taken..].ptr, @intCast(@min(step, held.len - taken))).blocks;
        var most: usize = 0;
        while (taken > 0) {
            taken -= step;
            _ = flush(class, held[taken..][0..step]);
            verify();
            const cold = count(class).cold_blocks;
            try std.testing.expectEqual(taken + cold, inUse(class));
            // What is given back at the end of a flush is in use at its beginning.
            try std.testing.expect(cold <= 2 * @max(least, (taken + cold + step) / 8));
            most = @max(most, cold);
        }
        try std.testing.expectEqual(@as(usize, if (least == 0) 0 else cold_blocks_most), most);
        giveBackAll(class);
        verify();
        try std.testing.expectEqual(Counts{}, count(class));
    }
    _ = superslabs.purge();
}

test "central: a class takes granules that are resident before it touches fresh pages" {
    try std.testing.expect(page_map.start());
    _ = superslabs.purge();
    const class = size_class.of(64);
    var first: [1]usize = undefined;
    try std.testing.expectEqual(1, take(class, &first, 1).blocks);
    const run = superslabs.allocateRun(1, .dense).?;
    const resident = run.address();
    var more: [2]usize = undefined;
    // Nothing is resident and free: it goes on where it is.
    try std.testing.expectEqual(1, take(class, more[0..1], 1).blocks);
    try std.testing.expectEqual(first[0] + 64, more[0]);
    superslabs.freeRun(run.superslab, run.start);
    try std.testing.expect(superslabs.hasResident());
    try std.testing.expectEqual(1, take(class, more[1..2], 1).blocks);
    try std.testing.expectEqual(resident, more[1]);
    giveBack(class, &.{ first[0], more[0], more[1] }, .end);
    _ = superslabs.purge();
    try std.testing.expect(!superslabs.hasResident());
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
