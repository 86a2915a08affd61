//! Memory for the allocator's own records: heaps, magazine arrays, descriptors.
//!
//! Pieces are powers of two from 64 bytes up, zeroed, aligned to 64, kept in free lists by size when given
//! back. They lie in mappings of their own, away from every block, so that a block's overflow does not reach
//! them. The first pieces come from a static area: a small process makes no mapping for its records.
//! Whole pages of a free piece go back, all but the one that its link is in: arrays of magazines are the larger pieces,
//! and outgrown ones would come to half of those in use.

const std = @import("std");
const cost = @import("../platform/cost.zig");
const os = @import("../platform/os.zig");
const geometry = @import("../numbers/geometry.zig");
const process_limit = @import("process_limit.zig");
const Lock = @import("../platform/lock.zig").Lock;
const assert = std.debug.assert;

const shift_min = 6;
const shift_max = 16;
const chunk_bytes = 256 * 1024;

pub const piece_bytes_max: usize = 1 << shift_max;

const FreePiece = struct { next: ?*FreePiece };

var first_chunk: [16 * 1024]u8 align(64) = @splat(0);
var cursor: usize = 0;
var end: usize = 0;
var free_lists: [shift_max + 1]?*FreePiece = @splat(null);
var mapped_bytes: usize = 0;
var lock: Lock = .{};

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// The bytes of a piece that serves `bytes`.
pub fn pieceBytes(bytes: usize) usize {
    assert(bytes <= piece_bytes_max);
    return @as(usize, 1) << shiftOf(bytes);
}

/// Zeroed memory of `pieceBytes(bytes)`. Null when the OS or the limit refuses.
pub fn allocate(bytes: usize) ?[*]align(64) u8 {
    const shift = shiftOf(bytes);
    const piece_bytes = @as(usize, 1) << shift;
    lock.lock();
    defer lock.unlock();
    if (free_lists[shift]) |piece| {
        cost.wrote(&free_lists[shift]);
        free_lists[shift] = piece.next;
        const memory: [*]align(64) u8 = @ptrCast(@alignCast(piece));
        const zero = zeroPart(@intFromPtr(piece), piece_bytes);
        @memset(memory[0..zero.start], 0);
        @memset(memory[zero.end..piece_bytes], 0);
        return memory;
    }
    if (cursor == 0) {
        cursor = @intFromPtr(&first_chunk);
        end = cursor + first_chunk.len;
    }
    if (cursor + piece_bytes > end) {
        const chunk = process_limit.map(chunk_bytes) orelse return null;
        mapped_bytes += chunk_bytes;
        keepRest();
        cursor = chunk;
        end = chunk + chunk_bytes;
    }
    cost.wrote(&cursor);
    defer cursor += piece_bytes;
    return @ptrFromInt(cursor);
}

/// Takes back what `allocate(bytes)` gave.
pub fn free(memory: [*]align(64) u8, bytes: usize) void {
    makeZero(@intFromPtr(memory), pieceBytes(bytes));
    lock.lock();
    defer lock.unlock();
    give(@intFromPtr(memory), shiftOf(bytes));
}

const Part = struct { start: usize, end: usize };

/// The part of a free piece that is zero: its whole pages behind the link. Of a piece in the static area, none.
fn zeroPart(address: usize, piece_bytes: usize) Part {
    const none: Part = .{ .start = piece_bytes, .end = piece_bytes };
    if (address -% @intFromPtr(&first_chunk) < first_chunk.len) return none;
    const page_bytes = os.pageBytes();
    if (piece_bytes < page_bytes) return none;
    const start = std.mem.alignForward(usize, address + @sizeOf(FreePiece), page_bytes) - address;
    const end_of_pages = std.mem.alignBackward(usize, address + piece_bytes, page_bytes) - address;
    return if (start < end_of_pages) .{ .start = start, .end = end_of_pages } else none;
}

fn makeZero(address: usize, piece_bytes: usize) void {
    const zero = zeroPart(address, piece_bytes);
    if (zero.start == zero.end) return;
    if (os.release(address + zero.start, zero.end - zero.start)) return;
    @memset(@as([*]u8, @ptrFromInt(address))[zero.start..zero.end], 0);
}

fn give(address: usize, shift: u6) void {
    const piece: *FreePiece = @ptrFromInt(address);
    cost.wrote(piece);
    cost.wrote(&free_lists[shift]);
    piece.next = free_lists[shift];
    free_lists[shift] = piece;
}

/// The rest of a chunk that is too small for the piece asked for serves smaller ones.
fn keepRest() void {
    while (cursor < end) {
        const shift: u6 = @intCast(@min(shift_max, 63 - @clz(end - cursor)));
        if (shift < shift_min) return;
        give(cursor, shift);
        cursor += @as(usize, 1) << shift;
    }
}

fn shiftOf(bytes: usize) u6 {
    assert(bytes > 0 and bytes <= piece_bytes_max);
    return @max(shift_min, @as(u6, @intCast(std.math.log2_int_ceil(usize, bytes))));
}

/// Bytes mapped for records, the static area apart.
pub fn mappedBytes() usize {
    lock.lock();
    defer lock.unlock();
    return mapped_bytes;
}

test "metadata: pieces are zeroed, aligned, apart from each other, and used again" {
    var pieces: [200][*]align(64) u8 = undefined;
    var random = std.Random.DefaultPrng.init(std.testing.random_seed);
    for (0..3) |_| {
        var sizes: [200]usize = undefined;
        for (&pieces, &sizes, 0..) |*piece, *size, number| {
            size.* = random.random().intRangeAtMost(usize, 1, 9000);
            piece.* = allocate(size.*).?;
            const memory = piece.*[0..pieceBytes(size.*)];
            for (memory) |byte| if (byte != 0) return error.NotZero;
            @memset(memory, @intCast(number));
        }
        for (pieces, sizes, 0..) |piece, size, number| {
            for (piece[0..pieceBytes(size)]) |byte| {
                if (byte != @as(u8, @intCast(number))) return error.Overlap;
            }
            free(piece, size);
        }
    }
}

test "metadata: a refused mapping gives null, and the next try succeeds" {
    defer os.refusal = .{};
    var held: [16][*]align(64) u8 = undefined;
    var count: usize = 0;
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    while (count < held.len) : (count += 1) held[count] = allocate(piece_bytes_max) orelse break;
    try std.testing.expect(count < held.len);
    os.refusal = .{};
    const after = allocate(piece_bytes_max).?;
    free(after, piece_bytes_max);
    for (held[0..count]) |piece| free(piece, piece_bytes_max);
}

test "metadata: a free piece keeps one page, and is zero again even where the system keeps the others" {
    defer os.refusal = .{};
    const bytes = piece_bytes_max;
    for ([_]usize{ 0, 1 }) |refuse_count| {
        // The second lies behind a piece of 64 bytes, so its ends are in pages that it shares.
        for ([_]bool{ false, true }) |behind_small| {
            const small = if (behind_small) allocate(64) else null;
            const piece = allocate(bytes).?;
            @memset(piece[0..bytes], 1);
            os.refusal = .{ .refuse_from = 1, .refuse_count = refuse_count };
            free(piece, bytes);
            os.refusal = .{};
            var resident: usize = 0;
            var page = std.mem.alignForward(usize, @intFromPtr(piece), os.pageBytes());
            while (page + os.pageBytes() <= @intFromPtr(piece) + bytes) : (page += os.pageBytes()) {
                resident += @intFromBool(os.isResident(page));
            }
            if (refuse_count == 0) try std.testing.expect(resident <= 1);
            const again = allocate(bytes).?;
            try std.testing.expectEqual(piece, again);
            for (again[0..bytes]) |byte| if (byte != 0) return error.NotZero;
            free(again, bytes);
            if (small) |present| free(present, 64);
        }
    }
}
