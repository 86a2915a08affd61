//! Root of `libhakmem.so`: `hak_*` only, safe to `dlopen` at any time and beside any malloc.

const loader = @import("platform/loader.zig");
const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    loader.stayLoaded(&construct);
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
    hak_door.exportAll();
}
