//! Beginnings and ends: of the process, of a thread, and fork.
//!
//! The process starts at the first slow path of its first thread, or at the object's constructor, whichever
//! comes first. A thread gets a heap at its first slow path; a pthread key destructor flushes it at the end,
//! after which the thread uses the dead heap. Heaps are used again and never unmapped. Where the destructor was
//! not called (the thread's first call came in the last round of destructors), the heap goes to the next thread
//! whose slot lies at the same address.
//!
//! fork: the prepare handler takes every lock in lock order, so the child finds all that is shared whole. The
//! forking thread passes through those locks meanwhile, for handlers of other libraries that allocate. In the
//! child the heaps of the threads that are gone wait for new threads, with the blocks in their magazines; a
//! heap caught in the middle of a slow path loses the blocks in its magazines instead.
//! A signal handler may fork that interrupted its thread in here: the locks of the interrupted code stay its own,
//! in parent and child.

const std = @import("std");
const builtin = @import("builtin");
const size_class = @import("../numbers/size_class.zig");
const page_map = @import("../memory/page_map.zig");
const huge = @import("../memory/huge.zig");
const process_limit = @import("../memory/process_limit.zig");
const metadata = @import("../memory/metadata.zig");
const registry = @import("../memory/registry.zig");
const superslabs = @import("../memory/superslab.zig");
const space = @import("../memory/space.zig");
const central = @import("../motion/central.zig");
const atomic = @import("../platform/atomic.zig");
const cost = @import("../platform/cost.zig");
const thread_slot = @import("../platform/thread_slot.zig");
const threads = @import("../platform/threads.zig");
const settings = @import("../platform/settings.zig");
const locking = @import("../platform/lock.zig");
const os = @import("../platform/os.zig");
const check = @import("../checking/check.zig");
const canary = @import("../platform/canary.zig");
const heaps = @import("heap.zig");
const Lock = locking.Lock;
const Passage = locking.Passage;
const Heap = heaps.Heap;
const assert = std.debug.assert;

const Key = std.c.pthread_key_t;

extern fn pthread_key_create(key: *Key, destructor: *const fn (?*anyopaque) callconv(.c) void) c_int;
extern fn pthread_setspecific(key: Key, value: ?*const anyopaque) c_int;
/// What glibc's pthread_atfork calls with its own object's handle, and then takes the handlers away when the object's
/// destructors have run: in `exit`, while another thread may be between them. Without an object they stay.
extern fn __register_atfork(
    prepare: *const fn () callconv(.c) void,
    parent: *const fn () callconv(.c) void,
    child: *const fn () callconv(.c) void,
    object: ?*anyopaque,
) c_int;
/// Elsewhere the handlers stay in any case: nothing takes them away.
extern fn pthread_atfork(
    prepare: *const fn () callconv(.c) void,
    parent: *const fn () callconv(.c) void,
    child: *const fn () callconv(.c) void,
) c_int;

const glibc = builtin.abi.isGnu();

const line_bytes = 64;

/// What every beginning and end of a thread writes, on one cache line.
const Lists = struct {
    /// Guards everything here and below. Comes before every other lock. Taken by `enterLists`.
    lock: Lock = .{},
    /// Heaps without a thread.
    idle: ?*Heap = null,
    live_count: usize = 0,
    /// Bytes of the blocks that heaps without a thread kept for the next one.
    kept_bytes: usize = 0,
    /// When a thread last ended, and until when the next is expected soon, in milliseconds; 0 for never.
    last_end: usize = 0,
    churn_end: usize = 0,

    comptime {
        assert(@sizeOf(Lists) <= line_bytes);
    }
};

var lists: Lists align(line_bytes) = .{};
var started: bool = false;
var fork_handled: atomic.Value(bool) = .init(false);
var thread_key: Key = 0;
var has_thread_key: bool = false;
/// All heaps ever made.
var all: ?*Heap = null;
/// When to look after the blocks of heaps without a thread, in milliseconds; 0 while there are none.
var kept_due: usize = 0;
/// Heaps with a thread, by its mark.
var by_owner: [256]?*Heap = @splat(null);
/// In a forked child, the mark of its only thread until the heaps of the others are seen to; else 0.
var survivor: usize = 0;
/// The first heap costs no mapping.
var first_heap: Heap = undefined;
var first_heap_taken: bool = false;

/// Prepares the process. Safe to call at any time, from any thread; costs one load after the first.
pub fn start() bool {
    enterLists();
    defer lists.lock.unlock();
    if (started) return true;
    if (!page_map.start()) return false;
    settings.read();
    process_limit.start(countedBytes());
    has_thread_key = pthread_key_create(&thread_key, threadEnd) == 0;
    started = true;
    return true;
}

/// Fork handlers allocate when they are registered, so this runs when the thread has a heap already.
fn handleForks() void {
    // Partner: itself, in another thread.
    if (fork_handled.swap(true, .monotonic)) return;
    const refused = if (glibc)
        __register_atfork(beforeFork, afterForkInParent, afterForkInChild, null)
    else
        pthread_atfork(beforeFork, afterForkInParent, afterForkInChild);
    if (refused == 0) return;
    // No memory for the table. Without handlers a child of a threaded parent may hang, so the next thread tries.
    fork_handled.store(false, .monotonic);
}

/// The object's constructor: runs before `main`, or in `dlopen`.
pub fn construct() void {
    _ = enter();
}

/// Gives the calling thread a heap. Null when memory is out.
pub noinline fn enter() ?*Heap {
    const present = thread_slot.get();
    if (present.kind != .empty) return present;
    if (!start()) return null;
    if (settings.check) {
        const checked = @constCast(&heaps.checked_heap);
        thread_slot.set(checked);
        handleForks();
        return checked;
    }
    const heap = takeHeap() orelse return null;
    thread_slot.set(heap);
    // May allocate: the slot is set already. What it leaves in errno is nothing that the caller asked for.
    const errno = std.c._errno().*;
    defer std.c._errno().* = errno;
    // A thread whose end we would not hear of gets no magazines.
    const heard = has_thread_key and pthread_setspecific(thread_key, heap) == 0;
    handleForks();
    if (heard) return heap;
    const dead = @constCast(&heaps.dead_heap);
    thread_slot.set(dead);
    heap.flushAll();
    giveHeap(heap);
    return dead;
}

/// Exports the object's constructor, and the destructor, which runs in `exit` after the program's own handlers.
pub fn exportEnds(comptime constructor: *const fn () callconv(.c) void) void {
    const Ends = struct {
        const first = constructor;
        const last: *const fn () callconv(.c) void = &destruct;
    };
    const darwin = builtin.os.tag == .macos;
    const constructors = if (darwin) "__DATA,__mod_init_func,mod_init_funcs" else ".init_array";
    const destructors = if (darwin) "__DATA,__mod_term_func,mod_term_funcs" else ".fini_array";
    @export(&Ends.first, .{ .name = "hakmem_constructor", .section = constructors, .visibility = .hidden });
    @export(&Ends.last, .{ .name = "hakmem_destructor", .section = destructors, .visibility = .hidden });
}

fn destruct() callconv(.c) void {
    if (settings.check) check.verifyAll();
}

fn takeHeap() ?*Heap {
    enterLists();
    defer lists.lock.unlock();
    const mark = thread_slot.threadMark();
    const chain = chainOf(mark);
    // No two living threads have one mark: a heap under this one was left by a thread that is gone.
    var left = chain.*;
    while (left) |heap| : (left = heap.next_of_chain) if (heap.owner == mark) return heap;

    const heap = lists.idle orelse heap: {
        const new: *Heap = if (!first_heap_taken) &first_heap else new: {
            const memory = metadata.allocate(@sizeOf(Heap)) orelse return null;
            break :new @ptrCast(memory);
        };
        first_heap_taken = true;
        new.* = .of(.live, page_map.view());
        new.next = all;
        all = new;
        break :heap new;
    };
    cost.wrote(chain);
    if (lists.idle == heap) {
        lists.idle = heap.next_idle;
        const now = os.milliseconds();
        if (lists.last_end != 0 and now - lists.last_end <= keep_milliseconds) lists.churn_end = now + keep_milliseconds;
        forgetKept(heap);
    }
    heap.next_idle = null;
    heap.owner = mark;
    heap.next_of_chain = chain.*;
    chain.* = heap;
    lists.live_count += 1;
    central.setThreads(lists.live_count);
    return heap;
}

fn giveHeap(heap: *Heap) void {
    enterLists();
    defer lists.lock.unlock();
    listIdle(heap);
}

/// As `giveHeap`, with the lock held.
fn listIdle(heap: *Heap) void {
    var link = chainOf(heap.owner);
    while (link.*) |one| : (link = &one.next_of_chain) {
        if (one != heap) continue;
        link.* = heap.next_of_chain;
        break;
    }
    heap.owner = 0;
    heap.next_idle = lists.idle;
    lists.idle = heap;
    cost.wrote(link);
    lists.live_count -= 1;
    central.setThreads(lists.live_count);
}

fn chainOf(mark: usize) *?*Heap {
    // Slots lie at one place of their threads' stacks, which are multiples of a page apart.
    return &by_owner[(mark >> 12 ^ mark >> 20) % by_owner.len];
}

fn enterLists() void {
    lists.lock.lock();
    if (survivor != 0) forgetOtherThreads();
}

/// The destructor of the thread key. libc may free a little more afterwards, through the dead heap.
fn threadEnd(value: ?*anyopaque) callconv(.c) void {
    const heap: *Heap = @ptrCast(@alignCast(value.?));
    thread_slot.set(@constCast(&heaps.dead_heap));
    const leaky = 7;
    if (canary.is(.thread_end_leaks) and heap.shelves[leaky].base != null) {
        heap.magazines[leaky].setTop(heap.shelves[leaky].blocks());
    }
    const bytes = heldBytes(heap);
    enterLists();
    lists.last_end = os.milliseconds();
    const keeps = lists.last_end < lists.churn_end and lists.kept_bytes + bytes <= keptBytesMax();
    if (keeps) {
        heap.kept_bytes = bytes;
        lists.kept_bytes += bytes;
        if (kept_due == 0) setKeptDue(lists.last_end + keep_milliseconds);
        listIdle(heap);
    }
    lists.lock.unlock();
    if (keeps) return;
    heap.flushAll();
    giveHeap(heap);
}

/// Where threads come and go, a heap keeps its blocks for the next thread, for as long as the next thread comes within
/// half a second. The first thread that comes so soon tells.
const keep_milliseconds = 500;

/// What all such heaps keep together: so much for each thread there is, and for some more. A single heap may have more
/// than its part, as that of a thread that goes through many sizes has.
fn keptBytesMax() usize {
    return (lists.live_count + kept_heaps_spare) * kept_heap_bytes;
}

const kept_heaps_spare = 16;
const kept_heap_bytes = 512 * 1024;

/// The blocks of a heap are its next thread's, or are about to be flushed.
fn forgetKept(heap: *Heap) void {
    lists.kept_bytes -= heap.kept_bytes;
    heap.kept_bytes = 0;
}

/// Flushes the heaps that kept their blocks once no threads come any more. For slow paths, without a lock held.
pub inline fn age() void {
    // Partner: `setKeptDue`. A stale answer only delays the work to the next slow path.
    if (atomic.load(usize, &kept_due, .monotonic) != 0) ageSlow();
}

noinline fn ageSlow() void {
    const now = os.milliseconds();
    // Partner: `setKeptDue`, as in `age`.
    if (now < atomic.load(usize, &kept_due, .monotonic)) return;
    enterLists();
    const is_due = kept_due != 0 and now >= kept_due;
    const is_over = is_due and now >= lists.churn_end;
    if (is_due) setKeptDue(if (is_over) 0 else now + keep_milliseconds);
    lists.lock.unlock();
    if (is_over) flushIdleHeaps();
}

fn setKeptDue(due: usize) void {
    // Partner: the load in `age`.
    atomic.store(usize, &kept_due, due, .monotonic);
}

fn heldBytes(heap: *const Heap) usize {
    var bytes: usize = 0;
    for (&heap.shelves, heap.magazines[0..heap.shelves.len], 0..) |*shelf, *magazine, class| {
        bytes += shelf.count(magazine) * size_class.blockBytes(@intCast(class));
    }
    return bytes;
}

/// Heaps without a thread have blocks where threads come and go, and in a forked child.
pub fn flushIdleHeaps() void {
    while (takeIdleWithBlocks()) |heap| {
        heap.flushAll();
        enterLists();
        defer lists.lock.unlock();
        heap.owner = 0;
        heap.next_idle = lists.idle;
        lists.idle = heap;
    }
}

fn takeIdleWithBlocks() ?*Heap {
    enterLists();
    defer lists.lock.unlock();
    var link = &lists.idle;
    while (link.*) |heap| : (link = &heap.next_idle) {
        for (&heap.shelves) |*shelf| {
            if (shelf.base == null) continue;
            link.* = heap.next_idle;
            forgetKept(heap);
            // For a fork meanwhile.
            heap.owner = thread_slot.threadMark();
            return heap;
        }
    }
    return null;
}

pub const Counts = struct {
    threads: usize,
    magazine_bytes: usize,
};

/// Threads with a heap, and the bytes of the blocks in their magazines, as of about now.
pub fn count() Counts {
    enterLists();
    defer lists.lock.unlock();
    var bytes: usize = 0;
    var one = all;
    while (one) |heap| : (one = heap.next) {
        bytes += heldBytes(heap);
    }
    return .{ .threads = lists.live_count, .magazine_bytes = bytes };
}

/// What counts against the limit.
pub fn countedBytes() usize {
    return superslabs.countedBytes() + huge.countedBytes() + metadata.mappedBytes() + registry.mappedBytes() +
        check.mappedBytes();
}

/// Every lock of the allocator, in lock order.
pub const all_locks = .{&lists.lock} ++ check.locks() ++ central.locks() ++ superslabs.locks() ++
    space.locks() ++ page_map.locks() ++ registry.locks() ++ metadata.locks();

/// glibc's lock of its list of open files, which its fork takes after our handler. A thread inside fflush(NULL)
/// holds it and may wait for another that reads a line, and so for malloc: it must be taken before our locks. It
/// may be taken twice by one thread, and glibc makes it new in the child. Other libraries show no such lock.
const io_list_lock = ofGlibc(fn () callconv(.c) void, "_IO_list_lock");
const io_list_unlock = ofGlibc(fn () callconv(.c) void, "_IO_list_unlock");

/// Written and read by a fork that holds every lock.
var io_list_taken: bool = false;

/// What glibc has under this name; null where it has none, as an older one may, and in other libraries.
fn ofGlibc(comptime T: type, comptime name: []const u8) ?*const T {
    return if (glibc) @extern(?*const T, .{ .name = name, .linkage = .weak }) else null;
}

fn beforeFork() callconv(.c) void {
    if (Passage.isForGood()) return;
    for (all_locks) |each| {
        if (each.isMine()) return beforeForkInside();
    }
    // glibc makes the lock new in the child only where it knows of several threads; so it is taken only there.
    const several = io_list_lock != null and io_list_unlock != null and threads.areSeveral();
    if (several) io_list_lock.?();
    var waked = false;
    for (all_locks) |each| {
        if (each.tryLock()) continue;
        if (!waked) wakeSleepers();
        waked = true;
        each.lock();
    }
    io_list_taken = several;
    Passage.open();
}

/// A signal handler that forks may have interrupted its thread between the release of a lock and the wake, or
/// after that thread was waked and before it took the lock. Then the next sleeper waits for what the handler
/// interrupted, and the handler for a lock of that sleeper.
fn wakeSleepers() void {
    for (all_locks) |each| each.wakeSleeper();
}

/// How often to try for the locks that other threads hold, and how long to let them run between.
const tries = 200;
const pause_microseconds = 100;

/// A signal handler forks that interrupted its thread inside the allocator. The locks of the interrupted code are
/// left to it, in parent and child. Waiting for another lock might be waiting for a thread that waits for those, so
/// the others are taken all at once or not at all; and where that fails for long, those that can be had.
noinline fn beforeForkInside() void {
    @branchHint(.cold);
    for (all_locks) |each| {
        if (each.isMine()) each.interruptions += 1;
    }
    for (0..atomic.tries(tries, 2)) |_| {
        if (takeTheOthers()) break;
        for (all_locks) |each| if (each.isForFork()) each.release();
        wakeSleepers();
        os.sleep(pause_microseconds);
    } else for (all_locks) |each| {
        _ = each.tryLock();
    }
    if (lists.lock.isForFork()) Passage.open();
}

fn takeTheOthers() bool {
    for (all_locks) |each| {
        if (!each.isMine() and !each.tryLock()) return false;
    }
    return true;
}

fn afterForkInParent() callconv(.c) void {
    if (Passage.isForGood()) return;
    const unlock_io_list = endPassage() and io_list_taken;
    for (all_locks) |each| each.endFork();
    if (unlock_io_list) io_list_unlock.?();
}

fn afterForkInChild() callconv(.c) void {
    if (Passage.isForGood()) return;
    Passage.closeForOthers();
    survivor = thread_slot.threadMark();
    // The interrupted code is changing the magazines and may never come back to end it; its end does not need the
    // slot.
    if (thread_slot.get().busy) thread_slot.set(@constCast(&heaps.dead_heap));
    const lists_whole = !lists.lock.isMine() or lists.lock.isForFork();
    const all_whole = endPassage();
    for (all_locks, 0..) |each, number| {
        if (!(canary.is(.fork_lock) and number == 6)) each.endForkInChild();
    }
    if (all_whole and process_limit.isSet()) process_limit.recount(countedBytes());
    // Else the next to enter does it.
    if (!lists_whole) return;
    enterLists();
    lists.lock.unlock();
}

/// Closes the passage if this fork opened it. True if this fork interrupted nothing: it holds all locks.
fn endPassage() bool {
    if (!lists.lock.isForFork()) return false;
    Passage.close();
    for (all_locks) |each| if (!each.isForFork()) return false;
    return true;
}

/// In a forked child, with the lock held: the heaps of threads that are gone wait for new ones.
noinline fn forgetOtherThreads() void {
    @branchHint(.cold);
    lists.idle = null;
    by_owner = @splat(null);
    lists.live_count = 0;
    lists.kept_bytes = 0;
    var one = all;
    while (one) |heap| : (one = heap.next) {
        if (heap.owner == survivor) {
            const chain = chainOf(survivor);
            heap.next_of_chain = chain.*;
            chain.* = heap;
            lists.live_count = 1;
            assert(heap.kept_bytes == 0);
            continue;
        }
        // Partner: `Heap.setBusy`, in a thread that exists no more.
        if (atomic.load(bool, &heap.busy, .seq_cst)) {
            const next = heap.next;
            heap.* = .of(.live, page_map.view());
            heap.next = next;
        }
        heap.owner = 0;
        heap.kept_bytes = 0;
        heap.next_idle = lists.idle;
        lists.idle = heap;
    }
    setKeptDue(0);
    survivor = 0;
    central.setThreads(lists.live_count);
}

/// Panics if a lock is held. For tests, with no other thread inside.
pub fn verify() void {
    for (all_locks) |each| assert(!each.isHeld());
}
