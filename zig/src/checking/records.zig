//! What HAKMEM_CHECK knows of each block, by its address: a hash table outside the blocks.
//!
//! Open addressing with linear probing; a removal moves later records back, so there are no tombstones (Knuth,
//! The Art of Computer Programming 6.4, algorithm R). Used under the lock of `check`.

const std = @import("std");
const os = @import("../platform/os.zig");
const process_limit = @import("../memory/process_limit.zig");
const assert = std.debug.assert;

pub const Record = extern struct {
    /// What the program was given; 0 marks an empty slot.
    address: usize,
    /// What the program asked for.
    bytes: usize,
    /// Where the underlying block lies, and its bytes.
    base: usize,
    base_bytes: usize,
    is_free: bool,

    pub fn end(record: *const Record) usize {
        return record.base + record.base_bytes;
    }
};

/// Times the bytes of a record, whole pages of every size.
const slots_min = 1 << 13;

var slots: []Record = &.{};
var used: usize = 0;

/// Null when the address is not the start of a known block.
pub fn find(address: usize) ?*Record {
    if (slots.len == 0) return null;
    var at = home(address);
    while (slots[at].address != 0) : (at = next(at)) {
        if (slots[at].address == address) return &slots[at];
    }
    return null;
}

/// The block whose bytes, guards included, hold the address. Looks at all of them: for a process about to end.
pub fn findEnclosing(address: usize) ?*Record {
    for (slots) |*record| {
        if (record.address != 0 and record.base <= address and address < record.end()) return record;
    }
    return null;
}

/// Makes room for one more record, and moves the others. False when the OS or the limit refuses memory.
pub fn prepare() bool {
    if (used < slots.len / 2) return true;
    const count = @max(slots_min, slots.len * 2);
    const memory = process_limit.map(count * @sizeOf(Record)) orelse return used + 1 < slots.len;
    const old = slots;
    slots = @as([*]Record, @ptrFromInt(memory))[0..count];
    used = 0;
    for (old) |record| if (record.address != 0) insert(record);
    // What the OS will not unmap is lost, and holds memory until the process ends.
    if (old.len != 0 and os.unmap(@intFromPtr(old.ptr), old.len * @sizeOf(Record))) process_limit.give(old.len * @sizeOf(Record));
    return true;
}

/// `prepare` has made room, and the address is not there yet.
pub fn insert(record: Record) void {
    assert(record.address != 0);
    var at = home(record.address);
    while (slots[at].address != 0) : (at = next(at)) assert(slots[at].address != record.address);
    slots[at] = record;
    used += 1;
}

pub fn remove(record: *Record) void {
    var hole = (@intFromPtr(record) - @intFromPtr(slots.ptr)) / @sizeOf(Record);
    var at = hole;
    while (true) {
        at = next(at);
        if (slots[at].address == 0) break;
        // A record may fill the hole unless its home lies after the hole and not after itself.
        const distance_home = (at -% home(slots[at].address)) & (slots.len - 1);
        const distance_hole = (at -% hole) & (slots.len - 1);
        if (distance_home < distance_hole) continue;
        slots[hole] = slots[at];
        hole = at;
    }
    slots[hole].address = 0;
    used -= 1;
}

pub fn all() []Record {
    return slots;
}

pub fn mappedBytes() usize {
    return slots.len * @sizeOf(Record);
}

fn home(address: usize) usize {
    // The multiplier is 2^64 divided by the golden ratio (Knuth 6.4); blocks start at multiples of 16.
    const hash = (address >> 4) *% 0x9e37_79b9_7f4a_7c15;
    return @intCast(hash >> @intCast(64 - @ctz(slots.len)));
}

fn next(at: usize) usize {
    return (at + 1) & (slots.len - 1);
}

comptime {
    assert(slots_min * @sizeOf(Record) % (64 * 1024) == 0);
}

test "records: random inserts, finds and removals agree with a model" {
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    var model: std.AutoHashMap(usize, usize) = .init(std.testing.allocator);
    defer model.deinit();
    for (0..60_000) |step| {
        // Few different addresses, so that most are met again, in clusters.
        const address = 16 * random.intRangeAtMost(usize, 1, 9000);
        if (find(address)) |record| {
            try std.testing.expectEqual(model.get(address).?, record.bytes);
            try std.testing.expectEqual(address, findEnclosing(address + 15).?.address);
            remove(record);
            try std.testing.expect(model.remove(address));
            try std.testing.expectEqual(null, find(address));
        } else {
            try std.testing.expect(!model.contains(address));
            try std.testing.expect(prepare());
            insert(.{ .address = address, .bytes = step, .base = address, .base_bytes = 16, .is_free = false });
            try model.put(address, step);
        }
        try std.testing.expectEqual(model.count(), used);
    }
    var left = model.iterator();
    while (left.next()) |pair| {
        const record = find(pair.key_ptr.*).?;
        try std.testing.expectEqual(pair.value_ptr.*, record.bytes);
        remove(record);
    }
    try std.testing.expectEqual(0, used);
}
