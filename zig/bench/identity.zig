//! Which allocator the process has: the object that `malloc` is in, its version, and which function of
//! its own gives memory back.
//!
//! A `dlsym` that fails allocates its message with the allocator under test, so this is for processes
//! that measure nothing.

const std = @import("std");
const measure = @import("measure.zig");
const dlsym = measure.dlsym;
const Line = measure.Line;

extern "c" fn dladdr(address: ?*const anyopaque, info: *DlInfo) c_int;

/// `Dl_info` of <dlfcn.h>: which loaded object an address lies in.
pub const DlInfo = extern struct {
    object_name: ?[*:0]const u8,
    object_base: ?*anyopaque,
    symbol_name: ?[*:0]const u8,
    symbol_address: ?*anyopaque,
};

/// How an allocator is asked to give back what it holds free. Each name is the family whose function it is.
pub const Release = enum { hakmem, mimalloc, jemalloc, tcmalloc, glibc, none };

pub const Mallctl = *const fn ([*:0]const u8, ?*anyopaque, ?*usize, ?*const anyopaque, usize) callconv(.c) c_int;

pub fn lookUp(comptime Function: type, name: [*:0]const u8) ?Function {
    // A null handle is RTLD_DEFAULT in glibc and in musl.
    return @ptrCast(@alignCast(dlsym(null, name) orelse return null));
}

/// The loaded object that holds `name` as every other object of this process sees it.
pub fn objectOf(name: [*:0]const u8) ?DlInfo {
    const address = dlsym(null, name) orelse return null;
    var info: DlInfo = undefined;
    return if (dladdr(address, &info) != 0) info else null;
}

pub fn objectName(info: ?DlInfo) []const u8 {
    const found = info orelse return "";
    return std.mem.span(found.object_name orelse return "");
}

/// Prints one line of JSON that tells the object and version of the allocator and its release function.
pub fn identify() void {
    const object = objectOf("malloc");
    var version_buffer: [64]u8 = undefined;
    var line: Line = .{};
    line.print("{{\"malloc_path\":", .{});
    line.string(objectName(object));
    line.print(",\"free_path\":", .{});
    line.string(objectName(objectOf("free")));
    line.print(",\"libc_path\":", .{});
    line.string(objectName(objectOf("exit")));
    line.print(",\"libc\":", .{});
    line.optionalString(libcVersion());
    const release = releaseOf(object);
    line.print(",\"release\":\"{s}\",\"version\":", .{@tagName(release)});
    line.optionalString(versionOf(release, &version_buffer));
    line.print("}}\n", .{});
    line.send();
}

/// The release functions of the object that `malloc` is in. One from another object is not this
/// allocator's: glibc's malloc_trim does nothing for a preloaded allocator that has none of its own.
fn releaseOf(object: ?DlInfo) Release {
    const candidates = [_]struct { release: Release, names: []const [*:0]const u8 }{
        .{ .release = .hakmem, .names = &.{"hak_tiny_magazine_flush_all"} },
        .{ .release = .mimalloc, .names = &.{"mi_collect"} },
        .{ .release = .jemalloc, .names = &.{"mallctl"} },
        .{ .release = .tcmalloc, .names = &.{ "MallocExtension_MarkThreadIdle", "MallocExtension_ReleaseFreeMemory" } },
        .{ .release = .glibc, .names = &.{"malloc_trim"} },
    };
    const base = (object orelse return .none).object_base;
    for (candidates) |candidate| {
        for (candidate.names) |name| {
            const found = objectOf(name) orelse break;
            if (found.object_base != base) break;
        } else return candidate.release;
    }
    return .none;
}

fn libcVersion() ?[]const u8 {
    const version = lookUp(*const fn () callconv(.c) [*:0]const u8, "gnu_get_libc_version") orelse return null;
    return std.mem.span(version());
}

fn versionOf(release: Release, buffer: []u8) ?[]const u8 {
    switch (release) {
        .hakmem => {
            const version = lookUp(*const fn () callconv(.c) [*:0]const u8, "hak_version") orelse return null;
            return std.mem.span(version());
        },
        .mimalloc => {
            const version = lookUp(*const fn () callconv(.c) c_int, "mi_version") orelse return null;
            const number: u32 = @intCast(version());
            // Three digits, as in 209, until 3.x took two digits for each of the last two parts.
            const base: u32 = if (number >= 10_000) 100 else 10;
            return std.fmt.bufPrint(buffer, "{d}.{d}.{d}", .{ number / (base * base), number / base % base, number % base }) catch null;
        },
        .jemalloc => {
            const mallctl = lookUp(Mallctl, "mallctl") orelse return null;
            var version: [*:0]const u8 = "";
            var length: usize = @sizeOf([*:0]const u8);
            if (mallctl("version", @ptrCast(&version), &length, null, 0) != 0) return null;
            // "5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c": the commit says nothing to a reader.
            return std.mem.sliceTo(std.mem.span(version), '-');
        },
        .tcmalloc => {
            const Version = *const fn (?*c_int, ?*c_int, ?*[*:0]const u8) callconv(.c) [*:0]const u8;
            const version = lookUp(Version, "tc_version") orelse return null;
            const text = std.mem.span(version(null, null, null));
            return if (std.mem.lastIndexOfScalar(u8, text, ' ')) |space| text[space + 1 ..] else text;
        },
        .glibc => return libcVersion(),
        .none => return null,
    }
}
