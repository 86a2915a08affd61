//! Mode `producer-consumer`: half of the threads only allocate, the other half only free. The live
//! set is bounded by the queue, and resident memory must be too.

const std = @import("std");
const process = @import("../process.zig");
const shared = @import("shared.zig");
const Queue = @import("queue.zig").Queue;

const mib = shared.mib;
const Random = shared.Random;
const fail = shared.fail;
const enter = shared.enter;
const startThread = shared.startThread;
const joinThread = shared.joinThread;
const summarize = shared.summarize;
const residentBytes = shared.residentBytes;

var producers_running: std.atomic.Value(u32) = .init(0);
/// Producers that have not come to the first measurement yet.
var producers_early: std.atomic.Value(u32) = .init(0);
var producer_bytes: std.atomic.Value(u64) = .init(0);
/// Resident bytes when every producer has done a twentieth, and when every one is done. Written by
/// the last producer to come there; the first is read after `measured`, both after the join.
var resident: [2]usize = undefined;
var measured: std.atomic.Value(bool) = .init(false);

/// What resident memory may grow by while the live set stays the same.
const producer_growth_allowance = 24 * mib;

fn producerThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    var bytes: u64 = 0;
    while (worker.operation < shared.operation_count) : (worker.operation += 1) {
        var random: Random = .of(worker.number, worker.operation);
        // Half of the blocks of one size, which serves one class; the rest spread.
        const spread = random.below(2) == 0;
        const block = worker.need(.malloc, if (spread) random.below(1200) else 64, 0);
        bytes += block.usable;
        while (!shared.queue.push(block)) process.yieldProcessor();
        if (worker.operation == shared.operation_count / 20) measureEarly();
    }
    _ = producer_bytes.fetchAdd(bytes, .monotonic);
    if (producers_running.fetchSub(1, .acq_rel) == 1) resident[1] = residentBytes();
    return null;
}

/// The producers wait here for the last of them, so that most of the blocks come after.
fn measureEarly() void {
    if (producers_early.fetchSub(1, .acq_rel) == 1) {
        resident[0] = residentBytes();
        measured.store(true, .release);
    }
    while (!measured.load(.acquire)) process.yieldProcessor();
}

/// Never allocates: its first and only act is to free what others made.
fn consumerThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    while (true) {
        const producers_left = producers_running.load(.acquire);
        if (shared.queue.pop()) |block| {
            worker.destroy(block);
            worker.operation += 1;
        } else if (producers_left == 0) {
            return null;
        } else process.yieldProcessor();
    }
}

pub fn run() []const u8 {
    process.withoutHugePages();
    const producer_count = shared.thread_count / 2;
    producers_running = .init(producer_count);
    producers_early = .init(producer_count);
    for (shared.workers[0..shared.thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, if (index < producer_count) producerThread else consumerThread);
    }
    for (shared.workers[0..shared.thread_count]) |*worker| joinThread(worker);
    const passed = producer_bytes.load(.monotonic);
    if (resident[1] > resident[0] + producer_growth_allowance) {
        fail("resident memory grew from {d} to {d} bytes while at most {d} blocks were live, allowed {d}", .{
            resident[0], resident[1], Queue.capacity + shared.thread_count, producer_growth_allowance,
        });
    }
    // Less than this could not have shown the growth.
    if (passed < 3 * producer_growth_allowance) {
        fail("only {d} bytes passed: too few operations to judge the memory", .{passed});
    }
    return summarize("{d} bytes passed from {d} producers to {d} consumers, resident memory {d} to {d} bytes", .{
        passed, producer_count, shared.thread_count - producer_count, resident[0], resident[1],
    });
}
