//! Huge blocks, above 1 MiB or aligned to more than 64 KiB: a mapping of its own each, at a multiple of 2 MiB,
//! in whole granules so that nothing else can lie in a granule of ours.
//!
//! Growing first tries the place where the block lies, then moves its pages into aligned space mapped for it:
//! nothing is copied. A block fresh from the OS reads as zero.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const cost = @import("../platform/cost.zig");
const os = @import("../platform/os.zig");
const metadata = @import("metadata.zig");
const page_map = @import("page_map.zig");
const registry = @import("registry.zig");
const space = @import("space.zig");
const Lock = @import("../platform/lock.zig").Lock;
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const assert = std.debug.assert;

const Record = struct {
    address: usize,
    bytes: usize,
};

pub const Counts = struct {
    blocks: usize = 0,
    bytes: usize = 0,
};

var lock: Lock = .{};
var counts: Counts = .{};

pub fn locks() [1]*Lock {
    return .{&lock};
}

pub fn count() Counts {
    lock.lock();
    defer lock.unlock();
    return counts;
}

/// Null when the OS refuses, or when rounding `bytes` up goes past the address space.
pub fn allocate(bytes: usize, alignment: usize) ?space.Mapping {
    const mapped = roundUp(bytes) orelse return null;
    const record: *Record = @ptrCast(metadata.allocate(@sizeOf(Record)) orelse return null);
    const mapping = mapOurs(mapped, alignment) orelse {
        giveRecord(record);
        return null;
    };
    record.* = .{ .address = mapping.address, .bytes = mapped };
    enter(record);
    lock.lock();
    defer lock.unlock();
    cost.wrote(&counts);
    counts.blocks += 1;
    counts.bytes += mapped;
    return mapping;
}

pub fn free(address: usize) void {
    const record = recordOf(address);
    leave(record);
    lock.lock();
    cost.wrote(&counts);
    counts.blocks -= 1;
    counts.bytes -= record.bytes;
    lock.unlock();
    const bytes = record.bytes;
    giveRecord(record);
    space.giveBack(address, bytes);
}

/// The bytes of the block that starts at `start`, for a caller who does not own it and whose figure may be of a moment
/// ago: records are never unmapped. Null where there is none.
pub fn peekBytes(start: usize) ?usize {
    const record = registry.find(Record, start) orelse return null;
    return if (record.address == start) record.bytes else null;
}

pub fn usableBytes(address: usize) usize {
    return recordOf(address).bytes;
}

/// Makes the block hold `bytes`, without copying. Returns where it lies then; null when that cannot be had,
/// and the block is as it was.
pub fn resize(address: usize, bytes: usize) ?usize {
    const record = recordOf(address);
    const mapped = roundUp(bytes) orelse return null;
    const before = record.bytes;
    if (mapped == before) return address;
    switch (os.resizeInPlace(address, before, mapped)) {
        .done => {
            setBytes(record, mapped);
            return address;
        },
        .no_room => if (mapped < before) {
            // The kernel would not cut the mapping. The pages go all the same.
            _ = os.release(address + mapped, before - mapped);
            return address;
        },
        // The program changed the protection or the advice of a part: it cannot be moved as one.
        .not_one_mapping => return if (mapped < before) address else null,
    }

    // The target is writable, so that its memory is accounted for and the move needs no more.
    const target = (mapOurs(mapped, geometry.superslab_bytes) orelse return null).address;
    leave(record);
    if (!os.move(address, before, target, mapped)) {
        if (!canary.is(.move_forgets)) enter(record);
        os.takeTargetAgain(target, mapped);
        space.unmap(target, mapped);
        return null;
    }
    record.address = target;
    enter(record);
    setBytes(record, mapped);
    return target;
}

fn setBytes(record: *Record, bytes: usize) void {
    lock.lock();
    defer lock.unlock();
    cost.wrote(&counts);
    counts.bytes = counts.bytes - record.bytes + bytes;
    record.bytes = bytes;
}

/// Aligned space whose first granule the page map and the registry have room for.
fn mapOurs(bytes: usize, alignment: usize) ?space.Mapping {
    const mapping = space.map(bytes, @max(alignment, geometry.superslab_bytes), 0) orelse return null;
    if (page_map.register(mapping.address, geometry.granule_bytes) and registry.prepare(mapping.address)) return mapping;
    space.unmap(mapping.address, bytes);
    return null;
}

fn enter(record: *Record) void {
    registry.insert(record.address, record);
    page_map.write(record.address, 1, page_map.huge);
}

fn leave(record: *Record) void {
    page_map.write(record.address, 1, 0);
    registry.remove(record.address);
}

fn recordOf(address: usize) *Record {
    const record = registry.find(Record, address).?;
    if (address != record.address) fatal.misuse(.{
        .kind = .interior_pointer,
        .address = address,
        .block_bytes = record.bytes,
        .offset = @intCast(address - record.address),
        .state = .in_use,
    });
    return record;
}

fn giveRecord(record: *Record) void {
    metadata.free(@ptrCast(@alignCast(record)), @sizeOf(Record));
}

fn roundUp(bytes: usize) ?usize {
    if (bytes > geometry.request_bytes_max) return null;
    return @max(geometry.granule_bytes, std.mem.alignForward(usize, bytes, geometry.granule_bytes));
}

test "huge: blocks are aligned, zero, keep their contents when they grow, and go back" {
    try std.testing.expect(page_map.start());
    const before = count();
    var address = allocate(3 << 20, 16 << 20).?.address;
    try std.testing.expectEqual(0, address % (16 << 20));
    var bytes: usize = 3 << 20;
    while (bytes < 400 << 20) {
        const memory: [*]u64 = @ptrFromInt(address);
        memory[bytes / 8 - 1] = bytes;
        memory[0] = bytes;
        const grown = bytes * 2 - 70_000;
        address = resize(address, grown).?;
        try std.testing.expectEqual(0, address % geometry.superslab_bytes);
        const moved: [*]u64 = @ptrFromInt(address);
        try std.testing.expectEqual(bytes, moved[0]);
        try std.testing.expectEqual(bytes, moved[bytes / 8 - 1]);
        try std.testing.expectEqual(0, moved[grown / 8 - 1]);
        bytes = grown;
    }
    address = resize(address, 2 << 20).?;
    try std.testing.expectEqual(2 << 20, usableBytes(address));
    free(address);
    try std.testing.expectEqual(before.blocks, count().blocks);
    try std.testing.expectEqual(before.bytes, count().bytes);
}

test "huge: a block of which the program changed a part cannot be moved as one, and nothing is left behind" {
    try std.testing.expect(page_map.start());
    const address = allocate(4 << 20, 1).?.address;
    os.smallPages(address + (1 << 20), 1 << 20);
    @as(*u64, @ptrFromInt(address)).* = 42;
    for (0..4096) |_| try std.testing.expectEqual(null, resize(address, 1 << 35));
    // Were the target of each try left behind, this half of the address space would not be free.
    const half = os.map(1 << 46, .none, 0).?;
    try std.testing.expect(os.unmap(half, 1 << 46));
    try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(address)).*);
    free(address);
}

test "huge: a refused call leaves null or the block as it was; a refused unmap is made up for later" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    const other = allocate(2 << 20, 1).?.address;
    defer free(other);
    for (1..6) |number| {
        os.refusal = .{ .refuse_from = number, .refuse_count = 100 };
        const block = allocate(5 << 20, 1);
        os.refusal = .{};
        if (block) |mapping| free(mapping.address);
    }
    const address = allocate(2 << 20, 1).?.address;
    @as(*u64, @ptrFromInt(address)).* = 42;
    for (1..4) |number| {
        os.refusal = .{ .refuse_from = number, .refuse_count = 100 };
        const grown = resize(address, 1 << 40);
        os.refusal = .{};
        try std.testing.expectEqual(null, grown);
        try std.testing.expectEqual(2 << 20, usableBytes(address));
        try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(address)).*);
    }
    // A shrink that the kernel refuses leaves the block as long as it was, and the pages go.
    const memory: [*]u8 = @ptrFromInt(address);
    memory[(2 << 20) - 1] = 1;
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    try std.testing.expectEqual(address, resize(address, 1 << 20).?);
    os.refusal = .{};
    try std.testing.expectEqual(2 << 20, usableBytes(address));
    try std.testing.expectEqual(0, memory[(2 << 20) - 1]);
    // What cannot be unmapped serves the next block, zeroed.
    space.retry();
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    free(address);
    os.refusal = .{};
    try std.testing.expectEqual(2 << 20, space.keptBytes());
    const again = allocate(2 << 20, 1).?;
    try std.testing.expectEqual(address, again.address);
    try std.testing.expect(again.zeroed);
    try std.testing.expectEqual(0, memory[0]);
    try std.testing.expectEqual(0, space.keptBytes());
    free(address);
    try std.testing.expectEqual(0, space.keptBytes());
}
