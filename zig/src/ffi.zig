//! Root of `libhakmem.so`: `hak_*` only, safe to `dlopen` at any time and beside any malloc.

const lifecycle = @import("allocator/lifecycle.zig");
const hak_door = @import("doors/hak_door.zig");

pub const panic = @import("seeing/fatal.zig").Panic;

const DlInfo = extern struct {
    path: ?[*:0]const u8,
    base: ?*anyopaque,
    symbol: ?[*:0]const u8,
    address: ?*anyopaque,
};

extern fn dladdr(address: *const anyopaque, info: *DlInfo) c_int;
extern fn dlopen(path: [*:0]const u8, mode: c_int) ?*anyopaque;

const rtld_lazy = 1;
const rtld_noload = 4;
const rtld_nodelete = 0x1000;

/// A thread key's destructor lies in this object, and blocks may be in use after `dlclose`: the object stays.
fn construct() callconv(.c) void {
    var info: DlInfo = undefined;
    if (dladdr(&construct, &info) != 0) {
        if (info.path) |path| _ = dlopen(path, rtld_lazy | rtld_noload | rtld_nodelete);
    }
    lifecycle.construct();
}

const constructor: *const fn () callconv(.c) void = &construct;

comptime {
    @export(&constructor, .{ .name = "hakmem_constructor", .section = ".init_array", .visibility = .hidden });
    hak_door.exportAll();
}
