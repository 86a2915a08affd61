//! Size classes: which block size serves a request, and the shape of the slab that holds such blocks.
//!
//! Class 0 is the class of what is not ours. Classes 1 … `count` have blocks of 8 bytes, then steps of 16
//! up to 128, then eight steps a doubling up to 16 KiB, so that at most an eighth of a block is wasted above 128
//! bytes, then two up to 128 KiB: each class keeps the blocks that it needed at its peak, and few classes share
//! what many would each keep. Of a block that is larger than asked for, the pages at its end stay untouched. Every
//! power of two is among them. A slab is a run of 64 KiB granules: one for most
//! classes, more where that leaves fewer than eight blocks or wastes over 3 % at the tail.
//!
//! Alignment: a slab starts on a granule, and a block lies at a multiple of its size. So a block is aligned
//! to the largest power of two that divides its size: 8 for the 8-byte class, at least 16 for all others.

const std = @import("std");
const geometry = @import("geometry.zig");
const assert = std.debug.assert;

pub const Class = u8;

/// The class of every address that is not a block of a slab.
pub const none: Class = 0;
pub const count = 71;
/// Classes 1 … `tiny_count` are the ones that the `hak_tiny_*` calls speak of, as 0 … `tiny_count` - 1.
pub const tiny_count = 33;

const step_bytes = 16;
const step_bytes_max = 128;
const step_class_max: Class = 1 + step_bytes_max / step_bytes;
/// Up to here there are 2^3 steps a doubling, above it 2^1.
pub const fine_bytes_max = 16 * 1024;
const fine_shift = 3;
const coarse_shift = 1;
const fine_class_max: Class = step_class_max + (std.math.log2(fine_bytes_max / step_bytes_max) << fine_shift);

pub const Shape = struct {
    block_bytes: u32,
    /// Blocks in one slab.
    blocks: u32,
    /// Granules in one slab.
    granules: u8,
    /// 2^64 / block_bytes, rounded up, for `divide`.
    reciprocal: u64,

    /// The block that `offset` bytes from the slab's start lies in.
    pub inline fn index(shape: *const Shape, offset: usize) u32 {
        return @intCast(divide(offset, shape.reciprocal).quotient);
    }
};

pub const Quotient = struct { quotient: u64, exact: bool };

/// Divides by a block size, given its reciprocal, for every offset inside a slab (tested for each one). The fraction
/// of the product is under the reciprocal only where it is what rounding up left.
pub inline fn divide(offset: usize, reciprocal: u64) Quotient {
    const product = @as(u128, offset) * reciprocal;
    return .{ .quotient = @intCast(product >> 64), .exact = @as(u64, @truncate(product)) < reciprocal };
}

pub const shapes: [count + 1]Shape = makeShapes();

/// Table from (size + 7) / 8 to the class, for sizes up to `tiny_bytes_max`.
pub const tiny_table: [geometry.tiny_bytes_max / 8 + 1]Class = makeTinyTable();

pub inline fn blockBytes(class: Class) usize {
    return shapes[class].block_bytes;
}

/// The class that serves `size` bytes; `size` is at most `small_bytes_max`.
pub inline fn of(size: usize) Class {
    if (size <= geometry.tiny_bytes_max) return tiny_table[(size + 7) >> 3];
    return ofAboveStep(size);
}

/// The class that serves `size` bytes at a multiple of `alignment`, or `none` if no class does.
pub fn ofAligned(size: usize, alignment: usize) Class {
    assert(std.math.isPowerOfTwo(alignment));
    if (size > geometry.small_bytes_max or alignment > geometry.granule_bytes) return none;
    var class = of(@max(size, 1));
    while (class <= count) : (class += 1) {
        if (blockBytes(class) % alignment == 0) return class;
    }
    return none;
}

inline fn ofAboveStep(size: usize) Class {
    assert(size > step_bytes_max);
    assert(size <= geometry.small_bytes_max);
    const last = size - 1;
    const exponent: u6 = @intCast(63 - @clz(last));
    if (size <= fine_bytes_max) return stepOf(last, exponent, step_bytes_max, step_class_max, fine_shift);
    return stepOf(last, exponent, fine_bytes_max, fine_class_max, coarse_shift);
}

/// The class of a size that is `last` + 1, where class `class_below` has `bytes_below` and each doubling above it
/// has 2^`shift` classes.
inline fn stepOf(last: usize, exponent: u6, comptime bytes_below: usize, comptime class_below: Class, comptime shift: u6) Class {
    const step = (last >> (exponent - shift)) & ((1 << shift) - 1);
    return @intCast(class_below + 1 + ((@as(usize, exponent) - comptime std.math.log2(bytes_below)) << shift) + step);
}

fn makeShapes() [count + 1]Shape {
    @setEvalBranchQuota(10_000);
    var result: [count + 1]Shape = undefined;
    result[none] = .{ .block_bytes = 0, .blocks = 0, .granules = 0, .reciprocal = 0 };
    for (1..count + 1) |class| {
        const block_bytes = blockBytesOfClass(class);
        var granules = 1;
        while (true) : (granules += 1) {
            const slab_bytes = granules * geometry.granule_bytes;
            const blocks = slab_bytes / block_bytes;
            if (blocks >= 8 and (slab_bytes % block_bytes) * 100 <= slab_bytes * 3) break;
        }
        result[class] = .{
            .block_bytes = block_bytes,
            .blocks = granules * geometry.granule_bytes / block_bytes,
            .granules = granules,
            .reciprocal = ((1 << 64) + block_bytes - 1) / block_bytes,
        };
    }
    return result;
}

fn blockBytesOfClass(comptime class: usize) comptime_int {
    if (class == 1) return 8;
    if (class <= step_class_max) return (class - 1) * step_bytes;
    if (class <= fine_class_max) return stepBytes(class - step_class_max - 1, step_bytes_max, fine_shift);
    return stepBytes(class - fine_class_max - 1, fine_bytes_max, coarse_shift);
}

fn stepBytes(comptime above: usize, comptime bytes_below: comptime_int, comptime shift: comptime_int) comptime_int {
    const base = bytes_below << (above >> shift);
    return base + (base >> shift) * (above % (1 << shift) + 1);
}

fn makeTinyTable() [geometry.tiny_bytes_max / 8 + 1]Class {
    @setEvalBranchQuota(10_000);
    var table: [geometry.tiny_bytes_max / 8 + 1]Class = undefined;
    for (&table, 0..) |*entry, eighths| {
        const size = eighths * 8;
        entry.* = if (size <= 8) 1 else if (size <= step_bytes_max)
            1 + (size + step_bytes - 1) / step_bytes
        else
            ofAboveStep(size);
    }
    return table;
}

comptime {
    assert(blockBytesOfClass(count) == geometry.small_bytes_max);
    assert(blockBytesOfClass(tiny_count) == geometry.tiny_bytes_max);
    for (shapes[1..]) |shape| {
        assert(shape.granules <= geometry.superslab_granules);
        assert(shape.blocks <= geometry.slab_words_max * geometry.word_blocks);
        assert(shape.block_bytes == 8 or shape.block_bytes % geometry.alignment_default == 0);
    }
}

test "size_class: every size up to the limit gets the smallest class that holds it" {
    var class: Class = 1;
    for (0..geometry.small_bytes_max + 1) |size| {
        while (blockBytes(class) < size) class += 1;
        try std.testing.expectEqual(class, of(size));
    }
    try std.testing.expectEqual(count, class);
}

test "size_class: the eight powers of two of the ancestors are classes" {
    for ([_]usize{ 8, 16, 32, 64, 128, 256, 512, 1024 }) |size| {
        try std.testing.expectEqual(size, blockBytes(of(size)));
        try std.testing.expect(of(size) <= tiny_count);
    }
}

test "size_class: at most an eighth is wasted above 128 bytes, and a third above 16 KiB" {
    for (step_bytes_max + 1..geometry.small_bytes_max + 1) |size| {
        const parts: usize = if (size <= fine_bytes_max) 8 else 3;
        try std.testing.expect((blockBytes(of(size)) - size) * parts <= blockBytes(of(size)));
    }
}

test "size_class: division is exact for every offset of every class, and knows where a block starts" {
    for (shapes[1..]) |*shape| {
        var expected: u32 = 0;
        var into: u32 = 0;
        for (0..@as(usize, shape.granules) * geometry.granule_bytes) |offset| {
            if (shape.index(offset) != expected) {
                try std.testing.expectEqual(expected, shape.index(offset));
            }
            if (divide(offset, shape.reciprocal).exact != (into == 0)) return error.WrongStart;
            into += 1;
            if (into == shape.block_bytes) {
                into = 0;
                expected += 1;
            }
        }
    }
}

test "size_class: slabs hold at least eight blocks and waste at most 3 % at the tail" {
    for (shapes[1..]) |shape| {
        const slab_bytes = @as(usize, shape.granules) * geometry.granule_bytes;
        const used = @as(usize, shape.blocks) * shape.block_bytes;
        try std.testing.expect(shape.blocks >= 8);
        try std.testing.expect(used <= slab_bytes);
        try std.testing.expect((slab_bytes - used) * 100 <= slab_bytes * 3);
    }
}

test "size_class: an aligned class is large enough, aligned, and the first such" {
    var alignment: usize = 1;
    while (alignment <= geometry.granule_bytes) : (alignment *= 2) {
        var size: usize = 0;
        while (size <= geometry.small_bytes_max) : (size += 1 + size / 7) {
            const class = ofAligned(size, alignment);
            try std.testing.expect(class != none);
            try std.testing.expect(blockBytes(class) >= size);
            try std.testing.expectEqual(0, blockBytes(class) % alignment);
            for (of(size)..class) |smaller| {
                try std.testing.expect(blockBytes(@intCast(smaller)) % alignment != 0);
            }
        }
        try std.testing.expectEqual(none, ofAligned(geometry.small_bytes_max + 1, alignment));
    }
    try std.testing.expectEqual(none, ofAligned(1, geometry.granule_bytes * 2));
}
