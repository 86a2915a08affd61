//! Root of `libhakmem.so`: `hak_*` only, safe to `dlopen` at any time and beside any malloc.

const builtin = @import("builtin");
const loader = @import("platform/loader.zig");
const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

fn construct() callconv(.c) void {
    loader.stayLoaded(&construct);
    lifecycle.construct();
}

/// Where the dynamic loader looks for what it must call at the start.
const constructors = if (builtin.os.tag == .macos) "__DATA,__mod_init_func,mod_init_funcs" else ".init_array";

const constructor: *const fn () callconv(.c) void = &construct;

comptime {
    @export(&constructor, .{ .name = "hakmem_constructor", .section = constructors, .visibility = .hidden });
    hak_door.exportAll();
}
