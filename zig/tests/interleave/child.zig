//! What a thread does that a fork catches, and what its child must find.

const std = @import("std");
const internals = @import("hakmem").internals;
const heap = internals.heap;
const central = internals.central;
const lifecycle = internals.lifecycle;
const stats = internals.stats;

/// Magazines of this size have 16 words at first, and a refill brings 4 blocks.
pub const size = 1024;

/// The blocks that the program holds: entered when it has got them, taken out before it frees them.
var held: [48]usize = @splat(0);

pub fn reset() void {
    held = @splat(0);
}

fn allocate(at: usize) void {
    held[at] = @intFromPtr(heap.allocate(size));
}

fn free(at: usize) void {
    const block: ?*anyopaque = @ptrFromInt(held[at]);
    held[at] = 0;
    heap.free(block);
}

/// Refills; then an overflow that lets the magazine grow, and one that flushes half of it.
pub fn missesAndOverflows() void {
    for (0..held.len) |at| allocate(at);
    for (0..held.len) |at| free(at);
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

/// In the child, after the handler: everything can be used, and no block is handed out twice. `renew` makes of the
/// calling thread a new one, without a heap.
pub fn check(renew: *const fn () void) !void {
    for (lifecycle.allLocks()) |lock| {
        if (lock.isHeld()) return error.LockHeld;
    }
    _ = stats.gather();
    central.verify();
    var blocks: [3][80]usize = undefined;
    // The calling thread, then new ones with the heaps that are left.
    for (&blocks, 0..) |*own, thread| {
        if (thread > 0) renew();
        for (own) |*block| {
            block.* = @intFromPtr(heap.allocate(size) orelse return error.NoMemory);
            for (held) |other| if (block.* == other) return error.HeldBlockHandedOut;
            @as(*usize, @ptrFromInt(block.*)).* = block.*;
        }
    }
    for (blocks) |own| {
        for (own) |block| {
            if (@as(*usize, @ptrFromInt(block)).* != block) return error.HandedOutTwice;
            @as(*usize, @ptrFromInt(block)).* = 0;
            heap.free(@ptrFromInt(block));
        }
    }
    for (0..held.len) |at| free(at);
    heap.flushMagazines();
    central.verify();
    _ = stats.gather();
}
