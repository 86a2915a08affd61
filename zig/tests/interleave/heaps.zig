//! Threads and their heaps: requests to flush, threads that end, the statistics, and the fork handlers.

const std = @import("std");
const explorer = @import("explorer");
const internals = @import("hakmem").internals;
const libc = @import("libc.zig");
const expectStart = @import("lock.zig").expectStart;
const central = internals.central;
const heap = internals.heap;
const lifecycle = internals.lifecycle;
const size_class = internals.size_class;
const stats = internals.stats;
const superslab = internals.superslab;
const thread_slot = internals.thread_slot;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

/// The sizes that the threads here use: a slab of one granule each.
const sizes = [_]usize{ 1024, 512, 768, 640 };
const class = size_class.of(sizes[0]);

/// The locks of all other classes: a flush of everything goes through them and finds nothing.
pub fn unusedClass(step: Step) bool {
    const locks = central.locks();
    const first = @intFromPtr(&locks[0].state);
    const apart = @intFromPtr(&locks[1].state) - first;
    const offset = step.address -% first;
    if (offset % apart != 0 or offset / apart >= locks.len) return false;
    for (sizes) |size| {
        if (size_class.of(size) == offset / apart + 1) return false;
    }
    return true;
}

/// Besides: what only the thread itself, or others under a lock, look at here. `lock.zig` and `ownership.zig` explore
/// the words of the passage and the registry.
fn besides(step: Step) bool {
    if (unusedClass(step)) return true;
    return step.bytes == 8 and (step.kind == .load or step.kind == .store);
}

/// Reads that find nothing: of magazines that are not there.
fn nothingThere(step: Step) bool {
    if (unusedClass(step)) return true;
    return step.bytes == 8 and step.kind == .load and @as(*const u64, @ptrFromInt(step.address)).* == 0;
}

fn held(own: *heap.Heap) usize {
    return own.shelves[class].count(&own.magazines[class]);
}

fn emptyProcess() !void {
    heap.free(heap.allocate(sizes[0]) orelse return error.NoMemory);
    heap.flushMagazines();
}

fn nothingLeft() !void {
    heap.flushMagazines();
    central.verify();
    superslab.verify();
    const now = stats.gather();
    try std.testing.expectEqual(1, now.threads);
    try std.testing.expectEqual(0, now.slabs);
    try std.testing.expectEqual(0, now.magazine_bytes + now.cold_bytes);
    try std.testing.expectEqual(0, now.superslabs);
}

// Requests to flush.

var requests_before: u32 = 0;
/// Requests whose call has returned.
var requested: explorer.Value(u32) = .init(0);

fn noRequests() !void {
    try emptyProcess();
    requests_before = thread_slot.get().flush_seen;
    requested = .init(0);
}

fn twoRequests() !void {
    try nothingLeft();
    try std.testing.expectEqual(requests_before + 3, thread_slot.get().flush_seen);
}

fn request() void {
    heap.flushMagazines();
    _ = requested.fetchAdd(1, .release);
}

/// Three slow paths, with a block in a magazine before each.
fn follow() void {
    const block = heap.allocate(sizes[0]) orelse explorer.fail("no memory", .{});
    heap.free(block);
    const own = thread_slot.get();
    var followed = own.flush_seen;
    for (sizes[1..]) |size| {
        if (held(own) == 0) heap.free(heap.allocate(sizes[0]) orelse explorer.fail("no memory", .{}));
        // That was a slow path, perhaps.
        followed = own.flush_seen;
        if (held(own) == 0) explorer.fail("a magazine emptied without a slow path", .{});
        const due = requests_before + requested.load(.acquire);
        heap.free(heap.allocate(size) orelse explorer.fail("no memory", .{}));
        if (own.flush_seen < due) explorer.fail("a request was lost", .{});
        const kept = held(own) != 0;
        if (own.flush_seen == followed and !kept) explorer.fail("a flush without a request", .{});
        if (own.flush_seen != followed and kept) explorer.fail("a request not followed", .{});
    }
}

const flushing: Scenario = .{
    .threads = &.{ follow, request, request },
    .before = noRequests,
    .after = twoRequests,
    .preemptions = 1,
    .aside = besides,
};

const flushing_once: Scenario = .{
    .threads = &.{ follow, request },
    .before = noRequests,
    .after = oneRequest,
    .preemptions = 2,
    .aside = besides,
};

fn oneRequest() !void {
    try nothingLeft();
    try std.testing.expectEqual(requests_before + 2, thread_slot.get().flush_seen);
}

test "interleave: flush requests, each is followed at the next slow path, once" {
    try explorer.explore(flushing_once, .{ .schedules_min = 2_000 });
}

test "interleave: flush requests of two threads at once, none is lost" {
    try explorer.explore(flushing, .{ .schedules_min = 500 });
}

test "interleave: flush requests, planted: one counted in two steps is lost" {
    _ = try explorer.expectFound(flushing.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .add and step.bytes == 4 and step.value != 0 and !isTests(step)) .torn else null;
        }
        fn isTests(step: Step) bool {
            return step.address == @intFromPtr(&requested.raw);
        }
    }.planted));
}

test "interleave: flush requests, planted: one never counted" {
    _ = try explorer.expectFound(flushing_once.with(struct {
        fn planted(step: Step) ?Defect {
            const own = step.address == @intFromPtr(&requested.raw);
            return if (step.kind == .add and step.bytes == 4 and !own) .dropped else null;
        }
    }.planted));
}

// Threads that end, and others that flush the heaps without a thread, as a forked child has them.

var heaps_made = false;

fn idleHeaps() !void {
    try emptyProcess();
    // As many heaps as are ever needed, all idle, and in the same order each time.
    if (!heaps_made) try leaveHeaps(explorer.threads_max + 2, 1);
    heaps_made = true;
    heap.flushMagazines();
    try leaveHeaps(0, 0);
    try leaveHeaps(2, 6);
    if (stats.gather().magazine_bytes == 0) return error.NothingIdle;
}

/// Threads with so many blocks in their magazines each, gone by a fork.
fn leaveHeaps(threads: usize, blocks_each: usize) !void {
    for (0..threads) |_| {
        explorer.renew();
        var blocks: [6]*anyopaque = undefined;
        for (blocks[0..blocks_each]) |*block| block.* = heap.allocate(sizes[0]) orelse return error.NoMemory;
        for (blocks[0..blocks_each]) |block| heap.free(block);
    }
    explorer.returnToFirst();
    libc.beforeFork();
    libc.afterForkInChild();
}

fn flush() void {
    heap.flushMagazines();
}

/// A thread that has a heap to itself until it ends.
fn liveAndEnd() void {
    // What the thread before it left in the heap is older than this.
    explorer.writeData(lifecycle.enter() orelse explorer.fail("no memory", .{}));
    var blocks: [5]*usize = undefined;
    for (&blocks, 0..) |*block, at| {
        block.* = @ptrCast(@alignCast(heap.allocate(sizes[0]) orelse explorer.fail("no memory", .{})));
        block.*.* = @intFromPtr(&blocks) + at;
    }
    for (blocks, 0..) |block, at| {
        if (block.* != @intFromPtr(&blocks) + at) explorer.fail("a block handed out twice", .{});
        heap.free(block);
    }
}

const ending: Scenario = .{
    .threads = &.{ liveAndEnd, flush, liveAndEnd },
    .before = idleHeaps,
    .after = nothingLeft,
    .preemptions = 1,
    .aside = besides,
};

const flushing_idle: Scenario = .{
    .threads = &.{ flush, flush },
    .before = idleHeaps,
    .after = nothingLeft,
    .preemptions = 2,
    .aside = besides,
};

test "interleave: threads begin and end while another flushes all" {
    try explorer.explore(ending, .{ .schedules_min = 500 });
}

test "interleave: two threads flush the heaps of threads that are gone" {
    try explorer.explore(flushing_idle, .{ .schedules_min = 1_000 });
}

test "interleave: threads that end, planted: a list of heaps without its lock" {
    try expectStart("a race", try explorer.expectFound(ending.with(struct {
        fn planted(step: Step) ?Defect {
            const lock = @intFromPtr(&lifecycle.all_locks[0].state);
            return if (step.kind == .exchange and step.address == lock) .dropped else null;
        }
    }.planted)));
}

// The statistics are read while magazines change.

/// Blocks that the thread below ever has: seven refills of the four of a page. They fill its magazine of 15, which grows
/// to 31.
const blocks_ever = 28;

fn growAndFlush() void {
    var blocks: [blocks_ever - 3]*anyopaque = undefined;
    for (&blocks) |*block| block.* = heap.allocate(sizes[0]) orelse explorer.fail("no memory", .{});
    for (blocks) |block| heap.free(block);
    heap.flushMagazine(class);
}

fn gather() void {
    gatherAtMost(blocks_ever);
}

fn gatherTooFew() void {
    gatherAtMost(blocks_ever - 1);
}

fn gatherAtMost(blocks: usize) void {
    const now = stats.gather();
    if (now.magazine_bytes > blocks * sizes[0]) explorer.fail("{d} bytes in magazines", .{now.magazine_bytes});
    if (now.threads > 2) explorer.fail("{d} threads", .{now.threads});
    if (now.slabs > 2 or now.superslabs > 2) explorer.fail("{d} slabs", .{now.slabs});
}

const gathering: Scenario = .{
    .threads = &.{ growAndFlush, gather },
    .before = emptyProcess,
    .after = nothingLeft,
    .preemptions = 2,
    .aside = nothingThere,
};

test "interleave: statistics of a thread whose magazines grow and go" {
    try explorer.explore(gathering, .{ .schedules_min = 2_000 });
}

test "interleave: statistics, planted: a thread said to have a block less than it ever has" {
    var scenario = gathering;
    scenario.threads = &.{ growAndFlush, gatherTooFew };
    try expectStart("28672 bytes", try explorer.expectFound(scenario));
}

// The fork handlers are registered by the first thread that has a heap.

var fork_handled: ?*bool = null;

fn noHandlers() !void {
    try emptyProcess();
    if (fork_handled) |word| word.* = false;
    libc.handlers_registered = 0;
}

fn oneRegistered() !void {
    try nothingLeft();
    const word = fork_handled orelse return error.NeverAsked;
    try std.testing.expect(word.*);
    // The first schedule finds them registered.
    try std.testing.expect(libc.handlers_registered <= 1);
}

fn begin() void {
    heap.free(heap.allocate(sizes[0]) orelse explorer.fail("no memory", .{}));
}

fn watch(step: Step) ?Defect {
    if (step.kind == .swap and step.bytes == 1) fork_handled = @ptrFromInt(step.address);
    return null;
}

const registering: Scenario = .{
    .threads = &.{ begin, begin },
    .before = noHandlers,
    .after = oneRegistered,
    .preemptions = 2,
    .aside = besides,
    .planted = watch,
};

test "interleave: two first threads register the fork handlers once" {
    try explorer.explore(registering, .{ .schedules_min = 1_000 });
}

test "interleave: fork handlers, planted: asked and marked in two steps" {
    _ = try explorer.expectFound(registering.with(struct {
        fn planted(step: Step) ?Defect {
            _ = watch(step);
            return if (step.kind == .swap and step.bytes == 1) .torn else null;
        }
    }.planted));
}
