//! HAKMEM_LIMIT: how much memory the process may have from here, for containers whose kernel kills where no call is
//! refused.
//!
//! One total counts what is resident as far as it is known: granules of superslabs in use or dirty, huge blocks whole,
//! as RLIMIT_DATA counts them, and records. Whoever is about to take more asks first (`take`), so the total never passes
//! the limit, and what went back to the system is taken off (`give`). From half the limit on every thread is asked to
//! flush its magazines as the total grows; a request that does not fit is tried again as where the system refuses (`heap.zig`).
//!
//! Without a limit nothing is counted: one load of a word that is never written. Only slow paths come here.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const atomic = @import("../platform/atomic.zig");
const cgroup = @import("../platform/cgroup.zig");
const os = @import("../platform/os.zig");
const settings = @import("../platform/settings.zig");
const Line = @import("../seeing/fatal.zig").Line;
const assert = std.debug.assert;

const unlimited = std.math.maxInt(usize);

/// Of the limit of a cgroup, what is left for all that is not counted here: 1 in this. The kernel counts stacks, the
/// data of programs, page tables and what it has of files too.
const cgroup_spare_share = 10;
/// Threads are asked to flush where more than half of the limit is counted and the total has grown by this share of the
/// limit (1 in …) since it was lowest or they were last asked. So early, because a thread that idles or runs on its
/// magazines hears of it late, and a block in a magazine may keep a whole slab; and for no more than a part of what the
/// fresh pages cost that let the total grow.
const step_share = 32;

/// Written before the first block, and by tests while there is no other thread.
var most: usize = unlimited;
var total: atomic.Value(usize) = .init(0);
/// The total from which on threads are asked to flush.
var ask_from: atomic.Value(usize) = .init(unlimited);
var is_said: atomic.Value(bool) = .init(false);

/// Counts requests that every thread flush its magazines at its next slow path: near the limit, and where someone wants
/// all that is free.
var flushes_wanted: atomic.Value(u32) = .init(0);

/// Heeds the setting. `present` is what the process has already of all that counts.
pub fn start(present: usize) void {
    switch (settings.limit) {
        .none => {},
        .bytes => |bytes| set(bytes, present),
        .cgroup => if (cgroup.limitBytes()) |bytes| set(bytes - bytes / cgroup_spare_share, present) else sayNoneFound(),
    }
}

/// Sets the limit, with no other thread inside. Null is none.
pub fn set(bytes: ?usize, present: usize) void {
    most = bytes orelse unlimited;
    recount(present);
}

pub fn isSet() bool {
    return most != unlimited;
}

/// In a forked child: what threads that are gone had counted and not yet taken, it has not.
pub fn recount(present: usize) void {
    total.store(present, .monotonic);
    ask_from.store(askAfter(present), .monotonic);
}

/// What counts now. 0 without a limit.
pub fn counted() usize {
    return total.load(.monotonic);
}

/// Counts `bytes` that are about to be taken. False if they do not fit, and nothing is counted.
pub inline fn take(bytes: usize) bool {
    return !isSet() or takeWithin(bytes);
}

noinline fn takeWithin(bytes: usize) bool {
    var present = total.load(.monotonic);
    while (true) {
        if (bytes > most -| present) return false;
        // Partners: itself, `add` and `give`. It says nothing of other memory, so it needs no order.
        present = total.cmpxchgWeak(present, present + bytes, .monotonic, .monotonic) orelse break;
    }
    if (present + bytes >= ask_from.load(.monotonic)) askFrom(present + bytes);
    return true;
}

/// Counts what is there in any case.
pub fn add(bytes: usize) void {
    // Partner: as in `takeWithin`.
    if (isSet()) _ = total.fetchAdd(bytes, .monotonic);
}

/// Takes off what went back to the system, or was not taken after all.
pub inline fn give(bytes: usize) void {
    if (isSet()) giveWithin(bytes);
}

noinline fn giveWithin(bytes: usize) void {
    // Partner: as in `takeWithin`.
    const before = total.fetchAdd(-%bytes, .monotonic);
    assert(before >= bytes);
    const next = askAfter(before - bytes);
    // Partner: `askFrom`. Of two at once either may stay: then threads are asked a step sooner or later.
    if (next < ask_from.load(.monotonic)) ask_from.store(next, .monotonic);
}

/// Whether `bytes` would fit now.
pub fn hasRoom(bytes: usize) bool {
    return !isSet() or bytes <= most -| total.load(.monotonic);
}

/// Maps memory for records, which counts whole. Null when the system refuses, or the limit.
pub fn map(bytes: usize) ?usize {
    if (!take(bytes)) return null;
    return os.map(bytes, .read_write, 0) orelse {
        give(bytes);
        return null;
    };
}

/// What `flushes_wanted` must not differ from.
pub fn flushRequests() u32 {
    // Partner: `requestFlush`. A stale answer leaves the flush to the next slow path.
    return flushes_wanted.load(.monotonic);
}

/// Asks every thread to flush its magazines at its next slow path. Returns the number of the request.
pub fn requestFlush() u32 {
    // Partner: the load in `flushRequests`.
    return flushes_wanted.fetchAdd(1, .monotonic) +% 1;
}

fn askFrom(present: usize) void {
    // Partner: `giveWithin`, and itself.
    ask_from.store(askAfter(present), .monotonic);
    _ = requestFlush();
}

/// From which total on to ask, where it is `present` now.
fn askAfter(present: usize) usize {
    if (!isSet()) return unlimited;
    return @max(most / 2, present +| @max(1, most / step_share));
}

/// A request of `bytes` fails: says so once, if it was for the limit.
pub fn noteFailure(bytes: usize) void {
    // A block needs less than a superslab beside itself.
    if (isSet() and !hasRoom(bytes +| geometry.superslab_bytes)) say();
}

noinline fn say() void {
    @branchHint(.cold);
    // Partner: itself, in another thread.
    if (is_said.swap(true, .monotonic)) return;
    var line: Line = .{};
    line.text("hakmem: a request does not fit in the limit of ");
    line.bytes(most);
    line.text(" (HAKMEM_LIMIT); such requests fail with ENOMEM until enough is free; further ones are not said");
    line.end();
}

noinline fn sayNoneFound() void {
    @branchHint(.cold);
    var line: Line = .{};
    line.text("hakmem: HAKMEM_LIMIT=cgroup found no memory limit of a cgroup of this process, so there is none");
    line.end();
}

test "process limit: what does not fit is refused and not counted; what went back may be taken again" {
    defer set(null, 0);
    set(1000, 100);
    try std.testing.expect(hasRoom(900) and !hasRoom(901));
    try std.testing.expect(take(500));
    try std.testing.expect(!take(401));
    try std.testing.expect(!take(std.math.maxInt(usize)));
    try std.testing.expectEqual(600, counted());
    try std.testing.expect(take(400));
    try std.testing.expect(!take(1));
    give(300);
    try std.testing.expectEqual(700, counted());
    // What is there anyway may pass the limit; then nothing fits.
    add(500);
    try std.testing.expect(!take(1) and take(0));
    give(1200);
    try std.testing.expect(take(1000));
}

test "process limit: threads are asked to flush near it, not at every step" {
    defer set(null, 0);
    set(3200, 0);
    const before = flushRequests();
    try std.testing.expect(take(1599));
    try std.testing.expectEqual(before, flushRequests());
    try std.testing.expect(take(1));
    try std.testing.expectEqual(before +% 1, flushRequests());
    // Up and down within a step is nothing new.
    for (0..50) |_| {
        try std.testing.expect(take(49));
        give(49);
    }
    try std.testing.expectEqual(before +% 1, flushRequests());
    for (0..4) |_| try std.testing.expect(take(100));
    try std.testing.expectEqual(before +% 5, flushRequests());
    // Far from it and near it again.
    give(2000);
    try std.testing.expect(take(1600));
    try std.testing.expectEqual(before +% 6, flushRequests());
}

test "process limit: threads that take and give at once never pass it and lose nothing" {
    defer set(null, 0);
    set(1000, 0);
    const Worker = struct {
        fn work(seed: usize) void {
            var random_source = std.Random.DefaultPrng.init(seed);
            const random = random_source.random();
            var held: usize = 0;
            for (0..20_000) |_| {
                const bytes = random.uintAtMost(usize, 400);
                if (take(bytes)) held += bytes;
                if (counted() > 1000) @panic("passed the limit");
                if (random.boolean()) {
                    give(held);
                    held = 0;
                }
            }
            give(held);
        }
    };
    var threads: [4]std.Thread = undefined;
    for (&threads, 0..) |*thread, seed| thread.* = try std.Thread.spawn(.{}, Worker.work, .{seed});
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(0, counted());
}

test "process limit: memory for records counts, unless the system refuses it" {
    defer set(null, 0);
    defer os.refusal = .{};
    set(1 << 20, 0);
    const address = map(1 << 19).?;
    try std.testing.expectEqual(1 << 19, counted());
    try std.testing.expectEqual(null, map((1 << 19) + (1 << 16)));
    os.refusal = .{ .refuse_from = 1, .refuse_count = 1 };
    try std.testing.expectEqual(null, map(1 << 19));
    os.refusal = .{};
    try std.testing.expectEqual(1 << 19, counted());
    try std.testing.expect(os.unmap(address, 1 << 19));
}
