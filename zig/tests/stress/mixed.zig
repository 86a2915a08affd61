//! Modes `mixed` and `scarce`: every thread makes, resizes, frees and hands over blocks of all sizes.
//! In `scarce` the address space is too small for what they would keep, so that requests fail in
//! all places; a failed one must leave everything as it was.

const process = @import("../process.zig");
const shared = @import("shared.zig");

const mib = shared.mib;
const fail = shared.fail;
const enter = shared.enter;
const startThread = shared.startThread;
const joinThread = shared.joinThread;
const waitForAll = shared.waitForAll;
const sumWorkers = shared.sumWorkers;
const drainQueue = shared.drainQueue;
const summarize = shared.summarize;

fn mixedThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(shared.thread_count);
    for (0..shared.operation_count) |_| worker.step();
    // Each thread frees another's leftovers too: half of the blocks are left in the queue.
    for (&worker.places, 0..) |*place, index| {
        if (place.address == 0) continue;
        if (index % 2 == 0) worker.handOver(place.*) else worker.destroy(place.*);
        place.* = .none;
    }
    return null;
}

pub fn run() []const u8 {
    for (shared.workers[0..shared.thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, mixedThread);
    }
    for (shared.workers[0..shared.thread_count]) |*worker| joinThread(worker);
    const last = &shared.workers[shared.thread_count];
    last.reset(shared.thread_count);
    shared.current_worker = last;
    drainQueue(last);
    const totals = sumWorkers();
    // A run in which no block changed threads would have tested nothing that matters here.
    if (totals.foreign_frees == 0) {
        fail("no block was freed by another thread than made it: too few operations", .{});
    }
    return summarize("{d} blocks made, {d} freed by another thread", .{ totals.blocks_made, totals.foreign_frees });
}

/// What the address space may grow by: less than the blocks that the threads would keep.
const scarce_budget = 6 * mib;

fn scarceThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    // The stacks are mapped by now, and the limit comes after the last of them.
    waitForAll(shared.thread_count + 1);
    while (!shared.scarce.load(.acquire)) process.yieldProcessor();
    for (0..shared.operation_count) |_| worker.step();
    worker.handOverAll();
    return null;
}

pub fn runScarce() []const u8 {
    shared.oracle.reserveLeaves(64) catch fail("the system gave no memory for the oracle", .{});
    for (shared.workers[0..shared.thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, scarceThread);
    }
    waitForAll(shared.thread_count + 1);
    const limit = process.limitAddressSpace(scarce_budget) catch |err| {
        fail("cannot lower the limit of the address space: {t}", .{err});
    };
    shared.scarce.store(true, .release);
    for (shared.workers[0..shared.thread_count]) |*worker| joinThread(worker);
    limit.restore();
    shared.scarce.store(false, .release);
    // With memory to be had again, every request is served.
    const last = &shared.workers[shared.thread_count];
    last.reset(shared.thread_count);
    shared.current_worker = last;
    drainQueue(last);
    for (0..5000) |_| last.step();
    last.handOverAll();
    drainQueue(last);
    const totals = sumWorkers();
    if (totals.refusals == 0) fail("no request was refused: too few operations", .{});
    return summarize("{d} blocks made, {d} requests refused, {d} blocks freed by another thread", .{
        totals.blocks_made, totals.refusals, totals.foreign_frees,
    });
}
