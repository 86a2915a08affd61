//! The atomic operations of the allocator: the machine's own, inline, in the order that the caller names.
//!
//! Two builds differ. In that of `zig/tests/interleave.zig` every operation is a place where the explorer may let
//! another thread go on; in the counting build each is counted. `explored` and `cost.counting` are false in all that
//! is shipped, and no instruction comes from this file.

const std = @import("std");

pub const explored = @import("build_options").explored;
pub const explorer = if (explored) @import("explorer") else struct {};
const cost = @import("cost.zig");
const Order = std.builtin.AtomicOrder;

pub const Value = if (explored) explorer.Value else if (cost.counting) Counted else std.atomic.Value;

pub inline fn load(comptime T: type, word: *const T, comptime order: Order) T {
    cost.atomicLoad(order);
    return if (explored) explorer.load(T, word, order) else @atomicLoad(T, word, order);
}

pub inline fn store(comptime T: type, word: *T, value: T, comptime order: Order) void {
    cost.atomicStore(order);
    if (explored) explorer.store(T, word, value, order) else @atomicStore(T, word, value, order);
}

/// Returns the value before.
pub inline fn add(comptime T: type, word: *T, value: T, comptime order: Order) T {
    cost.atomicUpdate(order);
    return if (explored) explorer.add(T, word, value, order) else @atomicRmw(T, word, .Add, value, order);
}

/// As `std.atomic.Value`, counted. Such a word is written by several threads in every case.
fn Counted(comptime T: type) type {
    return extern struct {
        raw: T,

        const Self = @This();

        pub fn init(value: T) Self {
            return .{ .raw = value };
        }

        pub inline fn load(self: *const Self, comptime order: Order) T {
            cost.atomicLoad(order);
            return @atomicLoad(T, &self.raw, order);
        }

        pub inline fn store(self: *Self, value: T, comptime order: Order) void {
            cost.atomicStore(order);
            cost.wrote(&self.raw);
            @atomicStore(T, &self.raw, value, order);
        }

        pub inline fn swap(self: *Self, value: T, comptime order: Order) T {
            cost.atomicUpdate(order);
            cost.wrote(&self.raw);
            return @atomicRmw(T, &self.raw, .Xchg, value, order);
        }

        pub inline fn fetchAdd(self: *Self, value: T, comptime order: Order) T {
            cost.atomicUpdate(order);
            cost.wrote(&self.raw);
            return @atomicRmw(T, &self.raw, .Add, value, order);
        }

        pub inline fn cmpxchgWeak(self: *Self, expected: T, new: T, comptime success: Order, comptime failure: Order) ?T {
            // One that may fail without a cause would make the figures vary.
            return self.cmpxchgStrong(expected, new, success, failure);
        }

        pub inline fn cmpxchgStrong(self: *Self, expected: T, new: T, comptime success: Order, comptime failure: Order) ?T {
            cost.atomicUpdate(success);
            const other = @cmpxchgStrong(T, &self.raw, expected, new, success, failure);
            if (other == null) cost.wrote(&self.raw) else cost.add(.rmw_failed, 1);
            return other;
        }
    };
}

/// In place of so many tries a few are enough where threads take turns.
pub inline fn tries(comptime count: usize, comptime few: usize) usize {
    return if (explored) few else count;
}
