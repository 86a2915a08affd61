//! A snapshot of what the allocator holds, gathered from the owners of each part under their locks.
//!
//! The parts are read one after the other, so in a process with busy threads they are of slightly different
//! moments; each part by itself is whole, and none is ever negative.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const central = @import("../motion/central.zig");
const superslabs = @import("../memory/superslab.zig");
const huge = @import("../memory/huge.zig");
const space = @import("../memory/space.zig");
const metadata = @import("../memory/metadata.zig");
const registry = @import("../memory/registry.zig");
const page_map = @import("../memory/page_map.zig");
const check = @import("../checking/check.zig");
const lifecycle = @import("../allocator/lifecycle.zig");

/// `struct hak_stats`. Fields are only ever added at the end; `struct_bytes` says how many were filled.
pub const Stats = extern struct {
    struct_bytes: u64 = @sizeOf(Stats),
    /// Threads that have a heap.
    threads: u64 = 0,
    /// Superslabs mapped, and of these the ones with nothing in use.
    superslabs: u64 = 0,
    superslabs_empty: u64 = 0,
    superslabs_mapped_ever: u64 = 0,
    superslabs_unmapped_ever: u64 = 0,
    /// Superslabs that the OS refused. There is no fallback: such a request failed, or was served from memory
    /// that lay unused elsewhere.
    superslabs_refused_ever: u64 = 0,
    slabs: u64 = 0,
    /// Granules in use by slabs and large blocks, and free ones that still hold pages.
    slab_bytes: u64 = 0,
    large_bytes: u64 = 0,
    dirty_bytes: u64 = 0,
    /// Blocks in the magazines of threads, and in cold magazines.
    magazine_bytes: u64 = 0,
    cold_bytes: u64 = 0,
    /// Blocks free in slabs, and blocks of slabs never handed out.
    slab_free_bytes: u64 = 0,
    slab_fresh_bytes: u64 = 0,
    /// In use.
    huge_blocks: u64 = 0,
    huge_bytes: u64 = 0,
    /// Address space of freed huge blocks and superslabs that the OS would not take back; it holds no memory.
    huge_stuck_bytes: u64 = 0,
    /// Mapped for the allocator's own records.
    metadata_bytes: u64 = 0,
    /// Superslabs, huge blocks (cached ones too) and metadata together.
    mapped_bytes: u64 = 0,
    /// Freed huge blocks that wait to be allocated again.
    huge_cached_bytes: u64 = 0,
};

pub fn gather() Stats {
    var stats: Stats = .{};
    for (1..size_class.count + 1) |class_number| {
        const class: size_class.Class = @intCast(class_number);
        const counts = central.count(class);
        const block_bytes = size_class.blockBytes(class);
        stats.slabs += counts.slabs;
        stats.slab_bytes += counts.slabs * size_class.shapes[class].granules * geometry.granule_bytes;
        stats.cold_bytes += counts.cold_blocks * block_bytes;
        stats.slab_free_bytes += counts.free_blocks * block_bytes;
        stats.slab_fresh_bytes += counts.fresh_blocks * block_bytes;
    }
    const threads = lifecycle.count();
    stats.threads = threads.threads;
    stats.magazine_bytes = threads.magazine_bytes;
    const pages = superslabs.count();
    stats.superslabs = pages.mapped;
    stats.superslabs_empty = pages.empty;
    stats.superslabs_mapped_ever = pages.mapped_ever;
    stats.superslabs_unmapped_ever = pages.unmapped_ever;
    stats.superslabs_refused_ever = pages.refused_ever;
    stats.dirty_bytes = pages.dirty_granules * geometry.granule_bytes;
    stats.large_bytes = (pages.used_granules * geometry.granule_bytes) -| stats.slab_bytes;
    const mappings = huge.count();
    stats.huge_blocks = mappings.blocks;
    stats.huge_bytes = mappings.bytes;
    stats.huge_cached_bytes = mappings.cached_bytes;
    stats.huge_stuck_bytes = space.keptBytes();
    stats.metadata_bytes = pages.record_bytes + metadata.mappedBytes() + registry.mappedBytes() +
        page_map.writableBytes() + check.mappedBytes();
    stats.mapped_bytes = pages.mapped * geometry.superslab_bytes + mappings.bytes + mappings.cached_bytes +
        stats.huge_stuck_bytes + stats.metadata_bytes;
    return stats;
}
