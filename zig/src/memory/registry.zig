//! From an address to the record of the superslab or huge block that starts its 2 MiB: a table of two
//! levels, of which only the touched parts cost memory. Only slow paths come here.
//!
//! An entry is written before the page map says that the address is ours, and taken out after it says that
//! it is no longer, so whoever came by the page map finds it. Superslabs and huge blocks both start at a
//! multiple of 2 MiB, so no entry is ever asked for by two.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const atomic = @import("../platform/atomic.zig");
const cost = @import("../platform/cost.zig");
const process_limit = @import("process_limit.zig");
const Lock = @import("../platform/lock.zig").Lock;
const assert = std.debug.assert;

const leaf_shift = 13;
const leaf_entries = 1 << leaf_shift;
const Leaf = [leaf_entries]?*anyopaque;

var root: [geometry.superslab_number_count >> leaf_shift]?*Leaf = @splat(null);
var mapped_bytes: usize = 0;
var lock: Lock = .{};

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// Makes room for a record of the 2 MiB at `address`. False when the OS or the limit refuses memory for the table.
pub fn prepare(address: usize) bool {
    const number = address >> geometry.superslab_shift;
    lock.lock();
    defer lock.unlock();
    if (root[number >> leaf_shift] != null) return true;
    const memory = process_limit.map(@sizeOf(Leaf)) orelse return false;
    // Partner: the load in `mappedBytes`.
    _ = atomic.add(usize, &mapped_bytes, @sizeOf(Leaf), .monotonic);
    // Partner: the load in `find`.
    cost.wrote(&root[number >> leaf_shift]);
    atomic.store(?*Leaf, &root[number >> leaf_shift], @ptrFromInt(memory), .release);
    return true;
}

/// Enters a record for the 2 MiB at `address`, for which `prepare` has made room.
pub fn insert(address: usize, record: *anyopaque) void {
    const number = address >> geometry.superslab_shift;
    assert(address & (geometry.superslab_bytes - 1) == 0);
    // Partner: the store in `prepare`.
    const leaf = atomic.load(?*Leaf, &root[number >> leaf_shift], .acquire).?;
    assert(leaf[number & (leaf_entries - 1)] == null);
    // Partner: the load in `find`.
    cost.wrote(&leaf[number & (leaf_entries - 1)]);
    atomic.store(?*anyopaque, &leaf[number & (leaf_entries - 1)], record, .release);
}

pub fn remove(address: usize) void {
    const number = address >> geometry.superslab_shift;
    const leaf = root[number >> leaf_shift].?;
    assert(leaf[number & (leaf_entries - 1)] != null);
    // Partner: the load in `find`.
    cost.wrote(&leaf[number & (leaf_entries - 1)]);
    atomic.store(?*anyopaque, &leaf[number & (leaf_entries - 1)], null, .release);
}

/// The record of the 2 MiB that `address` lies in; null if none was entered.
pub inline fn find(comptime Record: type, address: usize) ?*Record {
    const part = partOf(address) orelse return null;
    return part.find(Record, address);
}

/// The part of the table that has the entry of `address`, for who asks again and again.
pub inline fn partOf(address: usize) ?Part {
    const number = address >> geometry.superslab_shift;
    // Partner: the store in `prepare`.
    const leaf = atomic.load(?*Leaf, &root[number >> leaf_shift], .acquire) orelse return null;
    return .{ .leaf = leaf, .first = number & ~@as(usize, leaf_entries - 1) };
}

pub const Part = struct {
    leaf: *const Leaf,
    first: usize,

    /// As `registry.find`, for addresses of this part; null for all others.
    pub inline fn find(part: Part, comptime Record: type, address: usize) ?*Record {
        const index = (address >> geometry.superslab_shift) -% part.first;
        if (index >= leaf_entries) return null;
        // Partners: the stores in `insert` and `remove`.
        const record = atomic.load(?*anyopaque, &part.leaf[index], .acquire);
        return @ptrCast(@alignCast(record orelse return null));
    }
};

pub fn mappedBytes() usize {
    // Partner: the addition in `prepare`.
    return atomic.load(usize, &mapped_bytes, .monotonic);
}

test "registry: entries are found by every address of their 2 MiB, and by no other" {
    var one: u64 = 1;
    var other: u64 = 2;
    const base: usize = 0x3ff0_0000_0000;
    try std.testing.expectEqual(null, find(u64, base));
    try std.testing.expect(prepare(base) and prepare(base + geometry.superslab_bytes));
    insert(base, &one);
    insert(base + geometry.superslab_bytes, &other);
    try std.testing.expectEqual(&one, find(u64, base + geometry.superslab_bytes - 1).?);
    try std.testing.expectEqual(&other, find(u64, base + geometry.superslab_bytes).?);
    remove(base);
    try std.testing.expectEqual(null, find(u64, base));
    remove(base + geometry.superslab_bytes);
}

test "registry: the last 2 MiB of every length of an address have a record of their own" {
    var records: [geometry.address_bits - geometry.superslab_shift]u64 = undefined;
    for (&records, geometry.superslab_shift + 1..) |*record, bits| {
        const last = (@as(usize, 1) << @intCast(bits)) - geometry.superslab_bytes;
        try std.testing.expectEqual(null, find(u64, last));
        try std.testing.expect(prepare(last));
        insert(last, record);
    }
    for (&records, geometry.superslab_shift + 1..) |*record, bits| {
        const last = (@as(usize, 1) << @intCast(bits)) - geometry.superslab_bytes;
        try std.testing.expectEqual(record, find(u64, last + geometry.superslab_bytes - 1).?);
        remove(last);
        try std.testing.expectEqual(null, find(u64, last));
    }
}
