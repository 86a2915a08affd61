//! Address space from the system, and what the system would not take back.
//!
//! The kernel refuses to unmap the middle of a mapping when the process has as many mappings as it may. Such a range
//! is kept here: its pages go back, neighbours are joined, and it is handed out again before the system is asked, for
//! blocks of whatever size. From then on everything that is given back is kept, until `retry` has unmapped it all: at
//! that limit the kernel maps nothing new, so that what it takes could not be had again.
//!
//! A range that cannot be made writable as a whole (a program may have changed a part of its block) is only retried,
//! never handed out.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const cost = @import("../platform/cost.zig");
const os = @import("../platform/os.zig");
const metadata = @import("metadata.zig");
const Lock = @import("../platform/lock.zig").Lock;
const assert = std.debug.assert;

pub const Mapping = struct {
    address: usize,
    /// It reads as zero.
    zeroed: bool,
};

const Kept = struct {
    /// The next range above.
    next: ?*Kept,
    address: usize,
    bytes: usize,
    state: State,
};

const State = enum {
    zeroed,
    /// The system would not take the pages back either, as with locked ones.
    dirty,
    /// Not all of it can be written.
    unusable,
};

var lock: Lock = .{};
/// By address; neighbours of one state are one.
var kept: ?*Kept = null;
var kept_bytes: usize = 0;

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// Address space that the system would not take back and that nobody uses.
pub fn keptBytes() usize {
    lock.lock();
    defer lock.unlock();
    return kept_bytes;
}

/// `bytes` of writable memory at a multiple of `alignment`, a power of two and at least a page; at `hint` if that
/// place is free. Null when the system refuses.
pub fn map(bytes: usize, alignment: usize, hint: usize) ?Mapping {
    assert(std.math.isPowerOfTwo(alignment));
    if (takeKept(bytes, alignment)) |found| return found;
    const first = os.map(bytes, .read_write, hint) orelse return null;
    if (first & (alignment - 1) == 0) return .{ .address = first, .zeroed = true };
    unmap(first, bytes);

    // The place just below is likely free, and then no more address space is needed than the mapping itself.
    const below = os.map(bytes, .read_write, first & ~(alignment - 1)) orelse return null;
    if (below & (alignment - 1) == 0) return .{ .address = below, .zeroed = true };
    unmap(below, bytes);

    const padded, const overflow = @addWithOverflow(bytes, alignment);
    if (overflow != 0) return null;
    const start = os.map(padded, .read_write, 0) orelse return null;
    const aligned = std.mem.alignForward(usize, start, alignment);
    if (aligned != start) unmap(start, aligned - start);
    const end = aligned + bytes;
    if (end != start + padded) unmap(end, start + padded - end);
    return .{ .address = aligned, .zeroed = true };
}

/// Takes back memory that served. Its pages go back to the system in any case but where they are locked.
pub fn giveBack(address: usize, bytes: usize) void {
    if (keptBytes() == 0) unmap(address, bytes) else keep(address, bytes);
}

/// Takes back memory that nobody has used yet, or that is to be no longer kept.
pub fn unmap(address: usize, bytes: usize) void {
    if (!os.unmap(address, bytes)) keep(address, bytes);
}

fn keep(address: usize, bytes: usize) void {
    const state: State = if (!os.makeWritable(address, bytes))
        .unusable
    else if (os.release(address, bytes))
        .zeroed
    else
        .dirty;
    lock.lock();
    defer lock.unlock();
    insert(address, bytes, state);
}

/// Tries again to unmap what the system would not take.
pub fn retry() void {
    lock.lock();
    var list = kept;
    kept = null;
    kept_bytes = 0;
    lock.unlock();
    while (list) |range| {
        list = range.next;
        const address, const bytes = .{ range.address, range.bytes };
        giveRecord(range);
        unmap(address, bytes);
    }
}

/// Cuts the wanted piece out of the smallest range that holds it.
fn takeKept(bytes: usize, alignment: usize) ?Mapping {
    lock.lock();
    defer lock.unlock();
    var best: ?*?*Kept = null;
    var link = &kept;
    while (link.*) |range| : (link = &range.next) {
        if (range.state == .unusable or !holds(range, bytes, alignment)) continue;
        if (best == null or range.bytes < best.?.*.?.bytes) best = link;
    }
    const found = best orelse return null;
    const range = found.*.?;
    const address = std.mem.alignForward(usize, range.address, alignment);
    const end = range.address + range.bytes;
    if (address != range.address and address + bytes != end) {
        // What is left is two ranges.
        const above: *Kept = @ptrCast(metadata.allocate(@sizeOf(Kept)) orelse return null);
        above.* = .{ .next = range.next, .address = address + bytes, .bytes = end - address - bytes, .state = range.state };
        range.next = above;
        range.bytes = address - range.address;
    } else if (address != range.address) {
        range.bytes -= bytes;
    } else {
        range.address += bytes;
        range.bytes -= bytes;
    }
    const zeroed = range.state == .zeroed;
    if (range.bytes == 0) {
        found.* = range.next;
        giveRecord(range);
    }
    cost.wrote(&kept_bytes);
    kept_bytes -= bytes;
    return .{ .address = address, .zeroed = zeroed };
}

fn holds(range: *const Kept, bytes: usize, alignment: usize) bool {
    const padding = std.mem.alignForward(usize, range.address, alignment) - range.address;
    return padding <= range.bytes and bytes <= range.bytes - padding;
}

/// Enters a range and joins it with its neighbours. Without memory for a record it is lost: address space, no pages.
fn insert(address: usize, bytes: usize, state: State) void {
    cost.wrote(&kept_bytes);
    var below: ?*Kept = null;
    var above = kept;
    while (above) |range| : (above = range.next) {
        if (range.address > address) break;
        below = range;
    }
    if (below) |range| {
        if (range.state == state and range.address + range.bytes == address) {
            range.bytes += bytes;
            kept_bytes += bytes;
            joinNext(range);
            return;
        }
    }
    const range: *Kept = @ptrCast(metadata.allocate(@sizeOf(Kept)) orelse return);
    range.* = .{ .next = above, .address = address, .bytes = bytes, .state = state };
    if (below) |lower| lower.next = range else kept = range;
    kept_bytes += bytes;
    joinNext(range);
}

fn joinNext(range: *Kept) void {
    const next = range.next orelse return;
    if (next.state != range.state or range.address + range.bytes != next.address) return;
    range.bytes += next.bytes;
    range.next = next.next;
    giveRecord(next);
}

fn giveRecord(range: *Kept) void {
    metadata.free(@ptrCast(@alignCast(range)), @sizeOf(Kept));
}

const mebi = 1 << 20;

test "space: mappings are aligned, zeroed and as long as asked" {
    for ([_]usize{ 1 << 16, 1 << 21, 1 << 24, 1 << 30 }) |alignment| {
        const mapping = map(3 << 16, alignment, 0).?;
        try std.testing.expectEqual(0, mapping.address % alignment);
        const memory: [*]u8 = @ptrFromInt(mapping.address);
        for (memory[0 .. 3 << 16]) |byte| if (byte != 0) return error.NotZero;
        memory[(3 << 16) - 1] = 1;
        unmap(mapping.address, 3 << 16);
    }
    try std.testing.expectEqual(0, keptBytes());
}

test "space: what the system would not take is joined, and handed out again in other sizes" {
    defer os.refusal = .{};
    retry();
    const base = map(12 * mebi, 2 * mebi, 0).?.address;
    const memory: [*]u8 = @ptrFromInt(base);
    @memset(memory[0 .. 12 * mebi], 0xaa);
    // In pieces, out of order; only the unmapping is refused.
    for ([_]usize{ 4, 0, 8, 2, 10, 6 }) |at| {
        os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
        unmap(base + at * mebi, 2 * mebi);
    }
    os.refusal = .{};
    try std.testing.expectEqual(12 * mebi, keptBytes());
    try std.testing.expectEqual(null, kept.?.next);

    // From the middle, as alignment wants it; then what is left on both sides.
    const aligned = map(2 * mebi, 4 * mebi, 0).?;
    try std.testing.expect(aligned.zeroed);
    try std.testing.expectEqual(0, @as(*u64, @ptrFromInt(aligned.address)).*);
    try std.testing.expect(aligned.address >= base and aligned.address + 2 * mebi <= base + 12 * mebi);
    try std.testing.expectEqual(10 * mebi, keptBytes());
    var count: usize = 0;
    while (keptBytes() > 0) : (count += 1) {
        const piece = map(1 * mebi, 4096, 0).?;
        try std.testing.expect(piece.zeroed and piece.address >= base and piece.address < base + 12 * mebi);
        // The patterns of two pieces never meet.
        const words: [*]u64 = @ptrFromInt(piece.address);
        try std.testing.expectEqual(0, words[0] | words[mebi / 8 - 1]);
        words[0] = piece.address;
        words[mebi / 8 - 1] = piece.address;
    }
    try std.testing.expectEqual(10, count);

    // Once a piece is kept, the others are too, and join it, though the system would take them.
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    giveBack(base + 4 * mebi, 2 * mebi);
    os.refusal = .{};
    giveBack(base, 4 * mebi);
    giveBack(base + 6 * mebi, 6 * mebi);
    try std.testing.expectEqual(12 * mebi, keptBytes());
    try std.testing.expectEqual(base, map(12 * mebi, 2 * mebi, 0).?.address);
    giveBack(base, 12 * mebi);
    try std.testing.expectEqual(0, keptBytes());
}

test "space: pages that stay are not taken for zeroed, and a range that stays read-only is not handed out" {
    defer os.refusal = .{};
    retry();
    // Unmapping and release are refused, in that order, with making writable in between.
    const dirty = map(2 * mebi, 2 * mebi, 0).?.address;
    @as(*u64, @ptrFromInt(dirty)).* = 42;
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize), .spared = .init(.{ .make_writable = true }) };
    unmap(dirty, 2 * mebi);
    os.refusal = .{};
    const again = map(2 * mebi, 2 * mebi, 0).?;
    try std.testing.expectEqual(dirty, again.address);
    try std.testing.expect(!again.zeroed);
    try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(dirty)).*);

    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    unmap(dirty, 2 * mebi);
    os.refusal = .{};
    try std.testing.expectEqual(2 * mebi, keptBytes());
    const other = map(2 * mebi, 2 * mebi, 0).?;
    try std.testing.expect(other.address != dirty);
    unmap(other.address, 2 * mebi);
    retry();
    try std.testing.expectEqual(0, keptBytes());
    const where = os.map(2 * mebi, .none, dirty).?;
    try std.testing.expectEqual(dirty, where);
    try std.testing.expect(os.unmap(where, 2 * mebi));
}
