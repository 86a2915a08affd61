//! What the counting build exports besides: `bench/costs/` and the native workloads read it. In no shipped object.

const cost = @import("../platform/cost.zig");

/// The sums over all threads since the start, by the number that `hak_cost_name` takes; at most `count` of them.
fn hak_cost_counts(counts: [*]u64, count: usize) callconv(.c) void {
    for (0..@min(count, cost.names.len)) |number| counts[number] = cost.sum(@fromBackingInt(@intCast(number)));
}

/// What a count is called; null past the last.
fn hak_cost_name(number: usize) callconv(.c) ?[*:0]const u8 {
    return if (number < cost.names.len) cost.names[number] else null;
}

pub fn exportAll() void {
    @export(&hak_cost_counts, .{ .name = "hak_cost_counts" });
    @export(&hak_cost_name, .{ .name = "hak_cost_name" });
}
