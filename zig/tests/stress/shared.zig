//! What all modes of the stress share: the state of the run, the one line of a failure, blocks with
//! their canaries and their claims in the oracle, and the workers that make, resize, hand over and
//! free them.
//!
//! The variables here are written before the threads start, except where they are atomic.

const std = @import("std");
const builtin = @import("builtin");
const suite = @import("../suite.zig");
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const Queue = @import("queue.zig").Queue;

pub const kib = 1024;
pub const mib = 1024 * kib;
const mix = oracle_module.mix;

pub const thread_count_max = 64;
pub const worker_count_max = thread_count_max + 2;

pub const Mode = enum {
    mixed,
    /// As `mixed` with too little address space: many requests must fail, and nothing else.
    scarce,
    @"producer-consumer",
    churn,
    fork,
    exit,
    /// One process of `exit`; only `exit` itself asks for it.
    @"exit-process",

    pub fn operationsDefault(of: Mode) u64 {
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

pub var mode: Mode = .mixed;
pub var seed: u64 = 0;
pub var thread_count: u32 = 4;
pub var operation_count: u64 = 0;
/// How long a forked child may take until it counts as hung.
pub var child_limit_seconds: u32 = 20;
/// The door under test.
pub var family: suite.Family = undefined;
pub var oracle: oracle_module.Oracle = undefined;
pub var queue: *Queue = undefined;
/// One for each thread, one for what is done after the threads, and one for the handlers of exit.
pub var workers: []Worker = &.{};
/// Set by the thread that prints the line of the failure.
var failing: std.atomic.Value(bool) = .init(false);
/// Threads that have come to `waitForAll`.
var waiting: std.atomic.Value(u32) = .init(0);
/// What errno, 0 before, must be after a request that is refused; null where that is not looked at.
pub var errno_refused: ?c_int = null;
/// Requests may be refused.
pub var scarce: std.atomic.Value(bool) = .init(false);
pub threadlocal var current_worker: ?*Worker = null;

pub fn prepareMemory() !void {
    oracle = try oracle_module.Oracle.init();
    queue = @ptrCast(@alignCast(try oracle_module.mapZeroed(@sizeOf(Queue))));
    queue.init();
    const bytes = try oracle_module.mapZeroed(worker_count_max * @sizeOf(Worker));
    workers = @as([*]Worker, @ptrCast(@alignCast(bytes)))[0..worker_count_max];
}

/// Says in the line of a failure what was being done.
pub var describe: process.Describe = describeMode;

pub fn describeActivity(buffer: []u8) []const u8 {
    return describe(buffer);
}

fn describeMode(buffer: []u8) []const u8 {
    const worker = current_worker orelse return process.formatLine(buffer, "{t} (seed {d})", .{ mode, seed });
    return process.formatLine(buffer, "{t} (thread {d}, operation {d}, seed {d})", .{
        mode, worker.number, worker.operation, seed,
    });
}

/// Ends the process with one line, also when several threads find something at once.
pub fn fail(comptime format: []const u8, args: anytype) noreturn {
    while (failing.swap(true, .acq_rel)) process.sleepMicroseconds(100_000);
    var text_buffer: [600]u8 = undefined;
    var activity_buffer: [200]u8 = undefined;
    const text = process.formatLine(&text_buffer, format, args);
    process.printLine(.stdout, "fail {s}: {s}", .{ describeActivity(&activity_buffer), text });
    process.exitNow(1);
}

pub const Random = struct {
    state: u64,

    /// The sequence of one operation: a function of seed, thread and operation.
    pub fn of(thread: u64, operation: u64) Random {
        return .{ .state = mix(mix(seed ^ mix(thread)) ^ operation) };
    }

    pub fn next(random: *Random) u64 {
        random.state +%= 1;
        return mix(random.state);
    }

    pub fn below(random: *Random, limit: u64) usize {
        return random.next() % limit;
    }

    /// From 0 bytes to 4 MiB, mostly small.
    pub fn sizeUpTo(random: *Random, size_max: usize) usize {
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

pub const Block = struct {
    /// Zero marks an empty place.
    address: usize,
    size: usize,
    usable: usize,
    thread: u64,
    operation: u64,
    freed: Freed = .sized,

    /// How C lets a block be freed, besides by `free`.
    const Freed = union(enum) { sized, aligned_sized: usize, plainly };

    pub const none: Block = .{ .address = 0, .size = 0, .usable = 0, .thread = 0, .operation = 0 };

    pub fn bytes(block: Block) []u8 {
        return @as([*]u8, @ptrFromInt(block.address))[0..block.usable];
    }

    pub fn key(block: Block) u64 {
        return oracle_module.patternKey(block.address, block.usable, mix(block.thread) ^ block.operation);
    }

    pub fn failBlock(block: Block, comptime what: []const u8, args: anytype) noreturn {
        fail("block 0x{x} (size {d}, usable {d}, made by thread {d} in operation {d}) " ++ what, .{
            block.address, block.size, block.usable, block.thread, block.operation,
        } ++ args);
    }

    pub fn verify(block: Block) void {
        const found = block.bytes();
        if (oracle_module.firstWrongByte(found, block.key())) |index| {
            block.failBlock("changed: byte {d} is 0x{x}, expected 0x{x}", .{
                index, found[index], oracle_module.patternByte(block.key(), index),
            });
        }
    }

    pub fn claim(block: Block) void {
        const taken = oracle.claim(block.address, block.usable) catch |err| {
            block.failBlock("cannot be claimed: {t}", .{err});
        };
        if (taken) |at| block.failBlock("overlaps a live block at 0x{x}", .{at});
    }

    pub fn unclaim(block: Block) void {
        const unowned = oracle.release(block.address, block.usable) catch |err| {
            block.failBlock("cannot be released: {t}", .{err});
        };
        if (unowned) |at| block.failBlock("is freed, but 0x{x} in it is owned by nobody", .{at});
    }
};

pub const Worker = struct {
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
    /// Usable bytes of the blocks that this worker made, less those that it freed: below zero, wrapped, where it
    /// freed more. The sum over all workers is what is live.
    live_bytes: u64,
    places: [place_count]Block,

    pub fn reset(worker: *Worker, thread: u64) void {
        worker.number = thread;
        worker.operation = 0;
        worker.alone = false;
        worker.size_max = 4 * mib;
        worker.destructor_rounds = 0;
        worker.foreign_frees = 0;
        worker.blocks_made = 0;
        worker.refusals = 0;
        worker.live_bytes = 0;
        worker.places = @splat(.none);
    }

    pub const How = enum { malloc, calloc, aligned, realloc, reallocarray, memalign, posix_memalign, valloc, pvalloc };

    /// Null only where memory is scarce.
    pub fn make(worker: *Worker, how: How, size: usize, alignment_wanted: usize) ?Block {
        const alignment = switch (how) {
            .aligned, .memalign, .posix_memalign => alignment_wanted,
            .valloc, .pvalloc => std.heap.pageSize(),
            .malloc, .calloc, .realloc, .reallocarray => naturalAlignment(size),
        };
        const parts: usize = if (size % 24 == 0) 24 else 1;
        if (errno_refused != null) family.errno_location().* = 0;
        const result = switch (how) {
            .malloc => family.malloc(size),
            .calloc => family.calloc(size / parts, parts),
            .aligned => family.aligned_alloc(alignment, size),
            .realloc => family.realloc(null, size),
            .reallocarray => family.reallocarray.?(null, parts, size / parts),
            .memalign => family.memalign.?(alignment, size),
            .posix_memalign => posixMemalign(alignment, size),
            .valloc => family.valloc.?(size),
            .pvalloc => family.pvalloc.?(size),
        };
        var block = worker.adopt(result, size, alignment) orelse return null;
        block.freed = switch (how) {
            .malloc, .calloc, .realloc, .reallocarray => .sized,
            .aligned => .{ .aligned_sized = alignment },
            .memalign, .posix_memalign, .valloc, .pvalloc => .plainly,
        };
        if (how == .calloc) {
            if (firstNotZero(block.bytes()[0..size])) |index| {
                block.failBlock("came from calloc with byte {d} being 0x{x}", .{ index, block.bytes()[index] });
            }
        }
        oracle_module.fillPattern(block.bytes(), block.key());
        return block;
    }

    /// Where memory is not scarce, a refusal has already ended the process.
    pub fn need(worker: *Worker, how: How, size: usize, alignment_wanted: usize) Block {
        return worker.make(how, size, alignment_wanted) orelse {
            fail("no memory for {d} bytes, though it is not scarce", .{size});
        };
    }

    /// Checks and claims what an allocation returned.
    pub fn adopt(worker: *Worker, result: ?[*]u8, size: usize, alignment: usize) ?Block {
        const pointer = result orelse {
            if (!scarce.load(.acquire)) fail("NULL for {d} bytes aligned to {d}", .{ size, alignment });
            worker.refusals += 1;
            if (errno_refused) |expected| {
                const found = family.errno_location().*;
                if (found != expected) fail("errno is {d} after a refusal, expected {d}", .{ found, expected });
            }
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
        worker.live_bytes +%= block.usable;
        return block;
    }

    pub fn destroy(worker: *Worker, block: Block) void {
        family.free(worker.part(block));
    }

    /// As `destroy`, by the sized form of free that fits, if there is one.
    pub fn destroySized(worker: *Worker, block: Block) void {
        const pointer = worker.part(block);
        switch (block.freed) {
            .sized => if (family.free_sized) |call| return call(pointer, block.size),
            .aligned_sized => |alignment| {
                if (family.free_aligned_sized) |call| return call(pointer, alignment, block.size);
            },
            .plainly => {},
        }
        family.free(pointer);
    }

    /// Checks a block for the last time. The caller frees it.
    pub fn part(worker: *Worker, block: Block) [*]u8 {
        block.verify();
        const pointer: [*]u8 = @ptrFromInt(block.address);
        const usable = family.usable_size(pointer);
        if (usable != block.usable) block.failBlock("now has the usable size {d}", .{usable});
        if (block.thread != worker.number) worker.foreign_frees += 1;
        block.unclaim();
        worker.live_bytes -%= block.usable;
        return pointer;
    }

    pub fn remake(worker: *Worker, block: Block, size: usize) Block {
        block.verify();
        block.unclaim();
        if (errno_refused != null) family.errno_location().* = 0;
        const result = family.realloc(@ptrFromInt(block.address), size);
        const moved = worker.adopt(result, size, naturalAlignment(size)) orelse {
            // The block is what it was.
            block.claim();
            block.verify();
            return block;
        };
        worker.live_bytes -%= block.usable;
        const kept = moved.bytes()[0..@min(block.size, size)];
        if (oracle_module.firstWrongByte(kept, block.key())) |index| {
            moved.failBlock("lost byte {d} in realloc from 0x{x} (size {d})", .{
                index, block.address, block.size,
            });
        }
        oracle_module.fillPattern(moved.bytes(), moved.key());
        return moved;
    }

    /// One random action on one random place.
    pub fn step(worker: *Worker) void {
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
    pub fn handOver(worker: *Worker, block: Block) void {
        if (!queue.push(block)) worker.destroy(block);
    }

    pub fn handOverAll(worker: *Worker) void {
        for (&worker.places) |*place| {
            if (place.address == 0) continue;
            worker.handOver(place.*);
            place.* = .none;
        }
    }

    pub fn destroyAll(worker: *Worker) void {
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
pub fn expectSaneStats(gather: *const fn (*suite.Stats, usize) callconv(.c) c_int) void {
    var stats: suite.Stats = .{};
    if (gather(&stats, @sizeOf(suite.Stats)) != 0) fail("hak_stats refused", .{});
    inline for (@typeInfo(suite.Stats).@"struct".field_names) |name| {
        if (@field(stats, name) > 1 << 47) fail("hak_stats says {d} for {s}", .{ @field(stats, name), name });
    }
}

fn posixMemalign(alignment: usize, size: usize) ?[*]u8 {
    var pointer: ?[*]u8 = null;
    const code = family.posix_memalign.?(&pointer, alignment, size);
    if ((code == 0) != (pointer != null)) {
        fail("posix_memalign returned {d} and gave 0x{x}", .{ code, @intFromPtr(pointer) });
    }
    // It tells by its result, and leaves errno alone.
    if (errno_refused) |expected| {
        const found = family.errno_location().*;
        if (found != 0) fail("posix_memalign set errno to {d}", .{found});
        if (pointer == null) family.errno_location().* = expected;
    }
    return pointer;
}

fn firstNotZero(bytes: []const u8) ?usize {
    var start: usize = 0;
    while (start < bytes.len) {
        const end = @min(start + 512, bytes.len);
        // Gathered without a branch, which lets it be vectorised.
        var gathered: u8 = 0;
        for (bytes[start..end]) |byte| gathered |= byte;
        if (gathered != 0) for (bytes[start..end], start..) |byte, index| if (byte != 0) return index;
        start = end;
    }
    return null;
}

fn naturalAlignment(size: usize) usize {
    return if (size <= 8) 8 else 16;
}

pub const ThreadMain = *const fn (?*anyopaque) callconv(.c) ?*anyopaque;

pub fn startThread(worker: *Worker, thread_main: ThreadMain) void {
    const code = std.c.pthread_create(&worker.handle, null, thread_main, worker);
    if (code != .SUCCESS) fail("pthread_create: {t}", .{code});
}

/// Little more than libc's least, which its thread-local storage takes a part of: the allocator's
/// deepest path must do with it. glibc's least for aarch64 is 128 KiB.
const small_stack_bytes = if (builtin.cpu.arch == .aarch64 and builtin.abi.isGnu()) 128 * kib else 24 * kib;

pub fn startThreadWithSmallStack(worker: *Worker, thread_main: ThreadMain) void {
    var attributes: std.c.pthread_attr_t = undefined;
    if (std.c.pthread_attr_init(&attributes) != .SUCCESS) fail("pthread_attr_init refused", .{});
    defer _ = std.c.pthread_attr_destroy(&attributes);
    if (std.c.pthread_attr_setstacksize(&attributes, small_stack_bytes) != .SUCCESS) {
        fail("a stack of {d} bytes was refused", .{small_stack_bytes});
    }
    const code = std.c.pthread_create(&worker.handle, &attributes, thread_main, worker);
    if (code != .SUCCESS) fail("pthread_create: {t}", .{code});
}

pub fn joinThread(worker: *Worker) void {
    const code = std.c.pthread_join(worker.handle, null);
    if (code != .SUCCESS) fail("pthread_join: {t}", .{code});
}

pub fn enter(context: ?*anyopaque) *Worker {
    const worker: *Worker = @ptrCast(@alignCast(context));
    current_worker = worker;
    return worker;
}

/// All threads make their first call at once, so that the allocator's own start is raced for.
pub fn waitForAll(count: u32) void {
    _ = waiting.fetchAdd(1, .acq_rel);
    while (waiting.load(.acquire) < count) process.yieldProcessor();
}

pub const Totals = struct { blocks_made: u64 = 0, foreign_frees: u64 = 0, refusals: u64 = 0 };

/// What all workers did. Their threads have ended.
pub fn sumWorkers() Totals {
    var totals: Totals = .{};
    for (workers) |worker| {
        totals.blocks_made += worker.blocks_made;
        totals.foreign_frees += worker.foreign_frees;
        totals.refusals += worker.refusals;
    }
    return totals;
}

/// Frees what is left in the queue, from a worker that made none of it.
pub fn drainQueue(worker: *Worker) void {
    while (queue.pop()) |block| worker.destroy(block);
}

/// Beside libc's malloc, nothing but this program uses the library: once every block is freed, every
/// thread has ended and all is flushed, a superslab that remains holds a lost block.
pub fn expectNothingLeft() void {
    const gather = family.stats orelse return;
    if (family.flush_all) |call| call();
    if (family.purge) |call| _ = call();
    var stats: suite.Stats = .{};
    if (gather(&stats, @sizeOf(suite.Stats)) != 0) fail("hak_stats refused", .{});
    if (stats.superslabs != 0 or stats.large_bytes != 0 or stats.huge_blocks != 0) {
        fail("all is freed and flushed, but {d} superslabs ({d} slabs, {d} large bytes) and {d} huge blocks remain", .{
            stats.superslabs, stats.slabs, stats.large_bytes, stats.huge_blocks,
        });
    }
}

var summary_buffer: [300]u8 = undefined;

pub fn summarize(comptime format: []const u8, args: anytype) []const u8 {
    return process.formatLine(&summary_buffer, format, args);
}

pub fn residentBytes() usize {
    return process.residentBytes() catch |err| fail("cannot read the resident size: {t}", .{err});
}
