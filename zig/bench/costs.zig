//! Counts of what an operation costs beside time, from an allocator that was built to count (build option
//! `counting`). Others have none.

const std = @import("std");
const Line = @import("measure.zig").Line;

/// Sums over all threads since the process started.
pub const Counts = [count_max]u64;

/// More than there are names.
const count_max = 64;

// Weak references, not `dlsym`: one that fails would allocate its message with the allocator under test.
// Variables that the loader sets, as the compiler takes a constant of the kind for never null. Nobody writes them.
var hak_cost_counts = @extern(?*const fn (counts: [*]u64, count: usize) callconv(.c) void, .{ .name = "hak_cost_counts", .linkage = .weak });
/// Null past the last.
var hak_cost_name = @extern(?*const fn (index: usize) callconv(.c) ?[*:0]const u8, .{ .name = "hak_cost_name", .linkage = .weak });

/// All 0 where the allocator does not count.
pub fn read(counts: *Counts) void {
    counts.* = @splat(0);
    const of_allocator = hak_cost_counts orelse return;
    of_allocator(counts, count_max);
}

/// `{"name":count,…}`, or `null` where the allocator does not count.
pub fn print(line: *Line, counts: *const Counts) void {
    const nameOf = hak_cost_name orelse return line.print("null", .{});
    line.print("{{", .{});
    for (counts, 0..) |count, index| {
        const name = nameOf(index) orelse break;
        if (index > 0) line.print(",", .{});
        line.string(std.mem.span(name));
        line.print(":{d}", .{count});
    }
    line.print("}}", .{});
}
