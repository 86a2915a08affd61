//! How fresh memory gets its pages: by measurement, since no constant knows what a fault costs on this machine now.
//!
//! Ways: the program touches page by page; the pages of a slab, or of 256 KiB, are populated ahead by one call; a
//! superslab is one huge page. The page heap asks which way to go where a slab or a superslab begins, says what it
//! cost, and the chooser keeps the last few costs of each way. The median of these counts: a guest's first touch of
//! memory that its host took back costs many times as much, and hits whoever comes next. The cheapest way is left
//! only for one that is clearly cheaper. The others are tried again now and then, as far as that costs little
//! against what was spent since.
//!
//! All state is guarded by the lock of the page heap.

const std = @import("std");
const counting = @import("../platform/cost.zig");
const os = @import("../platform/os.zig");
const settings = @import("../platform/settings.zig");
const assert = std.debug.assert;

pub const Way = enum {
    touch,
    /// The slab's own pages, 64 KiB for most.
    populate64,
    /// The slab's and those of the granules behind it, 256 KiB in all.
    populate256,
    /// A 2 MiB page.
    huge,
};

pub const Ways = std.EnumSet(Way);

/// Pages that are populated and not yet handed out are at most this share (1 in …) of what small blocks use.
pub const ahead_share = 100;
/// The granules that `populate256` makes resident.
pub const ahead_granules_max = 4;
/// What small blocks must use before a superslab may be a huge page: 64 MiB, of which 2 MiB are 3 %.
pub const huge_granules_min = 1024;

/// What is to be decided.
const Question = enum {
    /// How the run of a new slab gets its pages.
    run,
    /// Whether a new superslab is a huge page. The other answer is the way of runs.
    superslab,
};

pub const Answer = struct {
    way: Way,
    /// What it costs is to be told by `record`.
    timed: bool,
};

/// The cost of a way that did not get the pages.
pub const failed: u32 = std.math.maxInt(u32);

/// The last costs of a way, in nanoseconds a granule.
const Costs = struct {
    recent: [kept]u32 = @splat(0),
    /// How many there were ever.
    count: u32 = 0,

    const kept = 5;

    fn add(costs: *Costs, cost: u32) void {
        costs.recent[costs.count % kept] = cost;
        costs.count = if (costs.count == std.math.maxInt(u32)) kept else costs.count + 1;
    }

    fn last(costs: *const Costs) u32 {
        return costs.recent[(costs.count + kept - 1) % kept];
    }

    /// The lower one of two middle costs. Null without any.
    fn median(costs: *const Costs) ?u32 {
        if (costs.count == 0) return null;
        var sorted = costs.recent;
        const present = sorted[0..@min(costs.count, kept)];
        std.mem.sortUnstable(u32, present, {}, std.sort.asc(u32));
        return present[(present.len - 1) / 2];
    }
};

pub const Chooser = struct {
    costs: std.EnumArray(Way, Costs) = .initFill(.{}),
    courses: std.EnumArray(Question, Course) = .initFill(.{}),
    /// Ways that the system does not know.
    unknown: Ways = .empty,

    const Course = struct {
        way: Way = .touch,
        /// Answers, and nanoseconds spent by them, since another way was tried.
        answers: u32 = 0,
        spent: u64 = 0,
    };

    /// Another way must be cheaper by more than 1 in this to be taken.
    const hysteresis = 32;
    /// Trying other ways costs at most 1 in this of what is spent.
    const trial_share = 64;
    /// A way is tried every fourth time until it was tried thrice, then at most every sixteenth.
    const trials_early = 3;
    const interval_early = 4;
    const interval = 16;
    /// Of the answers that keep to the way, 1 in so many is timed.
    const timed_interval = 4;

    pub fn chooseForRun(chooser: *Chooser, ways: Ways, granules: u32) Answer {
        assert(!ways.contains(.huge));
        return chooser.choose(.run, ways, granules);
    }

    /// `huge`, or any other way for a superslab of small pages.
    pub fn chooseForSuperslab(chooser: *Chooser, granules: u32) Answer {
        const run_way = chooser.courses.get(.run).way;
        const course = chooser.courses.getPtr(.superslab);
        if (course.way != .huge) course.way = run_way;
        return chooser.choose(.superslab, Ways.initOne(.huge).unionWith(.initOne(run_way)), granules);
    }

    /// Says what a way cost, `failed` if it did not get the pages.
    pub fn record(chooser: *Chooser, way: Way, nanoseconds_a_granule: u32) void {
        chooser.costs.getPtr(way).add(nanoseconds_a_granule);
    }

    fn choose(chooser: *Chooser, question: Question, all: Ways, granules: u32) Answer {
        const ways = all.differenceWith(chooser.unknown);
        const course = chooser.courses.getPtr(question);
        const way = chooser.cheapest(course, ways);
        if (chooser.dueForTrial(course, way, ways, granules)) |other| {
            course.answers = 0;
            course.spent = 0;
            return .{ .way = other, .timed = true };
        }
        course.answers +|= 1;
        course.spent +|= @as(u64, chooser.costs.get(way).median() orelse 0) * granules;
        // The program's own touches take their time unseen, so now and then they are made here.
        const every: u32 = if (way == .touch) interval else timed_interval;
        return .{ .way = way, .timed = way == .huge or course.answers % every == 0 };
    }

    /// The way that the course keeps to, changed if another is clearly cheaper. A way that is not open to this
    /// answer does not change the course.
    fn cheapest(chooser: *const Chooser, course: *Course, ways: Ways) Way {
        var best: ?Way = null;
        var best_cost: u32 = failed;
        var open = ways.iterator();
        while (open.next()) |way| {
            const cost = chooser.costs.get(way).median() orelse continue;
            if (best != null and cost >= best_cost) continue;
            best = way;
            best_cost = cost;
        }
        if (!ways.contains(course.way)) return best orelse .touch;
        const cost = chooser.costs.get(course.way).median() orelse failed;
        if (best_cost < cost - cost / hysteresis) course.way = best.?;
        return course.way;
    }

    /// The way to try, of those that are due the one that was tried least.
    fn dueForTrial(chooser: *const Chooser, course: *const Course, kept: Way, ways: Ways, granules: u32) ?Way {
        const kept_cost = chooser.costs.get(kept).median() orelse 0;
        var due: ?Way = null;
        var open = ways.iterator();
        while (open.next()) |way| {
            if (way == kept) continue;
            const costs = chooser.costs.get(way);
            if (!isDue(&costs, course, kept_cost, granules)) continue;
            if (due == null or costs.count < chooser.costs.get(due.?).count) due = way;
        }
        return due;
    }

    fn isDue(costs: *const Costs, course: *const Course, kept_cost: u32, granules: u32) bool {
        const cost = costs.median() orelse return true;
        // Its last trial was the cheaper one: the median will follow or not.
        if (costs.last() < kept_cost) return course.answers > 0;
        if (costs.count < trials_early) return course.answers >= interval_early;
        // A failed trial costs about as much as nothing gained.
        const excess = if (cost == failed) kept_cost else cost -| kept_cost;
        return course.answers >= interval and course.spent / trial_share >= @as(u64, excess) * granules;
    }
};

var measured: Chooser = .{};

/// How a run gets its pages, of the ways that have room.
pub fn waysOfRun(has_room_for_256: bool) Ways {
    var ways: Ways = .init(.{ .touch = true, .populate64 = true });
    ways.setPresent(.populate256, has_room_for_256);
    return ways;
}

fn setting() settings.Fresh {
    return if (settings.check) .touch else settings.fresh;
}

pub fn forRun(has_room_for_256: bool, granules: u32) Answer {
    const ahead: Way = if (has_room_for_256) .populate256 else .populate64;
    return switch (setting()) {
        .auto => measured.chooseForRun(waysOfRun(has_room_for_256), granules),
        .touch => .{ .way = .touch, .timed = false },
        .populate64 => .{ .way = .populate64, .timed = false },
        .populate256, .huge => .{ .way = ahead, .timed = false },
    };
}

/// Whether a new superslab is to be a huge page. What came of it is told by `recordHuge`.
pub fn forSuperslab(granules: u32) bool {
    return switch (setting()) {
        .auto => measured.chooseForSuperslab(granules).way == .huge,
        .huge => true,
        .touch, .populate64, .populate256 => false,
    };
}

pub const Got = struct {
    result: os.Populated,
    nanoseconds: u64,
};

/// Makes the pages of a range resident, which was never written. The caller owns the range and holds no lock of
/// the page heap.
pub fn get(answer: Answer, address: usize, bytes: usize) Got {
    const before = if (answer.timed) os.threadTime() else 0;
    const result: os.Populated = switch (answer.way) {
        .touch => touch: {
            var page = address;
            while (page < address + bytes) : (page += os.pageBytes()) touch(page);
            break :touch .done;
        },
        .populate64, .populate256 => os.populate(address, bytes),
        .huge => unreachable,
    };
    return .{ .result = result, .nanoseconds = if (answer.timed) os.threadTime() -| before else 0 };
}

/// Makes the first page of a superslab resident that may have a huge page. True if all of it is: one came.
pub fn getHuge(base: usize, bytes: usize, owned: usize) Got {
    const before = os.threadTime();
    touch(owned);
    const nanoseconds = os.threadTime() -| before;
    const came = os.isResident(base + bytes - os.pageBytes());
    return .{ .result = if (came) .done else .failed, .nanoseconds = nanoseconds };
}

fn touch(address: usize) void {
    const byte: *volatile u8 = @ptrFromInt(address);
    byte.* = 0;
}

pub fn record(answer: Answer, granules: u32, got: Got) void {
    counting.wrote(&measured);
    switch (got.result) {
        .done => if (answer.timed) {
            measured.record(answer.way, @intCast(@min(failed - 1, got.nanoseconds / granules)));
        },
        .failed => measured.record(answer.way, failed),
        .unknown => measured.unknown.insert(answer.way),
    }
}
