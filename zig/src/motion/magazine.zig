//! Magazines: the blocks that a thread has at hand, one stack of addresses a class.
//!
//! `top` points past the newest block. The word below the oldest block is 0, so an empty magazine pops 0; a
//! full one has `top` at `limit`. That makes pop and push three loads or stores and one branch each, and lets
//! a magazine without an array (both pointers just above a shared 0) be empty and full at once.

const std = @import("std");
const size_class = @import("../numbers/size_class.zig");
const atomic = @import("../platform/atomic.zig");
const metadata = @import("../memory/metadata.zig");
const assert = std.debug.assert;

pub const Magazine = extern struct {
    top: [*]const usize,
    limit: [*]const usize,

    pub const none: Magazine = .{ .top = above_zero, .limit = above_zero };

    /// The newest block, or 0.
    pub inline fn pop(magazine: *Magazine) usize {
        const below = magazine.top - 1;
        const address = below[0];
        if (address != 0) magazine.setTop(below);
        return address;
    }

    /// False when there is no room, or when the address is the newest already: a block freed twice at once.
    pub inline fn push(magazine: *Magazine, address: usize) bool {
        const top = magazine.top;
        if (top == magazine.limit or (top - 1)[0] == address) return false;
        @constCast(top)[0] = address;
        magazine.setTop(top + 1);
        return true;
    }

    pub inline fn newest(magazine: *const Magazine) usize {
        return (magazine.top - 1)[0];
    }

    pub inline fn setTop(magazine: *Magazine, top: [*]const usize) void {
        // Partner: the load in `Shelf.count`, by a thread that only wants a figure.
        atomic.store([*]const usize, &magazine.top, top, .unordered);
    }
};

/// The last blocks of a magazine stay for its own class, which would soon borrow in its turn.
const never_lent = 4;

const zeros = [1]usize{0};
const above_zero: [*]const usize = @as([*]const usize, &zeros) + 1;

/// What only slow paths need to know of a magazine.
pub const Shelf = extern struct {
    /// The array: a zero word, then the blocks. Null until the first block.
    base: ?[*]usize,
    /// Words that may be used, the zero word included; the most that ever might; and words that the array has, of which
    /// those that were never used have no pages.
    words: u16,
    words_grown: u16,
    words_owned: u16,
    /// Blocks that the last refill brought, if none had been handed out before; else 0.
    fresh: u16,
    /// So many misses may be served by blocks of larger classes before the next refill.
    credit: u16,
    /// A miss came after the last overflow.
    missed: bool,
    /// The blocks of the last flush lay scattered, so that each took a look-up of its own.
    scattered: bool,
    /// Blocks flushed since the last miss: a long phase of nothing but frees; and in the phase before that.
    flushed: u32,
    flushed_before: u32,

    pub const none: Shelf = .{
        .base = null,
        .words = 0,
        .words_grown = 0,
        .words_owned = 0,
        .fresh = 0,
        .credit = 0,
        .missed = false,
        .scattered = false,
        .flushed = 0,
        .flushed_before = 0,
    };

    /// Gives the magazine its first array. False when the OS refuses.
    pub fn open(shelf: *Shelf, magazine: *Magazine, class: size_class.Class) bool {
        assert(shelf.base == null);
        if (!shelf.setArray(magazine, words_min[class])) return false;
        shelf.words_grown = shelf.words_owned;
        shelf.setWords(magazine, shelf.words_owned);
        return true;
    }

    /// A miss: what was flushed since the last one was a phase of frees.
    pub fn noteMiss(shelf: *Shelf) void {
        shelf.missed = true;
        if (shelf.flushed == 0) return;
        shelf.flushed_before = shelf.flushed;
        shelf.flushed = 0;
    }

    /// The most words that are worth their memory. An array of 64 KiB is half of what it holds of 16 bytes, and spares
    /// little where blocks lie in order, which costs little to flush, or where so many are freed at once that most of
    /// them are flushed all the same.
    fn cap(shelf: *const Shelf, class: size_class.Class) u16 {
        const most = words_max[class];
        return if (shelf.scattered and shelf.flushed_before / 8 < most) most else @min(most, words_dear);
    }

    /// Makes room for twice as many blocks as ever. False at the cap, or when the OS refuses.
    pub fn grow(shelf: *Shelf, magazine: *Magazine, class: size_class.Class) bool {
        if (shelf.words_grown >= shelf.cap(class)) {
            if (shelf.words == shelf.words_grown) return false;
            shelf.setWords(magazine, shelf.words_grown);
            return true;
        }
        const words = shelf.words_grown * 2;
        if (words > shelf.words_owned and !shelf.setArray(magazine, arrayWords(class, words))) return false;
        shelf.words_grown = words;
        shelf.setWords(magazine, words);
        return true;
    }

    /// Leaves room for `room` blocks and as many again, or for what the class starts with. The blocks held must fit.
    pub fn shrink(shelf: *Shelf, magazine: *Magazine, class: size_class.Class, room: usize) void {
        const words = @max(words_min[class], std.math.ceilPowerOfTwoAssert(usize, 2 * room + 1));
        if (words < shelf.words) shelf.setWords(magazine, @intCast(words));
    }

    pub fn close(shelf: *Shelf, magazine: *Magazine) void {
        const base = shelf.base orelse return;
        assert(shelf.count(magazine) == 0);
        metadata.free(@ptrCast(@alignCast(base)), @as(usize, shelf.words_owned) * @sizeOf(usize));
        shelf.* = none;
        magazine.* = .none;
    }

    pub fn count(shelf: *const Shelf, magazine: *const Magazine) usize {
        const base = atomic.load(?[*]usize, &shelf.base, .monotonic) orelse return 0;
        // Partner: the store in `Magazine.setTop`. Another thread's figure may be of a moment ago, or,
        // while its array changes, of another array: then it is no count, and none is given.
        const top = atomic.load([*]const usize, &magazine.top, .unordered);
        const held = (@intFromPtr(top) -% @intFromPtr(base)) / @sizeOf(usize) -% 1;
        return if (held < shelf.words_owned) held else 0;
    }

    /// Whether there are blocks to spare for other classes, of which the newest was handed out before.
    pub inline fn canLend(shelf: *const Shelf, magazine: *const Magazine, class: size_class.Class) bool {
        const base = shelf.base orelse return false;
        const held = magazine.top - base - 1;
        if (held <= never_lent) return false;
        if (held > shelf.fresh) return true;
        // Once the magazine was empty the oldest block is any, and this one hardly lies where a fresh one would.
        return magazine.newest() != base[1] -% (held - 1) * size_class.blockBytes(class);
    }

    pub inline fn blocks(shelf: *const Shelf) [*]usize {
        return shelf.base.? + 1;
    }

    fn setArray(shelf: *Shelf, magazine: *Magazine, words: u16) bool {
        const bytes = @as(usize, words) * @sizeOf(usize);
        const new: [*]usize = @ptrCast(metadata.allocate(bytes) orelse return false);
        const held = shelf.count(magazine);
        const old = shelf.base;
        const old_bytes = @as(usize, shelf.words_owned) * @sizeOf(usize);
        if (old) |from| @memcpy(new[1 .. 1 + held], from[1 .. 1 + held]);
        atomic.store(?[*]usize, &shelf.base, new, .monotonic);
        shelf.words_owned = words;
        magazine.setTop(new + 1 + held);
        magazine.limit = new + shelf.words;
        if (old) |from| metadata.free(@ptrCast(@alignCast(from)), old_bytes);
        return true;
    }

    fn setWords(shelf: *Shelf, magazine: *Magazine, words: u16) void {
        assert(words <= shelf.words_grown);
        assert(shelf.count(magazine) < words);
        shelf.words = words;
        magazine.limit = shelf.base.? + words;
    }
};

/// Above `dense_bytes` a program has few blocks of a class, and many classes: what all their magazines hold together
/// is what counts.
const dense_bytes = 256;
const dense_bytes_max = 512 * 1024;
const bytes_max = 128 * 1024;
const words_cap = 8192;
/// The cap where more are not worth their memory.
const words_dear = 1024;
/// An array for more words than the first of these has as many as the second at once, and so on: its pages come as they
/// are used, and of each array that was outgrown a page stays.
const array_words = [_]u16{ 256, 2048, words_cap };

/// Words of the array that is made for so many.
fn arrayWords(class: size_class.Class, words: u16) u16 {
    if (words <= array_words[0]) return words;
    for (array_words[1..]) |most| if (words <= most) return @min(most, words_max[class]);
    unreachable;
}

/// Words of a magazine's array at first, by class: the ancestors' 64, 64, 64, 64, 32, 32, 16, 16 for their
/// eight classes, and fewer for larger blocks; 16 again for those whose class has many sizes.
pub const words_min: [size_class.count + 1]u16 = makeWords(.first);
/// The cap: as many as hold 512 KiB of blocks, which is what stays in a core's second-level cache, at most 8192; 128 KiB
/// of blocks above 256 bytes, but never fewer than 7 or 15 blocks.
pub const words_max: [size_class.count + 1]u16 = makeWords(.cap);
/// The cap for a magazine that only ever fills or only ever empties, as where one thread allocates what another frees:
/// there a larger one is worth the fewer times that both meet, no more.
pub const words_one_way: [size_class.count + 1]u16 = makeWords(.one_way);

fn makeWords(what: enum { first, one_way, cap }) [size_class.count + 1]u16 {
    @setEvalBranchQuota(10_000);
    var words: [size_class.count + 1]u16 = @splat(0);
    for (words[1..], size_class.shapes[1..]) |*entry, shape| {
        const bytes: u32 = shape.block_bytes;
        const least: u16 = if (bytes <= size_class.fine_bytes_max) 8 else 16;
        const first = if (bytes <= 64) 64 else if (bytes <= 256) 32 else if (bytes <= 1024) 16 else least;
        const bytes_most: u32 = if (bytes <= dense_bytes) dense_bytes_max else bytes_max;
        const most = @min(words_cap, @max(least, std.math.floorPowerOfTwo(u32, @max(1, bytes_most / bytes))));
        entry.* = switch (what) {
            .first => @min(first, most),
            .one_way => @min(@max(first, @min(256, std.math.floorPowerOfTwo(u32, @max(1, 16 * 1024 / bytes)))), most),
            .cap => most,
        };
    }
    return words;
}

/// Blocks that one refill brings at least, where there is room: a word of the bitmap, and 16 KiB or one block.
pub const refill_blocks: [size_class.count + 1]u8 = makeRefills();
/// And at most, an eighth of a magazine that has grown.
pub const refill_blocks_max = 512;

fn makeRefills() [size_class.count + 1]u8 {
    var refills: [size_class.count + 1]u8 = @splat(0);
    for (refills[1..], size_class.shapes[1..]) |*entry, shape| {
        entry.* = @max(1, @min(64, 16 * 1024 / shape.block_bytes));
    }
    return refills;
}

test "magazine: what was never handed out is not lent, nor are the last few blocks" {
    const class = size_class.of(512);
    var magazine: Magazine = .none;
    var shelf: Shelf = .none;
    try std.testing.expect(!shelf.canLend(&magazine, class));
    try std.testing.expect(shelf.open(&magazine, class));
    defer shelf.close(&magazine);
    // A refill of fresh blocks.
    const blocks = 2 * never_lent;
    for (shelf.blocks()[0..blocks], 1..) |*entry, down| entry.* = (1 << 20) - down * 512;
    magazine.setTop(shelf.blocks() + blocks);
    shelf.fresh = blocks;
    try std.testing.expect(!shelf.canLend(&magazine, class));
    // A block comes back on top of those that are left.
    const freed = magazine.pop();
    try std.testing.expect(!shelf.canLend(&magazine, class));
    try std.testing.expect(magazine.push(freed + (1 << 20)));
    try std.testing.expect(shelf.canLend(&magazine, class));
    // All were handed out, and come back in the order that they went.
    var out: [blocks]usize = undefined;
    for (&out) |*entry| entry.* = magazine.pop();
    for (out, 1..) |entry, held| {
        try std.testing.expect(magazine.push(entry));
        try std.testing.expectEqual(held > never_lent, shelf.canLend(&magazine, class));
    }
    while (magazine.pop() != 0) {}
}

test "magazine: random pushes, pops, growth and shrinking agree with a stack" {
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    for ([_]size_class.Class{ 1, 9, 17, 33, 60, size_class.count }) |class| {
        var magazine: Magazine = .none;
        var shelf: Shelf = .none;
        var model: std.ArrayList(usize) = .empty;
        defer model.deinit(gpa);
        try std.testing.expectEqual(0, magazine.pop());
        try std.testing.expect(!magazine.push(16));
        try std.testing.expect(shelf.open(&magazine, class));
        for (0..20_000) |step| {
            if (random.uintLessThan(usize, 5) < 3) {
                const address = (step + 1) * 16;
                if (!magazine.push(address)) {
                    try std.testing.expectEqual(shelf.words - 1, model.items.len);
                    shelf.scattered = random.boolean();
                    shelf.flushed_before = random.uintLessThan(u32, 16 * @as(u32, words_max[class]));
                    if (!shelf.grow(&magazine, class)) {
                        const dear = !shelf.scattered or shelf.flushed_before >= 8 * @as(u32, words_max[class]);
                        const cap: u16 = if (dear) words_dear else words_cap;
                        try std.testing.expect(shelf.words >= @min(words_max[class], cap));
                        try std.testing.expectEqual(shelf.words_grown, shelf.words);
                        while (model.pop()) |expected| try std.testing.expectEqual(expected, magazine.pop());
                        shelf.shrink(&magazine, class, random.uintLessThan(usize, shelf.words));
                    }
                    try std.testing.expect(magazine.push(address));
                }
                try model.append(gpa, address);
            } else {
                try std.testing.expectEqual(model.pop() orelse 0, magazine.pop());
            }
            try std.testing.expectEqual(model.items.len, shelf.count(&magazine));
        }
        while (model.pop()) |expected| try std.testing.expectEqual(expected, magazine.pop());
        try std.testing.expectEqual(0, magazine.pop());
        shelf.close(&magazine);
        try std.testing.expectEqual(0, magazine.pop());
    }
}
