//! Superslabs sorted by the length of a run of granules: one list a length, and a bit for each that is not empty. Finding
//! the shortest that is long enough takes one look at the bits; each change is a step or two in a list.
//!
//! The links are a field of the member, so that it can be in several sets of bins, by different lengths. A member of
//! length 0 is in no list. All state is guarded by the lock of the page heap.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const cost = @import("../platform/cost.zig");
const assert = std.debug.assert;

const bin_count = geometry.superslab_granules + 1;

pub fn Links(Member: type) type {
    return extern struct {
        /// Neighbours among those with the same length.
        next: ?*Member,
        previous: ?*Member,
        /// The bin that the member is in; 0 for none.
        length: u8,

        pub const none: @This() = .{ .next = null, .previous = null, .length = 0 };
    };
}

/// `field` is the name of the member's links for these bins.
pub fn Bins(Member: type, comptime field: []const u8) type {
    return struct {
        heads: [bin_count]?*Member = @splat(null),
        /// One bit for each bin that is not empty.
        present: u64 = 0,

        const Self = @This();

        comptime {
            assert(bin_count <= 64);
        }

        /// The length of the shortest members that have at least `length`; null if none has.
        pub inline fn shortest(bins: *const Self, length: u32) ?u32 {
            assert(length >= 1 and length < bin_count);
            const enough = bins.present >> @intCast(length);
            return if (enough == 0) null else length + @ctz(enough);
        }

        /// The member that came last to the bin of that length, which is not empty.
        pub inline fn first(bins: *const Self, length: u32) *Member {
            return bins.heads[length].?;
        }

        /// Puts a member that is in no list where `length` belongs.
        pub fn insert(bins: *Self, member: *Member, length: u32) void {
            const links = &@field(member, field);
            assert(links.length == 0);
            if (length == 0) return;
            if (cost.counting) cost.wrote(links);
            if (cost.counting) cost.wrote(&bins.heads[length]);
            if (cost.counting) cost.wroteBehind(&bins.heads[length]);
            links.* = .{ .next = bins.heads[length], .previous = null, .length = @intCast(length) };
            if (links.next) |next| @field(next, field).previous = member;
            bins.heads[length] = member;
            bins.present |= @as(u64, 1) << @intCast(length);
        }

        /// Takes a member out of its list, if it is in one.
        pub fn remove(bins: *Self, member: *Member) void {
            const links = &@field(member, field);
            if (links.length == 0) return;
            if (cost.counting) cost.wroteBehind(&links.next);
            if (cost.counting) cost.wroteBehind(&links.previous);
            if (cost.counting and links.previous == null) cost.wrote(&bins.heads[links.length]);
            if (links.next) |next| @field(next, field).previous = links.previous;
            if (links.previous) |previous| {
                @field(previous, field).next = links.next;
            } else {
                bins.heads[links.length] = links.next;
                if (links.next == null) bins.present &= ~(@as(u64, 1) << @intCast(links.length));
            }
            links.* = .none;
        }

        /// Panics unless lists and bits agree. Returns how many members there are.
        pub fn verify(bins: *const Self) usize {
            var members: usize = 0;
            for (bins.heads, 0..) |head, length| {
                assert((head != null) == (bins.present >> @intCast(length) & 1 != 0));
                var previous: ?*Member = null;
                var next = head;
                while (next) |member| : (next = @field(member, field).next) {
                    assert(@field(member, field).length == length);
                    assert(@field(member, field).previous == previous);
                    previous = member;
                    members += 1;
                }
            }
            assert(bins.heads[0] == null);
            return members;
        }
    };
}

test "bins: random insertions and removals agree with a table of lengths, in two sets of bins at once" {
    const Member = struct {
        one: Links(@This()) = .none,
        other: Links(@This()) = .none,
    };
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    var members: [20]Member = @splat(.{});
    var one: Bins(Member, "one") = .{};
    var other: Bins(Member, "other") = .{};
    var lengths: [2][members.len]u32 = @splat(@splat(0));
    for (0..20_000) |_| {
        const at = random.uintLessThan(usize, members.len);
        const length = random.uintLessThan(u32, bin_count);
        const set = random.uintLessThan(usize, 2);
        lengths[set][at] = length;
        if (set == 0) {
            one.remove(&members[at]);
            one.insert(&members[at], length);
        } else {
            other.remove(&members[at]);
            other.insert(&members[at], length);
        }
        inline for (.{ &one, &other }, .{ "one", "other" }, lengths) |bins, field, of_set| {
            const wanted = random.intRangeLessThan(u32, 1, bin_count);
            var shortest: ?u32 = null;
            var listed: usize = 0;
            for (of_set) |has| {
                listed += @intFromBool(has != 0);
                if (has >= wanted and has < shortest orelse bin_count) shortest = has;
            }
            try std.testing.expectEqual(listed, bins.verify());
            try std.testing.expectEqual(shortest, bins.shortest(wanted));
            if (shortest) |found| {
                const member = bins.first(found);
                const index = (@intFromPtr(member) - @intFromPtr(&members)) / @sizeOf(Member);
                try std.testing.expectEqual(found, of_set[index]);
                try std.testing.expectEqual(found, @field(member, field).length);
            }
        }
    }
}
