//! A slab: a run of granules cut into blocks of one size class.
//!
//! Its record and its bitmap lie outside the blocks. A bit is set where a block is free *and* known to the
//! slab: blocks in use and blocks in magazines look alike here. Blocks from `carved` on were never handed
//! out; they need no bit, so a slab that only grows never touches its bitmap.
//! The bitmap of a slab of few blocks lies in its record, so that a block that comes back meets one cache line; a
//! larger one lies outside, in the area of the superslab.
//!
//! All functions are called under the lock of the slab's class.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const size_class = @import("../numbers/size_class.zig");
const bitmap = @import("../numbers/bitmap.zig");
const fatal = @import("../seeing/fatal.zig");
const canary = @import("../platform/canary.zig");
const cost = @import("../platform/cost.zig");
const assert = std.debug.assert;

/// The most words of a bitmap that lies in the record.
const own_words = 4;

/// Words of the bitmap, by class.
const class_words: [size_class.count + 1]u8 = words: {
    var words: [size_class.count + 1]u8 = undefined;
    for (&words, size_class.shapes) |*entry, shape| entry.* = std.math.divCeil(u32, shape.blocks, geometry.word_blocks) catch unreachable;
    break :words words;
};

/// The bitmap of a slab of the class lies in its record: blocks of 256 bytes and more.
pub inline fn isOwn(class: size_class.Class) bool {
    return class_words[class] <= own_words;
}

/// Words that a slab of the class needs outside its record.
pub fn wordsOutside(class: size_class.Class) u32 {
    return if (isOwn(class)) 0 else class_words[class];
}

const Outside = extern struct {
    words: [*]u64,
    /// One bit for each word that is not zero.
    summary: bitmap.Summary,
};

pub const Slab = extern struct {
    /// Neighbours in the list of slabs of the class that can give blocks.
    next: ?*Slab,
    previous: ?*Slab,
    /// The address of block 0.
    base: usize,
    /// Blocks 0 … carved - 1 have been handed out at least once.
    carved: u16,
    /// Blocks that are not free here: with programs, in magazines, or cold.
    in_use: u16,
    class: size_class.Class,
    listed: bool,
    /// Granules that were resident before any block was handed out, until all have been.
    ahead_granules: u8,
    /// Its pages come as its blocks are handed out for the first time.
    fresh: bool,
    /// The primary bitmap, as `isOwn` says. All zero while the slab belongs to no class.
    bits: extern union {
        own: [own_words]u64,
        outside: Outside,
    },

    comptime {
        assert(@sizeOf(Slab) == 64);
        assert(geometry.slab_words_max * geometry.word_blocks <= std.math.maxInt(u16));
        // What `putPlain` takes for granted.
        for (size_class.shapes[1..], 1..) |shape, class| assert(isOwn(class) or shape.granules == 1);
    }

    /// Makes a slab of a run. Its bitmap outside, if it has one, is at `words`, and all zero. The slab stays where it is
    /// until it ends.
    pub fn begin(slab: *Slab, base: usize, words: ?[*]u64, class: size_class.Class) void {
        cost.wrote(slab);
        slab.* = .{
            .next = null,
            .previous = null,
            .base = base,
            .carved = 0,
            .in_use = 0,
            .class = class,
            .listed = false,
            .ahead_granules = 0,
            .fresh = false,
            .bits = if (isOwn(class)) .{ .own = @splat(0) } else .{ .outside = .{ .words = words.?, .summary = .{} } },
        };
    }

    /// Leaves a bitmap outside all zero, and returns it.
    pub fn end(slab: *Slab) ?[*]u64 {
        assert(slab.isEmpty());
        assert(!slab.listed);
        const outside = if (isOwn(slab.class)) null else slab.bits.outside.words;
        if (outside) |words| {
            const written = words[0 .. std.math.divCeil(usize, slab.carved, geometry.word_blocks) catch unreachable];
            cost.wrote(written);
            @memset(written, 0);
        }
        slab.class = size_class.none;
        return outside;
    }

    /// No block of it is in use or in a magazine.
    pub inline fn isEmpty(slab: *const Slab) bool {
        return slab.in_use == 0;
    }

    /// The next block that it gives may lie in a page that is not resident.
    pub inline fn wouldTouch(slab: *const Slab) bool {
        return slab.fresh and slab.in_use == slab.carved and slab.carved != 0;
    }

    /// Blocks that are free, and have been handed out at least once.
    pub fn freeBlocks(slab: *const Slab) u32 {
        return slab.carved - slab.in_use;
    }

    /// Every block has been handed out at least once.
    pub inline fn isCarved(slab: *const Slab) bool {
        return slab.carved == size_class.shapes[slab.class].blocks;
    }

    /// No other slab is in the list that it is in.
    pub inline fn isOnly(slab: *const Slab) bool {
        return slab.next == null and slab.previous == null;
    }

    /// It can give a block.
    pub inline fn hasBlocks(slab: *const Slab) bool {
        return slab.in_use < size_class.shapes[slab.class].blocks;
    }

    /// Moves up to `want` blocks to where `end_of_out` points behind the last, the lowest address last. Returned blocks
    /// are preferred to fresh ones. Zero means that the slab has none.
    pub fn take(slab: *Slab, end_of_out: [*]usize, want: u32) u32 {
        assert(want > 0);
        cost.wrote(slab);
        if (slab.in_use == slab.carved) return slab.carve(end_of_out, want);
        const block_bytes = size_class.blockBytes(slab.class);
        const word = slab.firstWord();
        const at = &slab.primary()[word];
        const mask = bitmap.lowest(at.*, want);
        assert(mask != 0);
        cost.bitmapWord(at);
        at.* ^= mask;
        if (at.* == 0 and !isOwn(slab.class)) slab.bits.outside.summary.clear(word);
        const first = slab.base + word * geometry.word_blocks * block_bytes;
        if (mask == std.math.maxInt(u64)) {
            slab.in_use += geometry.word_blocks;
            writeDown(end_of_out - geometry.word_blocks, first, block_bytes, geometry.word_blocks);
            return geometry.word_blocks;
        }
        const taken: u32 = @popCount(mask);
        const out = end_of_out - taken;
        slab.in_use += @intCast(taken);
        // Few bits are mostly single ones, where a branch on where a run ends would be a coin toss.
        if (taken < geometry.word_blocks * 3 / 4) writeBits(out, first, block_bytes, mask) else writeRuns(out, first, block_bytes, mask);
        return taken;
    }

    /// The lowest word that has a free block; there is one.
    inline fn firstWord(slab: *const Slab) u32 {
        if (!isOwn(slab.class)) return slab.bits.outside.summary.first().?;
        for (slab.bits.own[0 .. own_words - 1], 0..) |word, at| if (word != 0) return @intCast(at);
        return own_words - 1;
    }

    inline fn primary(slab: *const Slab) [*]u64 {
        return if (isOwn(slab.class)) @constCast(&slab.bits.own) else slab.bits.outside.words;
    }

    /// The addresses of the blocks in `mask`, one by one; `first` is the lowest that there can be.
    inline fn writeBits(out: [*]usize, first: usize, block_bytes: usize, mask: u64) void {
        var at = out + @popCount(mask);
        var rest = mask;
        while (rest != 0) : (rest &= rest - 1) {
            at -= 1;
            at[0] = first + @ctz(rest) * block_bytes;
        }
    }

    /// As `writeBits`, neighbours by neighbours.
    inline fn writeRuns(out: [*]usize, first: usize, block_bytes: usize, mask: u64) void {
        var rest = mask;
        var at = out;
        while (rest != 0) {
            const top = 63 - @as(u32, @clz(rest));
            const length: u32 = @clz(~(rest << @intCast(63 - top)));
            var address = first + top * block_bytes;
            for (0..length) |_| {
                at[0] = address;
                at += 1;
                address -%= block_bytes;
            }
            rest &= (@as(u64, 1) << @intCast(top + 1 - length)) - 1;
        }
    }

    fn carve(slab: *Slab, end_of_out: [*]usize, want: u32) u32 {
        const shape = &size_class.shapes[slab.class];
        const taken = @min(want, shape.blocks - slab.carved);
        writeDown(end_of_out - taken, slab.base + @as(usize, slab.carved) * shape.block_bytes, shape.block_bytes, taken);
        slab.carved += @intCast(taken);
        slab.in_use += @intCast(taken);
        if (canary.is(.slab_twice) and taken > 1 and slab.carved == shape.blocks) {
            slab.carved -= 1;
            slab.in_use -= 1;
        }
        return taken;
    }

    /// The addresses of `blocks` neighbours from `first` on, the lowest last. Written several at once.
    inline fn writeDown(out: [*]usize, first: usize, block_bytes: usize, blocks: u32) void {
        const lanes = 8;
        const Lanes = @Vector(lanes, usize);
        const top = first +% (@as(usize, blocks) -% 1) *% block_bytes;
        var addresses = @as(Lanes, @splat(top)) -% std.simd.iota(usize, lanes) *% @as(Lanes, @splat(block_bytes));
        const step: Lanes = @splat(lanes * block_bytes);
        var at: u32 = 0;
        while (at + lanes <= blocks) : (at += lanes) {
            out[at..][0..lanes].* = addresses;
            addresses -%= step;
        }
        while (at < blocks) : (at += 1) out[at] = top -% at *% block_bytes;
    }

    /// Takes one block back. Ends the process when it can see that the caller had no such block.
    pub fn put(slab: *Slab, address: usize) void {
        slab.putRun(address, 1);
    }

    pub const Put = enum {
        /// Only its bit and a count changed.
        plain,
        /// The slab may have to be listed, or has no block in use any more.
        changed,
        /// No block in use starts there, and nothing was done.
        refused,
    };

    /// Takes back the block at `offset`. The reciprocal is that of the class, and `own` what `isOwn` says of it.
    pub inline fn putAt(slab: *Slab, comptime own: bool, offset: usize, reciprocal: u64) Put {
        const found = size_class.divide(offset, reciprocal);
        const block: u16 = @truncate(found.quotient);
        if (!found.exact or block >= slab.carved) return .refused;
        const words: [*]u64 = if (own) &slab.bits.own else slab.bits.outside.words;
        const word = &words[found.quotient / geometry.word_blocks];
        const before = word.*;
        // With the bit of one block more, which is no difference where it was set.
        const after = before | @as(u64, 1) << @truncate(block);
        if (after == before) return .refused;
        cost.wrote(slab);
        cost.bitmapWord(word);
        word.* = after;
        slab.in_use -= 1;
        if (slab.in_use == 0) {
            @branchHint(.unlikely);
            if (!own and before == 0) slab.bits.outside.summary.set(block / geometry.word_blocks);
            return .changed;
        }
        if (own) return if (slab.listed) .plain else .changed;
        if (before != 0) return .plain;
        slab.bits.outside.summary.set(block / geometry.word_blocks);
        return .changed;
    }

    /// Takes back neighbours: `blocks` of them, the lowest at `address`. Ends the process as `put` does.
    pub fn putRun(slab: *Slab, address: usize, blocks: u32) void {
        const shape = &size_class.shapes[slab.class];
        const first = shape.index(address - slab.base);
        if (first * @as(usize, shape.block_bytes) != address - slab.base) slab.blame(.interior_pointer, address);
        const end_block = first + blocks;
        if (end_block > slab.carved) {
            slab.blame(.unallocated_block, slab.base + @max(first, slab.carved) * @as(usize, shape.block_bytes));
        }
        var block = first;
        while (block < end_block) {
            const word = block / geometry.word_blocks;
            const low = block % geometry.word_blocks;
            const length = @min(end_block - block, geometry.word_blocks - low);
            const mask = (~@as(u64, 0) >> @intCast(geometry.word_blocks - length)) << @intCast(low);
            const at = &slab.primary()[word];
            const before = at.*;
            if (before & mask != 0) {
                const twice = word * geometry.word_blocks + @ctz(before & mask);
                slab.blame(.double_free, slab.base + twice * @as(usize, shape.block_bytes));
            }
            cost.bitmapWord(at);
            at.* = before | mask;
            if (before == 0 and !isOwn(slab.class)) slab.bits.outside.summary.set(word);
            block += length;
        }
        cost.wrote(slab);
        slab.in_use -= @intCast(blocks);
    }

    /// Ends the process where it can be told, without the lock, that the caller has no such block: its bit is set, it
    /// is no start of a block, or none was handed out there. Of a block in use none of that changes meanwhile.
    pub inline fn expectInUse(slab: *const Slab, address: usize) void {
        const shape = &size_class.shapes[slab.class];
        const block = shape.index(address - slab.base);
        if (block * @as(usize, shape.block_bytes) != address - slab.base) slab.blame(.interior_pointer, address);
        switch (slab.stateOf(block)) {
            .in_use => {},
            .free => slab.blame(.double_free, address),
            .never_handed_out => slab.blame(.unallocated_block, address),
            .unknown => unreachable,
        }
    }

    noinline fn blame(slab: *const Slab, kind: fatal.Kind, address: usize) noreturn {
        @branchHint(.cold);
        const shape = &size_class.shapes[slab.class];
        const block = shape.index(address - slab.base);
        fatal.misuse(.{
            .kind = kind,
            .address = address,
            .block_bytes = shape.block_bytes,
            .offset = @intCast(address - slab.base - block * @as(usize, shape.block_bytes)),
            .state = slab.stateOf(block),
        });
    }

    /// For a pointer that is known to be no block in use.
    pub fn blameStray(slab: *const Slab, address: usize) noreturn {
        @branchHint(.cold);
        const shape = &size_class.shapes[slab.class];
        const block = shape.index(address - slab.base);
        if (block >= slab.carved) slab.blame(.unallocated_block, address);
        if (block * @as(usize, shape.block_bytes) != address - slab.base) slab.blame(.interior_pointer, address);
        slab.blame(.double_free, address);
    }

    fn stateOf(slab: *const Slab, block: u32) fatal.State {
        if (block >= slab.carved) return .never_handed_out;
        const bit = slab.primary()[block / geometry.word_blocks] >> @intCast(block % geometry.word_blocks) & 1;
        return if (bit == 1) .free else .in_use;
    }

    /// Panics unless counts, bitmap and summary agree. For tests.
    pub fn verify(slab: *const Slab) void {
        const shape = &size_class.shapes[slab.class];
        assert(slab.carved <= shape.blocks);
        var free: u32 = 0;
        for (0..std.math.divCeil(usize, shape.blocks, geometry.word_blocks) catch unreachable) |word| {
            const bits = slab.primary()[word];
            free += @popCount(bits);
            if (!isOwn(slab.class)) assert(slab.bits.outside.summary.has(@intCast(word)) == (bits != 0));
            const first_block = word * geometry.word_blocks;
            if (bits != 0) assert(first_block + 63 - @clz(bits) < slab.carved);
        }
        assert(free == slab.freeBlocks());
    }
};

test "slab: random takes and puts agree with a model, for every class" {
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const words = try gpa.alloc(u64, geometry.slab_words_max);
    defer gpa.free(words);
    @memset(words, 0);
    var out: [64]usize = undefined;

    for (1..size_class.count + 1) |class_number| {
        const class: size_class.Class = @intCast(class_number);
        const shape = &size_class.shapes[class];
        var slab: Slab = undefined;
        // The last run of a 48-bit address space, and one of a 47-bit one.
        const end_of_space: usize = @as(usize, 1) << if (class % 2 == 0) 48 else 47;
        const base = end_of_space - geometry.superslab_bytes;
        slab.begin(base, if (wordsOutside(class) == 0) null else words.ptr, class);
        // The model: who holds each block, and the list of held blocks.
        const held = try gpa.alloc(bool, shape.blocks);
        defer gpa.free(held);
        @memset(held, false);
        var blocks: std.ArrayList(u32) = .empty;
        defer blocks.deinit(gpa);

        for (0..400) |step| {
            const growing = random.uintLessThan(usize, 400) > step;
            if (growing) {
                const want = random.intRangeAtMost(u32, 1, 64);
                const taken = slab.take(out[0..].ptr + out.len, want);
                try std.testing.expect(taken <= want);
                try std.testing.expect((taken == 0) == (blocks.items.len == shape.blocks));
                const blocks_taken = out[out.len - taken ..];
                for (blocks_taken, 0..) |address, at| {
                    const offset = address - base;
                    try std.testing.expectEqual(0, offset % shape.block_bytes);
                    if (at > 0) try std.testing.expect(address < blocks_taken[at - 1]);
                    const block = offset / shape.block_bytes;
                    try std.testing.expect(block < shape.blocks);
                    try std.testing.expect(!held[block]);
                    held[block] = true;
                    try blocks.append(gpa, @intCast(block));
                }
            } else {
                for (0..random.intRangeAtMost(usize, 1, 100)) |_| {
                    if (blocks.items.len == 0) break;
                    const block = blocks.swapRemove(random.uintLessThan(usize, blocks.items.len));
                    held[block] = false;
                    const offset = @as(usize, block) * shape.block_bytes;
                    if (random.boolean()) slab.put(base + offset) else try putOne(&slab, offset, random);
                }
            }
            try std.testing.expectEqual(blocks.items.len == 0, slab.isEmpty());
            try std.testing.expectEqual(blocks.items.len < shape.blocks, slab.hasBlocks());
            slab.verify();
        }
        for (blocks.items) |block| slab.put(base + @as(usize, block) * shape.block_bytes);
        slab.verify();
        try std.testing.expectEqual(wordsOutside(class) != 0, slab.end() != null);
        for (words) |word| try std.testing.expectEqual(0, word);
    }
}

/// Puts a block by `putAt`, which refuses it a second time, and refuses what is no block in use.
fn putOne(slab: *Slab, offset: usize, random: std.Random) !void {
    const shape = &size_class.shapes[slab.class];
    const carved_end = @as(usize, slab.carved) * shape.block_bytes;
    const before = slab.in_use;
    switch (isOwn(slab.class)) {
        inline else => |own| {
            const inside = offset + random.intRangeLessThan(usize, 1, shape.block_bytes);
            for ([_]usize{ inside, carved_end }) |wrong| {
                try std.testing.expectEqual(.refused, slab.putAt(own, wrong, shape.reciprocal));
            }
            slab.listed = random.boolean();
            const expected_plain = before > 1 and if (own) slab.listed else slab.primary()[offset / shape.block_bytes / geometry.word_blocks] != 0;
            try std.testing.expectEqual(if (expected_plain) Slab.Put.plain else .changed, slab.putAt(own, offset, shape.reciprocal));
            slab.listed = false;
            try std.testing.expectEqual(.refused, slab.putAt(own, offset, shape.reciprocal));
        },
    }
    try std.testing.expectEqual(before - 1, slab.in_use);
}
