//! Operations on the two kinds of bit sets that say which memory is free: words of 64 blocks with a
//! summary of one bit a word, and 32-bit sets of granules. Pure functions, tested against plain loops.

const std = @import("std");
const assert = std.debug.assert;

/// The lowest `limit` set bits of `word`, as a mask.
pub inline fn lowest(word: u64, limit: u32) u64 {
    if (limit >= @popCount(word)) return word;
    var rest = word;
    for (0..limit) |_| rest &= rest - 1;
    return word ^ rest;
}

/// One bit a word: set where the word has a free block.
pub const Summary = extern struct {
    halves: [2]u64 = .{ 0, 0 },

    pub inline fn set(summary: *Summary, word: u32) void {
        summary.halves[word >> 6] |= @as(u64, 1) << @intCast(word & 63);
    }

    pub inline fn clear(summary: *Summary, word: u32) void {
        summary.halves[word >> 6] &= ~(@as(u64, 1) << @intCast(word & 63));
    }

    pub inline fn has(summary: *const Summary, word: u32) bool {
        return summary.halves[word >> 6] >> @intCast(word & 63) & 1 != 0;
    }

    /// The lowest word that has a free block.
    pub inline fn first(summary: *const Summary) ?u32 {
        if (summary.halves[0] != 0) return @ctz(summary.halves[0]);
        if (summary.halves[1] != 0) return 64 + @as(u32, @ctz(summary.halves[1]));
        return null;
    }
};

/// A set of the 32 granules of a superslab.
pub const Granules = u32;

/// The mask of `length` granules from `start`.
pub inline fn run(start: u32, length: u32) Granules {
    assert(length >= 1);
    assert(start + length <= 32);
    return (@as(u32, 0xffff_ffff) >> @intCast(32 - length)) << @intCast(start);
}

/// The first position at which `length` neighbouring granules are in the set.
pub fn findRun(set: Granules, length: u32) ?u32 {
    assert(length >= 1);
    assert(length <= 32);
    // After a step of `shift`, a set bit means that it and the `covered - 1` bits above it are set.
    var starts = set;
    var covered: u32 = 1;
    while (covered < length) {
        const shift = @min(covered, length - covered);
        starts &= starts >> @intCast(shift);
        covered += shift;
    }
    return if (starts == 0) null else @ctz(starts);
}

/// The length of the longest run of neighbouring granules in the set.
pub fn longestRun(set: Granules) u32 {
    var rest = set;
    var length: u32 = 0;
    while (rest != 0) : (length += 1) rest &= rest << 1;
    return length;
}

fn findRunSlowly(set: Granules, length: u32) ?u32 {
    for (0..33 - length) |start| {
        const mask = run(@intCast(start), length);
        if (set & mask == mask) return @intCast(start);
    }
    return null;
}

test "bitmap: findRun and longestRun agree with a plain search, exhaustively over 16 bits at each end" {
    for (0..1 << 16) |bits| {
        const low: u32 = @intCast(bits);
        for ([_]u32{ low, low << 16, low << 8, low | 0xffff_0000, @bitReverse(low) | low }) |set| {
            var longest: u32 = 0;
            for (1..33) |length| {
                const expected = findRunSlowly(set, @intCast(length));
                if (expected != null) longest = @intCast(length);
                if (findRun(set, @intCast(length)) != expected) {
                    try std.testing.expectEqual(expected, findRun(set, @intCast(length)));
                }
            }
            if (longest != longestRun(set)) try std.testing.expectEqual(longest, longestRun(set));
        }
    }
}

test "bitmap: lowest takes exactly the lowest bits, for every limit" {
    var random = std.Random.DefaultPrng.init(std.testing.random_seed);
    for (0..2000) |_| {
        const word = random.random().int(u64) & random.random().int(u64);
        for (0..66) |limit| {
            const taken = lowest(word, @intCast(limit));
            try std.testing.expectEqual(taken, taken & word);
            try std.testing.expectEqual(@min(limit, @popCount(word)), @popCount(taken));
            const left = word ^ taken;
            if (taken != 0 and left != 0) {
                try std.testing.expect(63 - @clz(taken) < @ctz(left));
            }
        }
    }
}

test "bitmap: a summary finds the lowest word, for every pair of words" {
    for (0..128) |one| {
        for (0..128) |other| {
            var summary: Summary = .{};
            try std.testing.expectEqual(null, summary.first());
            summary.set(@intCast(one));
            summary.set(@intCast(other));
            try std.testing.expect(summary.has(@intCast(one)) and summary.has(@intCast(other)));
            try std.testing.expectEqual(@as(?u32, @intCast(@min(one, other))), summary.first());
            summary.clear(@intCast(@min(one, other)));
            if (one == other) {
                try std.testing.expectEqual(null, summary.first());
            } else {
                try std.testing.expectEqual(@as(?u32, @intCast(@max(one, other))), summary.first());
            }
        }
    }
}
