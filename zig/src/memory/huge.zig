//! Huge blocks, above 1 MiB or aligned to more than 64 KiB: a mapping of its own each, at a multiple of 2 MiB,
//! in whole granules so that nothing else can lie in a granule of ours.
//!
//! Growing first tries the place where the block lies, then moves its pages into aligned space mapped for it:
//! nothing is copied. A block fresh from the OS reads as zero.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const os = @import("../platform/os.zig");
const metadata = @import("metadata.zig");
const page_map = @import("page_map.zig");
const registry = @import("registry.zig");
const Lock = @import("../platform/lock.zig").Lock;
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const assert = std.debug.assert;

const Record = struct {
    address: usize,
    bytes: usize,
    /// Links blocks whose unmapping the OS refused.
    next: ?*Record,
};

pub const Counts = struct {
    blocks: usize = 0,
    bytes: usize = 0,
    /// Address space of freed blocks that the OS would not unmap. It holds memory only if the OS would not take
    /// that either (locked pages).
    stuck_bytes: usize = 0,
};

var lock: Lock = .{};
var counts: Counts = .{};
var stuck: ?*Record = null;

pub fn locks() [1]*Lock {
    return .{&lock};
}

pub fn count() Counts {
    lock.lock();
    defer lock.unlock();
    return counts;
}

/// A zeroed block. Null when the OS refuses, or when rounding `bytes` up goes past the address space.
pub fn allocate(bytes: usize, alignment: usize) ?usize {
    const mapped = roundUp(bytes) orelse return null;
    const record: *Record = @ptrCast(metadata.allocate(@sizeOf(Record)) orelse return null);
    const address = mapOurs(mapped, alignment, .read_write) orelse {
        giveRecord(record);
        return null;
    };
    record.* = .{ .address = address, .bytes = mapped, .next = null };
    enter(record);
    lock.lock();
    defer lock.unlock();
    counts.blocks += 1;
    counts.bytes += mapped;
    return address;
}

pub fn free(address: usize) void {
    const record = recordOf(address);
    leave(record);
    lock.lock();
    counts.blocks -= 1;
    counts.bytes -= record.bytes;
    lock.unlock();
    if (os.unmap(record.address, record.bytes)) {
        giveRecord(record);
        return;
    }
    // The kernel refuses to split a mapping when there are too many; later there may be fewer.
    _ = os.release(record.address, record.bytes);
    lock.lock();
    defer lock.unlock();
    counts.stuck_bytes += record.bytes;
    record.next = stuck;
    stuck = record;
}

/// Tries again to unmap what the OS refused to.
pub fn purge() void {
    lock.lock();
    var list = stuck;
    stuck = null;
    counts.stuck_bytes = 0;
    lock.unlock();
    while (list) |record| {
        list = record.next;
        if (os.unmap(record.address, record.bytes)) {
            giveRecord(record);
            continue;
        }
        lock.lock();
        defer lock.unlock();
        counts.stuck_bytes += record.bytes;
        record.next = stuck;
        stuck = record;
    }
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
        .no_room => if (mapped < before) return address,
        // The program changed the protection or the advice of a part: it cannot be moved as one.
        .not_one_mapping => return if (mapped < before) address else null,
    }

    // The target is writable, so that its memory is accounted for and the move needs no more.
    const target = mapOurs(mapped, geometry.superslab_bytes, .read_write) orelse return null;
    leave(record);
    if (!os.move(address, before, target, mapped)) {
        if (!canary.is(.move_forgets)) enter(record);
        os.unmapIfOurs(target, mapped);
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
    counts.bytes = counts.bytes - record.bytes + bytes;
    record.bytes = bytes;
}

/// Aligned space whose first granule the page map and the registry have room for.
fn mapOurs(bytes: usize, alignment: usize, protection: os.Protection) ?usize {
    const address = os.mapAligned(
        bytes,
        @max(alignment, geometry.superslab_bytes),
        protection,
        0,
    ) orelse return null;
    if (page_map.register(address, geometry.granule_bytes) and registry.prepare(address)) return address;
    _ = os.unmap(address, bytes);
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
    var address = allocate(3 << 20, 16 << 20).?;
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
    const address = allocate(4 << 20, 1).?;
    os.smallPages(address + (1 << 20), 1 << 20);
    @as(*u64, @ptrFromInt(address)).* = 42;
    for (0..4096) |_| try std.testing.expectEqual(null, resize(address, 1 << 35));
    // Were the target of each try left behind, this half of the address space would not be free.
    const space = os.map(1 << 46, .none, 0).?;
    try std.testing.expect(os.unmap(space, 1 << 46));
    try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(address)).*);
    free(address);
}

test "huge: a refused call leaves null or the block as it was; a refused unmap is made up for later" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    const other = allocate(2 << 20, 1).?;
    defer free(other);
    for (1..6) |number| {
        os.refusal = .{ .refuse_from = number, .refuse_count = 100 };
        const block = allocate(5 << 20, 1);
        os.refusal = .{};
        if (block) |address| free(address);
    }
    const address = allocate(2 << 20, 1).?;
    @as(*u64, @ptrFromInt(address)).* = 42;
    for (1..4) |number| {
        os.refusal = .{ .refuse_from = number, .refuse_count = 100 };
        const grown = resize(address, 1 << 40);
        os.refusal = .{};
        try std.testing.expectEqual(null, grown);
        try std.testing.expectEqual(2 << 20, usableBytes(address));
        try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(address)).*);
    }
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    free(address);
    os.refusal = .{};
    try std.testing.expectEqual(2 << 20, count().stuck_bytes);
    purge();
    try std.testing.expectEqual(0, count().stuck_bytes);
}
