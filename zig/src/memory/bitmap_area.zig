//! Where the primary bitmaps of a superslab's slabs lie that are too large for a slab's record: packed, each at a multiple
//! of its size, in an area that the record of the superslab comes with. So the pages that are touched are about as many
//! as the slabs need, which is 40 bytes to 1 KiB each.
//!
//! This is the set of the pieces that are given out. A piece can always be had: it is a power of two of units, so none
//! lies in two of the places for a largest one, and there are as many such places as a superslab can have slabs.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const assert = std.debug.assert;

/// A cache line, so that slabs of two classes share none.
const unit_words = 64 / @sizeOf(u64);
const piece_units_max = geometry.slab_words_max / unit_words;
const units = geometry.superslab_granules * piece_units_max;

/// Bytes of an area.
pub const area_bytes = units * unit_words * @sizeOf(u64);

pub const BitmapArea = extern struct {
    /// One bit a unit that is given out.
    taken: [units / 64]u64,

    pub const empty: BitmapArea = .{ .taken = @splat(0) };

    /// The first place for so many words that is free: its first word's number.
    pub fn take(area: *BitmapArea, words: u32) u32 {
        const mask = pieceMask(words);
        const length = @popCount(mask);
        for (&area.taken, 0..) |*taken, at| {
            const starts = freeStarts(taken.*, length);
            if (starts == 0) continue;
            const start = @ctz(starts);
            taken.* |= mask << @intCast(start);
            return (@as(u32, @intCast(at)) * 64 + start) * unit_words;
        }
        unreachable;
    }

    /// Takes back what `take(words)` gave at word `first`.
    pub fn give(area: *BitmapArea, first: u32, words: u32) void {
        const mask = pieceMask(words) << @intCast(first / unit_words % 64);
        const taken = &area.taken[first / unit_words / 64];
        assert(taken.* & mask == mask);
        taken.* ^= mask;
    }

    pub fn isEmpty(area: *const BitmapArea) bool {
        for (area.taken) |taken| if (taken != 0) return false;
        return true;
    }
};

/// As many bits as the piece for so many words has units.
fn pieceMask(words: u32) u64 {
    assert(words >= 1 and words <= geometry.slab_words_max);
    const length = std.math.ceilPowerOfTwoAssert(u32, (words + unit_words - 1) / unit_words);
    return (@as(u64, 1) << @intCast(length)) - 1;
}

/// The multiples of `length`, a power of two, from which so many bits are clear.
fn freeStarts(taken: u64, length: u32) u64 {
    var free = ~taken;
    var starts: u64 = std.math.maxInt(u64);
    var step: u32 = 1;
    while (step < length) : (step *= 2) {
        free &= free >> @intCast(step);
        // Of the multiples of `step` every other one is a multiple of twice as much.
        starts = starts / ((@as(u64, 1) << @intCast(step)) + 1);
    }
    return free & starts;
}

comptime {
    // A piece lies in one word of the set.
    assert(piece_units_max <= 64 and units % 64 == 0);
}

test "bitmap_area: as many pieces as a superslab has granules fit, of any sizes in any order, and never overlap" {
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const Piece = struct { first: u32, words: u32 };
    var area: BitmapArea = .empty;
    var pieces: [geometry.superslab_granules]Piece = undefined;
    var held: usize = 0;
    // The model: the words of the area, and whether a piece has them.
    var model: [area_bytes / @sizeOf(u64)]bool = @splat(false);
    for (0..20_000) |step| {
        const growing = random.uintLessThan(usize, 1000) < step % 1000;
        if (if (growing) held < pieces.len else held == 0) {
            const words = @max(1, random.uintAtMost(u32, geometry.slab_words_max) >> random.uintLessThan(u5, 8));
            const first = area.take(words);
            try std.testing.expectEqual(0, first % std.math.ceilPowerOfTwoAssert(u32, @max(words, unit_words)));
            for (model[first..][0..words]) |*taken| {
                if (taken.*) return error.Overlap;
                taken.* = true;
            }
            pieces[held] = .{ .first = first, .words = words };
            held += 1;
        } else if (held > 0) {
            const at = random.uintLessThan(usize, held);
            const piece = pieces[at];
            held -= 1;
            pieces[at] = pieces[held];
            @memset(model[piece.first..][0..piece.words], false);
            area.give(piece.first, piece.words);
        }
        try std.testing.expectEqual(held == 0, area.isEmpty());
    }
}

test "bitmap_area: pieces of one size are packed from the start" {
    for ([_]u32{ 5, 8, 16, 64, geometry.slab_words_max }) |words| {
        var area: BitmapArea = .empty;
        for (0..geometry.superslab_granules) |number| {
            const expected = number * std.math.ceilPowerOfTwoAssert(u32, @max(words, unit_words));
            try std.testing.expectEqual(expected, area.take(words));
        }
    }
}
