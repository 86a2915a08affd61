//! Root of `libhakmem.so`: `hak_*` only, safe to `dlopen` at any time and beside any malloc.

const loader = @import("platform/loader.zig");
const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    loader.stayLoaded(&construct);
    lifecycle.construct();
}

comptime {
    if (@import("build_options").test_hooks) @compileError("what is shipped has no hooks for tests");
    lifecycle.exportEnds(&construct);
    hak_door.exportAll();
}
