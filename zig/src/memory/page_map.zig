//! From an address to the kind of memory that lies there: one byte for each 64 KiB granule.
//!
//! The byte is a size class for the granules of a slab, `large` or `huge` for the first granule of such a
//! block, and 0 for everything else, so a pointer that is not ours is recognised without being followed.
//!
//! The map covers the whole user address space: 2 GiB of address space (4 GiB on aarch64), mapped read-only,
//! of which only the parts that are written cost memory. A piece becomes writable when memory in its reach
//! is first registered, so the map neither counts in strict overcommit nor grows under mlockall.
//! Where address space is limited (`ulimit -v`), a window around the place where the kernel puts new mappings is
//! covered instead, many times as wide as the limit; memory outside the window is refused by `register`.
//!
//! Entries are written by whoever owns the memory at that moment (a class under its lock, or the thread that makes or
//! frees a large or huge block), and read without a lock: a reader holds a live block of the granule, whose entry
//! cannot change before that block is freed.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const atomic = @import("../platform/atomic.zig");
const os = @import("../platform/os.zig");
const Lock = @import("../platform/lock.zig").Lock;
const assert = std.debug.assert;

/// Entries are 0, the size classes, and these.
pub const large: u8 = size_class.count + 1;
pub const huge: u8 = size_class.count + 2;
pub const entry_count = size_class.count + 3;

/// What the fast path needs, copied into every heap: the entry of granule number g lies at `origin + g`, if
/// g less `first` is below `count`.
pub const View = extern struct {
    /// Where the entry of granule 0 would lie. A number, not a pointer: it may wrap where `first` is large.
    origin: usize,
    first: usize,
    count: usize,

    pub inline fn covers(self: *const View, address: usize) bool {
        return (address >> geometry.granule_shift) -% self.first < self.count;
    }

    pub inline fn coveredEntry(self: *const View, address: usize) u8 {
        const granule = address >> geometry.granule_shift;
        // Partner: the store in `write`.
        return atomic.load(u8, @as(*const u8, @ptrFromInt(self.origin +% granule)), .monotonic);
    }
};

/// The map becomes writable in pieces of this many bytes: a multiple of every page size.
const piece_bytes = 64 * 1024;
const piece_count_max = geometry.granule_count / piece_bytes;

/// A window covers at least this many times the address space that the process may have.
const window_factor = 16;

var current: View = .{ .origin = 0, .first = 0, .count = 0 };
var writable_pieces: [piece_count_max / 64]u64 = @splat(0);
var lock: Lock = .{};

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// Maps the map, the first time. False when the OS refuses even the smallest window. One thread at a time.
pub fn start() bool {
    if (current.count != 0) return true;
    var count = windowGranules(os.addressSpaceLimit());
    while (count >= piece_bytes) : (count /= 2) {
        const first = if (count == geometry.granule_count) 0 else windowFirst(count) orelse return false;
        const address = os.map(count, .read, 0) orelse continue;
        os.smallPages(address, count);
        current = .{
            .origin = address -% first,
            .first = first,
            .count = count,
        };
        return true;
    }
    return false;
}

/// How many granules to cover: all, unless the map would take a noticeable part of a limited address space.
fn windowGranules(limit_bytes: usize) usize {
    if (limit_bytes / 16 >= geometry.granule_count) return geometry.granule_count;
    const wanted = limit_bytes / geometry.granule_bytes * window_factor;
    return std.math.ceilPowerOfTwoAssert(usize, @max(wanted, piece_bytes));
}

/// The window that has the kernel's present choice for new mappings in its upper part, since mappings
/// grow downwards.
fn windowFirst(count: usize) ?usize {
    const probe = os.map(geometry.granule_bytes, .none, 0) orelse return null;
    _ = os.unmap(probe, geometry.granule_bytes);
    const granule = probe >> geometry.granule_shift;
    const above = count / 4;
    const end = @min(granule + above, geometry.granule_count);
    return end -| count;
}

pub fn view() View {
    return current;
}

/// The entry of any address whatever.
pub fn entry(address: usize) u8 {
    return if (current.covers(address)) current.coveredEntry(address) else 0;
}

/// Makes the entries of a range writable. False when the OS refuses or the range is out of the window.
pub fn register(address: usize, bytes: usize) bool {
    const granule = address >> geometry.granule_shift;
    const granules = (bytes + geometry.granule_bytes - 1) >> geometry.granule_shift;
    if (granule < current.first) return false;
    if (granule + granules > current.first + current.count) return false;

    const piece_first = (granule - current.first) / piece_bytes;
    const piece_last = (granule + granules - 1 - current.first) / piece_bytes;
    lock.lock();
    defer lock.unlock();
    for (piece_first..piece_last + 1) |piece| {
        const bit = @as(u64, 1) << @intCast(piece % 64);
        if (writable_pieces[piece / 64] & bit != 0) continue;
        const start_of_piece = current.origin +% current.first + piece * piece_bytes;
        if (!os.makeWritable(start_of_piece, piece_bytes)) return false;
        writable_pieces[piece / 64] |= bit;
    }
    return true;
}

/// Sets the entries of `granules` granules from `address`, which `register` has made writable.
pub fn write(address: usize, granules: usize, value: u8) void {
    const first = address >> geometry.granule_shift;
    assert(address & (geometry.granule_bytes - 1) == 0);
    assert(first >= current.first and first + granules <= current.first + current.count);
    for (first..first + granules) |granule| {
        const entry_of_granule: *u8 = @ptrFromInt(current.origin +% granule);
        // Partner: the load in `View.coveredEntry`.
        atomic.store(u8, entry_of_granule, value, .monotonic);
    }
}

/// The bytes of the map that may be resident because they were made writable.
pub fn writableBytes() usize {
    var pieces: usize = 0;
    for (writable_pieces) |word| pieces += @popCount(word);
    return pieces * piece_bytes;
}

test "page_map: every address has an entry, wild ones too, and windows refuse what lies outside" {
    try std.testing.expect(start());
    const block = os.mapAligned(geometry.superslab_bytes, geometry.superslab_bytes, .read_write, 0).?;
    defer _ = os.unmap(block, geometry.superslab_bytes);
    try std.testing.expect(register(block, geometry.superslab_bytes));
    write(block + geometry.granule_bytes, 2, 7);
    try std.testing.expectEqual(0, entry(block));
    try std.testing.expectEqual(7, entry(block + geometry.granule_bytes));
    try std.testing.expectEqual(7, entry(block + 3 * geometry.granule_bytes - 1));
    try std.testing.expectEqual(0, entry(block + 3 * geometry.granule_bytes));
    write(block + geometry.granule_bytes, 2, 0);
    for ([_]usize{ 0, 1, 1 << 47, 1 << 63, std.math.maxInt(usize), 0xffff_8000_0000_0000 }) |wild| {
        try std.testing.expectEqual(0, entry(wild));
    }
    try std.testing.expect(!register(std.math.maxInt(usize) - 4096, 4096));

    // The same code with a window: entries inside it work, everything outside has entry 0.
    const whole = current;
    defer current = whole;
    for ([_]usize{ 12 << 20, 300 << 20, 4 << 30, 31 << 30 }) |limit_bytes| {
        const count = windowGranules(limit_bytes);
        try std.testing.expect(count * geometry.granule_bytes >= limit_bytes * window_factor);
        try std.testing.expect(count <= @max(piece_bytes, limit_bytes / 1024));
        const first = windowFirst(count).?;
        const memory = os.map(count, .read_write, 0).?;
        defer _ = os.unmap(memory, count);
        current = .{ .origin = memory -% first, .first = first, .count = count };
        const granule = first + count / 2;
        write(granule << geometry.granule_shift, 1, 9);
        try std.testing.expectEqual(9, entry((granule << geometry.granule_shift) + 5));
        try std.testing.expectEqual(0, entry((first + count) << geometry.granule_shift));
        if (first > 0) try std.testing.expectEqual(0, entry((first << geometry.granule_shift) - 1));
    }
}
