//! `hak-stress`: drives an allocator from many threads and lets nothing wrong go unseen.
//!
//! Every block is claimed in the oracle while it is live and filled with a pattern made from its
//! address, size and identity; the pattern is checked when the block is resized and freed, by
//! whichever thread does it. Blocks change threads through a queue. The first thing found wrong is
//! printed as one line, `fail MODE: …, seed N`, and ends the process with status 1.
//!
//! What a thread does in its n-th operation depends on the seed, its number and n alone, so
//! `--seed` replays the actions; how the threads interleave is the scheduler's. The program takes
//! its own memory from the system. The threads, keys and handlers it makes are libc's, whose own
//! blocks come from the allocator of the process.

const std = @import("std");
const linux = std.os.linux;
const suite = @import("suite.zig");
const oracle_module = @import("oracle.zig");
const process = @import("process.zig");
const doors = @import("doors.zig");
const defects = @import("defects.zig");

/// A crash becomes the one line of a failure instead of a stack trace, and no thread carries a
/// signal stack in its thread-local storage.
pub const std_options: std.Options = .{ .enable_segfault_handler = false, .signal_stack_size = null };

extern "c" fn pthread_exit(value: ?*anyopaque) noreturn;
extern "c" fn atexit(function: *const fn () callconv(.c) void) c_int;

const kib = 1024;
const mib = 1024 * kib;
const mix = oracle_module.mix;

const usage =
    \\hak-stress [--mode MODE] [--seed N] [--threads T] [--operations N] [--hak PATH] [--limit SECONDS]
    \\hak-stress --self-test
    \\  --mode MODE      mixed (default), scarce, producer-consumer, churn, fork or exit
    \\  --operations N   operations a thread (mixed, scarce), blocks a producer
    \\                   (producer-consumer), threads in all (churn), forks (fork), processes (exit)
    \\  --hak PATH       use the hak_* functions of this library instead of the process's malloc
    \\  --limit SECONDS  give up as hung after this time (default 120)
    \\  --self-test      plant defects and ask that each is found
;

const Mode = enum {
    mixed,
    /// As `mixed` with too little address space: many requests must fail, and nothing else.
    scarce,
    @"producer-consumer",
    churn,
    fork,
    exit,
    /// One process of `exit`; only `exit` itself asks for it.
    @"exit-process",

    fn operationsDefault(of: Mode) u64 {
        return switch (of) {
            .mixed, .scarce => 200_000,
            .@"producer-consumer" => 500_000,
            .churn => 2000,
            .fork => 200,
            .exit => 40,
            .@"exit-process" => 1000,
        };
    }
};

const thread_count_max = 64;
const worker_count_max = thread_count_max + 2;

// The state of the process. Written before the threads start, except where it is atomic.
var mode: Mode = .mixed;
var seed: u64 = 0;
var thread_count: u32 = 4;
var operation_count: u64 = 0;
var limit_seconds: c_uint = 120;
/// How long a forked child may take until it counts as hung.
var child_limit_seconds: u32 = 20;
var family: suite.Family = undefined;
var oracle: oracle_module.Oracle = undefined;
var queue: *Queue = undefined;
var workers: []Worker = &.{};
var stop: std.atomic.Value(bool) = .init(false);
var failing: std.atomic.Value(bool) = .init(false);
var waiting: std.atomic.Value(u32) = .init(0);
/// Requests may be refused.
var scarce: std.atomic.Value(bool) = .init(false);
var producers_running: std.atomic.Value(u32) = .init(0);
threadlocal var current_worker: ?*Worker = null;

pub fn main(init: std.process.Init.Minimal) u8 {
    process.reportCrashes(describeActivity);
    seed = randomSeed();
    var hak_path: ?[:0]const u8 = null;
    var self_test = false;
    var operations_given: ?u64 = null;
    var arguments = init.args.iterate();
    _ = arguments.skip();
    while (arguments.next()) |argument| {
        if (std.mem.eql(u8, argument, "--self-test")) {
            self_test = true;
        } else if (std.mem.eql(u8, argument, "--help")) {
            process.writeAll(.stdout, usage ++ "\n");
            return 0;
        } else if (std.mem.eql(u8, argument, "--mode")) {
            const name = arguments.next() orelse "";
            mode = std.meta.stringToEnum(Mode, name) orelse {
                return usageError("--mode takes mixed, scarce, producer-consumer, churn, fork or exit, not ", name);
            };
        } else if (std.mem.eql(u8, argument, "--hak")) {
            hak_path = arguments.next() orelse return usageError("--hak takes the path of a library", "");
        } else if (std.mem.eql(u8, argument, "--seed")) {
            seed = number(u64, arguments.next(), 0, std.math.maxInt(u64)) orelse return usageError("--seed takes a number from 0 to 2^64-1", "");
        } else if (std.mem.eql(u8, argument, "--threads")) {
            thread_count = number(u32, arguments.next(), 2, thread_count_max) orelse return usageError("--threads takes a number from 2 to 64", "");
        } else if (std.mem.eql(u8, argument, "--operations")) {
            operations_given = number(u64, arguments.next(), 1, 1 << 40) orelse return usageError("--operations takes a number from 1 to 2^40", "");
        } else if (std.mem.eql(u8, argument, "--limit")) {
            limit_seconds = number(c_uint, arguments.next(), 1, 1_000_000) orelse return usageError("--limit takes seconds from 1 to 1000000", "");
        } else {
            return usageError("no such option: ", argument);
        }
    }
    operation_count = operations_given orelse mode.operationsDefault();
    if (self_test) return selfTest();
    if (mode != .@"exit-process") process.printLine(.stdout, "seed {d}", .{seed});
    _ = std.c.alarm(limit_seconds);

    // Handlers of exit and fork and a thread key that are older than the library: libc runs them
    // after the library's own, or between its own, when the library may believe that all is over.
    prepareMemory() catch return noMemory();
    if (mode == .churn) createKey(&key_early);
    if (mode == .fork and hak_path != null) registerForkHandlers();
    if (mode == .@"exit-process" and atexit(onExit) != 0) fail("atexit refused a handler", .{});

    const subject = (if (hak_path) |path| doors.openLibrary(path) else doors.openProcess()) catch return 2;
    family = subject.door.c;
    const summary = switch (mode) {
        .mixed => runMixed(),
        .scarce => runScarce(),
        .@"producer-consumer" => runProducerConsumer(),
        .churn => runChurn(),
        .fork => runFork(),
        .exit => runExit(hak_path),
        .@"exit-process" => return runExitProcess(),
    };
    if (hak_path != null) expectNothingLeft();
    process.printLine(.stdout, "ok {t}: {s}", .{ mode, summary });
    return 0;
}

fn usageError(what: []const u8, value: []const u8) u8 {
    process.printLine(.stderr, "hak-stress: {s}{s} (--help shows the options)", .{ what, value });
    return 2;
}

fn noMemory() u8 {
    process.printLine(.stderr, "hak-stress: the system gave no memory for the oracle", .{});
    return 2;
}

fn number(comptime T: type, text: ?[]const u8, min: T, max: T) ?T {
    const value = std.fmt.parseInt(T, text orelse return null, 10) catch return null;
    return if (value < min or value > max) null else value;
}

fn randomSeed() u64 {
    var bytes: [4]u8 = undefined;
    if (linux.getrandom(&bytes, bytes.len, 0) != bytes.len) return mix(process.monotonicNanoseconds()) >> 32;
    return std.mem.readInt(u32, &bytes, .little);
}

fn prepareMemory() !void {
    oracle = try oracle_module.Oracle.init();
    queue = @ptrCast(@alignCast(try oracle_module.mapZeroed(@sizeOf(Queue))));
    queue.init();
    const bytes = try oracle_module.mapZeroed(worker_count_max * @sizeOf(Worker));
    workers = @as([*]Worker, @ptrCast(@alignCast(bytes)))[0..worker_count_max];
}

// Failures

fn describeActivity(buffer: []u8) []const u8 {
    const worker = current_worker orelse return process.formatLine(buffer, "{t} (seed {d})", .{ mode, seed });
    return process.formatLine(buffer, "{t} (thread {d}, operation {d}, seed {d})", .{ mode, worker.number, worker.operation, seed });
}

/// Ends the process with one line, also when several threads find something at once.
fn fail(comptime format: []const u8, args: anytype) noreturn {
    while (failing.swap(true, .acq_rel)) process.sleepMicroseconds(100_000);
    var text_buffer: [600]u8 = undefined;
    var activity_buffer: [200]u8 = undefined;
    const text = process.formatLine(&text_buffer, format, args);
    process.printLine(.stdout, "fail {s}: {s}", .{ describeActivity(&activity_buffer), text });
    process.exitNow(1);
}

// Randomness

const Random = struct {
    state: u64,

    /// The sequence of one operation: a function of seed, thread and operation.
    fn of(thread: u64, operation: u64) Random {
        return .{ .state = mix(mix(seed ^ mix(thread)) ^ operation) };
    }

    fn next(random: *Random) u64 {
        random.state +%= 1;
        return mix(random.state);
    }

    fn below(random: *Random, limit: u64) usize {
        return random.next() % limit;
    }

    /// From 0 bytes to 4 MiB, mostly small.
    fn sizeUpTo(random: *Random, size_max: usize) usize {
        const roll = random.below(10_000);
        const limit: usize = if (roll < 5500)
            128
        else if (roll < 8000)
            kib
        else if (roll < 9400)
            8 * kib
        else if (roll < 9930)
            64 * kib
        else if (roll < 9995)
            mib
        else
            4 * mib;
        return random.below(@min(limit, size_max) + 1);
    }
};

// Blocks

const Block = struct {
    /// Zero marks an empty place.
    address: usize,
    size: usize,
    usable: usize,
    thread: u64,
    operation: u64,

    const none: Block = .{ .address = 0, .size = 0, .usable = 0, .thread = 0, .operation = 0 };

    fn bytes(block: Block) []u8 {
        return @as([*]u8, @ptrFromInt(block.address))[0..block.usable];
    }

    fn key(block: Block) u64 {
        return oracle_module.patternKey(block.address, block.usable, mix(block.thread) ^ block.operation);
    }

    fn failBlock(block: Block, comptime what: []const u8, args: anytype) noreturn {
        fail("block 0x{x} (size {d}, usable {d}, made by thread {d} in operation {d}) " ++ what, .{
            block.address, block.size, block.usable, block.thread, block.operation,
        } ++ args);
    }

    fn verify(block: Block) void {
        const found = block.bytes();
        if (oracle_module.firstWrongByte(found, block.key())) |index| {
            block.failBlock("changed: byte {d} is 0x{x}, expected 0x{x}", .{ index, found[index], oracle_module.patternByte(block.key(), index) });
        }
    }

    fn claim(block: Block) void {
        const taken = oracle.claim(block.address, block.usable) catch |err| block.failBlock("cannot be claimed: {t}", .{err});
        if (taken) |at| block.failBlock("overlaps a live block at 0x{x}", .{at});
    }

    fn unclaim(block: Block) void {
        const unowned = oracle.release(block.address, block.usable) catch |err| block.failBlock("cannot be released: {t}", .{err});
        if (unowned) |at| block.failBlock("is freed, but 0x{x} in it is owned by nobody", .{at});
    }
};

/// A bounded queue that any number of threads push and pop without a lock, after Vyukov. Each
/// cell's turn says whose it is: its index plus twice the round, plus one while it is full.
const Queue = struct {
    const capacity = 1024;
    const Cell = struct { turn: std.atomic.Value(usize), block: Block };

    push_position: std.atomic.Value(usize) align(64),
    pop_position: std.atomic.Value(usize) align(64),
    cells: [capacity]Cell align(64),

    fn init(self: *Queue) void {
        self.push_position = .init(0);
        self.pop_position = .init(0);
        for (&self.cells, 0..) |*cell, index| cell.turn = .init(index);
    }

    /// False when the queue is full.
    fn push(self: *Queue, block: Block) bool {
        var position = self.push_position.load(.monotonic);
        while (true) {
            const cell = &self.cells[position % capacity];
            // Pairs with the release in `pop`: the cell's former block has been read.
            const turn = cell.turn.load(.acquire);
            if (turn == position) {
                position = self.push_position.cmpxchgWeak(position, position + 1, .monotonic, .monotonic) orelse {
                    cell.block = block;
                    cell.turn.store(position + 1, .release);
                    return true;
                };
            } else if (turn < position) {
                return false;
            } else {
                position = self.push_position.load(.monotonic);
            }
        }
    }

    /// Null when the queue is empty.
    fn pop(self: *Queue) ?Block {
        var position = self.pop_position.load(.monotonic);
        while (true) {
            const cell = &self.cells[position % capacity];
            // Pairs with the release in `push`: the block and its bytes are seen.
            const turn = cell.turn.load(.acquire);
            if (turn == position + 1) {
                position = self.pop_position.cmpxchgWeak(position, position + 1, .monotonic, .monotonic) orelse {
                    const block = cell.block;
                    cell.turn.store(position + capacity, .release);
                    return block;
                };
            } else if (turn < position + 1) {
                return null;
            } else {
                position = self.pop_position.load(.monotonic);
            }
        }
    }
};

const Worker = struct {
    const place_count = 128;

    /// The thread's number: with the seed it decides every action.
    number: u64,
    operation: u64,
    /// Touches no other thread's blocks: in a forked child there are no other threads.
    alone: bool,
    /// No block is larger.
    size_max: usize,
    /// Rounds of the key destructor still to come.
    destructor_rounds: u32,
    handle: std.c.pthread_t,
    /// Blocks this worker freed that another thread had made.
    foreign_frees: u64,
    blocks_made: u64,
    /// Requests that got no memory.
    refusals: u64,
    places: [place_count]Block,

    fn reset(worker: *Worker, thread: u64) void {
        worker.number = thread;
        worker.operation = 0;
        worker.alone = false;
        worker.size_max = 4 * mib;
        worker.destructor_rounds = 0;
        worker.foreign_frees = 0;
        worker.blocks_made = 0;
        worker.refusals = 0;
        worker.places = @splat(.none);
    }

    const How = enum { malloc, calloc, aligned, realloc };

    /// Null only where memory is scarce.
    fn make(worker: *Worker, how: How, size: usize, alignment_wanted: usize) ?Block {
        const alignment = if (how == .aligned) alignment_wanted else naturalAlignment(size);
        const result = switch (how) {
            .malloc => family.malloc(size),
            .calloc => family.calloc(1, size),
            .aligned => family.aligned_alloc(alignment, size),
            .realloc => family.realloc(null, size),
        };
        const block = worker.adopt(result, size, alignment) orelse return null;
        if (how == .calloc) {
            for (block.bytes()[0..size], 0..) |byte, index| {
                if (byte != 0) block.failBlock("came from calloc with byte {d} being 0x{x}", .{ index, byte });
            }
        }
        oracle_module.fillPattern(block.bytes(), block.key());
        return block;
    }

    fn adopt(worker: *Worker, result: ?[*]u8, size: usize, alignment: usize) ?Block {
        const pointer = result orelse {
            if (!scarce.load(.acquire)) fail("NULL for {d} bytes aligned to {d}", .{ size, alignment });
            worker.refusals += 1;
            return null;
        };
        var block: Block = .{
            .address = @intFromPtr(pointer),
            .size = size,
            .usable = 0,
            .thread = worker.number,
            .operation = worker.operation,
        };
        worker.blocks_made += 1;
        if (block.address % alignment != 0) block.failBlock("is not aligned to {d}", .{alignment});
        block.usable = family.usable_size(pointer);
        if (block.usable < size) block.failBlock("may be used for less than its size", .{});
        block.claim();
        return block;
    }

    fn destroy(worker: *Worker, block: Block) void {
        block.verify();
        const pointer: [*]u8 = @ptrFromInt(block.address);
        const usable = family.usable_size(pointer);
        if (usable != block.usable) block.failBlock("now has the usable size {d}", .{usable});
        if (block.thread != worker.number) worker.foreign_frees += 1;
        block.unclaim();
        family.free(pointer);
    }

    fn remake(worker: *Worker, block: Block, size: usize) Block {
        block.verify();
        block.unclaim();
        const result = family.realloc(@ptrFromInt(block.address), size);
        const moved = worker.adopt(result, size, naturalAlignment(size)) orelse {
            // The block is what it was.
            block.claim();
            block.verify();
            return block;
        };
        const kept = moved.bytes()[0..@min(block.size, size)];
        if (oracle_module.firstWrongByte(kept, block.key())) |index| {
            moved.failBlock("lost byte {d} in realloc from 0x{x} (size {d})", .{ index, block.address, block.size });
        }
        oracle_module.fillPattern(moved.bytes(), moved.key());
        return moved;
    }

    /// One random action on one random place.
    fn step(worker: *Worker) void {
        var random: Random = .of(worker.number, worker.operation);
        const place = &worker.places[random.below(place_count)];
        const action = random.below(100);
        // Drawn in every case, so that the sequence does not depend on what the queue held.
        const size = random.sizeUpTo(worker.size_max);
        const alignment = @as(usize, 1) << @intCast(3 + random.below(11));
        if (random.below(2000) == 0) giveBack(&random);
        if (place.address == 0) {
            if (action < 50) {
                place.* = worker.make(.malloc, size, 0) orelse .none;
            } else if (action < 65) {
                place.* = worker.make(.calloc, size, 0) orelse .none;
            } else if (action < 75) {
                place.* = worker.make(.aligned, size, alignment) orelse .none;
            } else if (action < 80 or worker.alone) {
                place.* = worker.make(.realloc, size, 0) orelse .none;
            } else if (queue.pop()) |block| {
                if (action < 90) {
                    place.* = block;
                } else if (action < 95 and size > 0) {
                    place.* = worker.remake(block, size);
                } else {
                    worker.destroy(block);
                }
            }
        } else {
            const block = place.*;
            if (action < 15 and size > 0) {
                place.* = worker.remake(block, size);
            } else if (action < 20) {
                block.verify();
            } else {
                place.* = .none;
                if (action < 50 and !worker.alone) worker.handOver(block) else worker.destroy(block);
            }
        }
        worker.operation += 1;
    }

    /// Gives a block to whichever thread takes it next.
    fn handOver(worker: *Worker, block: Block) void {
        if (!queue.push(block)) worker.destroy(block);
    }

    fn handOverAll(worker: *Worker) void {
        for (&worker.places) |*place| {
            if (place.address == 0) continue;
            worker.handOver(place.*);
            place.* = .none;
        }
    }

    fn destroyAll(worker: *Worker) void {
        for (&worker.places) |*place| {
            if (place.address == 0) continue;
            worker.destroy(place.*);
            place.* = .none;
        }
    }
};

/// Gives memory back to the system while other threads use theirs.
fn giveBack(random: *Random) void {
    if (family.stats) |gather| expectSaneStats(gather);
    const what = random.below(4);
    if (what == 0) {
        if (family.purge) |call| _ = call();
    } else if (what < 3 and family.tiny != null) {
        const tiny = family.tiny.?;
        // One index before the first class and one after the last are out of range.
        tiny.flush(@as(c_int, @intCast(random.below(@intCast(tiny.class_count() + 2)))) - 1);
    } else if (family.flush_all) |call| call();
}

/// Figures taken while others work may be a little old, but none is ever negative or absurd.
fn expectSaneStats(gather: *const fn (*suite.Stats, usize) callconv(.c) c_int) void {
    var stats: suite.Stats = .{};
    if (gather(&stats, @sizeOf(suite.Stats)) != 0) fail("hak_stats refused", .{});
    inline for (@typeInfo(suite.Stats).@"struct".field_names) |name| {
        if (@field(stats, name) > 1 << 47) fail("hak_stats says {d} for {s}", .{ @field(stats, name), name });
    }
}

fn naturalAlignment(size: usize) usize {
    return if (size <= 8) 8 else 16;
}

// Threads

const ThreadMain = *const fn (?*anyopaque) callconv(.c) ?*anyopaque;

fn startThread(worker: *Worker, thread_main: ThreadMain) void {
    const code = std.c.pthread_create(&worker.handle, null, thread_main, worker);
    if (code != .SUCCESS) fail("pthread_create: {t}", .{code});
}

/// Little more than libc's least, which its thread-local storage takes a part of: the allocator's
/// deepest path must do with it.
const small_stack_bytes = 18 * kib;

fn startThreadWithSmallStack(worker: *Worker, thread_main: ThreadMain) void {
    var attributes: std.c.pthread_attr_t = undefined;
    if (std.c.pthread_attr_init(&attributes) != .SUCCESS) fail("pthread_attr_init refused", .{});
    defer _ = std.c.pthread_attr_destroy(&attributes);
    if (std.c.pthread_attr_setstacksize(&attributes, small_stack_bytes) != .SUCCESS) fail("a stack of {d} bytes was refused", .{small_stack_bytes});
    const code = std.c.pthread_create(&worker.handle, &attributes, thread_main, worker);
    if (code != .SUCCESS) fail("pthread_create: {t}", .{code});
}

fn joinThread(worker: *Worker) void {
    const code = std.c.pthread_join(worker.handle, null);
    if (code != .SUCCESS) fail("pthread_join: {t}", .{code});
}

fn enter(context: ?*anyopaque) *Worker {
    const worker: *Worker = @ptrCast(@alignCast(context));
    current_worker = worker;
    return worker;
}

/// All threads make their first call at once, so that the allocator's own start is raced for.
fn waitForAll(count: u32) void {
    _ = waiting.fetchAdd(1, .acq_rel);
    while (waiting.load(.acquire) < count) process.yieldProcessor();
}

const Totals = struct { blocks_made: u64 = 0, foreign_frees: u64 = 0, refusals: u64 = 0 };

/// What all workers did. Their threads have ended.
fn sumWorkers() Totals {
    var totals: Totals = .{};
    for (workers) |worker| {
        totals.blocks_made += worker.blocks_made;
        totals.foreign_frees += worker.foreign_frees;
        totals.refusals += worker.refusals;
    }
    return totals;
}

/// Frees what is left in the queue, from a worker that made none of it.
fn drainQueue(worker: *Worker) void {
    while (queue.pop()) |block| worker.destroy(block);
}

/// Beside libc's malloc, nothing but this program uses the library: once every block is freed, every
/// thread has ended and all is flushed, a superslab that remains holds a lost block.
fn expectNothingLeft() void {
    const gather = family.stats orelse return;
    if (family.flush_all) |call| call();
    if (family.purge) |call| _ = call();
    var stats: suite.Stats = .{};
    if (gather(&stats, @sizeOf(suite.Stats)) != 0) fail("hak_stats refused", .{});
    if (stats.superslabs != 0 or stats.large_bytes != 0 or stats.huge_blocks != 0) {
        fail("all blocks are freed and flushed, but {d} superslabs with {d} slabs, {d} bytes of large blocks and {d} huge blocks remain", .{
            stats.superslabs, stats.slabs, stats.large_bytes, stats.huge_blocks,
        });
    }
}

var summary_buffer: [300]u8 = undefined;

fn summarize(comptime format: []const u8, args: anytype) []const u8 {
    return process.formatLine(&summary_buffer, format, args);
}

// mixed

fn mixedThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(thread_count);
    for (0..operation_count) |_| worker.step();
    // Each thread frees another's leftovers too: half of the blocks are left in the queue.
    for (&worker.places, 0..) |*place, index| {
        if (place.address == 0) continue;
        if (index % 2 == 0) worker.handOver(place.*) else worker.destroy(place.*);
        place.* = .none;
    }
    return null;
}

fn runMixed() []const u8 {
    for (workers[0..thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, mixedThread);
    }
    for (workers[0..thread_count]) |*worker| joinThread(worker);
    const last = &workers[thread_count];
    last.reset(thread_count);
    current_worker = last;
    drainQueue(last);
    const totals = sumWorkers();
    // A run in which no block changed threads would have tested nothing that matters here.
    if (totals.foreign_frees == 0) fail("no block was freed by another thread than made it: too few operations", .{});
    return summarize("{d} blocks made, {d} freed by another thread", .{ totals.blocks_made, totals.foreign_frees });
}

// scarce

/// What the address space may grow by: less than the blocks that the threads would keep.
const scarce_budget = 12 * mib;

fn scarceThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    // The stacks are mapped by now, and the limit comes after the last of them.
    waitForAll(thread_count + 1);
    while (!scarce.load(.acquire)) process.yieldProcessor();
    for (0..operation_count) |_| worker.step();
    worker.handOverAll();
    return null;
}

fn runScarce() []const u8 {
    oracle.reserveLeaves(64) catch fail("the system gave no memory for the oracle", .{});
    for (workers[0..thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, scarceThread);
    }
    waitForAll(thread_count + 1);
    const limit = process.limitAddressSpace(scarce_budget) catch |err| fail("cannot lower the limit of the address space: {t}", .{err});
    scarce.store(true, .release);
    for (workers[0..thread_count]) |*worker| joinThread(worker);
    limit.restore();
    scarce.store(false, .release);
    // With memory to be had again, every request is served.
    const last = &workers[thread_count];
    last.reset(thread_count);
    current_worker = last;
    drainQueue(last);
    for (0..5000) |_| last.step();
    last.handOverAll();
    drainQueue(last);
    const totals = sumWorkers();
    if (totals.refusals == 0) fail("no request was refused: too few operations", .{});
    return summarize("{d} blocks made, {d} requests refused, {d} blocks freed by another thread", .{ totals.blocks_made, totals.refusals, totals.foreign_frees });
}

// producer-consumer

/// What resident memory may grow by while the live set stays the same.
const producer_growth_allowance = 24 * mib;
var producer_bytes: std.atomic.Value(u64) = .init(0);

fn producerThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    var bytes: u64 = 0;
    while (worker.operation < operation_count) : (worker.operation += 1) {
        var random: Random = .of(worker.number, worker.operation);
        // Half of the blocks of one size, which serves one class; the rest spread.
        const spread = random.below(2) == 0;
        const block = worker.make(.malloc, if (spread) random.below(1200) else 64, 0) orelse unreachable;
        bytes += block.usable;
        while (!queue.push(block)) process.yieldProcessor();
    }
    _ = producer_bytes.fetchAdd(bytes, .monotonic);
    _ = producers_running.fetchSub(1, .acq_rel);
    return null;
}

/// Never allocates: its first and only act is to free what others made.
fn consumerThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    while (true) {
        const producers_left = producers_running.load(.acquire);
        if (queue.pop()) |block| {
            worker.destroy(block);
            worker.operation += 1;
        } else if (producers_left == 0) {
            return null;
        } else process.yieldProcessor();
    }
}

fn runProducerConsumer() []const u8 {
    const producer_count = thread_count / 2;
    producers_running = .init(producer_count);
    for (workers[0..thread_count], 0..) |*worker, index| {
        worker.reset(index);
        startThread(worker, if (index < producer_count) producerThread else consumerThread);
    }
    // The live set is bounded by the queue from the start, so any moment early on will do.
    while (workers[thread_count - 1].operation < operation_count / 20 and producers_running.load(.acquire) > 0) process.sleepMicroseconds(200);
    const before = residentBytes();
    for (workers[0..producer_count]) |*worker| joinThread(worker);
    const after = residentBytes();
    for (workers[producer_count..thread_count]) |*worker| joinThread(worker);
    const passed = producer_bytes.load(.monotonic);
    if (after > before + producer_growth_allowance) {
        fail("resident memory grew from {d} to {d} bytes while at most {d} blocks were live, allowed {d}", .{ before, after, Queue.capacity + thread_count, producer_growth_allowance });
    }
    // Less than this could not have shown the growth.
    if (passed < 3 * producer_growth_allowance) fail("only {d} bytes passed: too few operations to judge the memory", .{passed});
    return summarize("{d} bytes passed from {d} producers to {d} consumers, resident memory {d} to {d} bytes", .{
        passed, producer_count, thread_count - producer_count, before, after,
    });
}

fn residentBytes() usize {
    return process.residentBytes() catch |err| fail("cannot read the resident size: {t}", .{err});
}

// churn

/// A key made before the library was opened and one made after: their destructors run on both
/// sides of the allocator's own.
var key_early: std.c.pthread_key_t = undefined;
var key_late: std.c.pthread_key_t = undefined;

fn createKey(key: *std.c.pthread_key_t) void {
    const code = std.c.pthread_key_create(key, onThreadExit);
    if (code != .SUCCESS) fail("pthread_key_create: {t}", .{code});
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
            if (queue.pop()) |block| worker.destroy(block);
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

fn runChurn() []const u8 {
    createKey(&key_late);
    const last = &workers[thread_count];
    last.reset(std.math.maxInt(u32));
    var totals: Totals = .{};
    var resident: [2]usize = undefined;
    // Both halves end with no thread and no block alive, so the second must need nothing new.
    for (&resident, 0..) |*measured, half| {
        const first = half * operation_count / 2;
        const end = (half + 1) * operation_count / 2;
        for (first..end) |index| {
            const worker = &workers[index % thread_count];
            if (index - first >= thread_count) {
                joinThread(worker);
                totals.blocks_made += worker.blocks_made;
                totals.foreign_frees += worker.foreign_frees;
            }
            worker.reset(index);
            // A large block that happens to stay cached would hide what a thread leaves behind.
            worker.size_max = 8 * kib;
            if (index % 3 == 0) startThreadWithSmallStack(worker, churnThread) else startThread(worker, churnThread);
        }
        for (workers[0..@min(thread_count, end - first)], 0..) |_, index| joinThread(&workers[(first + index) % thread_count]);
        current_worker = last;
        drainQueue(last);
        current_worker = null;
        measured.* = residentBytes();
    }
    if (totals.foreign_frees == 0) fail("no block was freed by another thread than made it: too few threads", .{});
    if (operation_count >= 1000 and resident[1] > resident[0] + churn_growth_allowance) {
        fail("resident memory grew from {d} to {d} bytes over {d} ended threads, allowed {d}", .{ resident[0], resident[1], operation_count / 2, churn_growth_allowance });
    }
    return summarize("{d} threads, {d} blocks made, {d} freed by another thread, resident memory {d} to {d} bytes", .{
        operation_count, totals.blocks_made, totals.foreign_frees, resident[0], resident[1],
    });
}

// fork

var fork_handlers_active: std.atomic.Value(bool) = .init(false);

fn registerForkHandlers() void {
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
    if (!fork_handlers_active.load(.acquire)) return;
    const sizes = [_]usize{ 24, 1000, 40_000, 300_000 };
    var pointers: [sizes.len][*]u8 = undefined;
    for (&pointers, sizes) |*pointer, size| {
        pointer.* = family.malloc(size) orelse fail("NULL for {d} bytes in a fork handler", .{size});
        oracle_module.fillPattern(pointer.*[0..size], @intFromPtr(pointer.*));
    }
    for (&pointers, sizes) |pointer, size| {
        if (oracle_module.firstWrongByte(pointer[0..size], @intFromPtr(pointer))) |index| {
            fail("block 0x{x} (size {d}) of a fork handler changed at byte {d}", .{ @intFromPtr(pointer), size, index });
        }
        family.free(pointer);
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
    for (0..operation_count / 2) |round| {
        const child_number = 2 * round + worker.number;
        for (0..40) |_| worker.step();
        // Blocks that other threads made, owned by this one when the child is born.
        for (worker.places[0..32]) |*place| {
            if (place.address == 0) place.* = queue.pop() orelse break;
        }
        const child = std.c.fork();
        if (child < 0) fail("fork {d} refused", .{child_number});
        if (child == 0) runChild(worker, child_number);
        awaitChild(child, child_number, "child");
    }
}

/// Waits for the child to end well; a child that does not end is killed and is a failure.
fn awaitChild(child: std.c.pid_t, child_number: u64, comptime kind: []const u8) void {
    const deadline = process.monotonicNanoseconds() + @as(u64, child_limit_seconds) * std.time.ns_per_s;
    var status: c_int = 0;
    var pause_microseconds: u32 = 50;
    while (true) {
        const ended = std.c.waitpid(child, &status, std.c.W.NOHANG);
        if (ended == child) break;
        if (ended < 0) fail("waiting for " ++ kind ++ " {d} failed", .{child_number});
        if (process.monotonicNanoseconds() > deadline) {
            _ = std.c.kill(child, .KILL);
            _ = std.c.waitpid(child, &status, 0);
            fail(kind ++ " {d} hung: no end within {d} s", .{ child_number, child_limit_seconds });
        }
        process.sleepMicroseconds(pause_microseconds);
        pause_microseconds = @min(2 * pause_microseconds, 5000);
    }
    // A child that failed has printed its own line.
    if (status == 1 << 8) process.exitNow(1);
    if (status != 0) fail(kind ++ " {d} ended with wait status 0x{x}", .{ child_number, @as(c_uint, @bitCast(status)) });
}

/// The life of a forked child: all that the parent's threads owned is lost to it, all that the
/// forking thread owned must be there, and the allocator must work from the first call.
fn runChild(worker: *Worker, child_number: u64) noreturn {
    // Should the parent die, the child must not stay.
    _ = std.c.alarm(2 * child_limit_seconds);
    worker.number = 1_000_000 + child_number;
    worker.operation = 0;
    worker.alone = true;
    oracle.forgetAll();
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
        2 => worker.destroy(worker.make(.calloc, 200_000, 0) orelse unreachable),
        3 => worker.destroy(worker.make(.aligned, 100, 4096) orelse unreachable),
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
    awaitChild(grandchild, child_number, "the child of child");
}

fn childThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    for (0..300) |_| worker.step();
    worker.destroyAll();
    return null;
}

fn runThreadInChild(child_number: u64) void {
    const worker = &workers[worker_count_max - 1];
    worker.reset(2_000_000 + child_number);
    worker.alone = true;
    startThread(worker, childThread);
    joinThread(worker);
}

fn runFork() []const u8 {
    registerForkHandlers();
    fork_handlers_active.store(true, .release);
    for (workers[0..thread_count], 0..) |*worker, index| worker.reset(index);
    current_worker = &workers[0];
    // The first fork comes before any second thread exists.
    const child = std.c.fork();
    if (child < 0) fail("the first fork was refused", .{});
    if (child == 0) runChild(&workers[0], 0);
    awaitChild(child, 0, "child");

    startThread(&workers[1], forkerThread);
    for (workers[2..thread_count]) |*worker| startThread(worker, backgroundThread);
    forkRepeatedly(&workers[0]);
    joinThread(&workers[1]);
    stop.store(true, .release);
    for (workers[2..thread_count]) |*worker| joinThread(worker);
    fork_handlers_active.store(false, .release);
    workers[0].destroyAll();
    workers[1].destroyAll();
    drainQueue(&workers[0]);
    const totals = sumWorkers();
    return summarize("{d} children, {d} blocks made by the parent, {d} freed by another thread", .{
        operation_count / 2 * 2 + 1, totals.blocks_made, totals.foreign_frees,
    });
}

// exit

/// The ways in which a process ends while its threads allocate.
const Ending = enum { exit_by_main, exit_by_worker, return_from_main, main_thread_ends };
const exit_status = 7;

fn runExit(hak_path: ?[:0]const u8) []const u8 {
    var blocks: [4][24]u8 = undefined;
    for (0..operation_count) |index| {
        // Formatted before the fork, since the child may only replace itself.
        const process_seed = std.mem.printSentinel(&blocks[0], "{d}", .{seed +% index}, 0) catch unreachable;
        const threads = std.mem.printSentinel(&blocks[1], "{d}", .{thread_count}, 0) catch unreachable;
        const ending = std.mem.printSentinel(&blocks[2], "{d}", .{1 + index % 4}, 0) catch unreachable;
        const limit = std.mem.printSentinel(&blocks[3], "{d}", .{2 * child_limit_seconds}, 0) catch unreachable;
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
        awaitExit(child, index);
    }
    return summarize("{d} processes ended while {d} threads allocated", .{ operation_count, thread_count });
}

fn awaitExit(child: std.c.pid_t, index: usize) void {
    // The process of its own gives the status of a good end, so that it differs from any failure.
    const deadline = process.monotonicNanoseconds() + @as(u64, child_limit_seconds) * std.time.ns_per_s;
    var status: c_int = 0;
    while (std.c.waitpid(child, &status, std.c.W.NOHANG) != child) {
        if (process.monotonicNanoseconds() > deadline) {
            _ = std.c.kill(child, .KILL);
            _ = std.c.waitpid(child, &status, 0);
            fail("process {d} hung at its end", .{index});
        }
        process.sleepMicroseconds(200);
    }
    if (status == 1 << 8) process.exitNow(1);
    const expected: c_int = if (@as(Ending, @fromBackingInt(@intCast(index % 4))) == .main_thread_ends) 0 else exit_status << 8;
    if (status != expected) fail("process {d} ended with wait status 0x{x}, expected 0x{x}", .{ index, @as(c_uint, @bitCast(status)), @as(c_uint, @bitCast(expected)) });
}

/// Runs twice, before and after the library's own handlers, while other threads go on.
fn onExit() callconv(.c) void {
    // The last worker is kept for this.
    const worker = &workers[worker_count_max - 1];
    if (worker.number == 0) worker.reset(3_000_000);
    current_worker = worker;
    for (0..200) |_| worker.step();
    for (0..16) |_| if (queue.pop()) |block| worker.destroy(block);
    worker.destroyAll();
}

fn endingThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(thread_count + 1);
    for (0..500) |_| worker.step();
    if (worker.number == 0) std.c.exit(exit_status);
    while (true) worker.step();
}

fn finiteThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = enter(context);
    waitForAll(thread_count + 1);
    for (0..2000) |_| worker.step();
    worker.handOverAll();
    return null;
}

/// `--operations` carries the ending, counted from one.
fn runExitProcess() u8 {
    if (operation_count < 1 or operation_count > 4) return usageError("exit-process is a part of --mode exit", "");
    const ending: Ending = @fromBackingInt(@intCast(operation_count - 1));
    if (atexit(onExit) != 0) fail("atexit refused a handler", .{});
    for (workers[0..thread_count], 0..) |*worker, index| {
        // Only the ending by a worker has a thread of number 0, whose part it is to end.
        worker.reset(if (ending == .exit_by_worker) index else 1 + index);
        startThread(worker, if (ending == .main_thread_ends) finiteThread else endingThread);
    }
    // Every thread makes its first call now, and this one forks in the midst of them.
    const forker = &workers[thread_count];
    forker.reset(4_000_000);
    waitForAll(thread_count + 1);
    const child = std.c.fork();
    if (child < 0) fail("fork refused", .{});
    if (child == 0) runChild(forker, 6);
    // The thread that ends the process may do so before this one is done waiting.
    awaitChild(child, 6, "child");
    switch (ending) {
        .exit_by_main => {
            while (workers[0].operation < 300) process.yieldProcessor();
            std.c.exit(exit_status);
        },
        .return_from_main => {
            while (workers[0].operation < 300) process.yieldProcessor();
            return exit_status;
        },
        .exit_by_worker => {
            joinThread(&workers[0]);
            fail("the thread that called exit ended", .{});
        },
        .main_thread_ends => pthread_exit(null),
    }
}

// The proof that it can fail

const Trial = struct {
    defect: []const u8,
    mode: Mode,
    /// What the line of the failure must say.
    says: []const u8,
};

const trials = [_]Trial{
    .{ .defect = "one block given out twice", .mode = .mixed, .says = "overlaps a live block" },
    .{ .defect = "another live block written by malloc", .mode = .mixed, .says = "changed: byte" },
    .{ .defect = "calloc zeroes all but the last byte", .mode = .mixed, .says = "came from calloc" },
    .{ .defect = "realloc loses the last byte", .mode = .mixed, .says = "in realloc" },
    .{ .defect = "blocks aligned to 8", .mode = .mixed, .says = "is not aligned" },
    .{ .defect = "usable size below the size", .mode = .mixed, .says = "less than its size" },
    .{ .defect = "free does nothing", .mode = .@"producer-consumer", .says = "resident memory grew" },
    .{ .defect = "free loses one block in ten", .mode = .churn, .says = "resident memory grew" },
    .{ .defect = "out of memory aborts", .mode = .fork, .says = "abort was called" },
    .{ .defect = "realloc frees on failure", .mode = .scarce, .says = "fail scarce" },
    .{ .defect = "out of memory aborts", .mode = .scarce, .says = "abort was called" },
    .{ .defect = "none", .mode = .mixed, .says = "ok mixed" },
};

fn selfTest() u8 {
    prepareMemory() catch return noMemory();
    family = (doors.openProcess() catch return 2).door.c;
    var failed = false;
    if (!oracleNotices()) failed = true;
    for (trials) |trial| {
        if (!defectNoticed(trial)) failed = true;
    }
    if (!hangNoticed()) failed = true;
    return if (failed) 1 else 0;
}

/// Feeds the oracle an overlapping block and a corrupted canary, without any allocator.
fn oracleNotices() bool {
    var memory: [256]u8 align(16) = undefined;
    const base = @intFromPtr(&memory);
    const overlapping = [_][2]usize{ .{ 0, 64 }, .{ 56, 8 }, .{ 60, 1 }, .{ 16, 300 } };
    var noticed = (oracle.claim(base, 64) catch unreachable) == null;
    for (overlapping) |range| {
        if ((oracle.claim(base + range[0], range[1]) catch unreachable) == null) noticed = false;
    }
    const verdict = if (noticed) "pass" else "fail";
    process.printLine(.stdout, "{s} oracle: an overlapping block", .{verdict});
    oracle.forgetAll();

    var canary_noticed = true;
    for ([_]usize{ 0, 1, 127, 250, 255 }) |corrupted| {
        oracle_module.fillPattern(&memory, 7);
        if (oracle_module.firstWrongByte(&memory, 7) != null) canary_noticed = false;
        memory[corrupted] +%= 1;
        if (oracle_module.firstWrongByte(&memory, 7) != corrupted) canary_noticed = false;
    }
    process.printLine(.stdout, "{s} oracle: a corrupted canary", .{if (canary_noticed) "pass" else "fail"});
    return noticed and canary_noticed;
}

fn defectNoticed(trial: Trial) bool {
    const defect = for (defects.defects) |candidate| {
        if (std.mem.eql(u8, candidate.name, trial.defect)) break candidate;
    } else {
        process.printLine(.stdout, "fail defect: {s}: there is none of this name", .{trial.defect});
        return false;
    };
    var buffer: [2048]u8 = undefined;
    const said = inChild(&buffer, trial.mode, runTrial, defect) orelse return false;
    if (std.mem.find(u8, said, trial.says) == null) {
        process.printLine(.stdout, "fail defect: {s}: expected a line with \"{s}\", got: {s}", .{ trial.defect, trial.says, std.mem.trim(u8, said, "\n") });
        return false;
    }
    process.printLine(.stdout, "pass defect: {s}", .{trial.defect});
    return true;
}

fn runTrial(defect: defects.Defect) void {
    family = defects.spoiled(defect, family).door.c;
    operation_count = switch (mode) {
        .mixed, .scarce => 5000,
        .fork => 4,
        else => mode.operationsDefault(),
    };
    const summary = switch (mode) {
        .mixed => runMixed(),
        .scarce => runScarce(),
        .@"producer-consumer" => runProducerConsumer(),
        .churn => blk: {
            createKey(&key_early);
            break :blk runChurn();
        },
        .fork => blk: {
            // Nothing can be had any more once the limit is this low.
            _ = process.limitAddressSpace(0) catch process.exitNow(98);
            break :blk runFork();
        },
        .exit, .@"exit-process" => unreachable,
    };
    process.printLine(.stdout, "ok {t}: {s}", .{ mode, summary });
}

/// A child that never ends must be reported, not waited for.
fn hangNoticed() bool {
    var buffer: [2048]u8 = undefined;
    const said = inChild(&buffer, .fork, runHang, defects.defects[0]) orelse return false;
    if (std.mem.find(u8, said, "child 5 hung") == null) {
        process.printLine(.stdout, "fail hang: expected a line with \"child 5 hung\", got: {s}", .{std.mem.trim(u8, said, "\n")});
        return false;
    }
    process.printLine(.stdout, "pass hang: a child that does not end", .{});
    return true;
}

fn runHang(_: defects.Defect) void {
    child_limit_seconds = 1;
    const child = std.c.fork();
    if (child == 0) while (true) process.sleepMicroseconds(1_000_000);
    awaitChild(child, 5, "child");
}

/// Runs the function in a child and returns what it printed, or null with a line of its own.
fn inChild(buffer: []u8, child_mode: Mode, run: *const fn (defects.Defect) void, defect: defects.Defect) ?[]const u8 {
    var pipe: [2]std.c.fd_t = undefined;
    if (std.c.pipe(&pipe) != 0) fail("pipe refused", .{});
    const child = std.c.fork();
    if (child < 0) fail("fork refused", .{});
    if (child == 0) {
        _ = std.c.dup2(pipe[1], 1);
        _ = std.c.dup2(pipe[1], 2);
        _ = std.c.close(pipe[0]);
        _ = std.c.close(pipe[1]);
        _ = std.c.alarm(60);
        mode = child_mode;
        run(defect);
        process.exitNow(0);
    }
    _ = std.c.close(pipe[1]);
    defer _ = std.c.close(pipe[0]);
    var length: usize = 0;
    while (length < buffer.len) {
        const got = std.c.read(pipe[0], buffer[length..].ptr, buffer.len - length);
        if (got <= 0) break;
        length += @intCast(got);
    }
    var status: c_int = 0;
    while (std.c.waitpid(child, &status, 0) != child) {}
    return buffer[0..length];
}
