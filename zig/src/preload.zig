//! Root of `libhakmem_preload.so`: the malloc family and `hak_*`, for LD_PRELOAD.

const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    lifecycle.construct();
}

const constructor: *const fn () callconv(.c) void = &construct;

comptime {
    @export(&constructor, .{ .name = "hakmem_constructor", .section = ".init_array", .visibility = .hidden });
    _ = @import("doors/malloc_door.zig");
    hak_door.exportAll();
}
