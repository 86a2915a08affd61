//! Mode `fork`: two threads fork while the others allocate. Each child must be able to allocate from
//! its first call, resize and free what its thread owned, fork again and start threads; handlers of
//! fork allocate as well.

const std = @import("std");
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const shared = @import("shared.zig");

const Worker = shared.Worker;
const fail = shared.fail;
const enter = shared.enter;
const startThread = shared.startThread;
const joinThread = shared.joinThread;
const sumWorkers = shared.sumWorkers;
const drainQueue = shared.drainQueue;
const summarize = shared.summarize;
const worker_count_max = shared.worker_count_max;

/// Tells the background threads that the last child has ended.
var stop: std.atomic.Value(bool) = .init(false);
/// Outside the mode, and while it starts and ends, the handlers do nothing.
var handlers_active: std.atomic.Value(bool) = .init(false);

pub fn registerHandlers() void {
    if (std.c.pthread_atfork(onFork, onFork, onFork) != 0) fail("pthread_atfork refused", .{});
}

/// Runs before the constructor of any library, so for a preloaded allocator these handlers are
/// older than its own: libc calls the prepare handler while the allocator holds its locks.
fn registerBeforeLibraries() callconv(.c) void {
    _ = std.c.pthread_atfork(onFork, onFork, onFork);
}

const Registration = *const fn () callconv(.c) void;
export const hak_stress_preinit: Registration linksection(".preinit_array") = registerBeforeLibraries;

/// Another library's handler of fork that allocates. In the child the oracle still holds what the
/// other threads owned, so the handler looks after its blocks by itself.
fn onFork() callconv(.c) void {
    if (!handlers_active.load(.acquire)) return;
    const sizes = [_]usize{ 24, 1000, 40_000, 300_000 };
    var pointers: [sizes.len][*]u8 = undefined;
    for (&pointers, sizes) |*pointer, size| {
        pointer.* = shared.family.malloc(size) orelse fail("NULL for {d} bytes in a fork handler", .{size});
        oracle_module.fillPattern(pointer.*[0..size], @intFromPtr(pointer.*));
    }
    for (&pointers, sizes) |pointer, size| {
        if (oracle_module.firstWrongByte(pointer[0..size], @intFromPtr(pointer))) |index| {
            fail("block 0x{x} (size {d}) of a fork handler changed at byte {d}", .{
                @intFromPtr(pointer), size, index,
            });
        }
        shared.family.free(pointer);
    }
}

fn backgroundThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    while (!stop.load(.acquire)) worker.step();
    worker.handOverAll();
    return null;
}

fn forkerThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    forkRepeatedly(enter(context));
    return null;
}

/// Forks while the other threads go on, and another thread forks too.
fn forkRepeatedly(worker: *Worker) void {
    for (0..shared.operation_count / 2) |round| {
        const child_number = 2 * round + worker.number;
        for (0..40) |_| worker.step();
        // Blocks that other threads made, owned by this one when the child is born.
        for (worker.places[0..32]) |*place| {
            if (place.address == 0) place.* = shared.queue.pop() orelse break;
        }
        const child = std.c.fork();
        if (child < 0) fail("fork {d} refused", .{child_number});
        if (child == 0) runChild(worker, child_number);
        awaitChild(child, "child", child_number, 0);
    }
}

/// Waits for the child to end as expected; one that does not end is killed and is a failure.
pub fn awaitChild(child: std.c.pid_t, comptime kind: []const u8, child_number: u64, exit_expected: u8) void {
    const deadline = process.monotonicNanoseconds() + @as(u64, shared.child_limit_seconds) * std.time.ns_per_s;
    var status: c_int = 0;
    var pause_microseconds: u32 = 50;
    while (true) {
        const ended = std.c.waitpid(child, &status, std.c.W.NOHANG);
        if (ended == child) break;
        if (ended < 0) fail("waiting for " ++ kind ++ " {d} failed", .{child_number});
        if (process.monotonicNanoseconds() > deadline) {
            _ = std.c.kill(child, .KILL);
            _ = std.c.waitpid(child, &status, 0);
            fail(kind ++ " {d} hung: no end within {d} s", .{ child_number, shared.child_limit_seconds });
        }
        process.sleepMicroseconds(pause_microseconds);
        pause_microseconds = @min(2 * pause_microseconds, 5000);
    }
    // A child that failed has printed its own line.
    if (status == 1 << 8) process.exitNow(1);
    const expected = @as(c_int, exit_expected) << 8;
    if (status != expected) fail(kind ++ " {d} ended with wait status 0x{x}, expected 0x{x}", .{
        child_number, @as(c_uint, @bitCast(status)), @as(c_uint, @bitCast(expected)),
    });
}

/// The life of a forked child: all that the parent's threads owned is lost to it, all that the
/// forking thread owned must be there, and the allocator must work from the first call.
pub fn runChild(worker: *Worker, child_number: u64) noreturn {
    // Should the parent die, the child must not stay.
    _ = std.c.alarm(2 * shared.child_limit_seconds);
    worker.number = 1_000_000 + child_number;
    worker.operation = 0;
    worker.alone = true;
    shared.oracle.forgetAll();
    for (worker.places) |block| {
        if (block.address == 0) continue;
        block.claim();
        block.verify();
    }
    // The first call differs from child to child.
    switch (child_number % 7) {
        0 => for (&worker.places) |*place| {
            if (place.address == 0) continue;
            worker.destroy(place.*);
            place.* = .none;
            break;
        },
        1 => for (&worker.places) |*place| {
            if (place.address == 0) continue;
            place.* = worker.remake(place.*, place.size * 3 + 1);
            break;
        },
        2 => worker.destroy(worker.need(.calloc, 200_000, 0)),
        3 => worker.destroy(worker.need(.aligned, 100, 4096)),
        4 => runGrandchild(worker, child_number),
        5 => runThreadInChild(child_number),
        6 => {},
        else => unreachable,
    }
    for (0..1500) |_| worker.step();
    // Every block that is older than the fork, or as young as the child, is resized and freed.
    for (&worker.places, 0..) |*place, index| {
        if (place.address == 0) continue;
        worker.operation += 1;
        worker.destroy(worker.remake(place.*, if (index % 2 == 0) place.size / 2 + 1 else place.size + 100));
        place.* = .none;
    }
    if (child_number % 5 == 0) std.c.exit(0);
    process.exitNow(0);
}

fn runGrandchild(worker: *Worker, child_number: u64) void {
    const grandchild = std.c.fork();
    if (grandchild < 0) fail("fork in child {d} refused", .{child_number});
    if (grandchild == 0) {
        for (0..300) |_| worker.step();
        worker.destroyAll();
        process.exitNow(0);
    }
    awaitChild(grandchild, "the child of child", child_number, 0);
}

fn childThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    for (0..300) |_| worker.step();
    worker.destroyAll();
    return null;
}

fn runThreadInChild(child_number: u64) void {
    const worker = &shared.workers[worker_count_max - 1];
    worker.reset(2_000_000 + child_number);
    worker.alone = true;
    startThread(worker, childThread);
    joinThread(worker);
}

pub fn run() []const u8 {
    registerHandlers();
    handlers_active.store(true, .release);
    for (shared.workers[0..shared.thread_count], 0..) |*worker, index| worker.reset(index);
    shared.current_worker = &shared.workers[0];
    // The first fork comes before any second thread exists.
    const child = std.c.fork();
    if (child < 0) fail("the first fork was refused", .{});
    if (child == 0) runChild(&shared.workers[0], 0);
    awaitChild(child, "child", 0, 0);

    startThread(&shared.workers[1], forkerThread);
    for (shared.workers[2..shared.thread_count]) |*worker| startThread(worker, backgroundThread);
    forkRepeatedly(&shared.workers[0]);
    joinThread(&shared.workers[1]);
    stop.store(true, .release);
    for (shared.workers[2..shared.thread_count]) |*worker| joinThread(worker);
    handlers_active.store(false, .release);
    shared.workers[0].destroyAll();
    shared.workers[1].destroyAll();
    drainQueue(&shared.workers[0]);
    const totals = sumWorkers();
    return summarize("{d} children, {d} blocks made by the parent, {d} freed by another thread", .{
        shared.operation_count / 2 * 2 + 1, totals.blocks_made, totals.foreign_frees,
    });
}
