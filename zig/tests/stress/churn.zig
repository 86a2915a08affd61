//! Mode `churn`: thousands of short threads, some of which only free, some of which end with blocks
//! alive, and some of which go on allocating in the destructors of their keys. What an ended thread
//! leaves behind must not add up.

const std = @import("std");
const process = @import("../process.zig");
const shared = @import("shared.zig");

const kib = shared.kib;
const mib = shared.mib;
const Worker = shared.Worker;
const fail = shared.fail;
const enter = shared.enter;
const startThread = shared.startThread;
const startThreadWithSmallStack = shared.startThreadWithSmallStack;
const joinThread = shared.joinThread;
const drainQueue = shared.drainQueue;
const summarize = shared.summarize;
const residentBytes = shared.residentBytes;
const Totals = shared.Totals;

/// A key made before the library was opened and one made after: their destructors run on both
/// sides of the allocator's own.
var key_early: std.c.pthread_key_t = undefined;
var key_late: std.c.pthread_key_t = undefined;

fn createKey(key: *std.c.pthread_key_t) void {
    const code = std.c.pthread_key_create(key, onThreadExit);
    if (code != .SUCCESS) fail("pthread_key_create: {t}", .{code});
}

/// Called before the library is opened.
pub fn createEarlyKey() void {
    createKey(&key_early);
}

fn setKey(key: std.c.pthread_key_t, worker: *Worker) void {
    if (std.c.pthread_setspecific(key, worker) != 0) fail("pthread_setspecific refused", .{});
}

/// Allocates and frees while the thread ends, asks to be called again, and gives away what is left.
fn onThreadExit(value: *anyopaque) callconv(.c) void {
    const worker = enter(value);
    for (0..20) |_| worker.step();
    if (worker.destructor_rounds > 0) {
        worker.destructor_rounds -= 1;
        setKey(key_late, worker);
    } else {
        worker.handOverAll();
    }
}

fn churnThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    switch (worker.number % 4) {
        // The first act is a free, and there is no other.
        0 => for (0..8) |_| {
            if (shared.queue.pop()) |block| worker.destroy(block);
        },
        // Ends with blocks alive that others free.
        1 => {
            for (0..80) |_| worker.step();
            worker.handOverAll();
        },
        // The destructors of both keys go on allocating; the early one runs once, the late one
        // until its rounds are used up.
        2 => {
            worker.destructor_rounds = 2;
            setKey(key_early, worker);
            setKey(key_late, worker);
            for (0..40) |_| worker.step();
        },
        3 => {
            for (0..80) |_| worker.step();
            worker.destroyAll();
        },
        else => unreachable,
    }
    return null;
}

/// What a thousand ended threads may leave behind.
const churn_growth_allowance = 3 * mib;

pub fn run() []const u8 {
    process.withoutHugePages();
    createKey(&key_late);
    const last = &shared.workers[shared.thread_count];
    last.reset(std.math.maxInt(u32));
    var totals: Totals = .{};
    var resident: [2]usize = undefined;
    // Both halves end with no thread and no block alive, so the second must need nothing new.
    for (&resident, 0..) |*measured, half| {
        const first = half * shared.operation_count / 2;
        const end = (half + 1) * shared.operation_count / 2;
        for (first..end) |index| {
            const worker = &shared.workers[index % shared.thread_count];
            if (index - first >= shared.thread_count) {
                joinThread(worker);
                totals.blocks_made += worker.blocks_made;
                totals.foreign_frees += worker.foreign_frees;
            }
            worker.reset(index);
            // A large block that happens to stay cached would hide what a thread leaves behind.
            worker.size_max = 8 * kib;
            if (index % 3 == 0) startThreadWithSmallStack(worker, churnThread) else startThread(worker, churnThread);
        }
        for (first..first + @min(shared.thread_count, end - first)) |index| {
            joinThread(&shared.workers[index % shared.thread_count]);
        }
        shared.current_worker = last;
        drainQueue(last);
        shared.current_worker = null;
        measured.* = residentBytes();
    }
    if (totals.foreign_frees == 0) fail("no block was freed by another thread than made it: too few threads", .{});
    if (shared.operation_count >= 1000 and resident[1] > resident[0] + churn_growth_allowance) {
        fail("resident memory grew from {d} to {d} bytes over {d} ended threads, allowed {d}", .{
            resident[0], resident[1], shared.operation_count / 2, churn_growth_allowance,
        });
    }
    return summarize("{d} threads, {d} blocks made, {d} freed by another thread, resident memory {d} to {d} bytes", .{
        shared.operation_count, totals.blocks_made, totals.foreign_frees, resident[0], resident[1],
    });
}
