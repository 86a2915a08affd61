//! The explorer itself: a scenario that does not begin each time with the same state is no success.

const std = @import("std");
const explorer = @import("explorer");
const expectStart = @import("lock.zig").expectStart;

var runs: usize = 0;
var word: explorer.Value(u32) = .init(0);

fn runBefore() !void {
    runs += 1;
}

/// As many steps each time, and others.
fn storeOrLoad() void {
    if (runs % 2 == 0) word.store(1, .monotonic) else _ = word.load(.monotonic);
}

test "interleave: two runs with one schedule that differ in a step are noticed" {
    const message = try explorer.firstFailure(.{ .threads = &.{ storeOrLoad, storeOrLoad }, .before = runBefore });
    try expectStart("two runs of one schedule differ at step 1", message orelse return error.NotNoticed);
}
