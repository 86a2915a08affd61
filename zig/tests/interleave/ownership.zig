//! Whose is an address: the registry and the page map, read without a lock while others write.

const std = @import("std");
const explorer = @import("explorer");
const internals = @import("hakmem").internals;
const expectStart = @import("lock.zig").expectStart;
const central = internals.central;
const geometry = internals.geometry;
const heap = internals.heap;
const page_map = internals.page_map;
const registry = internals.registry;
const size_class = internals.size_class;
const superslab = internals.superslab;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

// The registry: a record is entered and taken out while others look for it, and for its neighbour.

const Record = struct { content: usize };

/// Where no mapping of the process comes near. The leaves above it are used up one a schedule.
const base: usize = 0x1000_0000_0000;
var leaf_number: usize = 0;
var records: [2]Record = undefined;

fn place(neighbour: usize) usize {
    return base + (leaf_number << 34) + neighbour * geometry.superslab_bytes;
}

fn nextLeaf() !void {
    leaf_number += 1;
    if (leaf_number == 6_000) return error.OutOfLeaves;
}

fn sameLeaf() !void {
    leaf_number = 0;
    if (!registry.prepare(place(0))) return error.NoMemory;
}

fn enterRecord(number: usize) void {
    if (!registry.prepare(place(number))) explorer.fail("no memory", .{});
    explorer.writeData(&records[number].content);
    records[number].content = 42 + number;
    registry.insert(place(number), &records[number]);
}

fn enterFirst() void {
    enterRecord(0);
}

fn enterSecond() void {
    enterRecord(1);
    const found = registry.find(Record, place(1) + 5) orelse explorer.fail("an entry is lost", .{});
    if (found != &records[1]) explorer.fail("another entry is found", .{});
}

fn enterAndLeave() void {
    enterRecord(0);
    registry.remove(place(0));
}

fn lookFor() void {
    for (0..2) |_| {
        const found = registry.find(Record, place(0) + geometry.superslab_bytes - 1) orelse continue;
        if (found != &records[0]) explorer.fail("found what was never entered", .{});
        explorer.readData(&found.content);
        if (found.content != 42) explorer.fail("a record before it was written", .{});
    }
}

fn leaveAll() !void {
    for (0..2) |number| {
        if (registry.find(Record, place(number)) != null) registry.remove(place(number));
    }
}

const readers: Scenario = .{
    .threads = &.{ enterAndLeave, lookFor, lookFor },
    .before = sameLeaf,
    .after = leaveAll,
    .preemptions = 4,
};

/// The leaf itself is new: two threads make room for it at once.
const leaf_makers: Scenario = .{
    .threads = &.{ enterFirst, enterSecond, lookFor },
    .before = nextLeaf,
    .after = leaveAll,
    .preemptions = 2,
};

test "interleave: registry, a reader finds the whole record or none" {
    try explorer.explore(readers, .{ .schedules_min = 10_000 });
}

test "interleave: registry, two threads make the leaf for their records at once" {
    try explorer.explore(leaf_makers, .{ .schedules_min = 500 });
}

test "interleave: registry, planted: an insert that does not release" {
    try expectStart("a race", try explorer.expectFound(readers.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .store and step.value == @intFromPtr(&records[0])) .weakened else null;
        }
    }.planted)));
}

test "interleave: registry, planted: a find that does not acquire" {
    try expectStart("a race", try explorer.expectFound(readers.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .load and step.bytes == 8) .weakened else null;
        }
    }.planted)));
}

test "interleave: registry, planted: a key published before its record" {
    try expectStart("found what was never entered", try explorer.expectFound(readers.with(struct {
        fn planted(step: Step) ?Defect {
            // The entry is something else for a moment.
            if (step.kind != .store or step.value != @intFromPtr(&records[0])) return null;
            return .{ .passes = @intFromPtr(&records[1]) };
        }
    }.planted)));
}

test "interleave: registry, planted: leaves made without the lock" {
    _ = try explorer.expectFound(leaf_makers.with(struct {
        fn planted(step: Step) ?Defect {
            const lock = @intFromPtr(&registry.locks()[0].state);
            return if (step.kind == .exchange and step.address == lock) .dropped else null;
        }
    }.planted));
}

// The page map: slabs begin and end beside a slab whose blocks another thread uses.

/// Of a slab each of its own: one granule, few blocks.
const class: size_class.Class = size_class.of(1024);
const other_class: size_class.Class = size_class.of(512);
var lasting: [1]usize = undefined;
var foreign: usize = undefined;

/// 1 when a block is out for the other thread to see, 2 when it has seen it.
var handed: explorer.Value(u32) = .init(0);
var handed_block: usize = 0;

fn beginBoth() !void {
    handed = .init(0);
    foreign = @intFromPtr(&lasting);
    if (!page_map.start()) return error.NoMemory;
    if (central.take(other_class, &lasting, 1).blocks != 1) return error.NoMemory;
}

fn endBoth() !void {
    central.giveBack(other_class, &lasting, .end);
    central.verify();
    superslab.verify();
    try std.testing.expectEqual(0, superslab.count().used_granules);
}

/// A slab begins and ends, and its entry is the class while a block is out.
fn beginAndEnd() void {
    var blocks: [2]usize = undefined;
    const taken = central.take(class, &blocks, 2).blocks;
    if (taken == 0) explorer.fail("no memory", .{});
    handed_block = blocks[0];
    handed.store(1, .release);
    explorer.waitFor(&handed, 2);
    central.giveBack(class, blocks[0..taken], .end);
}

fn useNeighbour() void {
    if (page_map.entry(foreign) != 0) explorer.fail("a foreign address with a class", .{});
    explorer.waitFor(&handed, 1);
    if (page_map.entry(handed_block) != class) explorer.fail("a block without its class", .{});
    handed.store(2, .release);
    if (page_map.entry(lasting[0]) != other_class) explorer.fail("a live block without its class", .{});
    if (heap.usableBytes(@ptrFromInt(lasting[0])) != 512) explorer.fail("a live block of another size", .{});
}

/// The other thread's slab begins and ends as well, in the granule beside.
fn beginAndEndBeside() void {
    var blocks: [1]usize = undefined;
    if (central.take(size_class.of(768), &blocks, 1).blocks != 1) explorer.fail("no memory", .{});
    if (page_map.entry(blocks[0]) != size_class.of(768)) explorer.fail("a block without its class", .{});
    central.giveBack(size_class.of(768), &blocks, .end);
}

const neighbours: Scenario = .{
    .threads = &.{ beginAndEnd, beginAndEndBeside, useNeighbour },
    .before = beginBoth,
    .after = endBoth,
    .preemptions = 2,
};

fn isEntry(step: Step) bool {
    return step.kind == .store and step.bytes == 1 and step.value <= size_class.count + 2 and
        step.address -% page_map.view().origin -% page_map.view().first < page_map.view().count;
}

test "interleave: page map, slabs begin and end beside a slab in use" {
    try explorer.explore(neighbours, .{ .schedules_min = 1_000 });
}

test "interleave: page map, planted: entries written eight at a time" {
    _ = try explorer.expectFound(neighbours.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isEntry(step)) .wide else null;
        }
    }.planted));
}

test "interleave: page map, planted: an entry written after the block is out" {
    _ = try explorer.expectFound(neighbours.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isEntry(step) and step.value != 0) .{ .late = 5 } else null;
        }
    }.planted));
}

test "interleave: page map, planted: an entry cleared after the granule is another's" {
    _ = try explorer.expectFound(neighbours.with(struct {
        fn planted(step: Step) ?Defect {
            return if (isEntry(step) and step.value == 0) .{ .late = 12 } else null;
        }
    }.planted));
}

// The page heap gives memory back outside its lock, which two threads may do at once.

fn useLarge() void {
    // The third lies in another superslab.
    var blocks: [3]*anyopaque = undefined;
    for (&blocks) |*block| {
        block.* = heap.allocate(geometry.large_bytes_max) orelse explorer.fail("no memory", .{});
        @as(*usize, @ptrCast(@alignCast(block.*))).* = @intFromPtr(block.*);
    }
    for (blocks) |block| {
        if (@as(*usize, @ptrCast(@alignCast(block))).* != @intFromPtr(block)) {
            explorer.fail("a live block was given back", .{});
        }
        heap.free(block);
    }
}

fn purge() void {
    _ = superslab.purge();
}

fn nothingLeft() !void {
    _ = superslab.purge();
    superslab.verify();
    try std.testing.expectEqual(0, superslab.count().mapped);
    try std.testing.expectEqual(0, superslab.count().dirty_granules);
}

fn enterHeap() !void {
    // Blocks of this size need a heap, which the first of a thread would make.
    heap.free(heap.allocate(1) orelse return error.NoMemory);
    heap.flushMagazines();
}

const settling: Scenario = .{
    .threads = &.{ useLarge, purge },
    .before = enterHeap,
    .after = nothingLeft,
    .preemptions = 2,
};

const settling_thrice: Scenario = .{
    .threads = &.{ useLarge, purge, purge },
    .before = enterHeap,
    .after = nothingLeft,
    .preemptions = 1,
};

test "interleave: page heap, superslabs are unmapped and purged by several threads at once" {
    try explorer.explore(settling, .{ .schedules_min = 2_000 });
    try explorer.explore(settling_thrice, .{ .schedules_min = 500 });
}

test "interleave: page heap, planted: its lock taken in two steps" {
    var twice = settling_thrice;
    twice.preemptions = 2;
    _ = try explorer.expectFound(twice.with(struct {
        fn planted(step: Step) ?Defect {
            const lock = @intFromPtr(&superslab.locks()[0].state);
            return if (step.kind == .exchange and step.address == lock) .torn else null;
        }
    }.planted));
}
