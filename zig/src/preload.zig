//! Root of `libhakmem_preload.so`: the malloc family and `hak_*`, for LD_PRELOAD.

const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    lifecycle.construct();
}

export const hakmem_constructor: *const fn () callconv(.c) void linksection(".init_array") = &construct;

comptime {
    _ = @import("doors/malloc_door.zig");
    hak_door.exportAll();
}
