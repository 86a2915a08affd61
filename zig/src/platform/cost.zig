//! Counts what an operation costs where time cannot be told: shared cache lines, atomics, locks, bitmap words, refills,
//! flushes, system calls. docs/SCALING.md says what each figure means.
//!
//! Only the counting build (`build_options.counting`) counts: `libhakmem_preload_counting.so`, and a test of its own.
//! Everywhere else each function here is empty at compile time, and no instruction comes from this file. Where a place
//! takes an index or a load to be found, its caller asks `counting` first, as even an unused load changes the code.
//!
//! Counting must not change how threads get into each other's way, so each counts in a record of its own and nothing
//! here is written by two. A record is found by the thread's mark, which no other living thread has; where an ended
//! thread had it, the new one counts on, so a sum over all records has what ended threads did.

const std = @import("std");
const build_options = @import("build_options");
const os = @import("os.zig");
const thread_slot = @import("thread_slot.zig");

pub const counting = build_options.counting;
const Order = std.builtin.AtomicOrder;

/// What is counted, by the name that `hak_cost_name` gives.
pub const Name = enum {
    /// Cache lines that other threads write too, each once from the taking of an outermost lock to its release, and
    /// each time outside of locks.
    shared_writes,
    /// Read-modify-writes, failed ones among them, and sequentially consistent stores: what makes the processor wait
    /// until the line is its own.
    atomics,
    /// Locks taken; those of which another thread was inside; and how often a thread slept for one.
    locks,
    lock_waits,
    lock_sleeps,
    /// Words of primary bitmaps read, or read and written.
    bitmap_words,
    /// Blocks into magazines, and out of them; how often, and how many.
    refills,
    refilled_blocks,
    flushes,
    flushed_blocks,
    /// Refills from a cold magazine, and their blocks.
    cold_hits,
    cold_blocks,
    /// All system calls; then each kind.
    system_calls,
    calls_map,
    calls_unmap,
    calls_release,
    calls_advise,
    calls_populate,
    calls_look,
    calls_clock,
    calls_protect,
    calls_remap,
    calls_limit,
    calls_file,
    calls_wait,
    calls_wake,
    calls_sleep,
    calls_write,
    /// Atomic operations by memory order. On x86-64 loads and all but the last kind of stores are plain instructions.
    loads_unordered,
    loads_monotonic,
    loads_acquire,
    loads_seq_cst,
    stores_unordered,
    stores_monotonic,
    stores_release,
    stores_seq_cst,
    rmw_monotonic,
    rmw_acquire,
    rmw_release,
    rmw_acq_rel,
    rmw_seq_cst,
    /// Compare-and-exchanges among them that found another value.
    rmw_failed,
};

const name_count = @typeInfo(Name).@"enum".field_names.len;

/// The names for C, in the order of the counts.
pub const names: [name_count][:0]const u8 = names: {
    var result: [name_count][:0]const u8 = undefined;
    for (&result, 0..) |*name, number| name.* = @tagName(@as(Name, @fromBackingInt(number)));
    break :names result;
};

pub inline fn add(comptime name: Name, amount: usize) void {
    if (counting) increase(name, amount);
}

/// Blocks came into a magazine, or past it to a thread without one.
pub inline fn refilled(blocks: usize) void {
    add(.refills, 1);
    add(.refilled_blocks, blocks);
}

/// Blocks left a magazine, or a thread without one.
pub inline fn flushed(blocks: usize) void {
    add(.flushes, 1);
    add(.flushed_blocks, blocks);
}

/// A word of a primary bitmap is read and written.
pub inline fn bitmapWord(word: *const u64) void {
    add(.bitmap_words, 1);
    wrote(word);
}

pub inline fn called(comptime kind: Name) void {
    comptime std.debug.assert(std.mem.startsWith(u8, @tagName(kind), "calls_"));
    add(.system_calls, 1);
    add(kind, 1);
}

pub inline fn atomicLoad(comptime order: Order) void {
    add(@field(Name, "loads_" ++ @tagName(order)), 1);
}

pub inline fn atomicStore(comptime order: Order) void {
    add(@field(Name, "stores_" ++ @tagName(order)), 1);
    if (order == .seq_cst) add(.atomics, 1);
}

pub inline fn atomicUpdate(comptime order: Order) void {
    add(@field(Name, "rmw_" ++ @tagName(order)), 1);
    add(.atomics, 1);
}

/// The calling thread writes what other threads write too: `place` is a pointer to it, or a slice.
pub inline fn wrote(place: anytype) void {
    if (!counting) return;
    const info = @typeInfo(@TypeOf(place)).pointer;
    switch (info.size) {
        .one => wroteBytes(@intFromPtr(place), @sizeOf(info.child)),
        .slice => wroteBytes(@intFromPtr(place.ptr), place.len * @sizeOf(info.child)),
        else => comptime unreachable,
    }
}

/// As `wrote`, for the links in the first line of the record that `link` leads to, if to any.
pub inline fn wroteBehind(link: anytype) void {
    if (!counting) return;
    wroteBytes(@intFromPtr(link.* orelse return), 1);
}

/// The calling thread took a lock, whose word is here.
pub inline fn entered(word: *const anyopaque) void {
    if (!counting) return;
    const own = record();
    own.counts[@backingInt(Name.locks)] += 1;
    own.depth += 1;
    // Taking it has been counted: giving it back, while the line is still here, is not.
    _ = own.lines.insert(@intFromPtr(word) / line_bytes);
}

/// The calling thread gives a lock back.
pub inline fn left() void {
    if (!counting) return;
    const own = record();
    // A fork's child gives back locks that its thread did not take as itself.
    if (own.depth > 0) own.depth -= 1;
    if (own.depth == 0) own.lines.clear();
}

/// The sum over all threads, ended ones included. Of a thread that is counting it is of about now.
pub fn sum(name: Name) u64 {
    var total: u64 = 0;
    for (&keys, &records) |*key, *each| {
        if (@atomicLoad(usize, key, .acquire) == 0) continue;
        total += @atomicLoad(u64, &each.counts[@backingInt(name)], .unordered);
    }
    return total;
}

const line_bytes = 64;
/// The most lines that are told apart while locks are held: what a flush of so many blocks may spread over is twice
/// as many, a slab's record and a bitmap word each.
pub const lines_max = Lines.slot_count / 2;

/// Threads with different marks. glibc gives the stack of an ended thread, and with it its mark, to the next one.
const records_max = 1024;

const Record = struct {
    counts: [name_count]u64,
    /// Locks that the thread holds.
    depth: u32,
    lines: Lines,
};

/// The cache lines that a thread has written since it took its outermost lock.
const Lines = struct {
    /// Open addressing; 0 is no line of ours.
    slots: [slot_count]usize,
    taken: [lines_max]u16,
    count: u16,

    const slot_bits = 15;
    const slot_count = 1 << slot_bits;

    /// False where the line is in it already. Beyond the most that it holds, lines are new each time.
    fn insert(lines: *Lines, line: usize) bool {
        var at = line *% 0x9e37_79b9_7f4a_7c15 >> (64 - slot_bits);
        while (lines.slots[at] != 0) : (at = (at + 1) % slot_count) {
            if (lines.slots[at] == line) return false;
        }
        if (lines.count == lines_max) return true;
        lines.slots[at] = line;
        lines.taken[lines.count] = @intCast(at);
        lines.count += 1;
        return true;
    }

    fn clear(lines: *Lines) void {
        for (lines.taken[0..lines.count]) |at| lines.slots[at] = 0;
        lines.count = 0;
    }
};

/// The marks of the records. The atomics in this file are the machine's own: those of `atomic.zig` are counted.
var keys: [records_max]usize = @splat(0);
var records: [records_max]Record align(line_bytes) = std.mem.zeroes([records_max]Record);

noinline fn increase(name: Name, amount: usize) void {
    const count = &record().counts[@backingInt(name)];
    // Partner: the load in `sum`.
    @atomicStore(u64, count, count.* + amount, .unordered);
}

noinline fn wroteBytes(address: usize, bytes: usize) void {
    if (bytes == 0) return;
    const own = record();
    for (address / line_bytes..(address + bytes - 1) / line_bytes + 1) |line| {
        if (own.depth > 0 and !own.lines.insert(line)) continue;
        own.counts[@backingInt(Name.shared_writes)] += 1;
    }
}

/// The calling thread's own.
fn record() *Record {
    const mark = thread_slot.threadMark();
    var at = mark *% 0x9e37_79b9_7f4a_7c15 >> (64 - 10);
    comptime std.debug.assert(records_max == 1 << 10);
    for (0..records_max) |_| {
        // Partner: the exchange below, by this thread or one that had its mark before.
        const key = @atomicLoad(usize, &keys[at], .monotonic);
        if (key == mark) return &records[at];
        // Partner: the load in `sum`.
        if (key == 0 and @cmpxchgStrong(usize, &keys[at], 0, mark, .release, .monotonic) == null) return &records[at];
        at = (at + 1) % records_max;
    }
    @panic("the counting build has no room for so many threads at once");
}
