//! From an address to the kind of memory that lies there: one byte for each 64 KiB granule.
//!
//! The byte is a size class for the granules of a slab, `large` or `huge` for the first granule of such a
//! block, and 0 for everything else, so a pointer that is not ours is recognised without being followed.
//!
//! The map is made of windows: the first covers 1 TiB around the place where the kernel puts new mappings, for
//! 16 MiB of address space. Memory that lies elsewhere gets another window. Where address space is limited
//! (`ulimit -v`) windows are as much smaller, many times as wide as the limit; should the limit be raised later,
//! there will be more of them. Where windows overlap the older one counts, and the entries of the other stay 0.
//!
//! A window is mapped read-only. A piece of it becomes writable when memory in its reach is first registered, so
//! it neither counts in strict overcommit nor grows under mlockall, and costs memory only where it is written.
//!
//! Entries are written by whoever owns the memory at that moment (a class under its lock, or the thread that makes or
//! frees a large or huge block), and read without a lock: a reader holds a live block of the granule, whose entry
//! cannot change before that block is freed.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const atomic = @import("../platform/atomic.zig");
const cost = @import("../platform/cost.zig");
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

    /// Covers nothing.
    pub const none: View = .{ .origin = 0, .first = 0, .count = 0 };

    pub inline fn covers(self: *const View, address: usize) bool {
        return (address >> geometry.granule_shift) -% self.first < self.count;
    }

    pub inline fn coveredEntry(self: *const View, address: usize) u8 {
        const granule = address >> geometry.granule_shift;
        // Partner: the store in `write`.
        return atomic.load(u8, @as(*const u8, @ptrFromInt(self.origin +% granule)), .monotonic);
    }
};

/// Windows become writable in pieces of this many bytes, a multiple of every page size, and start and end at a
/// multiple of a piece.
const piece_bytes = 64 * 1024;
const piece_count_max = geometry.granule_count / piece_bytes;

/// A window covers 1 TiB, or at least this many times the address space that the process may have.
const window_granules_usual = 1 << (40 - geometry.granule_shift);
const window_factor = 16;
/// Each window is twice as wide as the one before, unless the OS refuses that: a few cover everything.
const windows_max = 64;

/// Written under the lock, once each, before `window_count` says that it is there.
var windows: [windows_max]View = undefined;
var window_count: atomic.Value(usize) = .init(0);
/// One bit for each piece of the address space, whichever window it is in.
var writable_pieces: [piece_count_max / 64]u64 = @splat(0);
var lock: Lock = .{};

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// Maps the first window, the first time. False when the OS refuses even the smallest. One thread at a time.
pub fn start() bool {
    if (window_count.load(.monotonic) != 0) return true;
    const probe = os.map(geometry.granule_bytes, .none, 0) orelse return false;
    _ = os.unmap(probe, geometry.granule_bytes);
    lock.lock();
    defer lock.unlock();
    return addWindow(probe >> geometry.granule_shift);
}

/// Adds a window that covers a granule. The caller holds the lock.
fn addWindow(granule: usize) bool {
    const number = window_count.load(.monotonic);
    if (number == windows_max or granule >= geometry.granule_count) return false;
    const wider = if (number == 0) 0 else windows[number - 1].count * 2;
    var count = @min(@max(windowGranules(os.addressSpaceLimit()), wider), geometry.granule_count);
    while (count >= piece_bytes) : (count /= 2) {
        const address = os.map(count, .read, 0) orelse continue;
        os.smallPages(address, count);
        const first = windowFirst(granule, count);
        windows[number] = .{ .origin = address -% first, .first = first, .count = count };
        // Partner: the load in `windowOf`.
        window_count.store(number + 1, .release);
        return true;
    }
    return false;
}

/// How many granules a new window covers: the usual number, unless it would take a noticeable part of a limited
/// address space.
fn windowGranules(limit_bytes: usize) usize {
    const wanted = limit_bytes / geometry.granule_bytes *| window_factor;
    if (wanted >= window_granules_usual) return window_granules_usual;
    return std.math.ceilPowerOfTwoAssert(usize, @max(wanted, piece_bytes));
}

/// Where a window of `count` granules starts that has `granule` in its upper part, since mappings grow downwards.
fn windowFirst(granule: usize, count: usize) usize {
    const end = std.mem.alignForward(usize, granule + count / 4, piece_bytes);
    return @min(end, geometry.granule_count) -| count;
}

/// The window whose entry counts for an address.
fn windowOf(address: usize) ?*const View {
    // Partner: the store in `addWindow`.
    for (windows[0..window_count.load(.acquire)]) |*window| {
        if (window.covers(address)) return window;
    }
    return null;
}

/// The first window: what a new heap looks at.
pub fn view() View {
    // Partner: the store in `addWindow`.
    return if (window_count.load(.acquire) == 0) .none else windows[0];
}

/// The window to look at for a block at `address`.
pub fn viewOf(address: usize) View {
    return if (windowOf(address)) |window| window.* else .none;
}

/// The entry of any address whatever.
pub fn entry(address: usize) u8 {
    return if (windowOf(address)) |window| window.coveredEntry(address) else 0;
}

/// Makes the entries of a range writable. False when the OS refuses or the range ends above every user address.
pub fn register(address: usize, bytes: usize) bool {
    const granule = address >> geometry.granule_shift;
    const granules = (bytes + geometry.granule_bytes - 1) >> geometry.granule_shift;
    if (granule + granules > geometry.granule_count) return false;
    if (window_count.load(.monotonic) == 0) return false;

    lock.lock();
    defer lock.unlock();
    for (granule / piece_bytes..(granule + granules - 1) / piece_bytes + 1) |piece| {
        const bit = @as(u64, 1) << @intCast(piece % 64);
        if (writable_pieces[piece / 64] & bit != 0) continue;
        const first = piece * piece_bytes << geometry.granule_shift;
        if (windowOf(first) == null and !addWindow(piece * piece_bytes)) return false;
        if (!os.makeWritable(windowOf(first).?.origin +% piece * piece_bytes, piece_bytes)) return false;
        cost.wrote(&writable_pieces[piece / 64]);
        writable_pieces[piece / 64] |= bit;
    }
    return true;
}

/// Sets the entries of `granules` granules of one superslab from `address`, which `register` has made writable.
pub fn write(address: usize, granules: usize, value: u8) void {
    const first = address >> geometry.granule_shift;
    assert(address & (geometry.granule_bytes - 1) == 0);
    // A superslab never lies across the end of a piece, so never across that of a window.
    const window = windowOf(address).?;
    for (first..first + granules) |granule| {
        const entry_of_granule: *u8 = @ptrFromInt(window.origin +% granule);
        // Partner: the load in `View.coveredEntry`.
        cost.wrote(entry_of_granule);
        atomic.store(u8, entry_of_granule, value, .monotonic);
    }
}

/// The bytes of the map that may be resident because they were made writable.
pub fn writableBytes() usize {
    var pieces: usize = 0;
    for (writable_pieces) |word| pieces += @popCount(word);
    return pieces * piece_bytes;
}

test "page_map: every address has an entry, wild ones too" {
    try std.testing.expect(start());
    // Nothing need be mapped there.
    const block = windows[0].first + windows[0].count / 2 << geometry.granule_shift;
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
}

test "page_map: a window is many times as wide as a limit, and has the address in its upper part" {
    for ([_]usize{ 12 << 20, 300 << 20, 4 << 30, 31 << 30, 1 << 40, std.math.maxInt(usize) }) |limit_bytes| {
        const count = windowGranules(limit_bytes);
        try std.testing.expect(count * geometry.granule_bytes >= @min(limit_bytes *| window_factor, 1 << 40));
        // What it takes of the limit.
        try std.testing.expect(count <= @max(piece_bytes, limit_bytes / 1024));
        for ([_]usize{ 0, 5 << 16, geometry.granule_count / 3, geometry.granule_count - 1 }) |granule| {
            const first = windowFirst(granule, count);
            try std.testing.expectEqual(0, first % piece_bytes);
            try std.testing.expect(granule >= first and granule < first + count);
            try std.testing.expect(first + count <= geometry.granule_count);
        }
    }
}

test "page_map: memory far from the first window gets another, and the older one counts where they overlap" {
    try std.testing.expect(start());
    const present = windows[0];
    const windows_before = window_count.load(.monotonic);
    // A place 8 GiB below the first window, or above it where nothing lies below, and one far away.
    const apart = 8 << (30 - geometry.granule_shift);
    const near_granule = if (present.first > apart) present.first - apart else present.first + present.count + apart;
    const near = near_granule << geometry.granule_shift;
    for ([_]usize{ near, 3 << 40 }, 1..) |address, more| {
        try std.testing.expect(!present.covers(address));
        try std.testing.expect(register(address, geometry.superslab_bytes));
        try std.testing.expectEqual(windows_before + more, window_count.load(.monotonic));
        write(address + geometry.granule_bytes, 3, 5);
        try std.testing.expectEqual(0, entry(address));
        try std.testing.expectEqual(5, entry(address + geometry.granule_bytes));
        try std.testing.expectEqual(5, viewOf(address).coveredEntry(address + 4 * geometry.granule_bytes - 1));
        try std.testing.expectEqual(0, entry(address + 4 * geometry.granule_bytes));
        write(address + geometry.granule_bytes, 3, 0);
    }
    // The second window reaches into the first one, whose entry is the only one that is ever set there.
    const shared = present.first << geometry.granule_shift;
    try std.testing.expect(windows[windows_before].covers(shared));
    try std.testing.expect(register(shared, geometry.superslab_bytes));
    write(shared, 1, 9);
    try std.testing.expectEqual(9, entry(shared));
    try std.testing.expectEqual(9, present.coveredEntry(shared));
    try std.testing.expectEqual(0, windows[windows_before].coveredEntry(shared));
    write(shared, 1, 0);
}

test "page_map: a refused window is made smaller, and asked for again when nothing is granted" {
    try std.testing.expect(start());
    defer os.refusal = .{};
    const address: usize = 5 << 40;
    try std.testing.expectEqual(0, viewOf(address).count);
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    try std.testing.expect(!register(address, geometry.superslab_bytes));
    os.refusal = .{ .refuse_from = 1, .refuse_count = 2, .spared = .init(.{ .limit = true }) };
    const wanted = @min(windows[window_count.load(.monotonic) - 1].count * 2, geometry.granule_count);
    try std.testing.expect(register(address, geometry.superslab_bytes));
    try std.testing.expectEqual(wanted / 4, viewOf(address).count);
}

test "page_map: the last granules of every length of an address, up to 48 bits" {
    try std.testing.expect(start());
    const windows_before = windows;
    const count_before = window_count.load(.monotonic);
    const pieces_before = writable_pieces;
    defer {
        windows = windows_before;
        window_count.store(count_before, .monotonic);
        writable_pieces = pieces_before;
    }
    for (geometry.granule_shift + 2..geometry.address_bits + 1) |bits| {
        const end = @as(usize, 1) << @intCast(bits);
        const address = end - 2 * geometry.granule_bytes;
        try std.testing.expect(register(address, 2 * geometry.granule_bytes));
        write(address, 1, 11);
        write(address + geometry.granule_bytes, 1, 12);
        defer write(address, 2, 0);
        try std.testing.expectEqual(11, entry(address));
        try std.testing.expectEqual(11, entry(address + geometry.granule_bytes - 1));
        try std.testing.expectEqual(12, entry(address + geometry.granule_bytes));
        try std.testing.expectEqual(12, entry(end - 1));
        try std.testing.expectEqual(0, entry(end));
        try std.testing.expectEqual(0, entry(address - 1));
        // The same address with a tag in its upper byte is not ours.
        try std.testing.expectEqual(0, entry(address | 0xb4 << 56));
    }
    // A view of the end of 48 bits, which another platform than this one may hand out.
    const memory = os.map(piece_bytes, .read_write, 0).?;
    defer _ = os.unmap(memory, piece_bytes);
    const first = (1 << 48 >> geometry.granule_shift) - piece_bytes;
    const last: View = .{ .origin = memory -% first, .first = first, .count = piece_bytes };
    @as(*u8, @ptrFromInt(memory + piece_bytes - 1)).* = 13;
    try std.testing.expect(last.covers((1 << 48) - 1) and !last.covers(1 << 48));
    try std.testing.expectEqual(13, last.coveredEntry((1 << 48) - 1));
    try std.testing.expectEqual(0, last.coveredEntry((1 << 48) - 1 - geometry.granule_bytes));
}
