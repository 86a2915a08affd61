//! What a thread does that a fork catches, and what its child must find.

const std = @import("std");
const internals = @import("hakmem").internals;
const heap = internals.heap;
const central = internals.central;
const lifecycle = internals.lifecycle;
const stats = internals.stats;

/// Magazines of this size have 16 words at first, and a refill fills them.
pub const size = 1024;

pub const class = internals.size_class.of(size);

pub const held_count = 48;
/// The blocks that the program holds: entered when it has got them, taken out before it frees them.
var held: [held_count]usize = @splat(0);

pub fn reset() void {
    held = @splat(0);
}

pub fn heldBlocks() [held_count]usize {
    return held;
}

// Calls, as a program makes them: the compiler moves no store across them.

noinline fn allocate(at: usize) void {
    const block = heap.allocate(size);
    asm volatile ("" ::: .{ .memory = true });
    held[at] = @intFromPtr(block);
}

noinline fn free(at: usize) void {
    const block: ?*anyopaque = @ptrFromInt(held[at]);
    held[at] = 0;
    asm volatile ("" ::: .{ .memory = true });
    heap.free(block);
}

pub fn freeAll() void {
    for (0..held.len) |at| free(at);
}

/// Refills; then an overflow that lets the magazine grow, and one that flushes half of it.
pub fn missesAndOverflows() void {
    for (0..held.len) |at| allocate(at);
    freeAll();
    for (0..3) |at| allocate(at);
    free(0);
}

/// Magazines flushed by request, and blocks left at the end.
pub fn flushes() void {
    for (0..9) |at| allocate(at);
    for (0..7) |at| free(at);
    heap.flushMagazines();
    for (0..6) |at| allocate(at);
    for (0..6) |at| free(at);
}

/// A refill and a flush, and no more.
pub fn shortFlush() void {
    for (0..6) |at| allocate(at);
    for (0..6) |at| free(at);
    heap.flushMagazine(class);
}

/// Lets a thread that is new, without a heap, run a function.
const AsAnother = *const fn (*const fn () anyerror!void) anyerror!void;

var as_another: AsAnother = undefined;
const threads = 3;
var thread: usize = 0;
var blocks: [threads][80]usize = undefined;

/// In the child, after the handler: everything can be used, and no block is handed out twice.
pub fn check(another: AsAnother) !void {
    for (lifecycle.all_locks) |lock| {
        if (lock.isHeld()) return error.LockHeld;
        if (lock.interruptions != 0) return error.InterruptionLeft;
    }
    _ = stats.gather();
    central.verify();
    as_another = another;
    thread = 0;
    try allocateInEach();
    for (blocks) |own| {
        for (own) |block| {
            if (@as(*usize, @ptrFromInt(block)).* != block) return error.HandedOutTwice;
            @as(*usize, @ptrFromInt(block)).* = 0;
            heap.free(@ptrFromInt(block));
        }
    }
    freeAll();
    heap.flushMagazines();
    central.verify();
    _ = stats.gather();
}

/// The calling thread, then new ones with the heaps that are left.
fn allocateInEach() anyerror!void {
    for (&blocks[thread]) |*block| {
        block.* = @intFromPtr(heap.allocate(size) orelse return error.NoMemory);
        for (held) |other| if (block.* == other) return error.HeldBlockHandedOut;
        @as(*usize, @ptrFromInt(block.*)).* = block.*;
    }
    thread += 1;
    if (thread < threads) try as_another(allocateInEach);
}
