//! hakmem for Zig programs: `allocator` is a `std.mem.Allocator`. Also the root of the unit tests.

const std = @import("std");
const heap = @import("allocator/heap.zig");

/// Serves any number of threads. Never fails but when the OS refuses memory.
pub const allocator: std.mem.Allocator = .{
    .ptr = undefined,
    .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free },
};

/// Gives back to the OS all that is free. Returns the bytes.
pub const purge = heap.purge;

/// For the tests in `zig/tests/`.
pub const internals = struct {
    pub const atomic = @import("platform/atomic.zig");
    pub const cost = @import("platform/cost.zig");
    pub const lock = @import("platform/lock.zig");
    pub const os = @import("platform/os.zig");
    pub const thread_slot = @import("platform/thread_slot.zig");
    pub const huge_cache = @import("memory/huge_cache.zig");
    pub const page_map = @import("memory/page_map.zig");
    pub const registry = @import("memory/registry.zig");
    pub const superslab = @import("memory/superslab.zig");
    pub const magazine = @import("motion/magazine.zig");
    pub const central = @import("motion/central.zig");
    pub const size_class = @import("numbers/size_class.zig");
    pub const geometry = @import("numbers/geometry.zig");
    pub const heap = @import("allocator/heap.zig");
    pub const lifecycle = @import("allocator/lifecycle.zig");
    pub const stats = @import("seeing/stats.zig");
};

fn alloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    const bytes = alignment.toByteUnits();
    // A block is aligned as its class is; the classes of small sizes suit every alignment up to the size.
    if (bytes <= 8) return heap.allocate(len);
    return heap.allocateAligned(len, bytes);
}

fn resize(_: *anyopaque, memory: []u8, _: std.mem.Alignment, new_len: usize, _: usize) bool {
    return new_len <= heap.usableBytes(memory.ptr);
}

fn remap(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, new_len: usize, _: usize) ?[*]u8 {
    // Moving keeps only the alignment that every block has.
    if (alignment.toByteUnits() > 8) return if (new_len <= heap.usableBytes(memory.ptr)) memory.ptr else null;
    return heap.resize(memory.ptr, new_len);
}

fn free(_: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
    heap.free(memory.ptr);
}

test {
    _ = @import("numbers/geometry.zig");
    _ = @import("numbers/size_class.zig");
    _ = @import("numbers/bitmap.zig");
    _ = @import("platform/os.zig");
    _ = @import("platform/lock.zig");
    _ = @import("platform/settings.zig");
    _ = @import("platform/cgroup.zig");
    _ = @import("memory/page_map.zig");
    _ = @import("memory/process_limit.zig");
    _ = @import("memory/metadata.zig");
    _ = @import("memory/registry.zig");
    _ = @import("memory/space.zig");
    _ = @import("memory/bitmap_area.zig");
    _ = @import("memory/slab.zig");
    _ = @import("memory/retention.zig");
    _ = @import("memory/bins.zig");
    _ = @import("memory/fresh_pages.zig");
    _ = @import("memory/superslab.zig");
    _ = @import("memory/large.zig");
    _ = @import("memory/huge_cache.zig");
    _ = @import("memory/huge.zig");
    _ = @import("motion/magazine.zig");
    _ = @import("motion/central.zig");
    _ = @import("checking/records.zig");
    _ = @import("allocator/heap_test.zig");
    _ = @import("seeing/fatal.zig");
    _ = @import("seeing/stats.zig");
    _ = @import("doors/abi_manifest.zig");
    _ = @import("doors/malloc_figures.zig");
}
