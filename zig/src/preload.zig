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

fn destruct() callconv(.c) void {
    lifecycle.destruct();
}

const constructor: *const fn () callconv(.c) void = &construct;
const destructor: *const fn () callconv(.c) void = &destruct;

comptime {
    @export(&constructor, .{ .name = "hakmem_constructor", .section = ".init_array", .visibility = .hidden });
    @export(&destructor, .{ .name = "hakmem_destructor", .section = ".fini_array", .visibility = .hidden });
    malloc_door.exportAll();
    hak_door.exportAll();
}
