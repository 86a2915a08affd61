//! What the malloc family tells of the allocator: mallinfo, mallinfo2, malloc_stats and malloc_info.
//!
//! All four say the same: the figures of `seeing/stats.zig` in the words of glibc. No lock is held while text is
//! written. malloc_info alone calls libc's stdio, since its caller hands over a FILE.

const std = @import("std");
const build_options = @import("build_options");
const geometry = @import("../numbers/geometry.zig");
const os = @import("../platform/os.zig");
const stats = @import("../seeing/stats.zig");

/// `struct mallinfo2`, and with `int` the older `struct mallinfo`.
fn Mallinfo(comptime Number: type) type {
    return extern struct {
        /// All superslabs, and the freed huge blocks that wait to be allocated again.
        arena: Number,
        /// Free blocks are not counted one by one: 0.
        ordblks: Number = 0,
        smblks: Number = 0,
        /// Huge blocks and their bytes, which are no part of `arena`.
        hblks: Number,
        hblkhd: Number,
        /// As in glibc, always 0.
        usmblks: Number = 0,
        /// Free blocks in magazines, those of threads and the cold ones. A part of `fordblks`.
        fsmblks: Number,
        /// Blocks in use and what their slabs leave over at the tail. With `fordblks` it makes up `arena`.
        uordblks: Number,
        fordblks: Number,
        /// Free granules that still hold pages and the huge blocks that wait: what malloc_trim gives back at least.
        keepcost: Number,
    };
}

fn fill(comptime Number: type, from: stats.Stats) Mallinfo(Number) {
    const pages = from.superslabs * geometry.superslab_bytes;
    const arena = pages + from.huge_cached_bytes;
    const kept = from.magazine_bytes + from.cold_bytes;
    // The parts are of slightly different moments.
    const free = kept + from.slab_free_bytes + from.slab_fresh_bytes;
    const used = @min(pages, (from.slab_bytes + from.large_bytes) -| free);
    return .{
        .arena = saturated(Number, arena),
        .hblks = saturated(Number, from.huge_blocks),
        .hblkhd = saturated(Number, from.huge_bytes),
        .fsmblks = saturated(Number, kept),
        .uordblks = saturated(Number, used),
        .fordblks = saturated(Number, arena - used),
        .keepcost = saturated(Number, from.dirty_bytes + from.huge_cached_bytes),
    };
}

/// What does not fit an `int` is shown as the largest one: never a negative or a small number.
fn saturated(comptime Number: type, value: u64) Number {
    return std.math.cast(Number, value) orelse std.math.maxInt(Number);
}

pub fn mallinfo() callconv(.c) Mallinfo(c_int) {
    return fill(c_int, stats.gather());
}

pub fn mallinfo2() callconv(.c) Mallinfo(usize) {
    return fill(usize, stats.gather());
}

/// Holds either text with every number at its longest.
const Text = [1024]u8;

/// Writes to standard error.
pub fn malloc_stats() callconv(.c) void {
    var text: Text = undefined;
    os.writeError(describe(&text, stats.gather()));
}

fn describe(text: *Text, from: stats.Stats) []const u8 {
    const figures = fill(usize, from);
    return std.fmt.bufPrint(text,
        \\hakmem {s}: {d} threads
        \\system bytes     = {d:>10}
        \\in use bytes     = {d:>10}
        \\free bytes       = {d:>10}
        \\mmap regions     = {d:>10}
        \\mmap bytes       = {d:>10}
        \\record bytes     = {d:>10}
        \\
    , .{
        build_options.version, from.threads,  figures.arena,  figures.uordblks,
        figures.fordblks,      figures.hblks, figures.hblkhd, from.metadata_bytes,
    }) catch unreachable;
}

const File = opaque {};
extern fn fwrite(text: [*]const u8, size: usize, count: usize, file: *File) usize;

/// Writes XML in glibc's words, without the counts and peaks that are not kept here. 0; EINVAL for an option, of
/// which there are none; -1 with errno from stdio when the text could not be written.
pub fn malloc_info(options: c_int, file: *File) callconv(.c) c_int {
    if (options != 0) return @backingInt(std.os.linux.E.INVAL);
    var text: Text = undefined;
    const xml = describeAsXml(&text, stats.gather());
    return if (fwrite(xml.ptr, 1, xml.len, file) == xml.len) 0 else -1;
}

fn describeAsXml(text: *Text, from: stats.Stats) []const u8 {
    const figures = fill(usize, from);
    return std.fmt.bufPrint(text,
        \\<malloc version="1">
        \\<heap nr="0">
        \\<total type="fast" size="{d}"/>
        \\<total type="rest" size="{d}"/>
        \\<system type="current" size="{d}"/>
        \\<aspace type="total" size="{d}"/>
        \\</heap>
        \\<total type="fast" size="{d}"/>
        \\<total type="rest" size="{d}"/>
        \\<total type="mmap" count="{d}" size="{d}"/>
        \\<system type="current" size="{d}"/>
        \\<aspace type="total" size="{d}"/>
        \\</malloc>
        \\
    , .{
        figures.fsmblks,   figures.fordblks -| figures.fsmblks, figures.arena,
        figures.arena,     figures.fsmblks,                     figures.fordblks -| figures.fsmblks,
        figures.hblks,     figures.hblkhd,                      figures.arena +| figures.hblkhd,
        from.mapped_bytes,
    }) catch unreachable;
}

test "malloc_figures: the parts make up the whole, and an int shows its largest value for more" {
    const from: stats.Stats = .{
        .superslabs = 3000,
        .slab_bytes = 4 << 30,
        .large_bytes = 1 << 30,
        .magazine_bytes = 1000,
        .cold_bytes = 24,
        .slab_free_bytes = 1 << 30,
        .slab_fresh_bytes = 1 << 20,
        .huge_blocks = 7,
        .huge_bytes = 100 << 30,
        .dirty_bytes = 12_345,
        .huge_cached_bytes = 64 << 20,
    };
    const wide = fill(usize, from);
    try std.testing.expectEqual((3000 << 21) + (64 << 20), wide.arena);
    try std.testing.expectEqual((4 << 30) - (1 << 20) - 1024, wide.uordblks);
    try std.testing.expectEqual(wide.arena, wide.uordblks + wide.fordblks);
    try std.testing.expectEqual(1024, wide.fsmblks);
    try std.testing.expectEqual(12_345 + (64 << 20), wide.keepcost);
    const narrow = fill(c_int, from);
    for ([_]c_int{ narrow.arena, narrow.uordblks, narrow.hblkhd }) |value| {
        try std.testing.expectEqual(std.math.maxInt(c_int), value);
    }
    try std.testing.expectEqual(wide.fordblks, @as(usize, @intCast(narrow.fordblks)));
    try std.testing.expectEqual(7, narrow.hblks);
    // Parts of different moments: nothing wraps.
    const torn = fill(usize, .{ .superslabs = 1, .slab_bytes = 1 << 30, .slab_free_bytes = 5 });
    try std.testing.expectEqual(torn.arena, torn.uordblks);
    try std.testing.expectEqual(0, torn.fordblks);
    try std.testing.expectEqual(0, fill(usize, .{ .slab_free_bytes = 5 }).uordblks);
}

test "malloc_figures: there is room for the longest numbers" {
    const most = std.math.maxInt(u64);
    var text: Text = undefined;
    const from: stats.Stats = .{
        .threads = most,
        .superslabs = most >> geometry.superslab_shift,
        .large_bytes = most / 2,
        .magazine_bytes = most / 2,
        .huge_blocks = most,
        .huge_bytes = most,
        .metadata_bytes = most,
        .mapped_bytes = most,
    };
    const plain = describe(&text, from);
    try std.testing.expect(std.mem.endsWith(u8, plain, "record bytes     = 18446744073709551615\n"));
    const xml = describeAsXml(&text, from);
    try std.testing.expect(std.mem.endsWith(u8, xml, "size=\"18446744073709551615\"/>\n</malloc>\n"));
}
