//! A slab: a run of granules cut into blocks of one size class.
//!
//! Its record and its bitmap lie outside the blocks. A bit is set where a block is free *and* known to the
//! slab: blocks in use and blocks in magazines look alike here. Blocks from `carved` on were never handed
//! out; they need no bit, so a slab that only grows never touches its bitmap.
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

pub const words_per_granule = geometry.slab_words_max;

pub const Slab = extern struct {
    /// Neighbours in the list of slabs of the class that can give blocks.
    next: ?*Slab,
    previous: ?*Slab,
    /// The address of block 0.
    base: usize,
    /// The primary bitmap: `own_word` where that is enough, else the run's. All zero while the slab belongs to no class.
    words: [*]u64,
    /// One bit for each word that is not zero.
    summary: bitmap.Summary,
    /// Blocks 0 … carved - 1 have been handed out at least once.
    carved: u16,
    /// Set bits in the bitmap.
    free: u16,
    class: size_class.Class,
    listed: bool,
    /// Granules that were resident before any block was handed out, until all have been.
    ahead_granules: u8,
    _reserved: [1]u8,
    /// The bitmap of a slab of at most 64 blocks, those of 1 KiB and more: it comes with the record's cache line, and
    /// the run's bitmap is never touched.
    own_word: u64,

    comptime {
        assert(@sizeOf(Slab) == 64);
        assert(words_per_granule * geometry.word_blocks <= std.math.maxInt(u16));
    }

    /// Makes a slab of a run whose bitmap, at `words`, is all zero. The slab stays where it is until it ends.
    pub fn begin(slab: *Slab, base: usize, words: [*]u64, class: size_class.Class) void {
        cost.wrote(slab);
        slab.* = .{
            .next = null,
            .previous = null,
            .base = base,
            .words = if (size_class.shapes[class].blocks <= geometry.word_blocks) @ptrCast(&slab.own_word) else words,
            .summary = .{},
            .carved = 0,
            .free = 0,
            .class = class,
            .listed = false,
            .ahead_granules = 0,
            ._reserved = @splat(0),
            .own_word = 0,
        };
    }

    /// Leaves the bitmap all zero for the next slab of the run.
    pub fn end(slab: *Slab) void {
        assert(slab.isEmpty());
        assert(!slab.listed);
        cost.wrote(slab.words[0..slab.wordsInUse()]);
        @memset(slab.words[0..slab.wordsInUse()], 0);
        slab.class = size_class.none;
    }

    /// No block of it is in use or in a magazine.
    pub inline fn isEmpty(slab: *const Slab) bool {
        return slab.free == slab.carved;
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
        return slab.free != 0 or slab.carved < size_class.shapes[slab.class].blocks;
    }

    /// Moves up to `want` blocks into `out`, the lowest address last. Returned blocks are preferred to
    /// fresh ones. Zero means that the slab has none.
    pub fn take(slab: *Slab, out: [*]usize, want: u32) u32 {
        assert(want > 0);
        cost.wrote(slab);
        if (slab.summary.first()) |word| return slab.takeFromWord(word, out, want);
        return slab.carve(out, want);
    }

    fn takeFromWord(slab: *Slab, word: u32, out: [*]usize, want: u32) u32 {
        const block_bytes = size_class.blockBytes(slab.class);
        const mask = bitmap.lowest(slab.words[word], want);
        assert(mask != 0);
        cost.bitmapWord(&slab.words[word]);
        slab.words[word] ^= mask;
        if (slab.words[word] == 0) slab.summary.clear(word);
        const first = slab.base + word * geometry.word_blocks * block_bytes;
        if (mask == std.math.maxInt(u64)) {
            slab.free -= geometry.word_blocks;
            writeDown(out, first, block_bytes, geometry.word_blocks);
            return geometry.word_blocks;
        }
        const taken: u32 = @popCount(mask);
        slab.free -= @intCast(taken);
        // Few bits are mostly single ones, where a branch on where a run ends would be a coin toss.
        if (taken < geometry.word_blocks * 3 / 4) writeBits(out, first, block_bytes, mask) else writeRuns(out, first, block_bytes, mask);
        return taken;
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

    fn carve(slab: *Slab, out: [*]usize, want: u32) u32 {
        const shape = &size_class.shapes[slab.class];
        const taken = @min(want, shape.blocks - slab.carved);
        writeDown(out, slab.base + @as(usize, slab.carved) * shape.block_bytes, shape.block_bytes, taken);
        slab.carved += @intCast(taken);
        if (canary.is(.slab_twice) and taken > 1 and slab.carved == shape.blocks) slab.carved -= 1;
        return taken;
    }

    /// The addresses of `blocks` neighbours from `first` on, the lowest last. Written so that several go at once.
    inline fn writeDown(out: [*]usize, first: usize, block_bytes: usize, blocks: u32) void {
        const top = first +% (@as(usize, blocks) -% 1) *% block_bytes;
        for (out[0..blocks], 0..) |*entry, at| entry.* = top - at * block_bytes;
    }

    /// Takes one block back. Ends the process when it can see that the caller had no such block.
    pub fn put(slab: *Slab, address: usize) void {
        slab.putRun(address, 1);
    }

    /// Takes back the block at `offset` if nothing else than its bit and a count changes: false, with nothing done, if
    /// it is the first free block of its word, or the last of the slab, or no block in use. The size and its reciprocal
    /// are those of the class.
    pub inline fn putPlain(slab: *Slab, offset: usize, block_bytes: usize, reciprocal: u64) bool {
        const product = offset *% reciprocal;
        const block: u32 = @intCast(product >> 40);
        const word = &slab.words[product >> 46];
        comptime assert(geometry.word_blocks == 1 << 46 - 40);
        const before = word.*;
        const free = slab.free + 1;
        if (block * block_bytes != offset or block >= slab.carved or free == slab.carved) return false;
        // With the bit of one block more, which is no difference where it was set.
        const after = before | @as(u64, 1) << @truncate(block);
        if (before == 0 or after == before) return false;
        cost.wrote(slab);
        cost.bitmapWord(word);
        word.* = after;
        slab.free = free;
        return true;
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
            const before = slab.words[word];
            if (before & mask != 0) {
                const twice = word * geometry.word_blocks + @ctz(before & mask);
                slab.blame(.double_free, slab.base + twice * @as(usize, shape.block_bytes));
            }
            cost.bitmapWord(&slab.words[word]);
            slab.words[word] = before | mask;
            if (before == 0) slab.summary.set(word);
            block += length;
        }
        cost.wrote(slab);
        slab.free += @intCast(blocks);
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
        const bit = slab.words[block / geometry.word_blocks] >> @intCast(block % geometry.word_blocks) & 1;
        return if (bit == 1) .free else .in_use;
    }

    fn wordsInUse(slab: *const Slab) usize {
        return std.math.divCeil(usize, slab.carved, geometry.word_blocks) catch unreachable;
    }

    /// Panics unless counts, bitmap and summary agree. For tests.
    pub fn verify(slab: *const Slab) void {
        const shape = &size_class.shapes[slab.class];
        assert(slab.carved <= shape.blocks);
        var free: u32 = 0;
        for (0..std.math.divCeil(usize, shape.blocks, geometry.word_blocks) catch unreachable) |word| {
            const bits = slab.words[word];
            free += @popCount(bits);
            assert(slab.summary.has(@intCast(word)) == (bits != 0));
            const first_block = word * geometry.word_blocks;
            if (bits != 0) assert(first_block + 63 - @clz(bits) < slab.carved);
        }
        assert(free == slab.free);
    }
};

test "slab: random takes and puts agree with a model, for every class" {
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const words = try gpa.alloc(u64, 16 * words_per_granule);
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
        slab.begin(base, words.ptr, class);
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
                const taken = slab.take(&out, want);
                try std.testing.expect(taken <= want);
                try std.testing.expect((taken == 0) == (blocks.items.len == shape.blocks));
                for (out[0..taken], 0..) |address, at| {
                    const offset = address - base;
                    try std.testing.expectEqual(0, offset % shape.block_bytes);
                    if (at > 0) try std.testing.expect(address < out[at - 1]);
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
                    slab.put(base + @as(usize, block) * shape.block_bytes);
                }
            }
            try std.testing.expectEqual(blocks.items.len == 0, slab.isEmpty());
            try std.testing.expectEqual(blocks.items.len < shape.blocks, slab.hasBlocks());
            slab.verify();
        }
        for (blocks.items) |block| slab.put(base + @as(usize, block) * shape.block_bytes);
        slab.verify();
        slab.end();
        for (words) |word| try std.testing.expectEqual(0, word);
    }
}
