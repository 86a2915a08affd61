//! Tells when two live blocks overlap and when the bytes of a block changed, whichever allocator
//! made the blocks and from any number of threads.
//!
//! The oracle holds one bit for each 8 bytes of address space, in leaves of 4 MiB that are mapped
//! when first needed. A live block owns the bits of its range: claiming sets them with an atomic
//! OR, and a bit that was set already belongs to another live block. Releasing clears them and
//! finds bits that were clear already. The pattern of a block is derived from a key, so that no
//! copy of its bytes is kept.
//!
//! None of this memory comes from malloc: it is mapped by system call. The oracle does not know
//! which block owns a bit, and it does not see a block that was never claimed.

const std = @import("std");
const linux = std.os.linux;

/// The smallest distance between two blocks that the oracle can tell apart. Every allocator under
/// test aligns its blocks to at least this.
pub const granule_bytes = 8;

const address_bits = 48;
const leaf_span_bits = 28;
const leaf_count = 1 << (address_bits - leaf_span_bits);
const granules_per_word = 64;
const word_span_bytes = granules_per_word * granule_bytes;
const words_per_leaf = (1 << leaf_span_bits) / word_span_bytes;

const Word = std.atomic.Value(u64);
/// Whole pages, so that each can be unmapped alone.
const Leaf = [words_per_leaf]Word;
const Root = [leaf_count]std.atomic.Value(?*Leaf);

pub const Error = error{
    /// The system refused memory for the oracle itself.
    NoMemoryForOracle,
    /// The block ends beyond the addresses that a process can have.
    AddressOutOfRange,
};

pub const Oracle = struct {
    root: *Root,
    /// Leaves mapped ahead of need, taken in turn. Each is used once.
    reserve: []Leaf = &.{},
    reserve_taken: std.atomic.Value(usize) = .init(0),

    pub fn init() Error!Oracle {
        const bytes = try mapZeroed(@sizeOf(Root));
        return .{ .root = @ptrCast(@alignCast(bytes)) };
    }

    pub fn deinit(oracle: *Oracle) void {
        oracle.forgetAll();
        _ = linux.munmap(@ptrCast(oracle.root), @sizeOf(Root));
        oracle.* = undefined;
    }

    /// Maps leaves ahead, for a process that will be allowed no more memory later on.
    pub fn reserveLeaves(oracle: *Oracle, count: usize) Error!void {
        const bytes = try mapZeroed(count * @sizeOf(Leaf));
        oracle.reserve = @as([*]Leaf, @ptrCast(@alignCast(bytes)))[0..count];
    }

    /// Drops every claim. No other thread may use the oracle meanwhile.
    pub fn forgetAll(oracle: *Oracle) void {
        for (oracle.root) |*entry| {
            if (entry.load(.monotonic)) |leaf| {
                _ = linux.munmap(@ptrCast(leaf), @sizeOf(Leaf));
                entry.store(null, .monotonic);
            }
        }
    }

    /// Marks the range as a live block. Returns the first address that another live block owns,
    /// or null when the range was free. An empty range counts as one byte, since two live blocks
    /// of size zero must differ too.
    pub fn claim(oracle: *Oracle, address: usize, size: usize) Error!?usize {
        var walk = try Walk.init(address, size);
        while (walk.next()) |step| {
            const leaf = try oracle.leafAt(step.leaf);
            // Relaxed order is enough: the bits guard no other memory, and the one modification
            // order of each word already decides which of two claims came second.
            const before = leaf[step.word].fetchOr(step.mask, .monotonic);
            if (before & step.mask != 0) return step.addressOf(before & step.mask);
        }
        return null;
    }

    /// Marks the range as free. Returns the first address that no live block owned, or null when
    /// the whole range was claimed.
    pub fn release(oracle: *Oracle, address: usize, size: usize) Error!?usize {
        var walk = try Walk.init(address, size);
        while (walk.next()) |step| {
            const leaf = try oracle.leafAt(step.leaf);
            const before = leaf[step.word].fetchAnd(~step.mask, .monotonic);
            if (before & step.mask != step.mask) return step.addressOf(~before & step.mask);
        }
        return null;
    }

    fn leafAt(oracle: *Oracle, index: usize) Error!*Leaf {
        const entry = &oracle.root[index];
        // Pairs with the release of the exchange below, so that a leaf is seen zeroed.
        if (entry.load(.acquire)) |leaf| return leaf;
        const fresh = try oracle.freshLeaf();
        const winner = entry.cmpxchgStrong(null, fresh, .acq_rel, .acquire) orelse return fresh;
        _ = linux.munmap(@ptrCast(fresh), @sizeOf(Leaf));
        return winner.?;
    }

    fn freshLeaf(oracle: *Oracle) Error!*Leaf {
        if (oracle.reserve_taken.load(.monotonic) < oracle.reserve.len) {
            const index = oracle.reserve_taken.fetchAdd(1, .monotonic);
            if (index < oracle.reserve.len) return &oracle.reserve[index];
        }
        return @ptrCast(@alignCast(try mapZeroed(@sizeOf(Leaf))));
    }
};

/// Splits a range of addresses into words of the oracle.
const Walk = struct {
    granule: usize,
    granule_end: usize,

    const Step = struct {
        leaf: usize,
        word: usize,
        mask: u64,
        word_address: usize,

        fn addressOf(step: Step, bits: u64) usize {
            return step.word_address + @as(usize, @ctz(bits)) * granule_bytes;
        }
    };

    fn init(address: usize, size: usize) Error!Walk {
        const end = std.math.add(usize, address, @max(size, 1)) catch return error.AddressOutOfRange;
        if (end > 1 << address_bits) return error.AddressOutOfRange;
        return .{
            .granule = address / granule_bytes,
            .granule_end = std.math.divCeil(usize, end, granule_bytes) catch unreachable,
        };
    }

    fn next(walk: *Walk) ?Step {
        if (walk.granule >= walk.granule_end) return null;
        const word = walk.granule / granules_per_word;
        const first: u6 = @intCast(walk.granule % granules_per_word);
        const word_end = (word + 1) * granules_per_word;
        const end = @min(walk.granule_end, word_end);
        const count = end - walk.granule;
        const ones = if (count == granules_per_word) std.math.maxInt(u64) else (@as(u64, 1) << @intCast(count)) - 1;
        walk.granule = end;
        return .{
            .leaf = word / words_per_leaf,
            .word = word % words_per_leaf,
            .mask = ones << first,
            .word_address = word * word_span_bytes,
        };
    }
};

/// Maps zeroed pages that count against no overcommit limit until they are touched.
pub fn mapZeroed(size_bytes: usize) error{NoMemoryForOracle}![*]u8 {
    const result = linux.mmap(
        null,
        size_bytes,
        .{ .READ = true, .WRITE = true },
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true },
        -1,
        0,
    );
    if (linux.errno(result) != .SUCCESS) return error.NoMemoryForOracle;
    return @ptrFromInt(result);
}

/// The key of a block's pattern. Address, size and identity all enter it, so that a block moved,
/// swapped with another or given out twice shows foreign bytes.
pub fn patternKey(address: usize, size: usize, identity: u64) u64 {
    return mix(address ^ mix(size ^ mix(identity)));
}

/// The finaliser of SplitMix64: each input bit reaches each output bit.
pub fn mix(value: u64) u64 {
    var z = value +% 0x9e37_79b9_7f4a_7c15;
    z = (z ^ (z >> 30)) *% 0xbf58_476d_1ce4_e5b9;
    z = (z ^ (z >> 27)) *% 0x94d0_49bb_1331_11eb;
    return z ^ (z >> 31);
}

/// Odd, so that no two words of one block hold the same value.
const pattern_step = 0x9e37_79b9_7f4a_7c15;

pub fn fillPattern(bytes: []u8, key: u64) void {
    const word_count = bytes.len / 8;
    const words: [*]align(1) u64 = @ptrCast(bytes.ptr);
    for (words[0..word_count], 0..) |*word, index| word.* = key +% index *% pattern_step;
    for (bytes[word_count * 8 ..], word_count * 8..) |*byte, index| byte.* = patternByte(key, index);
}

/// The index of the first byte that does not hold the pattern, or null.
pub fn firstWrongByte(bytes: []const u8, key: u64) ?usize {
    const chunk_words = 64;
    const word_count = bytes.len / 8;
    const words: [*]align(1) const u64 = @ptrCast(bytes.ptr);
    var start: usize = 0;
    while (start < word_count) {
        const end = @min(start + chunk_words, word_count);
        // The differences of a chunk are gathered without a branch, which lets them be vectorised.
        var difference: u64 = 0;
        for (words[start..end], start..) |word, index| difference |= word ^ (key +% index *% pattern_step);
        if (difference != 0) return firstWrongByteSlow(bytes, key, start * 8);
        start = end;
    }
    return firstWrongByteSlow(bytes, key, word_count * 8);
}

fn firstWrongByteSlow(bytes: []const u8, key: u64, start: usize) ?usize {
    for (bytes[start..], start..) |byte, index| {
        if (byte != patternByte(key, index)) return index;
    }
    return null;
}

pub fn patternByte(key: u64, index: usize) u8 {
    const word = key +% (index / 8) *% pattern_step;
    return @truncate(word >> @intCast(8 * (index % 8)));
}

test "two claims that share a granule are an overlap" {
    var oracle = try Oracle.init();
    defer oracle.deinit();
    const base = 0x7f12_3456_7000;
    try std.testing.expectEqual(null, try oracle.claim(base, 64));
    try std.testing.expectEqual(base + 56, try oracle.claim(base + 56, 100));
    try std.testing.expectEqual(null, try oracle.release(base, 64));
}

test "neighbours do not overlap, over words and leaves" {
    var oracle = try Oracle.init();
    defer oracle.deinit();
    const leaf_end = 5 << leaf_span_bits;
    try std.testing.expectEqual(null, try oracle.claim(leaf_end - 4096, 4096));
    try std.testing.expectEqual(null, try oracle.claim(leaf_end, 4096));
    try std.testing.expectEqual(leaf_end - 8, try oracle.claim(leaf_end - 8, 1));
    try std.testing.expectEqual(leaf_end - 4096, try oracle.claim(leaf_end - 100_000, 200_000));
}

test "releasing what nobody claimed is found" {
    var oracle = try Oracle.init();
    defer oracle.deinit();
    try std.testing.expectEqual(null, try oracle.claim(4096, 24));
    try std.testing.expectEqual(4096 + 24, try oracle.release(4096, 32));
    try std.testing.expectError(error.AddressOutOfRange, oracle.claim(std.math.maxInt(usize) - 8, 4));
}

test "every single changed byte of a pattern is found" {
    var bytes: [1027]u8 = undefined;
    fillPattern(&bytes, 99);
    try std.testing.expectEqual(null, firstWrongByte(&bytes, 99));
    for (0..bytes.len) |index| {
        bytes[index] ^= 0x10;
        try std.testing.expectEqual(index, firstWrongByte(&bytes, 99));
        bytes[index] ^= 0x10;
    }
}
