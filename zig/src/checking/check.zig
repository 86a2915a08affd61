//! HAKMEM_CHECK=1: every block is guarded, and every pointer that comes back is looked up.
//!
//! A block lies between two guards. Its record (`records.zig`) lies elsewhere, so nothing that a program writes
//! can hide what it did. A freed block is filled and waits in the quarantine; only when it leaves, unchanged, can
//! its memory be handed out again. Threads have no magazines here: they have the checked heap, whose magazines are
//! empty and full at once, so the fast path is the same as ever and each call arrives in this file.
//!
//! One lock guards all of it; it comes after that of `lifecycle` and before those of the classes.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const os = @import("../platform/os.zig");
const Lock = @import("../platform/lock.zig").Lock;
const fatal = @import("../seeing/fatal.zig");
const heap = @import("../allocator/heap.zig");
const process_limit = @import("../memory/process_limit.zig");
const space = @import("../memory/space.zig");
const stray = @import("../allocator/stray.zig");
const records = @import("records.zig");
const Record = records.Record;
const Block = @import("../memory/large.zig").Block;

/// Bytes before a block; as many as its alignment where that is more.
const front_guard_bytes = 16;
/// Bytes behind a block: these and the rest of what holds it, but no more than the second figure, so that the
/// guards of large blocks cost little memory.
const rear_guard_bytes = 16;
const rear_guard_bytes_max = 4096;

/// What guards, fresh blocks and freed blocks hold. No address of a program, no small number, and odd.
const guard_byte = 0xb5;
const fresh_byte = 0xa5;
const freed_byte = 0xdf;

/// Blocks above this are not filled. They come zeroed from the OS, and a freed one loses its memory but keeps its
/// place for a while, where touching it is a fault of the processor.
const filled_bytes_max = geometry.large_bytes_max;

/// The quarantine holds this many blocks and bytes at most; a block that is not filled counts as a 64th of its bytes.
const quarantine_blocks = 1 << 14;
const quarantine_bytes_max = 32 << 20;
const unfilled_share = 64;

var lock: Lock = .{};
/// A ring of addresses of freed blocks, the oldest at `oldest`.
var quarantine: ?*[quarantine_blocks]usize = null;
var oldest: usize = 0;
var waiting: usize = 0;
var waiting_bytes: usize = 0;

pub fn locks() [1]*Lock {
    return .{&lock};
}

/// Bytes mapped for records and the ring.
pub fn mappedBytes() usize {
    lock.lock();
    defer lock.unlock();
    return records.mappedBytes() + if (quarantine == null) 0 else @as(usize, @sizeOf([quarantine_blocks]usize));
}

/// A guarded block. Null when memory is out.
pub fn allocate(size: usize, alignment: usize) ?Block {
    lock.lock();
    defer lock.unlock();
    return allocateLocked(size, alignment);
}

pub fn free(address: usize) void {
    lock.lock();
    defer lock.unlock();
    freeLocked(recordOf(address, .double_free) orelse return);
}

/// As `free`, for callers who say what they asked for. Null is not known.
pub fn freeSized(address: usize, size: usize, alignment: ?usize) void {
    lock.lock();
    defer lock.unlock();
    const record = recordOf(address, .double_free) orelse return;
    if (size != record.bytes) blame(.wrong_size, record, .{ .given = size });
    if (alignment) |given| {
        const front = @max(front_guard_bytes, given);
        if (record.address - record.base != front) blame(.wrong_alignment, record, .{ .given = given });
    }
    freeLocked(record);
}

/// The block moves each time, so that pointers to where it was are found out. Null when memory is out.
pub fn resize(address: usize, size: usize) ?[*]u8 {
    lock.lock();
    defer lock.unlock();
    const bytes = (recordOf(address, .use_after_free) orelse return null).bytes;
    const moved = allocateLocked(size, 1) orelse return null;
    const target: [*]u8 = @ptrFromInt(moved.address);
    const kept = @min(size, bytes);
    @memcpy(target[0..kept], @as([*]const u8, @ptrFromInt(address))[0..kept]);
    // The table may have moved.
    freeLocked(records.find(address).?);
    return target;
}

/// What was asked for, not what there is.
pub fn usableBytes(address: usize) usize {
    lock.lock();
    defer lock.unlock();
    return (recordOf(address, .use_after_free) orelse return 0).bytes;
}

/// At the end of the process: what was never freed, or freed and not yet handed out again, has been left alone.
pub fn verifyAll() void {
    // `exit` was called by a signal handler that interrupted this thread in here.
    if (lock.isMine()) return;
    lock.lock();
    defer lock.unlock();
    for (records.all()) |*record| {
        if (record.address == 0) continue;
        if (record.is_free) verifyFreed(record) else verifyGuards(record);
    }
}

fn allocateLocked(size: usize, alignment: usize) ?Block {
    const front = @max(front_guard_bytes, alignment);
    if (size > geometry.request_bytes_max - rear_guard_bytes or
        front > geometry.request_bytes_max - rear_guard_bytes - size) return null;
    if (!records.prepare()) return null;
    const wanted = front + size + rear_guard_bytes;
    const block = heap.allocateDirectly(wanted, front) orelse block: {
        while (release()) {}
        _ = heap.giveBackShared();
        space.retry();
        break :block heap.allocateDirectly(wanted, front) orelse return null;
    };
    const record: Record = .{
        .address = block.address + front,
        .bytes = size,
        .base = block.address,
        .base_bytes = heap.blockBytes(block.address),
        .is_free = false,
    };
    // What is in use or in quarantine cannot be handed out; then the allocator itself is wrong.
    if (records.find(record.address) != null) @panic("a block was handed out twice");
    records.insert(record);
    if (isFilled(&record)) @memset(bytesOf(&record), fresh_byte);
    @memset(frontGuard(&record), guard_byte);
    @memset(rearGuard(&record), guard_byte);
    return .{ .address = record.address, .zeroed = !isFilled(&record) and block.zeroed };
}

fn freeLocked(record: *Record) void {
    verifyGuards(record);
    const ring = quarantine orelse ring: {
        const memory = process_limit.map(@sizeOf([quarantine_blocks]usize)) orelse return giveBack(record);
        quarantine = @ptrFromInt(memory);
        break :ring quarantine.?;
    };
    if (isFilled(record)) {
        @memset(wholeOf(record), freed_byte);
    } else if (!os.seal(record.base, record.base_bytes)) {
        return giveBack(record);
    }
    record.is_free = true;
    ring[(oldest + waiting) % quarantine_blocks] = record.address;
    waiting += 1;
    waiting_bytes += share(record);
    // A release moves records; this one is not needed any more.
    while (waiting == quarantine_blocks or waiting_bytes > quarantine_bytes_max) _ = release();
}

/// Lets the oldest block out of the quarantine. False when there is none.
fn release() bool {
    if (waiting == 0) return false;
    const record = records.find(quarantine.?[oldest]).?;
    oldest = (oldest + 1) % quarantine_blocks;
    waiting -= 1;
    waiting_bytes -= share(record);
    verifyFreed(record);
    giveBack(record);
    return true;
}

fn giveBack(record: *Record) void {
    const base = record.base;
    records.remove(record);
    heap.freeDirectly(base);
}

/// The record of a block in use. Null for a foreign pointer that is to be ignored.
fn recordOf(address: usize, kind_if_free: fatal.Kind) ?*Record {
    if (records.find(address)) |record| {
        if (record.is_free) blame(kind_if_free, record, .{});
        return record;
    }
    const around = records.findEnclosing(address) orelse {
        stray.refuse(address);
        return null;
    };
    fatal.misuse(.{
        .kind = .interior_pointer,
        .address = address,
        .block_bytes = around.bytes,
        .offset = @bitCast(address -% around.address),
        .state = if (around.is_free) .free else .in_use,
    });
}

fn verifyGuards(record: *const Record) void {
    const front = frontGuard(record);
    // The byte nearest to the block was written first, most likely.
    if (std.mem.findLastNone(u8, front, &.{guard_byte})) |at| {
        blame(.underflow, record, .{ .offset = -@as(isize, @intCast(front.len - at)) });
    }
    if (std.mem.findNone(u8, rearGuard(record), &.{guard_byte})) |at| {
        blame(.overflow, record, .{ .offset = @intCast(record.bytes + at) });
    }
}

fn verifyFreed(record: *const Record) void {
    if (!isFilled(record)) return;
    const at = std.mem.findNone(u8, wholeOf(record), &.{freed_byte}) orelse return;
    const front = record.address - record.base;
    const offset = @as(isize, @intCast(at)) - @as(isize, @intCast(front));
    blame(if (offset < 0) .underflow else .write_after_free, record, .{ .offset = offset });
}

const Detail = struct { offset: isize = 0, given: usize = 0 };

fn blame(kind: fatal.Kind, record: *const Record, detail: Detail) noreturn {
    fatal.misuse(.{
        .kind = kind,
        .address = record.address,
        .block_bytes = record.bytes,
        .state = if (record.is_free) .free else .in_use,
        .offset = detail.offset,
        .given = detail.given,
    });
}

fn isFilled(record: *const Record) bool {
    return record.base_bytes <= filled_bytes_max;
}

fn share(record: *const Record) usize {
    return if (isFilled(record)) record.base_bytes else record.base_bytes / unfilled_share;
}

fn bytesOf(record: *const Record) []u8 {
    return @as([*]u8, @ptrFromInt(record.address))[0..record.bytes];
}

fn wholeOf(record: *const Record) []u8 {
    return @as([*]u8, @ptrFromInt(record.base))[0..record.base_bytes];
}

fn frontGuard(record: *const Record) []u8 {
    const bytes = record.address - record.base;
    const kept = @min(bytes, rear_guard_bytes_max);
    return @as([*]u8, @ptrFromInt(record.address - kept))[0..kept];
}

fn rearGuard(record: *const Record) []u8 {
    const start = record.address + record.bytes;
    return @as([*]u8, @ptrFromInt(start))[0..@min(record.end() - start, rear_guard_bytes_max)];
}
