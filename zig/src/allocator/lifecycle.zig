//! Beginnings and ends: of the process, of a thread, and fork.
//!
//! The process starts at the first slow path of its first thread, or at the object's constructor, whichever
//! comes first. A thread gets a heap at its first slow path; a pthread key destructor flushes it at the end,
//! after which the thread uses the dead heap. Heaps are used again and never unmapped.
//!
//! fork: the prepare handler takes every lock in lock order, so the child finds all that is shared whole. The
//! forking thread passes through those locks meanwhile, for handlers of other libraries that allocate. In the
//! child the heaps of the threads that are gone wait for new threads, with the blocks in their magazines; a
//! heap caught in the middle of a slow path loses the blocks in its magazines instead.

const std = @import("std");
const size_class = @import("../numbers/size_class.zig");
const page_map = @import("../memory/page_map.zig");
const metadata = @import("../memory/metadata.zig");
const registry = @import("../memory/registry.zig");
const superslabs = @import("../memory/superslab.zig");
const huge = @import("../memory/huge.zig");
const central = @import("../motion/central.zig");
const atomic = @import("../platform/atomic.zig");
const thread_slot = @import("../platform/thread_slot.zig");
const locking = @import("../platform/lock.zig");
const heaps = @import("heap.zig");
const Lock = locking.Lock;
const Heap = heaps.Heap;
const assert = std.debug.assert;

extern fn pthread_key_create(key: *c_uint, destructor: *const fn (?*anyopaque) callconv(.c) void) c_int;
extern fn pthread_setspecific(key: c_uint, value: ?*const anyopaque) c_int;
/// What pthread_atfork calls with its own object's handle, and then takes the handlers away when the object's
/// destructors have run: in `exit`, while another thread may be between them. Without an object they stay.
extern fn __register_atfork(
    prepare: *const fn () callconv(.c) void,
    parent: *const fn () callconv(.c) void,
    child: *const fn () callconv(.c) void,
    object: ?*anyopaque,
) c_int;

/// Guards everything below. Comes before every other lock.
var lock: Lock = .{};
var started: bool = false;
var fork_handled: atomic.Value(bool) = .init(false);
var thread_key: c_uint = 0;
var has_thread_key: bool = false;
/// All heaps ever made, and those without a thread.
var all: ?*Heap = null;
var idle: ?*Heap = null;
var live_count: usize = 0;
/// The first heap costs no mapping.
var first_heap: Heap = undefined;
var first_heap_taken: bool = false;

/// Prepares the process. Safe to call at any time, from any thread; costs one load after the first.
pub fn start() bool {
    lock.lock();
    defer lock.unlock();
    if (started) return true;
    if (!page_map.start()) return false;
    has_thread_key = pthread_key_create(&thread_key, threadEnd) == 0;
    started = true;
    return true;
}

/// Fork handlers allocate when they are registered, so this runs when the thread has a heap already.
fn handleForks() void {
    // Partner: itself, in another thread.
    if (fork_handled.swap(true, .monotonic)) return;
    // Without handlers a child of a threaded parent may hang; there is no better answer to a full table.
    _ = __register_atfork(beforeFork, afterForkInParent, afterForkInChild, null);
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
    const heap = takeHeap() orelse return null;
    thread_slot.set(heap);
    // May allocate: the slot is set already. A thread whose end we would not hear of gets no magazines.
    const heard = has_thread_key and pthread_setspecific(thread_key, heap) == 0;
    handleForks();
    if (heard) return heap;
    const dead = @constCast(&heaps.dead_heap);
    thread_slot.set(dead);
    heap.flushAll();
    giveHeap(heap);
    return dead;
}

fn takeHeap() ?*Heap {
    lock.lock();
    defer lock.unlock();
    const heap = idle orelse heap: {
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
    if (idle == heap) idle = heap.next_idle;
    heap.next_idle = null;
    live_count += 1;
    central.setThreads(live_count);
    return heap;
}

fn giveHeap(heap: *Heap) void {
    lock.lock();
    defer lock.unlock();
    heap.next_idle = idle;
    idle = heap;
    live_count -= 1;
    central.setThreads(live_count);
}

/// The destructor of the thread key. libc may free a little more afterwards, through the dead heap.
fn threadEnd(value: ?*anyopaque) callconv(.c) void {
    const heap: *Heap = @ptrCast(@alignCast(value.?));
    thread_slot.set(@constCast(&heaps.dead_heap));
    heap.flushAll();
    giveHeap(heap);
}

/// Heaps without a thread have blocks only in a forked child.
pub fn flushIdleHeaps() void {
    while (takeIdleWithBlocks()) |heap| {
        heap.flushAll();
        lock.lock();
        defer lock.unlock();
        heap.next_idle = idle;
        idle = heap;
    }
}

fn takeIdleWithBlocks() ?*Heap {
    lock.lock();
    defer lock.unlock();
    var link = &idle;
    while (link.*) |heap| : (link = &heap.next_idle) {
        for (&heap.shelves) |*shelf| {
            if (shelf.base == null) continue;
            link.* = heap.next_idle;
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
    lock.lock();
    defer lock.unlock();
    var bytes: usize = 0;
    var one = all;
    while (one) |heap| : (one = heap.next) {
        for (&heap.shelves, heap.magazines[0..heap.shelves.len], 0..) |*shelf, *magazine, class| {
            bytes += shelf.count(magazine) * size_class.blockBytes(@intCast(class));
        }
    }
    return .{ .threads = live_count, .magazine_bytes = bytes };
}

/// Every lock of the allocator, in lock order.
pub fn allLocks() [locks_count]*Lock {
    return .{&lock} ++ central.locks() ++ huge.locks() ++ superslabs.locks() ++
        page_map.locks() ++ registry.locks() ++ metadata.locks();
}

const locks_count = 1 + @typeInfo(@TypeOf(central.locks())).array.len + 5;

/// glibc's lock of its list of open files, which its fork takes after our handler. A thread inside fflush(NULL)
/// holds it and may wait for another that reads a line, and so for malloc: it must be taken before our locks. It
/// may be taken twice by one thread, and glibc makes it new in the child. Absent in other libraries.
const io_list_lock = @extern(?*const fn () callconv(.c) void, .{ .name = "_IO_list_lock", .linkage = .weak });
const io_list_unlock = @extern(?*const fn () callconv(.c) void, .{ .name = "_IO_list_unlock", .linkage = .weak });

const single_threaded = @extern(?*const u8, .{ .name = "__libc_single_threaded", .linkage = .weak });
var io_list_taken: bool = false;

fn beforeFork() callconv(.c) void {
    // glibc makes the lock new in the child only where it knows of several threads; so it is taken only there.
    io_list_taken = io_list_lock != null and io_list_unlock != null and
        if (single_threaded) |alone| alone.* == 0 else false;
    if (io_list_taken) io_list_lock.?();
    for (allLocks()) |each| each.lock();
    locking.Passage.open();
}

fn afterForkInParent() callconv(.c) void {
    locking.Passage.close();
    for (allLocks()) |each| each.unlock();
    if (io_list_taken) io_list_unlock.?();
}

fn afterForkInChild() callconv(.c) void {
    locking.Passage.close();
    for (allLocks()) |each| each.unlock();
    const mine = thread_slot.get();
    lock.lock();
    defer lock.unlock();
    idle = null;
    var one = all;
    while (one) |heap| : (one = heap.next) {
        if (heap == mine) continue;
        // Partner: `Heap.setBusy`, in a thread that exists no more.
        if (atomic.load(bool, &heap.busy, .seq_cst)) {
            const next = heap.next;
            heap.* = .of(.live, page_map.view());
            heap.next = next;
        }
        heap.next_idle = idle;
        idle = heap;
    }
    live_count = if (mine.kind == .live) 1 else 0;
    central.setThreads(live_count);
}

comptime {
    assert(locks_count == allLocks().len);
}
