//! The `hak_*` C API, in both objects. Nothing but translation; errno is left alone.
//!
//! `functions` is the one list of what is exported: the exports, the ABI manifest and, through it, the
//! TypeScript symbol table all come from it.

const std = @import("std");
const build_options = @import("build_options");
const size_class = @import("../numbers/size_class.zig");
const geometry = @import("../numbers/geometry.zig");
const loader = @import("../platform/loader.zig");
const page_map = @import("../memory/page_map.zig");
const heap = @import("../allocator/heap.zig");
const stats = @import("../seeing/stats.zig");
const manifest = @import("abi_manifest.zig");

/// `enum hak_result`.
pub const Result = enum(c_int) {
    ok = 0,
    invalid_argument = 1,
    out_of_memory = 2,
};

fn hak_malloc(size: usize) callconv(.c) ?*anyopaque {
    return heap.allocate(size);
}

fn hak_calloc(count: usize, size: usize) callconv(.c) ?*anyopaque {
    const bytes, const overflow = @mulWithOverflow(count, size);
    if (overflow != 0) return null;
    return heap.allocateZeroedFast(bytes) orelse heap.allocateZeroed(bytes);
}

fn hak_realloc(block: ?*anyopaque, size: usize) callconv(.c) ?*anyopaque {
    const present = block orelse return heap.allocate(size);
    if (size == 0) {
        heap.free(present);
        return null;
    }
    return heap.resize(present, size);
}

fn hak_free(block: ?*anyopaque) callconv(.c) void {
    heap.free(block);
}

fn hak_aligned_alloc(alignment: usize, size: usize) callconv(.c) ?*anyopaque {
    if (alignment == 0 or !std.math.isPowerOfTwo(alignment)) return null;
    return heap.allocateAligned(size, alignment);
}

fn hak_usable_size(block: ?*anyopaque) callconv(.c) usize {
    return heap.usableBytes(block orelse return 0);
}

fn hak_malloc_batch(size: usize, count: usize, blocks: [*]?*anyopaque) callconv(.c) usize {
    for (0..count) |at| blocks[at] = heap.allocate(size) orelse return at;
    return count;
}

fn hak_free_batch(blocks: [*]?*anyopaque, count: usize) callconv(.c) void {
    for (blocks[0..count]) |block| heap.free(block);
}

fn hak_tiny_class_count() callconv(.c) c_int {
    return size_class.tiny_count;
}

fn hak_tiny_class_size(class_idx: c_int) callconv(.c) usize {
    return size_class.blockBytes(classOfIndex(class_idx) orelse return 0);
}

fn hak_tiny_class_of(size: usize) callconv(.c) c_int {
    if (size > geometry.tiny_bytes_max) return -1;
    return @as(c_int, size_class.of(size)) - 1;
}

fn hak_tiny_magazine_flush(class_idx: c_int) callconv(.c) void {
    heap.flushMagazine(classOfIndex(class_idx) orelse return);
}

fn hak_tiny_magazine_flush_all() callconv(.c) void {
    heap.flushMagazines();
}

fn hak_purge() callconv(.c) usize {
    return heap.purge();
}

fn hak_stats(target: ?*anyopaque, size: usize) callconv(.c) Result {
    const out = target orelse return .invalid_argument;
    if (size < @sizeOf(u64)) return .invalid_argument;
    var snapshot = stats.gather();
    const bytes = @min(size, @sizeOf(stats.Stats)) & ~@as(usize, @sizeOf(u64) - 1);
    snapshot.struct_bytes = bytes;
    @memcpy(@as([*]u8, @ptrCast(out))[0..bytes], std.mem.asBytes(&snapshot)[0..bytes]);
    return .ok;
}

/// Asks by a block: the address of `malloc` does not tell, since a program at a fixed address that takes it lends
/// an entry of its own to everybody.
fn hak_is_active() callconv(.c) c_int {
    const errno = std.c._errno();
    const errno_before = errno.*;
    defer errno.* = errno_before;
    const malloc: *const fn (usize) callconv(.c) ?*anyopaque = @ptrCast(@alignCast(loader.find("malloc") orelse return 0));
    const free: *const fn (?*anyopaque) callconv(.c) void = @ptrCast(@alignCast(loader.find("free") orelse return 0));
    const block = malloc(1) orelse return 0;
    defer free(block);
    if (page_map.entry(@intFromPtr(block)) != 0) return 1;
    // The process's malloc may be that of another hakmem: of the preloaded object, when this is the opened one.
    const first: *const fn () callconv(.c) c_int = @ptrCast(@alignCast(loader.find("hak_is_active") orelse return 0));
    return if (first == &hak_is_active) 0 else first();
}

fn hak_version() callconv(.c) [*:0]const u8 {
    return build_options.version;
}

fn hak_abi_manifest() callconv(.c) [*:0]const u8 {
    return manifest.text;
}

fn classOfIndex(class_idx: c_int) ?size_class.Class {
    if (class_idx < 0 or class_idx >= size_class.tiny_count) return null;
    return @intCast(class_idx + 1);
}

pub const functions = .{
    .{ "hak_malloc", &hak_malloc, .{"size"} },
    .{ "hak_calloc", &hak_calloc, .{ "count", "size" } },
    .{ "hak_realloc", &hak_realloc, .{ "block", "size" } },
    .{ "hak_free", &hak_free, .{"block"} },
    .{ "hak_aligned_alloc", &hak_aligned_alloc, .{ "alignment", "size" } },
    .{ "hak_usable_size", &hak_usable_size, .{"block"} },
    .{ "hak_malloc_batch", &hak_malloc_batch, .{ "size", "count", "blocks" } },
    .{ "hak_free_batch", &hak_free_batch, .{ "blocks", "count" } },
    .{ "hak_tiny_class_count", &hak_tiny_class_count, .{} },
    .{ "hak_tiny_class_size", &hak_tiny_class_size, .{"class_idx"} },
    .{ "hak_tiny_class_of", &hak_tiny_class_of, .{"size"} },
    .{ "hak_tiny_magazine_flush", &hak_tiny_magazine_flush, .{"class_idx"} },
    .{ "hak_tiny_magazine_flush_all", &hak_tiny_magazine_flush_all, .{} },
    .{ "hak_purge", &hak_purge, .{} },
    .{ "hak_stats", &hak_stats, .{ "stats", "size" } },
    .{ "hak_is_active", &hak_is_active, .{} },
    .{ "hak_version", &hak_version, .{} },
    .{ "hak_abi_manifest", &hak_abi_manifest, .{} },
};

pub fn exportAll() void {
    for (functions) |function| @export(function[1], .{ .name = function[0] });
}
