//! The allocator as one thread sees it: allocate, free, resize. The only file in which fast and slow paths
//! meet.
//!
//! A heap belongs to one thread. Its magazines serve the fast paths without locks or atomics; slow paths
//! refill and flush them. Two heaps serve threads without one of their own: the empty heap before the first
//! slow path, and the dead heap after the thread's end, which keeps nothing and goes to the shared slabs.
//!
//! Fast path of `allocate` up to 1 KiB: the slot, the class table, top, the block; one compare for the range,
//! one for an empty magazine. Fast path of `free`: the slot, the view (three words), the map byte, top, limit;
//! one compare for the window, one for a full magazine. The block itself is not touched by either.

const std = @import("std");
const builtin = @import("builtin");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const atomic = @import("../platform/atomic.zig");
const thread_slot = @import("../platform/thread_slot.zig");
const page_map = @import("../memory/page_map.zig");
const registry = @import("../memory/registry.zig");
const superslabs = @import("../memory/superslab.zig");
const large = @import("../memory/large.zig");
const huge = @import("../memory/huge.zig");
const process_limit = @import("../memory/process_limit.zig");
const space = @import("../memory/space.zig");
const central = @import("../motion/central.zig");
const magazines = @import("../motion/magazine.zig");
const lifecycle = @import("lifecycle.zig");
const check = @import("../checking/check.zig");
const stray = @import("stray.zig");
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const cost = @import("../platform/cost.zig");
const Magazine = magazines.Magazine;
const Shelf = magazines.Shelf;
const Class = size_class.Class;
const assert = std.debug.assert;

pub const Kind = enum(u8) {
    /// Before the thread's first slow path. Shared by all threads, never written.
    empty,
    /// The thread's own.
    live,
    /// After the thread's end. Shared by all threads, never written.
    dead,
    /// Of every thread under HAKMEM_CHECK. Never written.
    checked,
};

pub const Heap = extern struct {
    view: page_map.View,
    /// By entry of the page map. Those of entry 0, `large` and `huge` are always empty and full, so NULL,
    /// foreign addresses and blocks without a class take the slow path without a branch of their own.
    magazines: [page_map.entry_count]Magazine,
    shelves: [size_class.count + 1]Shelf,
    kind: Kind,
    /// A slow path is changing the magazines. Read only by a forked child, which inherits them.
    busy: bool,
    /// The last request to flush that this heap has followed.
    flush_seen: u32,
    /// Bytes of its blocks while it waits with them for a thread; else 0.
    kept_bytes: usize,
    /// The mark of its thread; 0 while it waits for one.
    owner: usize,
    /// Links all heaps ever made, the ones that wait for a thread, and the ones whose owners share a chain.
    next: ?*Heap,
    next_idle: ?*Heap,
    next_of_chain: ?*Heap,

    pub fn of(kind: Kind, view: page_map.View) Heap {
        return .{
            .view = view,
            .magazines = @splat(.none),
            .shelves = @splat(.none),
            .kind = kind,
            .busy = false,
            .flush_seen = 0,
            .kept_bytes = 0,
            .owner = 0,
            .next = null,
            .next_idle = null,
            .next_of_chain = null,
        };
    }

    /// Returns every block in the magazines, and their arrays.
    pub fn flushAll(heap: *Heap) void {
        assert(heap.kind == .live);
        heap.setBusy(true);
        defer heap.setBusy(false);
        for (1..size_class.count + 1) |class| heap.flushClass(@intCast(class));
    }

    /// Returns every block in the magazine of a class, and its array.
    pub fn flushClass(heap: *Heap, class: Class) void {
        const shelf = &heap.shelves[class];
        const magazine = &heap.magazines[class];
        if (shelf.base == null) return;
        const held = shelf.count(magazine);
        central.giveBack(class, shelf.blocks()[0..held], .end);
        magazine.setTop(shelf.blocks());
        shelf.close(magazine);
    }

    pub inline fn setBusy(heap: *Heap, busy: bool) void {
        // Partner: `lifecycle.afterForkInChild`, in a copy of this process made at any moment, which must see
        // the mark before and after all other stores. x86 keeps stores in order by itself, so there only the
        // compiler is told.
        if (builtin.cpu.arch == .x86_64) {
            asm volatile ("" ::: .{ .memory = true });
            atomic.store(bool, &heap.busy, busy, .monotonic);
            asm volatile ("" ::: .{ .memory = true });
        } else {
            atomic.store(bool, &heap.busy, busy, .seq_cst);
        }
    }

    /// Looks at the window that has the entry of a block which came by the slow path because the present one has not.
    fn lookAt(heap: *Heap, address: usize, entry: u8) void {
        if (heap.view.covers(address) and heap.view.coveredEntry(address) == entry) return;
        const view = page_map.viewOf(address);
        // A signal handler that frees in between must find a view of nothing, not half of two.
        const count: *volatile usize = &heap.view.count;
        count.* = 0;
        @as(*volatile usize, &heap.view.origin).* = view.origin;
        @as(*volatile usize, &heap.view.first).* = view.first;
        count.* = view.count;
    }

    fn followRequests(heap: *Heap) void {
        const wanted = process_limit.flushRequests();
        if (heap.flush_seen == wanted) return;
        heap.flush_seen = wanted;
        heap.flushAll();
    }
};

pub const empty_heap: Heap = .of(.empty, .none);
pub const dead_heap: Heap = .of(.dead, .none);
pub const checked_heap: Heap = .of(.checked, .none);

/// A block of at least `size` bytes, aligned to 16 (to 8 for up to 8 bytes). Null when memory is out.
pub inline fn allocate(size: usize) ?[*]u8 {
    return allocateFast(size) orelse allocateSlow(size);
}

/// A block for a size of up to 1 KiB from the magazine; null where `allocateSlow` must be asked. Apart from it
/// so that a door can end in a jump to a slow path of its own, which also says what went wrong.
pub inline fn allocateFast(size: usize) ?[*]u8 {
    if (size > geometry.tiny_bytes_max) return null;
    const class = size_class.tiny_table[(size + 7) >> 3];
    return @ptrFromInt(thread_slot.get().magazines[class].pop());
}

/// A block of any size, where `allocateFast` has none.
pub noinline fn allocateSlow(size: usize) ?[*]u8 {
    if (size > geometry.large_bytes_max) {
        if (huge.allocateAgain(size)) |address| return @ptrFromInt(address);
    }
    if (size > geometry.small_bytes_max) return addressOf(allocateAboveSmall(size, 1, .any));
    return allocateOf(size_class.of(size), size, 1);
}

/// As `allocateFast`, all zero, for so small a size that clearing it takes less than a call.
pub inline fn allocateZeroedFast(size: usize) ?[*]u8 {
    if (size > cleared_inline_max) return null;
    const memory = allocateFast(size) orelse return null;
    if (size <= 8) {
        @as(*align(8) u64, @ptrCast(@alignCast(memory))).* = 0;
        return memory;
    }
    clear(memory, std.mem.alignForward(usize, size, geometry.alignment_default));
    return memory;
}

/// Clears up to 128 bytes, which are whole steps, from both ends.
inline fn clear(memory: [*]u8, bytes: usize) void {
    const Step = @Vector(geometry.alignment_default, u8);
    const from: [*]Step = @ptrCast(@alignCast(memory));
    const steps = bytes / @sizeOf(Step);
    const zeros: Step = @splat(0);
    from[0] = zeros;
    from[steps - 1] = zeros;
    inline for (.{ 1, 2 }) |doubling| {
        if (steps <= 1 << doubling) return;
        inline for (1 << doubling - 1..1 << doubling) |step| {
            from[step] = zeros;
            (from + steps - 1 - step)[0] = zeros;
        }
    }
}

const cleared_inline_max = 128;

/// As `allocate`, all zero.
pub noinline fn allocateZeroed(size: usize) ?[*]u8 {
    if (size > geometry.small_bytes_max) {
        const block = allocateAboveSmall(size, 1, .zeroed) orelse return null;
        const memory: [*]u8 = @ptrFromInt(block.address);
        if (!block.zeroed) @memset(memory[0..size], 0);
        return memory;
    }
    const memory = allocate(size) orelse return null;
    @memset(memory[0..size], 0);
    return memory;
}

/// A block of at least `size` bytes at a multiple of `alignment`, a power of two.
pub fn allocateAligned(size: usize, alignment: usize) ?[*]u8 {
    assert(std.math.isPowerOfTwo(alignment));
    const class = size_class.ofAligned(size, alignment);
    if (class == size_class.none) return addressOf(allocateAboveSmall(size, alignment, .any));
    return allocateOf(class, size, alignment);
}

/// Takes a block back; null is nothing. Anything else ends the process with a message.
pub inline fn free(block: ?*anyopaque) void {
    const address = @intFromPtr(block);
    const heap = thread_slot.get();
    if (heap.view.covers(address)) {
        if (heap.magazines[heap.view.coveredEntry(address)].push(address)) return;
    }
    freeSlow(address, heap);
}

/// As `free`, for callers who say what they asked for; `alignment` is null where they did not. Only HAKMEM_CHECK
/// compares.
pub fn freeSized(block: ?*anyopaque, size: usize, alignment: ?usize) void {
    const present = block orelse return;
    if (isChecked()) return check.freeSized(@intFromPtr(present), size, alignment);
    free(present);
}

/// The bytes that may be used of a block of ours; 0 for a foreign pointer that is to be ignored.
pub fn usableBytes(block: *anyopaque) usize {
    const address = @intFromPtr(block);
    if (isChecked()) return check.usableBytes(address);
    return blockBytes(address);
}

/// The bytes of what lies at `address`, whatever the program asked for.
pub fn blockBytes(address: usize) usize {
    return switch (page_map.entry(address)) {
        size_class.none => none: {
            stray.refuse(address);
            break :none 0;
        },
        page_map.large => large.usableBytes(address),
        page_map.huge => huge.usableBytes(address),
        else => |class| bytes: {
            const bytes = size_class.blockBytes(class);
            // All that can be told of a block without its slab, and cheaper.
            if (address & (@min(bytes & -%bytes, geometry.alignment_default) - 1) != 0) stray.refuse(address);
            break :bytes bytes;
        },
    };
}

/// Whether each block of this process is guarded and looked up. Slow paths only.
inline fn isChecked() bool {
    const kind = thread_slot.get().kind;
    if (kind != .empty) return kind == .checked;
    return if (lifecycle.enter()) |heap| heap.kind == .checked else false;
}

/// A block of `size` bytes with the contents of `block` as far as both reach. Null when memory is out, and
/// `block` is as it was then. `size` is not 0.
pub fn resize(block: *anyopaque, size: usize) ?[*]u8 {
    const address = @intFromPtr(block);
    const heap = thread_slot.get();
    if (heap.view.covers(address)) {
        const entry = heap.view.coveredEntry(address);
        if (entry -% 1 < size_class.count) return resizeSmall(heap, address, entry, size);
    }
    return resizeSlow(address, size);
}

/// A block of a class.
inline fn resizeSmall(heap: *Heap, address: usize, class: Class, size: usize) ?[*]u8 {
    const block: [*]u8 = @ptrFromInt(address);
    const usable = size_class.blockBytes(class);
    expectInUse(heap, address, class);
    if (stays(size, usable)) return block;
    const moved = allocateToGrow(size) orelse return if (size <= usable) block else null;
    const kept = @min(size, usable) - @intFromBool(canary.is(.realloc_short));
    @memcpy(moved[0..kept], block[0..kept]);
    if (!heap.magazines[class].push(address)) freeSlow(address, heap);
    return moved;
}

/// A block that would be under half full moves to a smaller one.
inline fn stays(size: usize, usable: usize) bool {
    return size <= usable and (size > usable / 2 or usable <= geometry.alignment_default);
}

/// The block has no class, or lies in memory that the heap does not look at, or the thread has no heap.
noinline fn resizeSlow(address: usize, size: usize) ?[*]u8 {
    if (isChecked()) return check.resize(address, size);
    const block: [*]u8 = @ptrFromInt(address);
    const entry = page_map.entry(address);
    switch (entry) {
        size_class.none => {
            stray.refuse(address);
            return null;
        },
        page_map.huge => {
            if (size > geometry.request_bytes_max) return null;
            // One that goes up and down across the limit stays what it is.
            if (size > geometry.large_bytes_max / 2) {
                if (huge.resize(address, size)) |moved| return @ptrFromInt(moved);
                if (size <= huge.usableBytes(address)) return block;
            }
        },
        page_map.large => if (size > geometry.small_bytes_max and size <= geometry.large_bytes_max) {
            if (large.resize(address, size)) return block;
        },
        else => return resizeSmall(thread_slot.get(), address, entry, size),
    }
    const usable = blockBytes(address);
    const moved = allocateToGrow(size) orelse return if (size <= usable) block else null;
    const kept = @min(size, usable) - @intFromBool(canary.is(.realloc_short));
    @memcpy(moved[0..kept], block[0..kept]);
    free(block);
    return moved;
}

fn allocateToGrow(size: usize) ?[*]u8 {
    if (size > geometry.large_bytes_max) {
        if (huge.allocateToGrow(size)) |address| return @ptrFromInt(address);
    }
    return allocate(size);
}

/// A block that stays where it is meets no flush, which would notice.
inline fn expectInUse(heap: *const Heap, address: usize, class: Class) void {
    if (heap.magazines[class].newest() == address) freedTwice(address, class);
    const superslab = registry.find(superslabs.Superslab, address).?;
    superslab.slabOf(address).expectInUse(address);
}

noinline fn freedTwice(address: usize, class: Class) noreturn {
    @branchHint(.cold);
    fatal.misuse(.{
        .kind = .double_free,
        .address = address,
        .block_bytes = size_class.blockBytes(class),
        .state = .free,
    });
}

/// Returns every block that this thread has in its magazine of a class, and the class's cold magazine, and
/// unmaps what became empty.
pub fn flushMagazine(class: Class) void {
    const heap = thread_slot.get();
    if (heap.kind == .live) {
        heap.setBusy(true);
        defer heap.setBusy(false);
        heap.flushClass(class);
    }
    central.giveBackAll(class);
    _ = superslabs.purge();
}

/// Returns every block in this thread's magazines, in all cold magazines and in those of ended threads, asks
/// the other threads to do the same at their next slow path, and unmaps what became empty.
pub fn flushMagazines() void {
    _ = purge();
}

/// Gives back to the OS all that is free and can be found without another thread's help. Returns the bytes.
pub fn purge() usize {
    const bytes = reclaim();
    space.retry();
    return bytes;
}

fn reclaim() usize {
    superslabs.settle();
    const wanted = process_limit.requestFlush();
    const heap = thread_slot.get();
    if (heap.kind == .live) {
        heap.flush_seen = wanted;
        heap.flushAll();
    }
    lifecycle.flushIdleHeaps();
    return giveBackShared();
}

/// As `purge`, but for what magazines hold.
pub fn giveBackShared() usize {
    for (1..size_class.count + 1) |class| central.giveBackAll(@intCast(class));
    return huge.purge() + superslabs.purge();
}

inline fn allocateOf(class: Class, size: usize, alignment: usize) ?[*]u8 {
    const heap = thread_slot.get();
    const address = heap.magazines[class].pop();
    if (address == 0) return refillAndTake(heap, class, size, alignment);
    return @ptrFromInt(address);
}

/// The magazine of the class is empty.
noinline fn refillAndTake(heap_found: *Heap, class: Class, size: usize, alignment: usize) ?[*]u8 {
    @branchHint(.unlikely);
    if (heap_found.shelves[class].credit != 0) {
        const borrowed = borrow(heap_found, class, alignment);
        if (borrowed != 0) return @ptrFromInt(borrowed);
    }
    const heap = if (heap_found.kind != .empty) heap_found else heap: {
        // Without memory for a heap, the shared slabs may still have a block.
        const entered = lifecycle.enter() orelse break :heap @constCast(&dead_heap);
        // Entering may have allocated and freed, and left blocks in the magazine.
        const left = entered.magazines[class].pop();
        if (left != 0) return @ptrFromInt(left);
        break :heap entered;
    };
    if (heap.kind == .checked) {
        const block = check.allocate(size, alignment) orelse return refuse(size);
        return @ptrFromInt(block.address);
    }
    const address = refill(heap, class);
    if (address != 0) return @ptrFromInt(address);
    for (std.enums.values(Unused)) |unused| {
        unused.giveUp();
        const again = refill(heap, class);
        if (again != 0) return @ptrFromInt(again);
    }
    return refuse(size);
}

/// What is given up for a request when memory is out, in this order.
const Unused = enum {
    /// What waits in case it is asked for again: freed huge blocks, free granules, empty superslabs.
    resident,
    /// And what lies free in magazines and slabs of all classes.
    blocks,
    /// Address space that is kept in other pieces than the request takes.
    address_space,

    fn giveUp(unused: Unused) void {
        switch (unused) {
            .resident => _ = huge.purge() + superslabs.purge(),
            .blocks => _ = reclaim(),
            .address_space => space.retry(),
        }
    }
};

fn refuse(size: usize) ?[*]u8 {
    process_limit.noteFailure(size);
    return null;
}

/// Lets time pass for what is kept in case it is asked for again. Slow paths are where time is noticed.
inline fn age() void {
    huge.age();
    superslabs.age();
    lifecycle.age();
}

/// Takes a free block of a slightly larger class for one that would touch a page; 0 if there is none to spare. Classes have
/// their peaks at different times, but each keeps the pages that it touched at its own. The block stays what it is: it
/// goes back to its class when it is freed.
inline fn borrow(heap: *Heap, class: Class, alignment: usize) usize {
    if (alignment > geometry.alignment_default or heap.flush_seen != process_limit.flushRequests()) return 0;
    for (class + 1..@min(class + lenders, lender_max) + 1) |lender| {
        const magazine = &heap.magazines[lender];
        if (!heap.shelves[lender].canLend(magazine, @intCast(lender))) continue;
        heap.shelves[class].credit -= 1;
        return magazine.pop();
    }
    return 0;
}

/// The classes next above that lend: above 128 bytes they are larger by at most a quarter.
const lenders = 2;
/// A block above a page may have pages that its last owner never touched and the next one would.
const lender_max = size_class.of(geometry.dense_bytes_max);
/// A class that is short again and again gets its page: a miss costs some 80 instructions, a page once.
const borrows_a_page = 512;

/// Brings blocks of a class into the magazine and takes one; 0 when there are none to be had.
fn refill(heap: *Heap, class: Class) usize {
    age();
    if (heap.kind == .live) {
        heap.followRequests();
        heap.setBusy(true);
        defer heap.setBusy(false);
        const shelf = &heap.shelves[class];
        const magazine = &heap.magazines[class];
        if (shelf.base != null or shelf.open(magazine, class)) {
            if (shelf.missed) _ = growOneWay(shelf, magazine, class);
            shelf.noteMiss();
            const want = @min(shelf.words - 1, @max(
                magazines.refill_blocks[class],
                @min(shelf.words_grown / 8, magazines.refill_blocks_max),
            ));
            const taken = central.take(class, shelf.blocks(), want);
            cost.refilled(taken.blocks);
            shelf.fresh = if (taken.fresh) @intCast(taken.blocks) else 0;
            shelf.credit = if (taken.dry and class < lender_max) borrows_a_page else 0;
            magazine.setTop(shelf.blocks() + taken.blocks);
            return magazine.pop();
        }
    }
    var one: [1]usize = undefined;
    cost.refilled(1);
    return if (central.take(class, &one, 1).blocks == 1) one[0] else 0;
}

/// The magazine is full, or the address is not a block of a class, or the thread has no heap.
noinline fn freeSlow(address: usize, heap_found: *Heap) void {
    @branchHint(.unlikely);
    if (address == 0) return;
    if (heap_found.kind != .live and isChecked()) return check.free(address);
    // What the view says counts, but where an older window has the entry.
    const seen = if (heap_found.view.covers(address)) heap_found.view.coveredEntry(address) else 0;
    if (seen == page_map.huge) return huge.free(address);
    const entry = if (seen != size_class.none) seen else page_map.entry(address);
    switch (entry) {
        size_class.none => return stray.refuse(address),
        page_map.large => return large.free(address),
        page_map.huge => return huge.free(address),
        else => {},
    }
    const heap = switch (heap_found.kind) {
        .empty => lifecycle.enter() orelse return central.giveBack(entry, &.{address}, .keep_last),
        .live, .checked => heap_found,
        .dead => return central.giveBack(entry, &.{address}, .keep_last),
    };
    if (heap.kind == .dead) return central.giveBack(entry, &.{address}, .keep_last);
    age();
    heap.lookAt(address, entry);
    heap.followRequests();
    heap.setBusy(true);
    defer heap.setBusy(false);
    const shelf = &heap.shelves[entry];
    const magazine = &heap.magazines[entry];
    if (magazine.newest() == address) freedTwice(address, entry);
    if (shelf.base == null) {
        if (!shelf.open(magazine, entry)) return central.giveBack(entry, &.{address}, .keep_last);
    } else if (magazine.top == magazine.limit) {
        makeRoom(shelf, magazine, entry);
    }
    if (!magazine.push(address)) unreachable;
}

/// The magazine is full: it grows if it also ran empty since the last time, or is small still and there are other
/// threads; else its oldest blocks are flushed. In a long phase of nothing but frees it shrinks with what is in use of
/// the class, since blocks in magazines keep slabs from becoming empty.
fn makeRoom(shelf: *Shelf, magazine: *Magazine, class: Class) void {
    const missed = shelf.missed;
    shelf.missed = false;
    const emptying = shelf.flushed > magazines.words_max[class];
    if (missed) {
        if (shelf.grow(magazine, class)) return;
    } else if (!emptying and growOneWay(shelf, magazine, class)) return;
    const held = shelf.count(magazine);
    const wanted = held - @max(held / 4, @min(held / 2 + 1, flush_blocks_min));
    const share = @max(magazines.words_min[class] / 2, central.inUse(class) / 8);
    const kept = if (emptying) @min(wanted, share) else wanted;
    shelf.flushed +|= @intCast(held - kept);
    const blocks = shelf.blocks();
    // The newest stay, which the cache still has; of the others the newer go, as then only few have to be moved down.
    const newest = @min(kept, newest_kept);
    if (central.flush(class, blocks[kept - newest .. held - newest])) |order| shelf.scattered = order == .scattered;
    @memmove(blocks[kept - newest .. kept], blocks[held - newest .. held]);
    magazine.setTop(blocks + kept);
    if (kept < wanted) shelf.shrink(magazine, class, kept);
}

/// Two misses, or two overflows, came one after the other. False where it is as large as is worth while for that.
fn growOneWay(shelf: *Shelf, magazine: *Magazine, class: Class) bool {
    return shelf.words_grown < magazines.words_one_way[class] and central.isShared() and shelf.grow(magazine, class);
}

/// A quarter of a magazine is flushed, but of a small one up to half, so that a flush is worth its lock.
const flush_blocks_min = 64;
/// The newest blocks, which a flush leaves on top.
const newest_kept = 64;

const Block = large.Block;

fn addressOf(block: ?Block) ?[*]u8 {
    return if (block) |present| @ptrFromInt(present.address) else null;
}

/// A block past the magazines, for `check`, which has none.
pub fn allocateDirectly(size: usize, alignment: usize) ?Block {
    if (size > geometry.request_bytes_max) return null;
    const class = size_class.ofAligned(size, alignment);
    if (class == size_class.none) return allocateRunOrMapping(size, alignment, .any);
    var one: [1]usize = undefined;
    if (central.take(class, &one, 1).blocks == 0) return null;
    return .{ .address = one[0], .zeroed = false };
}

/// Takes back what `allocateDirectly` gave.
pub fn freeDirectly(address: usize) void {
    switch (page_map.entry(address)) {
        size_class.none => unreachable,
        page_map.large => large.free(address),
        // It waits no more: it has been in quarantine, which made it inaccessible.
        page_map.huge => huge.giveBack(address),
        else => |class| central.giveBack(class, &.{address}, .keep_last),
    }
}

const Contents = enum { any, zeroed };

/// A block with a run or a mapping of its own.
noinline fn allocateAboveSmall(size: usize, alignment: usize, contents: Contents) ?Block {
    if (size > geometry.request_bytes_max or alignment > geometry.request_bytes_max) return null;
    // Without memory for a heap there may still be some for the block.
    const heap = thread_slot.get();
    if (heap.kind != .live and isChecked()) {
        if (check.allocate(size, alignment)) |block| return block;
    } else {
        if (heap.kind == .live) heap.followRequests();
        if (allocateRunOrMapping(size, alignment, contents)) |block| return block;
        for (std.enums.values(Unused)) |unused| {
            unused.giveUp();
            if (allocateRunOrMapping(size, alignment, contents)) |block| return block;
        }
    }
    process_limit.noteFailure(size);
    return null;
}

fn allocateRunOrMapping(size: usize, alignment: usize, contents: Contents) ?Block {
    if (size <= geometry.large_bytes_max and alignment <= geometry.granule_bytes) {
        age();
        return large.allocate(size);
    }
    const mapping = switch (contents) {
        .any => huge.allocate(size, alignment),
        .zeroed => huge.allocateZeroed(size),
    } orelse return null;
    return .{ .address = mapping.address, .zeroed = mapping.zeroed };
}

comptime {
    assert(@sizeOf(Heap) <= 4096);
}
