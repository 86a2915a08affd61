//! Huge blocks, above 1 MiB or aligned to more than 64 KiB: a mapping of its own each, at a multiple of 2 MiB,
//! in whole granules so that nothing else can lie in a granule of ours.
//!
//! A freed block waits for a while to be allocated again (`huge_cache.zig`). It is known as before meanwhile: its
//! record says that it is free, and the page map and the registry stay as they are.
//!
//! Growing first tries the place where the block lies, then moves its pages into aligned space mapped for it:
//! nothing is copied. A small block that grows is copied to the start of a mapping that waits and is much larger. What
//! is behind waits on, and the block grows into it: without a call of the system, and into pages that are there.
//!
//! A block fresh from the OS reads as zero.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const atomic = @import("../platform/atomic.zig");
const os = @import("../platform/os.zig");
const cache = @import("huge_cache.zig");
const process_limit = @import("process_limit.zig");
const metadata = @import("metadata.zig");
const page_map = @import("page_map.zig");
const registry = @import("registry.zig");
const space = @import("space.zig");
const superslabs = @import("superslab.zig");
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const assert = std.debug.assert;

/// Written by whoever has the block: the program, or the thread that took its word from the cache.
const Record = struct {
    address: usize,
    bytes: usize,
    is_free: bool,
    /// Behind it there may be a rest that waits.
    rest_waits: bool = false,
};

pub const Counts = struct {
    /// In use.
    blocks: usize = 0,
    bytes: usize = 0,
    /// Free, and waiting to be allocated again.
    cached_bytes: usize = 0,
};

/// All huge blocks, in use or cached. Changed only where the system is asked for something.
var mapped_blocks: atomic.Value(usize) = .init(0);
var mapped_bytes: atomic.Value(usize) = .init(0);

/// As of about now.
pub fn count() Counts {
    const cached = cache.held();
    return .{
        .blocks = mapped_blocks.load(.monotonic) -| cached.blocks,
        .bytes = mapped_bytes.load(.monotonic) -| cached.bytes,
        .cached_bytes = cached.bytes,
    };
}

/// What counts against the limit: all of each, as RLIMIT_DATA counts them, whatever of it was touched.
pub fn countedBytes() usize {
    return mapped_bytes.load(.monotonic);
}

/// A block that was freed just now, for exactly as many granules; null where `allocate` must be asked.
pub inline fn allocateAgain(bytes: usize) ?usize {
    const mapping = cache.takeFirst(roundUp(bytes) orelse return null) orelse return null;
    return reused(mapping).address;
}

/// For contents that have outgrown another block, and may go on to grow: a mapping that waits, or its first part where
/// it is larger. Null where `allocate` must be asked.
pub fn allocateToGrow(bytes: usize) ?usize {
    return firstPartOf(cache.takeAtLeast(bytes) orelse return null, roundUp(bytes).?);
}

fn firstPartOf(mapping: cache.Mapping, bytes: usize) usize {
    const address = reused(mapping).address;
    if (bytes < mapping.bytes()) {
        const record = recordOf(address);
        record.bytes = bytes;
        leaveRest(record, mapping.restBehind(bytes));
    }
    return address;
}

/// What lies behind the block waits on.
fn leaveRest(record: *Record, rest: cache.Mapping) void {
    record.rest_waits = cache.put(rest, mapped_bytes.load(.monotonic) -| rest.bytes()) == .kept;
    if (!record.rest_waits) drop(rest);
}

fn reused(mapping: cache.Mapping) space.Mapping {
    const record = registry.find(Record, mapping.address()).?;
    assert(record.is_free and record.bytes == mapping.bytes());
    record.is_free = false;
    return .{ .address = mapping.address(), .zeroed = false };
}

/// Null when the OS or the limit refuses, or when rounding `bytes` up goes past the address space.
pub fn allocate(bytes: usize, alignment: usize) ?space.Mapping {
    const mapped = roundUp(bytes) orelse return null;
    if (cache.take(mapped, alignment)) |mapping| return reused(mapping);
    if (alignment <= geometry.superslab_bytes) if (allocateNear(mapped)) |mapping| return mapping;
    return allocateAnew(mapped, alignment);
}

/// As `allocate`, for a block that must read as zero. What does not is for the caller to clear.
pub fn allocateZeroed(bytes: usize) ?space.Mapping {
    if (bytes <= cleared_bytes_max) return allocate(bytes, 1);
    const mapped = roundUp(bytes) orelse return null;
    const mapping = cache.take(mapped, 1) orelse return allocateAnew(mapped, 1);
    return .{ .address = reused(mapping).address, .zeroed = os.release(mapping.address(), mapping.bytes()) };
}

/// A block made of one of another size.
noinline fn allocateNear(bytes: usize) ?space.Mapping {
    @branchHint(.unlikely);
    const mapping = cache.takeNear(bytes) orelse return null;
    const address = reused(mapping).address;
    if (resize(address, bytes)) |resized| return .{ .address = resized, .zeroed = false };
    giveBack(address);
    return null;
}

/// Up to this size a used block is cleared where one must read as zero; a larger one gives its pages back. Clearing
/// makes every page resident, which a program that asks for much and touches little does not want.
const cleared_bytes_max = 4 << 20;
/// Up to this size a block that grows is copied to a mapping that waits, for the same reason.
const copied_bytes_max = 4 << 20;

/// A mapping of `bytes`, which are whole granules, from the OS.
pub noinline fn allocateAnew(bytes: usize, alignment: usize) ?space.Mapping {
    @branchHint(.unlikely);
    age();
    if (!beforeMapping(bytes)) return null;
    const record: *Record = @ptrCast(metadata.allocate(@sizeOf(Record)) orelse {
        process_limit.give(bytes);
        return null;
    });
    const mapping = mapOurs(bytes, alignment) orelse {
        giveRecord(record);
        process_limit.give(bytes);
        return null;
    };
    record.* = .{ .address = mapping.address, .bytes = bytes, .is_free = false };
    enter(record);
    _ = mapped_blocks.fetchAdd(1, .monotonic);
    _ = mapped_bytes.fetchAdd(bytes, .monotonic);
    return mapping;
}

/// Drops what waits as far as it and `bytes` more would come to more than the program had at once, or than the limit
/// allows. Then they count. False if they do not fit in any case.
fn beforeMapping(bytes: usize) bool {
    superslabs.makeRoom(bytes);
    while (cache.isExcess(bytes, mapped_bytes.load(.monotonic))) drop(cache.takeAny() orelse break);
    while (!process_limit.take(bytes)) drop(cache.takeAny() orelse return false);
    return true;
}

pub noinline fn free(address: usize) void {
    const record = recordOf(address);
    if (record.rest_waits or record.bytes > cache.Mapping.bytes_max) return freeUnusual(record);
    const mapping: cache.Mapping = .of(address, record.bytes);
    record.is_free = true;
    if (!cache.putFirst(mapping, mapped_bytes.load(.monotonic))) freeSlow(mapping, 0);
}

/// The block has a rest behind it, which is joined to it again unless it is about to go; or it is too large to wait.
noinline fn freeUnusual(record: *Record) void {
    @branchHint(.unlikely);
    if (record.bytes > cache.Mapping.bytes_max) return dropBlock(record);
    var joined: usize = 0;
    if (cache.takeRest(record.address + record.bytes, .fresh)) |rest| {
        joined = rest.bytes();
        record.bytes += joined;
        record.rest_waits = false;
    }
    record.is_free = true;
    freeSlow(.of(record.address, record.bytes), joined);
}

/// `unused` of its bytes were not in use.
noinline fn freeSlow(mapping: cache.Mapping, unused: usize) void {
    age();
    while (true) switch (cache.put(mapping, mapped_bytes.load(.monotonic) -| unused)) {
        .kept => return,
        .too_large => return drop(mapping),
        .no_room => drop(cache.takeAny() orelse return drop(mapping)),
    };
}

/// As `free`, but the mapping goes back at once.
pub fn giveBack(address: usize) void {
    dropBlock(recordOf(address));
}

/// Gives back what waits. Returns the bytes.
pub fn purge() usize {
    var bytes: usize = 0;
    while (cache.takeAny()) |mapping| {
        bytes += mapping.bytes();
        drop(mapping);
    }
    return bytes;
}

/// Gives back what has waited for long enough. For slow paths that hold no lock.
pub inline fn age() void {
    if (cache.waits()) ageSlow();
}

noinline fn ageSlow() void {
    cache.tick(mapped_bytes.load(.monotonic), drop);
}

/// Unmaps what was taken from the cache.
fn drop(mapping: cache.Mapping) void {
    if (mapping.is_rest) return unmap(mapping.address(), mapping.bytes());
    dropBlock(registry.find(Record, mapping.address()).?);
}

/// Unmaps a block that nobody else can reach.
fn dropBlock(record: *Record) void {
    const address, const bytes = .{ record.address, record.bytes };
    leave(record);
    giveRecord(record);
    _ = mapped_blocks.fetchAdd(-%@as(usize, 1), .monotonic);
    unmap(address, bytes);
}

fn unmap(address: usize, bytes: usize) void {
    _ = mapped_bytes.fetchAdd(-%bytes, .monotonic);
    space.giveBack(address, bytes);
    process_limit.give(bytes);
}

pub const Peek = struct { bytes: usize, is_free: bool };

/// Of the block that starts at `start`, for a caller who does not own it and whose figures may be of a moment
/// ago: records are never unmapped. Null where there is none.
pub fn peek(start: usize) ?Peek {
    const record = registry.find(Record, start) orelse return null;
    return if (record.address == start) .{ .bytes = record.bytes, .is_free = record.is_free } else null;
}

pub fn usableBytes(address: usize) usize {
    return recordOf(address).bytes;
}

/// Makes the block hold `bytes`. Returns where it lies then; null when that cannot be had, and the block is as it was.
pub fn resize(address: usize, bytes: usize) ?usize {
    const record = recordOf(address);
    const mapped = roundUp(bytes) orelse return null;
    const before = record.bytes;
    if (mapped == before) return address;
    if (resizeTo(record, mapped)) |resized| return resized;
    if (record.bytes > before) {
        // It took a rest that did not suffice.
        const joined: cache.Mapping = .of(address, record.bytes);
        record.bytes = before;
        leaveRest(record, joined.restBehind(before));
    }
    return null;
}

/// As `resize`, but where that cannot be had the block may hold more than before.
fn resizeTo(record: *Record, mapped: usize) ?usize {
    const address = record.address;
    if (mapped > record.bytes) {
        if (record.rest_waits and growIntoRest(record, mapped)) return address;
        if (moveToWaiting(record, mapped)) |moved| return moved;
        if (!beforeMapping(mapped - record.bytes)) return null;
    }
    const before = record.bytes;
    // What the block has not got, or has no more.
    defer process_limit.give(@max(before, mapped) - record.bytes);
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
    const target = (mapOurs(mapped, geometry.superslab_bytes) orelse again: {
        if (purge() == 0) return null;
        break :again mapOurs(mapped, geometry.superslab_bytes) orelse return null;
    }).address;
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

/// Whether the block holds `bytes` now. If not, it has what there was.
fn growIntoRest(record: *Record, bytes: usize) bool {
    record.rest_waits = false;
    const rest = cache.takeRest(record.address + record.bytes, .any) orelse return false;
    const wanted = bytes - record.bytes;
    record.bytes += @min(wanted, rest.bytes());
    if (rest.bytes() > wanted) leaveRest(record, rest.restBehind(wanted));
    return record.bytes == bytes;
}

/// Copies a block that grows to the start of a mapping that waits and is at least half as large again: one page of those
/// that it grows into costs more than two that are copied.
fn moveToWaiting(record: *Record, bytes: usize) ?usize {
    const before = record.bytes;
    if (before > copied_bytes_max) return null;
    const mapping = cache.takeAtLeast(@max(bytes, before + before / 2)) orelse return null;
    const target = firstPartOf(mapping, bytes);
    @memcpy(@as([*]u8, @ptrFromInt(target))[0..before], @as([*]const u8, @ptrFromInt(record.address)));
    free(record.address);
    return target;
}

fn setBytes(record: *Record, bytes: usize) void {
    // One step, which wraps where the block shrinks.
    _ = mapped_bytes.fetchAdd(bytes -% record.bytes, .monotonic);
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

inline fn recordOf(address: usize) *Record {
    const record = registry.find(Record, address).?;
    if (address != record.address or record.is_free) blame(record, address);
    return record;
}

noinline fn blame(record: *const Record, address: usize) noreturn {
    @branchHint(.cold);
    if (address != record.address) fatal.misuse(.{
        .kind = .interior_pointer,
        .address = address,
        .block_bytes = record.bytes,
        .offset = @intCast(address - record.address),
        .state = if (record.is_free) .free else .in_use,
    });
    fatal.misuse(.{
        .kind = .double_free,
        .address = address,
        .block_bytes = record.bytes,
        .state = .free,
    });
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
    // What waits is not zero.
    _ = purge();
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
    try std.testing.expectEqual(2 << 20, purge());
    try std.testing.expectEqual(before, count());
}

test "huge: a block that is allocated and freed again and again keeps its place and its pages, without a system call" {
    try std.testing.expect(page_map.start());
    _ = purge();
    for ([_]usize{ 2 << 20, 64 << 20 }) |bytes| {
        const address = allocate(bytes, 1).?.address;
        free(address);
        const calls = os.refusal.calls;
        for (0..1000) |round| {
            const mapping = if (round % 2 == 0) allocate(bytes, 1).? else space.Mapping{ .address = allocateAgain(bytes).?, .zeroed = false };
            try std.testing.expectEqual(address, mapping.address);
            // Nobody may take its contents for zero.
            try std.testing.expect(!mapping.zeroed);
            const last: *usize = @ptrFromInt(address + bytes - 8);
            try std.testing.expectEqual(round, last.*);
            last.* = round + 1;
            free(address);
        }
        try std.testing.expectEqual(calls, os.refusal.calls);
        try std.testing.expectEqual(bytes, count().cached_bytes);
        try std.testing.expectEqual(bytes, purge());
    }
}

test "huge: a block that must read as zero does, whichever way it is cleared" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    _ = purge();
    for ([_]usize{ 2 << 20, cleared_bytes_max, cleared_bytes_max + 1, 30 << 20 }) |bytes| for ([_]usize{ 0, 1 }) |refuse| {
        const address = allocate(bytes, 1).?.address;
        const memory = @as([*]u8, @ptrFromInt(address))[0..bytes];
        @memset(memory, 0x5a);
        free(address);
        os.refusal = .{ .refuse_from = 1, .refuse_count = refuse };
        const mapping = allocateZeroed(bytes).?;
        os.refusal = .{};
        try std.testing.expectEqual(address, mapping.address);
        try std.testing.expectEqual(bytes > cleared_bytes_max and refuse == 0, mapping.zeroed);
        // What says that it is zero is, and what is not is for the caller to clear.
        if (mapping.zeroed) try std.testing.expect(std.mem.findNone(u8, memory, &.{0}) == null);
        free(address);
        try std.testing.expect(purge() > 0);
    };
}

test "huge: what waits goes when the clock has gone on, and never adds to the most that was in use" {
    try std.testing.expect(page_map.start());
    _ = purge();
    cache.renew();
    defer cache.renew();
    const start = count();
    os.clock_set = 1_000_000;
    const first = allocate(40 << 20, 1).?.address;
    const other = allocate(3 << 20, 1).?.address;
    free(first);
    free(other);
    try std.testing.expectEqual(43 << 20, count().cached_bytes - start.cached_bytes);
    os.clock_set = 1_000_499;
    age();
    try std.testing.expectEqual(43 << 20, count().cached_bytes);
    os.clock_set = 1_000_500;
    age();
    // A block that is used meanwhile stays.
    try std.testing.expectEqual(other, allocate(3 << 20, 1).?.address);
    free(other);
    try std.testing.expectEqual(43 << 20, count().cached_bytes);
    os.clock_set = 1_001_000;
    age();
    try std.testing.expectEqual(3 << 20, count().cached_bytes);
    os.clock_set = 1_001_500;
    age();
    try std.testing.expectEqual(start, count());

    // 43 MiB were in use; with 20 that wait, 60 more would come to more than that and than themselves.
    const small = allocate(20 << 20, 1).?.address;
    free(small);
    const large = allocate(60 << 20, 1).?.address;
    try std.testing.expectEqual(0, count().cached_bytes);
    free(large);
    // Growing counts as mapping does.
    const grows = allocate(2 << 20, 1).?.address;
    try std.testing.expectEqual(60 << 20, count().cached_bytes);
    const grown = resize(grows, 90 << 20).?;
    try std.testing.expectEqual(0, count().cached_bytes);
    free(grown);
    // Too large to wait.
    try std.testing.expectEqual(start, count());
}

test "huge: a block of another size is cut or grown, and keeps its pages; where that is refused another is mapped" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    _ = purge();
    var address = allocate(8 << 20, 1).?.address;
    @as(*u64, @ptrFromInt(address)).* = 42;
    for ([_]usize{ 6 << 20, 11 << 20, 21 << 20, 14 << 20 }) |bytes| {
        free(address);
        const mapping = allocate(bytes, 1).?;
        address = mapping.address;
        try std.testing.expectEqual(bytes, usableBytes(address));
        try std.testing.expect(!mapping.zeroed);
        try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(address)).*);
        try std.testing.expectEqual(0, count().cached_bytes);
        @as(*u64, @ptrFromInt(address + bytes - 8)).* = bytes;
    }
    // What is less than half as large, or more than twice, stays where it is.
    free(address);
    const less = allocate(6 << 20, 1).?.address;
    try std.testing.expectEqual(14 << 20, count().cached_bytes);
    giveBack(less);
    _ = purge();
    free(allocate(3 << 20, 1).?.address);
    giveBack(allocate(7 << 20, 1).?.address);
    try std.testing.expectEqual(3 << 20, count().cached_bytes);
    _ = purge();
    address = allocate(14 << 20, 1).?.address;
    free(address);
    // Growing in its place and a place to move to.
    os.refusal = .{ .refuse_from = 1, .refuse_count = 2 };
    const anew = allocate(20 << 20, 1).?;
    os.refusal = .{};
    try std.testing.expect(anew.zeroed);
    try std.testing.expectEqual(0, count().cached_bytes);
    giveBack(anew.address);
}

test "huge: memory that waits is given up where the system refuses more" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    _ = purge();
    free(allocate(3 << 20, 1).?.address);
    const address = allocate(8 << 20, 1).?.address;
    try std.testing.expectEqual(3 << 20, count().cached_bytes);
    // Growing in place is refused, and then the first target of a move.
    os.refusal = .{ .refuse_from = 1, .refuse_count = 2 };
    const moved = resize(address, 9 << 20);
    os.refusal = .{};
    try std.testing.expect(moved != null);
    try std.testing.expectEqual(0, count().cached_bytes);
    // In quarantine nothing waits a second time.
    giveBack(moved.?);
    try std.testing.expectEqual(0, count().cached_bytes);
}

test "huge: a block that grows takes the start of a mapping that waits, and then the rest, without a system call" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    _ = purge();
    cache.renew();
    defer {
        _ = purge();
        cache.renew();
    }
    os.clock_set = 1_000_000;
    const start = count();
    const waiting = allocate(20 << 20, 1).?.address;
    const memory = @as([*]u8, @ptrFromInt(waiting))[0 .. 20 << 20];
    // By `allocateToGrow`; by growing; and where nothing is left of the rest in the end.
    for ([_]usize{ 0, 2 << 20 }) |first| for ([_]usize{ 19 << 20, 20 << 20 }) |last| {
        const small = if (first == 0) 0 else small: {
            const small = allocate(first, 1).?.address;
            @memset(@as([*]u8, @ptrFromInt(small))[0..first], 0x5a);
            break :small small;
        };
        @memset(memory, 0xa5);
        free(waiting);
        const calls = os.refusal.calls;
        var bytes: usize = 3 << 20;
        const address = if (first == 0) allocateToGrow(bytes).? else resize(small, bytes).?;
        try std.testing.expectEqual(waiting, address);
        if (first != 0) try std.testing.expect(std.mem.findNone(u8, memory[0..first], &.{0x5a}) == null);
        while (bytes < last) {
            try std.testing.expectEqual(bytes, usableBytes(address));
            try std.testing.expectEqual(start.bytes + bytes, count().bytes);
            try std.testing.expectEqual(start.blocks + 1, count().blocks);
            try std.testing.expectEqual((20 << 20) - bytes + first, count().cached_bytes);
            memory[bytes - 1] = 42;
            bytes = @min(last, bytes + bytes / 2);
            try std.testing.expectEqual(address, resize(address, bytes).?);
            // The page that was there is there.
            try std.testing.expectEqual(0xa5, memory[bytes - 1]);
        }
        // What is left is one with the block again.
        free(address);
        try std.testing.expectEqual((20 << 20) + first, count().cached_bytes);
        try std.testing.expectEqual(waiting, allocate(20 << 20, 1).?.address);
        try std.testing.expectEqual(calls, os.refusal.calls);
        _ = purge();
    };

    // The rest goes when its time has come, though the block stays; and where more is to be mapped.
    for ([_]enum { time, mapping }{ .time, .mapping }) |reason| {
        free(if (reason == .time) waiting else allocate(20 << 20, 1).?.address);
        const address = allocateToGrow(3 << 20).?;
        try std.testing.expectEqual(17 << 20, count().cached_bytes);
        switch (reason) {
            .time => for (0..2) |_| {
                os.clock_set.? += 500;
                age();
            },
            .mapping => giveBack(allocate(30 << 20, 1).?.address),
        }
        try std.testing.expectEqual(0, count().cached_bytes);
        try std.testing.expectEqual(start.bytes + (3 << 20), count().bytes);
        @as(*u64, @ptrFromInt(address)).* = 42;
        const grown = resize(address, 5 << 20).?;
        try std.testing.expectEqual(42, @as(*u64, @ptrFromInt(grown)).*);
        giveBack(grown);
    }

    // A rest that a tick has seen does not wait anew with its block, and one that is too small is taken all the same.
    free(allocate(20 << 20, 1).?.address);
    var address = allocateToGrow(3 << 20).?;
    os.clock_set.? += 500;
    age();
    free(address);
    os.clock_set.? += 500;
    age();
    try std.testing.expectEqual(3 << 20, count().cached_bytes);
    try std.testing.expectEqual(address, allocate(3 << 20, 1).?.address);
    free(address);
    address = allocateToGrow(2 << 20).?;
    try std.testing.expectEqual(1 << 20, count().cached_bytes);
    const grown = resize(address, 9 << 20).?;
    try std.testing.expectEqual(0, count().cached_bytes);
    giveBack(grown);
    try std.testing.expectEqual(start, count());
}

test "huge: blocks that grow and shrink at random hold what was written, and their bytes and what waits are all there is" {
    try std.testing.expect(page_map.start());
    defer os.refusal = .{};
    _ = purge();
    cache.renew();
    defer {
        _ = purge();
        cache.renew();
    }
    os.clock_set = 1_000_000;
    const start = count();
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const Model = struct {
        address: usize = 0,
        bytes: usize = 0,

        /// Of `bytes` that were filled: a word at the start and one at each granule's end, as far as `reach`.
        fn expectHolds(model: @This(), bytes: usize, reach: usize) !void {
            const words: [*]const usize = @ptrFromInt(model.address);
            try std.testing.expectEqual(bytes, words[0]);
            var at = geometry.granule_bytes;
            while (at <= @min(bytes, reach)) : (at += geometry.granule_bytes) {
                try std.testing.expectEqual(bytes + at, words[at / 8 - 1]);
            }
        }

        fn fill(model: @This()) void {
            const words: [*]usize = @ptrFromInt(model.address);
            words[0] = model.bytes;
            var at = geometry.granule_bytes;
            while (at <= model.bytes) : (at += geometry.granule_bytes) words[at / 8 - 1] = model.bytes + at;
        }
    };
    var models: [6]Model = @splat(.{});
    for (0..4_000) |_| {
        os.clock_set.? += random.uintLessThan(usize, 60);
        age();
        os.refusal = if (random.uintLessThan(usize, 10) > 0) .{} else .{
            .refuse_from = 1 + random.uintLessThan(usize, 3),
            .refuse_count = 1 + random.uintLessThan(usize, 3),
        };
        const model = &models[random.uintLessThan(usize, models.len)];
        const granules = random.intRangeAtMost(usize, 17, if (random.boolean()) 60 else 500);
        const bytes = granules * geometry.granule_bytes;
        if (model.bytes == 0) {
            const address = if (random.boolean()) allocateToGrow(bytes) else if (allocate(bytes, 1)) |mapping| mapping.address else null;
            if (address) |present| model.* = .{ .address = present, .bytes = bytes };
            os.refusal = .{};
            // It may be larger, by up to an eighth.
            if (address) |present| model.bytes = usableBytes(present);
        } else if (random.uintLessThan(usize, 3) == 0) {
            try model.expectHolds(model.bytes, model.bytes);
            free(model.address);
            model.* = .{};
        } else {
            const before = model.bytes;
            if (resize(model.address, bytes)) |address| {
                model.address = address;
            } else try std.testing.expectEqual(before, usableBytes(model.address));
            os.refusal = .{};
            model.bytes = usableBytes(model.address);
            // A block that could not shrink may have lost what it was to lose.
            try model.expectHolds(before, bytes);
        }
        os.refusal = .{};
        if (model.bytes > 0) model.fill();
        var in_use: usize = 0;
        var blocks: usize = 0;
        for (models) |each| {
            in_use += each.bytes;
            blocks += @intFromBool(each.bytes > 0);
        }
        try std.testing.expectEqual(start.bytes + in_use, count().bytes);
        try std.testing.expectEqual(start.blocks + blocks, count().blocks);
    }
    for (models) |model| if (model.bytes > 0) {
        try model.expectHolds(model.bytes, model.bytes);
        free(model.address);
    };
    _ = purge();
    space.retry();
    try std.testing.expectEqual(start, count());
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
        if (block) |mapping| giveBack(mapping.address);
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
    _ = purge();
    space.retry();
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    giveBack(address);
    os.refusal = .{};
    try std.testing.expectEqual(2 << 20, space.keptBytes());
    const again = allocate(2 << 20, 1).?;
    try std.testing.expectEqual(address, again.address);
    try std.testing.expect(again.zeroed);
    try std.testing.expectEqual(0, memory[0]);
    try std.testing.expectEqual(0, space.keptBytes());
    giveBack(address);
    try std.testing.expectEqual(0, space.keptBytes());
}

fn countedInTest() usize {
    return countedBytes() + registry.mappedBytes() + metadata.mappedBytes();
}

test "huge: under a limit what waits goes first, then null; a block that cannot grow is as it was" {
    try std.testing.expect(page_map.start());
    defer process_limit.set(null, 0);
    defer os.refusal = .{};
    _ = purge();
    // The memory for its record is there then.
    giveBack(allocate(2 << 20, 1).?.address);
    const start = countedInTest();
    process_limit.set(start + (20 << 20), start);
    const first = allocate(8 << 20, 1).?.address;
    const other = allocate(8 << 20, 1).?.address;
    try std.testing.expectEqual(null, allocate(5 << 20, 1));
    try std.testing.expectEqual(null, resize(first, 13 << 20));
    try std.testing.expectEqual(8 << 20, usableBytes(first));
    try std.testing.expectEqual(countedInTest(), process_limit.counted());
    // One that waits still counts, and gives way.
    free(other);
    try std.testing.expectEqual(start + (16 << 20), process_limit.counted());
    const grown = resize(first, 18 << 20).?;
    try std.testing.expectEqual(0, count().cached_bytes);
    try std.testing.expectEqual(start + (18 << 20), process_limit.counted());
    const shrunk = resize(grown, 3 << 20).?;
    try std.testing.expectEqual(start + (3 << 20), process_limit.counted());
    // Whatever the OS refuses, the count is right.
    for (1..8) |number| for ([_]usize{ 1, 100 }) |refuse_count| {
        os.refusal = .{ .refuse_from = number, .refuse_count = refuse_count };
        const block = allocate(5 << 20, 8 << 20);
        const longer = if (block) |mapping| resize(mapping.address, 9 << 20) else null;
        const shorter = if (longer) |address| resize(address, 2 << 20) else null;
        if (shorter orelse longer orelse if (block) |mapping| mapping.address else null) |address| giveBack(address);
        os.refusal = .{};
        space.retry();
        try std.testing.expectEqual(countedInTest(), process_limit.counted());
        try std.testing.expectEqual(start + (3 << 20), process_limit.counted());
    };
    giveBack(shrunk);
    try std.testing.expectEqual(start, process_limit.counted());
}
