//! The atomic operations of the allocator: the machine's own, inline, in the order that the caller names.
//!
//! One build differs. In that of `zig/tests/interleave.zig` every operation is a place where the explorer may let
//! another thread go on. `explored` is false in all that is shipped, and no instruction comes from this file.

const std = @import("std");

pub const explored = @import("build_options").explored;
pub const explorer = if (explored) @import("explorer") else struct {};
const Order = std.builtin.AtomicOrder;

pub const Value = if (explored) explorer.Value else std.atomic.Value;

pub inline fn load(comptime T: type, word: *const T, comptime order: Order) T {
    return if (explored) explorer.load(T, word, order) else @atomicLoad(T, word, order);
}

pub inline fn store(comptime T: type, word: *T, value: T, comptime order: Order) void {
    if (explored) explorer.store(T, word, value, order) else @atomicStore(T, word, value, order);
}

/// Returns the value before.
pub inline fn add(comptime T: type, word: *T, value: T, comptime order: Order) T {
    return if (explored) explorer.add(T, word, value, order) else @atomicRmw(T, word, .Add, value, order);
}

/// In place of so many tries a few are enough where threads take turns.
pub inline fn tries(comptime count: usize, comptime few: usize) usize {
    return if (explored) few else count;
}
