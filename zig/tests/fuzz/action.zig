//! What a program of the fuzzer does: action `n` is drawn from the seed and `n` alone, so that a
//! program can be replayed, and shortened by leaving actions out.
//!
//! A program has phases of some hundred actions. Each draws what it does more of (making or
//! freeing), which sizes it likes (one class, the edges of all classes, large, huge, any) and how many
//! places it uses, since many defects need a slab that fills up, or a place used again and again.

const std = @import("std");
const process = @import("../process.zig");
const shared = @import("../stress/shared.zig");

const Random = shared.Random;
const kib = shared.kib;
const mib = shared.mib;

pub const size_max = 4 * mib;
pub const place_count = 4096;
pub const lanes_max = 16;
pub const many_max = 256;
const phase_actions = 256;

pub const Kind = enum {
    malloc,
    calloc,
    aligned_alloc,
    memalign,
    posix_memalign,
    valloc,
    pvalloc,
    realloc_null,
    reallocarray,
    realloc,
    realloc_to_zero,
    free,
    free_sized,
    /// Looks at a block that is in use.
    check,
    make_many,
    free_many,
    /// Gives a block to whoever takes one next; takes one.
    give,
    take,
    flush_class,
    flush_all,
    purge,
    /// Compares what the allocator says of itself with what is live.
    stats,
    end_thread,
    /// A thread that lives for a few actions.
    short_thread,
    fork,
    os_fails,
    os_recovers,
    /// Makes or resizes a block while some system call fails.
    os_fails_once,

    fn weight(kind: Kind, phase: Phase) u32 {
        const grown: u32 = switch (phase.mood) {
            .grow => 3,
            .churn => 2,
            .shrink => 1,
        };
        const shrunk = 4 - grown;
        return switch (kind) {
            .malloc => 110 * grown,
            .calloc => 40 * grown,
            .aligned_alloc => 15 * grown,
            .memalign, .posix_memalign => 8 * grown,
            .valloc, .pvalloc => 2,
            .realloc_null, .reallocarray => 4 * grown,
            .realloc => 110,
            .realloc_to_zero => 3 * shrunk,
            .free => 150 * shrunk,
            .free_sized => 25 * shrunk,
            .check => 20,
            .make_many => 10 * grown,
            .free_many => 14 * shrunk,
            .give => 20,
            .take => 20,
            .flush_class => 4,
            .flush_all, .purge => 1,
            .stats => 6,
            .end_thread => 3,
            .short_thread, .fork => 1,
            // Most ways in which a call can fail lie with large and huge blocks.
            .os_fails => if (phase.sizes == .large or phase.sizes == .huge) 60 else 4,
            .os_recovers => if (phase.sizes == .large or phase.sizes == .huge) 30 else 2,
            .os_fails_once => if (phase.sizes == .large or phase.sizes == .huge) 120 else 4,
        };
    }
};

const Phase = struct {
    mood: enum { grow, churn, shrink },
    sizes: enum { any, same, edges, large, huge },
    /// For `same`.
    size: usize,
    first_place: u32,
    places: u32,

    fn of(number: u64) Phase {
        var random: Random = .of(1 << 32, number / phase_actions);
        const mood = random.below(8);
        const sizes = random.below(24);
        const widths = [_]u32{ 4, 32, 256, place_count };
        var phase: Phase = .{
            .mood = if (mood < 3) .grow else if (mood < 6) .churn else .shrink,
            .sizes = if (sizes < 6) .any else if (sizes < 15) .same else if (sizes < 19) .edges else if (sizes < 21) .large else .huge,
            .size = if (random.below(2) == 0) drawAny(&random, 3000) else drawEdge(&random, 40 * kib),
            .first_place = 0,
            .places = widths[random.below(widths.len)],
        };
        // Few, so that they are resized more often than there is no more memory to be had for a test.
        if (phase.sizes == .large or phase.sizes == .huge) phase.places = 16;
        phase.first_place = @intCast(random.below(place_count - phase.places + 1));
        return phase;
    }
};

pub const Action = struct {
    number: u64,
    kind: Kind,
    /// The thread that does it, where threads take turns.
    lane: usize,
    place: usize,
    size: usize,
    alignment: usize,
    /// How many, for actions on several blocks.
    count: usize,
    /// Decides the rest.
    roll: u64,

    /// In a race each thread draws from a stream of its own, but all are in the same phase, so that they meet. A
    /// child and a short thread are in the phase of the action that made them.
    pub fn draw(stream: u64, number: u64, phase_number: u64, lane_count: usize) Action {
        const phase: Phase = .of(phase_number);
        var random: Random = .of(stream, number);
        // One thread does several actions in a row, or nothing would ever come from its magazine.
        var lane_random: Random = .of((1 << 33) + stream, number / 8);
        return .{
            .number = number,
            .kind = drawKind(&random, phase),
            .lane = lane_random.below(lane_count),
            .place = phase.first_place + random.below(phase.places),
            .size = switch (phase.sizes) {
                .any => drawAny(&random, size_max),
                .same => phase.size -| random.below(4),
                .edges => drawEdge(&random, if (random.below(8) == 0) size_max else 256 * kib),
                .large => 64 * kib + random.below(mib),
                .huge => if (random.below(2) == 0) 900 * kib + random.below(300 * kib) else random.below(size_max + 1),
            },
            .alignment = @as(usize, 1) << @intCast(random.below(if (random.below(8) == 0) 23 else 13)),
            .count = 1 + random.below(many_max),
            .roll = random.next(),
        };
    }

    pub fn print(action: Action, within: bool) void {
        var buffer: [200]u8 = undefined;
        const what = switch (action.kind) {
            .malloc, .calloc, .valloc, .pvalloc, .realloc_null, .reallocarray => process.formatLine(
                &buffer,
                "{t} of {d} bytes into place {d}",
                .{ action.kind, action.size, action.place },
            ),
            .aligned_alloc, .memalign, .posix_memalign => process.formatLine(
                &buffer,
                "{t} of {d} bytes at a multiple of {d} into place {d}",
                .{ action.kind, action.size, action.alignment, action.place },
            ),
            .os_fails_once => process.formatLine(&buffer, "os_fails_once, meanwhile malloc or realloc of {d} bytes at place {d}", .{
                action.size, action.place,
            }),
            .realloc => process.formatLine(&buffer, "realloc place {d} to {d} bytes", .{ action.place, action.size }),
            .make_many => process.formatLine(&buffer, "make up to {d} blocks of {d} bytes from place {d} on", .{
                action.count, action.size, action.place,
            }),
            .free_many => process.formatLine(&buffer, "free what is in {d} places from {d} on", .{
                action.count, action.place,
            }),
            .realloc_to_zero, .free, .free_sized, .check, .give, .take => process.formatLine(
                &buffer,
                "{t} place {d}",
                .{ action.kind, action.place },
            ),
            .flush_class, .flush_all, .purge, .stats, .end_thread, .short_thread, .fork, .os_fails, .os_recovers => @tagName(action.kind),
        };
        process.printLine(.stdout, "{s}{d} thread {d}: {s}", .{
            if (within) "  within it: " else "", action.number, action.lane, what,
        });
    }
};

fn drawKind(random: *Random, phase: Phase) Kind {
    const kinds = std.enums.values(Kind);
    var sum: u32 = 0;
    for (kinds) |kind| sum += kind.weight(phase);
    var rest = random.below(sum);
    for (kinds) |kind| {
        const weight = kind.weight(phase);
        if (rest < weight) return kind;
        rest -= weight;
    }
    unreachable;
}

/// Mostly small.
fn drawAny(random: *Random, most: usize) usize {
    const roll = random.below(1000);
    const limit: usize = if (roll < 400)
        128
    else if (roll < 700)
        kib
    else if (roll < 880)
        8 * kib
    else if (roll < 970)
        128 * kib
    else if (roll < 995)
        mib
    else
        size_max;
    return random.below(@min(limit, most) + 1);
}

/// At most one byte beside a size at which something changes: the border of a class (eight to a doubling, of
/// which the allocator may use some), a granule, or a power of two.
fn drawEdge(random: *Random, most: usize) usize {
    while (true) {
        const edge = switch (random.below(4)) {
            0 => @as(usize, 1) << @intCast(random.below(23)),
            1 => (1 + random.below(64)) * 64 * kib,
            else => (8 + random.below(8)) << @intCast(random.below(19)),
        };
        const size = edge + random.below(3) -| 1;
        if (size <= most) return size;
    }
}

test "an action is a function of its number, and every kind, size range and alignment is drawn" {
    var seen: std.EnumSet(Kind) = .empty;
    var huge: usize = 0;
    var zero: usize = 0;
    for (0..200_000) |number| {
        const action: Action = .draw(0, number, number, 4);
        try std.testing.expectEqual(action, Action.draw(0, number, number, 4));
        try std.testing.expect(action.size <= size_max and action.place < place_count and action.lane < 4);
        seen.insert(action.kind);
        if (action.size > mib) huge += 1;
        if (action.size == 0) zero += 1;
    }
    try std.testing.expectEqual(std.enums.values(Kind).len, seen.count());
    try std.testing.expect(huge > 0 and zero > 0);
}
