//! Pointers that came back and are no block in use: what they are, as far as it can be told.
//!
//! Everything here is read without locks, by a thread that is about to end the process or to ignore the pointer.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const settings = @import("../platform/settings.zig");
const page_map = @import("../memory/page_map.zig");
const registry = @import("../memory/registry.zig");
const huge = @import("../memory/huge.zig");
const Superslab = @import("../memory/superslab.zig").Superslab;
const fatal = @import("../seeing/fatal.zig");

/// Ends the process, unless the pointer lies in no memory of ours and such are to be ignored.
pub noinline fn refuse(address: usize) void {
    @branchHint(.cold);
    if (address >> geometry.address_bits == 0) {
        if (registry.find(anyopaque, address) != null) explain(address);
        blameHugeAround(address);
    }
    if (settings.foreign == .ignore) return;
    fatal.misuse(.{ .kind = .foreign_pointer, .address = address });
}

/// How far below a pointer the start of a huge block is looked for: 128 GiB.
const steps_max = 1 << 16;

/// Only the first 2 MiB of a huge block are in the registry.
fn blameHugeAround(address: usize) void {
    var start = address & ~(geometry.superslab_bytes - 1);
    for (0..steps_max) |_| {
        if (start < geometry.superslab_bytes) return;
        start -= geometry.superslab_bytes;
        if (registry.find(anyopaque, start) == null) continue;
        if (page_map.entry(start) != page_map.huge) return;
        const block = huge.peek(start) orelse return;
        if (address - start >= block.bytes) return;
        fatal.misuse(.{
            .kind = .interior_pointer,
            .address = address,
            .block_bytes = block.bytes,
            .offset = @intCast(address - start),
            .state = if (block.is_free) .free else .in_use,
        });
    }
}

/// The 2 MiB around the address start a huge block or are a superslab.
fn explain(address: usize) noreturn {
    const start = address & ~(geometry.superslab_bytes - 1);
    // It is no start of a block, so this does not come back.
    if (page_map.entry(start) == page_map.huge) _ = huge.usableBytes(address);
    const superslab = registry.find(Superslab, address).?;
    const granule = superslab.granuleOf(address);
    const run = superslab.run_start[granule];
    const run_address = start + (@as(usize, run) << geometry.granule_shift);
    const entry = page_map.entry(run_address);
    const is_free = superslab.free >> @intCast(granule) & 1 != 0;
    if (is_free or entry == size_class.none) {
        fatal.misuse(.{ .kind = .double_free, .address = address, .state = .free });
    }
    if (entry != page_map.large) superslab.slabs[run].blameStray(address);
    fatal.misuse(.{
        .kind = .interior_pointer,
        .address = address,
        .block_bytes = superslab.runBytes(run_address),
        .offset = @intCast(address - run_address),
        .state = .in_use,
    });
}
