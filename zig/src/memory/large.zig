//! Large blocks, above the size classes and up to 1 MiB: a run of granules each, straight from the page heap.
//!
//! A block starts on a granule, so it is aligned to 64 KiB. Rounding up to granules costs address space
//! only: pages that the caller does not touch are never resident.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const page_map = @import("page_map.zig");
const registry = @import("registry.zig");
const superslabs = @import("superslab.zig");
const Superslab = superslabs.Superslab;
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const assert = std.debug.assert;

pub const Block = struct {
    address: usize,
    /// The block reads as zero.
    zeroed: bool,
};

pub fn granulesFor(bytes: usize) u32 {
    assert(bytes <= geometry.large_bytes_max);
    return @intCast(@max(1, (bytes + geometry.granule_bytes - 1) >> geometry.granule_shift));
}

pub fn allocate(bytes: usize) ?Block {
    const run = superslabs.allocateRun(granulesFor(bytes), .sparse) orelse return null;
    page_map.write(run.address(), 1, page_map.large);
    return .{ .address = run.address(), .zeroed = run.clean or canary.is(.calloc_dirty) };
}

pub fn free(address: usize) void {
    const superslab = superslabOf(address);
    page_map.write(address, 1, 0);
    superslabs.freeRun(superslab, superslab.granuleOf(address));
    superslabs.settle();
}

/// Makes the block hold `bytes` where it lies, and gives back what it needs no more. False if it cannot grow there,
/// and it is as it was.
pub fn resize(address: usize, bytes: usize) bool {
    const superslab = superslabOf(address);
    const start = superslab.granuleOf(address);
    const before = superslab.run_granules[start];
    const granules = granulesFor(bytes);
    if (granules > before) return superslabs.growRun(superslab, start, granules);
    if (granules < before) {
        superslabs.shrinkRun(superslab, start, granules);
        superslabs.settle();
    }
    return true;
}

pub fn usableBytes(address: usize) usize {
    return superslabOf(address).runBytes(address);
}

fn superslabOf(address: usize) *Superslab {
    const superslab = registry.find(Superslab, address).?;
    const offset = address & (geometry.granule_bytes - 1);
    if (offset != 0) fatal.misuse(.{
        .kind = .interior_pointer,
        .address = address,
        .block_bytes = superslab.runBytes(address),
        .offset = @intCast(offset),
        .state = .in_use,
    });
    return superslab;
}

test "large: blocks are aligned to a granule, zero when fresh, and shrink and grow in place" {
    try std.testing.expect(page_map.start());
    const block = allocate(300 * 1024).?;
    try std.testing.expectEqual(0, block.address % geometry.granule_bytes);
    try std.testing.expectEqual(5 * geometry.granule_bytes, usableBytes(block.address));
    try std.testing.expectEqual(page_map.large, page_map.entry(block.address));
    try std.testing.expect(resize(block.address, 130 * 1024));
    try std.testing.expectEqual(3 * geometry.granule_bytes, usableBytes(block.address));
    // What it gave back is free for it, and for nobody else once it has it again.
    try std.testing.expect(resize(block.address, geometry.large_bytes_max));
    try std.testing.expectEqual(geometry.large_bytes_max, usableBytes(block.address));
    try std.testing.expect(resize(block.address, 300 * 1024));
    const neighbour = allocate(200 * 1024).?;
    try std.testing.expectEqual(block.address + 5 * geometry.granule_bytes, neighbour.address);
    try std.testing.expect(!resize(block.address, 330 * 1024));
    try std.testing.expectEqual(5 * geometry.granule_bytes, usableBytes(block.address));
    free(neighbour.address);
    free(block.address);
    try std.testing.expectEqual(0, page_map.entry(block.address));
    superslabs.verify();
}
