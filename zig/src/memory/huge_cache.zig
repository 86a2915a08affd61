//! Freed huge blocks that wait, with their pages, to be allocated again.
//!
//! A word a mapping, in a few slots that all threads share. Taking a mapping is one exchange of its word for 0, putting
//! one there the reverse: no lock, so nobody waits for a thread that was stopped in here, and fork needs nothing. The
//! word says all that is to be known of a mapping, so it does not matter whether the same one was there before.
//!
//! A mapping may serve a block that grows before it needs all of it. The rest waits on, as a word of its own, until the
//! block takes it.
//!
//! What is kept is bounded in bytes and in time, and never adds to the most memory that the process held:
//! - In bytes: `budget`.
//! - In time: every half second of slow paths `tick` drops what it has seen before, so a mapping goes between half a
//!   second and a second after its free.
//! - Before anything is mapped anew, mappings go until the new one and the rest are no more than was in use at once
//!   of late (`excess`).

const std = @import("std");
const builtin = @import("builtin");
const geometry = @import("../numbers/geometry.zig");
const atomic = @import("../platform/atomic.zig");
const os = @import("../platform/os.zig");
const threads = @import("../platform/threads.zig");
const assert = std.debug.assert;

/// Enough for the budget in blocks of 2 MiB; each allocation looks at all of them.
const slot_count = 32;

/// This much may wait whatever is in use: a block of 64 MiB, and a little for what callers put before or behind.
const bytes_min = 72 << 20;
/// Else this share of the huge blocks in use.
const share_shift = 3;
/// A mapping serves requests down to this share less than itself.
const spare_shift = 3;
/// What waits may add this much to the most that was in use, so that a few blocks of different sizes in turn are kept.
const excess_bytes = 8 << 20;
const tick_milliseconds = 500;

pub const Mapping = packed struct(u64) {
    /// A tick has seen it.
    seen: bool = false,
    /// It has no record: it lies behind a block, which may grow into it.
    is_rest: bool = false,
    /// Where it starts.
    granule: u32,
    granules: u30,

    /// A larger one cannot wait.
    pub const bytes_max = std.math.maxInt(u30) << geometry.granule_shift;

    pub fn of(base: usize, size: usize) Mapping {
        assert(base & (geometry.superslab_bytes - 1) == 0 and size & (geometry.granule_bytes - 1) == 0);
        return .{
            .granule = @intCast(base >> geometry.granule_shift),
            .granules = @intCast(size >> geometry.granule_shift),
        };
    }

    pub fn address(mapping: Mapping) usize {
        return @as(usize, mapping.granule) << geometry.granule_shift;
    }

    pub fn bytes(mapping: Mapping) usize {
        return @as(usize, mapping.granules) << geometry.granule_shift;
    }

    /// What is left behind its first `size` bytes, which go to a block. It waits no longer than all of it would have.
    pub fn restBehind(mapping: Mapping, size: usize) Mapping {
        assert(size < mapping.bytes());
        const granules: u30 = @intCast(size >> geometry.granule_shift);
        return .{
            .seen = mapping.seen,
            .is_rest = true,
            .granule = mapping.granule + granules,
            .granules = mapping.granules - granules,
        };
    }

    fn word(mapping: Mapping) u64 {
        return @bitCast(mapping);
    }
};

/// Each is the word of a mapping, or 0.
var slots: [slot_count]atomic.Value(u64) align(64) = @splat(.init(0));
/// No slot from here on is in use, most likely: what is asked for each time looks no further. Where threads change it
/// at once it may be too low; then a mapping is overlooked until the next tick, which looks at all slots and sets it.
var reach: atomic.Value(usize) = .init(0);
/// When the next tick is due, in milliseconds; 0 while nothing waits.
var due: atomic.Value(usize) = .init(0);
/// The most that was in use when a block was freed or mapped, since the last tick.
var peak: atomic.Value(usize) = .init(0);
/// The slot whose mapping goes next when there is room for no more.
var hand: atomic.Value(usize) = .init(0);

/// The bytes are those of blocks and rests.
pub const Held = struct { blocks: usize = 0, bytes: usize = 0 };

/// What waits, as of about now.
pub fn held() Held {
    var sum: Held = .{};
    for (&slots) |*slot| {
        const mapping: Mapping = @bitCast(slot.load(.monotonic));
        sum.blocks += @intFromBool(mapping.granules != 0 and !mapping.is_rest);
        sum.bytes += mapping.bytes();
    }
    return sum;
}

/// As `take`, for the size that was freed last where nothing else waits: in a few instructions, since a program may do
/// that again and again without a look at the block.
pub inline fn takeFirst(bytes: usize) ?Mapping {
    const mapping: Mapping = @bitCast(slots[0].load(.monotonic));
    if (mapping.bytes() != bytes or mapping.is_rest) return null;
    return if (exchange(&slots[0], mapping.word(), 0)) mapping else null;
}

/// As `put`, where nothing else waits nor has to be noted. False where `put` must be asked.
pub inline fn putFirst(mapping: Mapping, mapped: usize) bool {
    if (slots[0].load(.monotonic) != 0 or reach.load(.monotonic) != 1) return false;
    if (mapping.bytes() > bytes_min or mapped > peak.load(.monotonic)) return false;
    // What `put` does, but to begin the ticks.
    return due.load(.monotonic) != 0 and exchange(&slots[0], 0, mapping.word()) and (due.load(.seq_cst) != 0 or armed());
}

noinline fn armed() bool {
    @branchHint(.cold);
    arm(os.milliseconds());
    return true;
}

/// Takes the mapping that fits `bytes` best at a multiple of `alignment`.
pub fn take(bytes: usize, alignment: usize) ?Mapping {
    return takeBetween(bytes, bytes + (bytes >> spare_shift), bytes, alignment);
}

/// Takes the mapping whose size is closest to `bytes`, and between half and twice as much: for a caller who changes
/// its size, which costs a call of the system, but saves most of its pages.
pub fn takeNear(bytes: usize) ?Mapping {
    return takeBetween(bytes / 2, bytes * 2, bytes, 1);
}

/// Takes the smallest mapping of at least `bytes`: for a caller who puts back what it needs not yet.
pub fn takeAtLeast(bytes: usize) ?Mapping {
    return takeBetween(bytes, std.math.maxInt(usize), bytes, 1);
}

pub const Age = enum { any, fresh };

/// Takes the rest that starts at `address`; if `age` says so, only if no tick has seen it.
pub fn takeRest(address: usize, age: Age) ?Mapping {
    for (slots[0..reach.load(.monotonic)]) |*slot| {
        const mapping: Mapping = @bitCast(slot.load(.monotonic));
        if (!mapping.is_rest or mapping.address() != address) continue;
        if (mapping.seen and age == .fresh) return null;
        // Partner: the exchange in `put`. Where a tick has just seen it, it stays for the next call.
        return if (exchange(slot, mapping.word(), 0)) mapping else null;
    }
    return null;
}

fn takeBetween(least: usize, most: usize, bytes: usize, alignment: usize) ?Mapping {
    while (true) {
        var best: Mapping = .{ .granule = 0, .granules = 0 };
        var best_distance: usize = std.math.maxInt(usize);
        var best_slot: usize = undefined;
        for (slots[0..reach.load(.monotonic)], 0..) |*slot, number| {
            const mapping: Mapping = @bitCast(slot.load(.monotonic));
            const size = mapping.bytes();
            if (size < least or size > most or mapping.is_rest or mapping.address() & (alignment - 1) != 0) continue;
            const distance = if (size > bytes) size - bytes else bytes - size;
            if (distance >= best_distance) continue;
            best = mapping;
            best_distance = distance;
            best_slot = number;
            if (distance == 0) break;
        }
        if (best.granules == 0) return null;
        // Partner: the exchange in `put`, of the thread that freed the block.
        if (exchange(&slots[best_slot], best.word(), 0)) return best;
    }
}

pub const Put = enum { kept, no_room, too_large };

/// Puts a mapping there. `mapped` is the bytes of all huge blocks, in use or waiting, with this one as far as it was in
/// use.
pub fn put(mapping: Mapping, mapped: usize) Put {
    while (true) {
        const end = reach.load(.monotonic);
        var sum: usize = 0;
        var empty = end;
        var number = end;
        while (number > 0) {
            number -= 1;
            const present: Mapping = @bitCast(slots[number].load(.monotonic));
            sum += present.bytes();
            if (present.granules == 0) empty = number;
        }
        const in_use = mapped -| sum;
        notePeak(in_use);
        const most = budget(in_use -| mapping.bytes());
        if (mapping.bytes() > most) return .too_large;
        if (mapping.bytes() + sum > most or empty == slot_count) return .no_room;
        // Partners: the exchanges of whoever takes it: `take`, `takeAny`, `tick`. That it is in order with the load of
        // `due`, see `tick`.
        if (exchange(&slots[empty], 0, mapping.word())) {
            if (empty >= reach.load(.monotonic)) reach.store(empty + 1, .monotonic);
            break;
        }
        // Beyond what was looked at, another may have been first.
        if (empty == end) reach.store(end + 1, .monotonic);
    }
    return if (due.load(.seq_cst) != 0 or armed()) .kept else unreachable;
}

/// Takes one out to make room: one that has waited for a tick, else whichever is next.
pub fn takeAny() ?Mapping {
    const start = hand.load(.monotonic);
    for ([_]bool{ true, false }) |seen_only| for (0..slot_count) |step| {
        const number = (start + step) % slot_count;
        const mapping: Mapping = @bitCast(slots[number].load(.monotonic));
        if (mapping.granules == 0 or (seen_only and !mapping.seen)) continue;
        // Partner: the exchange in `put`.
        if (!exchange(&slots[number], mapping.word(), 0)) continue;
        hand.store((number + 1) % slot_count, .monotonic);
        return mapping;
    };
    return null;
}

/// Whether what waits must become less before `bytes` more are mapped. `mapped` is as in `put`.
pub fn isExcess(bytes: usize, mapped: usize) bool {
    const waiting = held().bytes;
    if (waiting == 0) return false;
    const in_use = (mapped -| waiting) + bytes;
    notePeak(in_use);
    return mapped + bytes > @max(peak.load(.monotonic), in_use) + excess_bytes;
}

/// Puts `next` where `expected` was. False if it was not there.
inline fn exchange(slot: *atomic.Value(u64), expected: u64, next: u64) bool {
    // A process without threads need not lock the bus, which is half of what a hit costs.
    if (threads.areNone()) {
        if (slot.load(.monotonic) != expected) return false;
        slot.store(next, .monotonic);
        return true;
    }
    // Partner: itself. Whoever puts a mapping there hands it over with its record to whoever takes it.
    return slot.cmpxchgStrong(expected, next, .seq_cst, .monotonic) == null;
}

fn budget(in_use: usize) usize {
    return @max(bytes_min, in_use >> share_shift);
}

fn notePeak(in_use: usize) void {
    // Partner: itself and `tick`, in other threads. One of two may be lost: then less is kept.
    if (in_use > peak.load(.monotonic)) peak.store(in_use, .monotonic);
}

/// Whether `tick` may have work. One load; for slow paths, which are where time is noticed.
pub inline fn waits() bool {
    // Partner: `arm`. A stale answer leaves the work to the next slow path.
    return due.load(.monotonic) != 0;
}

/// Drops what the last tick has seen already, by way of `drop`, and marks the rest, if half a second has gone by.
pub fn tick(mapped: usize, comptime drop: fn (Mapping) void) void {
    const expected = due.load(.monotonic);
    if (expected == 0) return;
    const now = os.milliseconds();
    // Without a clock nothing waits beyond the next slow path.
    if (now != 0 and now < expected) return;
    // One thread does it. This comes before the looks at the slots, and in `put` the look at `due` after the
    // exchange, both in the one order of all: so either this finds the mapping or that finds 0, and arms.
    if (due.cmpxchgStrong(expected, 0, .seq_cst, .monotonic) != null) return;
    const late = now == 0 or now - expected >= tick_milliseconds;
    var kept: usize = 0;
    var dropped: usize = 0;
    var end: usize = 0;
    for (&slots, 1..) |*slot, number| {
        var mapping: Mapping = @bitCast(slot.load(.seq_cst));
        if (mapping.granules == 0) continue;
        if (mapping.seen or late) {
            // Partner: the exchange in `put`.
            if (!exchange(slot, mapping.word(), 0)) continue;
            dropped += mapping.bytes();
            drop(mapping);
            continue;
        }
        const before = mapping.word();
        mapping.seen = true;
        // Where it was taken meanwhile, whoever puts it back finds `due` 0.
        if (!exchange(slot, before, mapping.word())) continue;
        kept += mapping.bytes();
        end = number;
    }
    reach.store(end, .monotonic);
    peak.store(mapped -| dropped -| kept, .monotonic);
    if (kept > 0) arm(now);
}

fn arm(now: usize) void {
    // Partners: the loads in `waits`, `put` and `tick`.
    _ = due.cmpxchgStrong(0, @max(1, now + tick_milliseconds), .seq_cst, .monotonic);
}

comptime {
    assert(@bitSizeOf(Mapping) == 64);
    assert(geometry.granule_count <= 1 << 32);
    // Whatever the budget is.
    assert(geometry.request_bytes_max >> share_shift <= Mapping.bytes_max);
    assert(bytes_min / slot_count >= geometry.superslab_bytes);
}

/// As at the start, for tests. Nothing waits.
pub fn renew() void {
    assert(held().blocks == 0);
    reach.store(0, .monotonic);
    due.store(0, .monotonic);
    peak.store(0, .monotonic);
    hand.store(0, .monotonic);
    if (builtin.is_test and !atomic.explored) os.clock_set = null;
}

fn renewWithout() void {
    while (takeAny() != null) {}
    renew();
}

/// What tests drop.
const Dropped = struct {
    var list: [slot_count]Mapping = undefined;
    var count: usize = 0;

    fn drop(mapping: Mapping) void {
        list[count] = mapping;
        count += 1;
    }
};

/// As if mappings lay there. Nothing here follows an address.
fn pretend(number: usize, granules: usize) Mapping {
    return .of((number + 1) << 32, granules << geometry.granule_shift);
}

test "huge_cache: a mapping serves requests down to an eighth less, the closest one first, where it lies as asked" {
    renew();
    defer renewWithout();
    const mapped = 1 << 40;
    for ([_]usize{ 64, 72, 80 }, 0..) |granules, number| {
        try std.testing.expectEqual(.kept, put(pretend(number, granules), mapped));
    }
    try std.testing.expectEqual(null, take(81 << 16, 1));
    try std.testing.expectEqual(null, take(56 << 16, 1));
    try std.testing.expectEqual(pretend(2, 80), take(73 << 16, 1).?);
    try std.testing.expectEqual(pretend(0, 64), take(57 << 16, 1).?);
    try std.testing.expectEqual(null, take(73 << 16, 1));
    try std.testing.expectEqual(null, take(72 << 16, 1 << 34));
    try std.testing.expectEqual(pretend(1, 72), take(65 << 16, 1 << 33).?);
    try std.testing.expectEqual(Held{}, held());
}

test "huge_cache: a rest is taken by where it starts alone, and keeps the time of the whole" {
    renew();
    defer renewWithout();
    const mapped = 1 << 40;
    const whole = pretend(0, 80);
    os.clock_set = 1_000;
    try std.testing.expectEqual(.kept, put(whole, mapped));
    try std.testing.expectEqual(null, takeAtLeast(81 << 16));
    try std.testing.expectEqual(whole, takeAtLeast(20 << 16).?);
    const rest = whole.restBehind(20 << 16);
    try std.testing.expectEqual(whole.address() + (20 << 16), rest.address());
    try std.testing.expectEqual(60 << 16, rest.bytes());
    try std.testing.expectEqual(.kept, put(rest, mapped));
    try std.testing.expectEqual(Held{ .blocks = 0, .bytes = 60 << 16 }, held());
    // No block is made of it.
    try std.testing.expectEqual(null, takeFirst(60 << 16));
    try std.testing.expectEqual(null, take(60 << 16, 1));
    try std.testing.expectEqual(null, takeNear(60 << 16));
    try std.testing.expectEqual(null, takeAtLeast(1 << 16));
    try std.testing.expectEqual(null, takeRest(whole.address(), .any));
    try std.testing.expectEqual(rest, takeRest(rest.address(), .fresh).?);
    try std.testing.expectEqual(null, takeRest(rest.address(), .any));

    try std.testing.expectEqual(.kept, put(rest, mapped));
    Dropped.count = 0;
    os.clock_set = 1_500;
    tick(mapped, Dropped.drop);
    try std.testing.expectEqual(null, takeRest(rest.address(), .fresh));
    const seen = takeRest(rest.address(), .any).?;
    const less = seen.restBehind(10 << 16);
    try std.testing.expectEqual(rest.address() + (10 << 16), less.address());
    try std.testing.expectEqual(.kept, put(less, mapped));
    try std.testing.expectEqual(0, Dropped.count);
    os.clock_set = 2_000;
    tick(mapped, Dropped.drop);
    try std.testing.expectEqualSlices(Mapping, &.{less}, Dropped.list[0..Dropped.count]);
}

test "huge_cache: random mappings come and go as in a model, within the budget and a second" {
    renew();
    defer renewWithout();
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    const Model = struct {
        mapping: Mapping,
        state: enum { in_use, waits, unmapped } = .unmapped,
        freed_at: usize = 0,

        /// The one that lies there must wait, and is in `next` from now on.
        fn leave(models: []@This(), mapping: Mapping, next: @FieldType(@This(), "state")) !*@This() {
            const one = &models[(mapping.address() >> 32) - 1];
            try std.testing.expectEqual(.waits, one.state);
            try std.testing.expectEqual(one.mapping.bytes(), mapping.bytes());
            one.state = next;
            return one;
        }
    };
    var models: [120]Model = undefined;
    for (&models, 0..) |*one, number| one.* = .{
        .mapping = pretend(number, random.intRangeAtMost(usize, 17, if (random.boolean()) 40 else 400)),
    };
    var now: usize = 5_000;
    const step = 40;
    var seen: struct { dropped: usize = 0, evicted: usize = 0, hits: usize = 0, misses: usize = 0 } = .{};
    for (0..30_000) |_| {
        now += random.uintLessThan(usize, step);
        os.clock_set = now;
        var mapped: usize = 0;
        for (models) |one| mapped += if (one.state == .unmapped) 0 else one.mapping.bytes();
        Dropped.count = 0;
        tick(mapped, Dropped.drop);
        for (Dropped.list[0..Dropped.count]) |mapping| {
            const one = try Model.leave(&models, mapping, .unmapped);
            try std.testing.expect(now - one.freed_at >= tick_milliseconds);
            mapped -= mapping.bytes();
            seen.dropped += 1;
        }
        const one = &models[random.uintLessThan(usize, models.len)];
        switch (one.state) {
            .unmapped => one.state = .in_use,
            .in_use => switch (put(one.mapping, mapped)) {
                .kept => {
                    one.state = .waits;
                    one.freed_at = now;
                    try std.testing.expect(held().bytes <= budget(mapped - held().bytes));
                },
                .no_room => {
                    _ = try Model.leave(&models, takeAny().?, .unmapped);
                    seen.evicted += 1;
                },
                .too_large => return error.TooLarge,
            },
            .waits => {
                const bytes = one.mapping.bytes() - random.uintLessThan(usize, 8) * geometry.granule_bytes;
                var best: ?usize = null;
                for (models) |other| {
                    const size = other.mapping.bytes();
                    if (other.state != .waits or size < bytes or size > bytes + bytes / 8) continue;
                    if (best == null or size < best.?) best = size;
                }
                const taken = take(bytes, 1);
                try std.testing.expectEqual(best, if (taken) |mapping| mapping.bytes() else null);
                if (taken) |mapping| _ = try Model.leave(&models, mapping, .in_use);
                if (taken == null) seen.misses += 1 else seen.hits += 1;
            },
        }
        var waiting: Held = .{};
        for (models) |each| if (each.state == .waits) {
            waiting.blocks += 1;
            waiting.bytes += each.mapping.bytes();
            try std.testing.expect(now - each.freed_at < 2 * (tick_milliseconds + step));
        };
        try std.testing.expectEqual(waiting, held());
        try std.testing.expect(waits() or waiting.blocks == 0);
    }
    try std.testing.expect(seen.dropped > 100 and seen.evicted > 100 and seen.hits > 100 and seen.misses > 100);
}

test "huge_cache: what has waited through a pause goes at once, and nothing stays where there is no clock" {
    renew();
    defer renewWithout();
    for ([_]usize{ 2_000, 0 }) |then| {
        os.clock_set = if (then == 0) 0 else 1_000;
        Dropped.count = 0;
        try std.testing.expectEqual(.kept, put(pretend(0, 40), 1 << 40));
        os.clock_set = then;
        tick(1 << 40, Dropped.drop);
        try std.testing.expectEqual(1, Dropped.count);
        try std.testing.expectEqual(Held{}, held());
        try std.testing.expect(!waits());
    }
}

test "huge_cache: what is larger than the budget is not kept, and a large program may keep more" {
    renew();
    defer renewWithout();
    const granules = bytes_min / geometry.granule_bytes;
    try std.testing.expectEqual(.too_large, put(pretend(0, granules + 1), bytes_min));
    try std.testing.expectEqual(.kept, put(pretend(0, granules), bytes_min));
    try std.testing.expectEqual(.no_room, put(pretend(1, 17), bytes_min));
    try std.testing.expectEqual(.kept, put(pretend(1, 17), 10 * bytes_min));
    for (2..slot_count) |number| try std.testing.expectEqual(.kept, put(pretend(number, 17), 100 * bytes_min));
    try std.testing.expectEqual(.no_room, put(pretend(slot_count, 17), 100 * bytes_min));
}
