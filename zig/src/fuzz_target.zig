//! The allocator inside the fuzzer's own process: its `hak_*` functions, and what only a test may do to it or
//! see of it. Built with `build_options.test_hooks`.

const geometry = @import("numbers/geometry.zig");
const size_class = @import("numbers/size_class.zig");
const os = @import("platform/os.zig");
const superslabs = @import("memory/superslab.zig");
const huge = @import("memory/huge.zig");
const central = @import("motion/central.zig");
const lifecycle = @import("allocator/lifecycle.zig");
const canaries = @import("platform/canary.zig");

pub const functions = @import("doors/hak_door.zig").functions;
pub const Canary = canaries.Canary;

pub fn plant(canary: Canary) void {
    canaries.planted = canary;
}

/// Refuses `count` system calls, beginning with the one numbered `from`, the next one being 1.
pub fn refuseCalls(from: usize, count: usize) void {
    os.refusal = .{ .refuse_from = from, .refuse_count = count };
}

pub fn refuseNothing() void {
    os.refusal = .{};
}

/// Panics unless every structure is whole. No other thread may be inside.
pub fn verify() void {
    verifyForked();
    superslabs.verify();
}

/// As `verify`, in a child whose parent had other threads: one of them may have been giving memory back, and what
/// it had set aside stays in use for the child.
pub fn verifyForked() void {
    lifecycle.verify();
    central.verify();
}

/// The bytes of all blocks in use, exactly. No other thread may be inside.
pub fn usedBytes() usize {
    var bytes: usize = 0;
    var slab_granules: usize = 0;
    for (1..size_class.count + 1) |class_number| {
        const class: size_class.Class = @intCast(class_number);
        const shape = &size_class.shapes[class];
        const counts = central.count(class);
        const idle_blocks = counts.free_blocks + counts.fresh_blocks + counts.cold_blocks;
        bytes += (counts.slabs * shape.blocks - idle_blocks) * shape.block_bytes;
        slab_granules += counts.slabs * shape.granules;
    }
    bytes -= lifecycle.count().magazine_bytes;
    const large_granules = superslabs.count().used_granules - slab_granules;
    return bytes + large_granules * geometry.granule_bytes + huge.count().bytes;
}
