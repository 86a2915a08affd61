//! Root of `libhakmem_preload.so`: the malloc family and `hak_*`, for LD_PRELOAD.

const loader = @import("platform/loader.zig");
const malloc_door = @import("doors/malloc_door.zig");
const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    // It is made for LD_PRELOAD, but nothing keeps anyone from opening it later.
    if (!loader.isGlobal("malloc", malloc_door.address)) loader.stayLoaded(&construct);
    lifecycle.construct();
}

comptime {
    if (@import("build_options").test_hooks) @compileError("what is shipped has no hooks for tests");
    lifecycle.exportEnds(&construct);
    malloc_door.exportAll();
    hak_door.exportAll();
    if (@import("build_options").counting) @import("doors/cost_door.zig").exportAll();
}
