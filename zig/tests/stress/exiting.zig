//! Mode `exit`: processes that end, in each of the ways there are, while their threads allocate and
//! the handlers of exit do too. Each is a fresh process of this program.

const std = @import("std");
const process = @import("../process.zig");
const shared = @import("shared.zig");
const forking = @import("forking.zig");

const fail = shared.fail;
const enter = shared.enter;
const startThread = shared.startThread;
const joinThread = shared.joinThread;
const waitForAll = shared.waitForAll;
const summarize = shared.summarize;
const worker_count_max = shared.worker_count_max;

extern "c" fn pthread_exit(value: ?*anyopaque) noreturn;
extern "c" fn atexit(function: *const fn () callconv(.c) void) c_int;

/// The ways in which a process ends while its threads allocate.
const Ending = enum { exit_by_main, exit_by_worker, return_from_main, main_thread_ends };

/// Differs from the status of every failure.
const exit_status = 7;

pub fn run(hak_path: ?[:0]const u8) []const u8 {
    var texts: [4][24]u8 = undefined;
    for (0..shared.operation_count) |index| {
        // Formatted before the fork, since the child may only replace itself.
        const process_seed = decimal(&texts[0], shared.seed +% index);
        const threads = decimal(&texts[1], shared.thread_count);
        const ending = decimal(&texts[2], 1 + index % 4);
        const limit = decimal(&texts[3], 2 * shared.child_limit_seconds);
        const arguments = [_:null]?[*:0]const u8{
            "hak-stress", "--mode",                                "exit-process",       "--seed", process_seed,
            "--threads",  threads,                                 "--operations",       ending,   "--limit",
            limit,        if (hak_path != null) "--hak" else null, hak_path orelse null,
        };
        const child = std.c.fork();
        if (child < 0) fail("fork {d} refused", .{index});
        if (child == 0) {
            _ = std.c.execve("/proc/self/exe", &arguments, std.c.environ);
            process.exitNow(99);
        }
        const how: Ending = @fromBackingInt(@intCast(index % 4));
        const status: u8 = if (how == .main_thread_ends) 0 else exit_status;
        forking.awaitChild(child, "process", index, status);
    }
    return summarize("{d} processes ended while {d} threads allocated", .{
        shared.operation_count, shared.thread_count,
    });
}

/// Any 64-bit number has at most 20 digits, so it fits.
fn decimal(buffer: *[24]u8, value: u64) [:0]const u8 {
    return std.mem.printSentinel(buffer, "{d}", .{value}, 0) catch unreachable;
}

/// Runs twice, before and after the library's own handlers, while other threads go on.
fn onExit() callconv(.c) void {
    // The last worker is kept for this.
    const worker = &shared.workers[worker_count_max - 1];
    if (worker.number == 0) worker.reset(3_000_000);
    shared.current_worker = worker;
    for (0..200) |_| worker.step();
    for (0..16) |_| if (shared.queue.pop()) |block| worker.destroy(block);
    worker.destroyAll();
}

/// Called once before the library is opened and once after.
pub fn registerHandler() void {
    if (atexit(onExit) != 0) fail("atexit refused a handler", .{});
}

fn endingThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(shared.thread_count + 1);
    for (0..500) |_| worker.step();
    if (worker.number == 0) std.c.exit(exit_status);
    while (true) worker.step();
}

fn finiteThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(shared.thread_count + 1);
    for (0..2000) |_| worker.step();
    worker.handOverAll();
    return null;
}

/// `--operations` carries the ending, counted from one.
pub fn runProcess() u8 {
    if (shared.operation_count > 4) fail("exit-process is a part of --mode exit", .{});
    const ending: Ending = @fromBackingInt(@intCast(shared.operation_count - 1));
    registerHandler();
    for (shared.workers[0..shared.thread_count], 0..) |*worker, index| {
        // Only the ending by a worker has a thread of number 0, whose part it is to end.
        worker.reset(if (ending == .exit_by_worker) index else 1 + index);
        startThread(worker, if (ending == .main_thread_ends) finiteThread else endingThread);
    }
    // Every thread makes its first call now, and this one forks in the midst of them.
    const forker = &shared.workers[shared.thread_count];
    forker.reset(4_000_000);
    waitForAll(shared.thread_count + 1);
    const child = std.c.fork();
    if (child < 0) fail("fork refused", .{});
    if (child == 0) forking.runChild(forker, 6);
    // The thread that ends the process may do so before this one is done waiting.
    forking.awaitChild(child, "child", 6, 0);
    switch (ending) {
        .exit_by_main => {
            while (shared.workers[0].operation < 300) process.yieldProcessor();
            std.c.exit(exit_status);
        },
        .return_from_main => {
            while (shared.workers[0].operation < 300) process.yieldProcessor();
            return exit_status;
        },
        .exit_by_worker => {
            joinThread(&shared.workers[0]);
            fail("the thread that called exit ended", .{});
        },
        .main_thread_ends => pthread_exit(null),
    }
}
