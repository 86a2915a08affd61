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
        /// Answers since another way was tried.
        answers: u32 = 0,
        /// Nanoseconds spent by the way that it kept to.
        spent: u64 = 0,
        /// What was spent when each way was tried last. A cheap trial does not delay that of a dear way.
        spent_at_trial: std.EnumArray(Way, u64) = .initFill(0),
    };

    /// Another way must be cheaper by more than 1 in this to be taken.
    const hysteresis = 32;
    /// Trying another way costs at most 1 in this of what is spent.
    const trial_share = 100;
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
            course.spent_at_trial.set(other, course.spent);
            return .{ .way = other, .timed = true };
        }
        course.answers +|= 1;
        course.spent += @as(u64, chooser.costs.get(way).median() orelse 0) * granules;
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
            const spent = course.spent - course.spent_at_trial.get(way);
            if (!isDue(&costs, course.answers, spent, kept_cost, granules)) continue;
            if (due == null or costs.count < chooser.costs.get(due.?).count) due = way;
        }
        return due;
    }

    fn isDue(costs: *const Costs, answers: u32, spent: u64, kept_cost: u32, granules: u32) bool {
        const cost = costs.median() orelse return true;
        // Its last trial was the cheaper one: the median will follow or not.
        if (costs.last() < kept_cost) return answers > 0;
        if (costs.count < trials_early) return answers >= interval_early;
        // A failed trial costs about as much as nothing gained.
        const excess = if (cost == failed) kept_cost else cost -| kept_cost;
        return answers >= interval and spent / trial_share >= @as(u64, excess) * granules;
    }
};

var measured: Chooser = .{};

/// For tests: nothing was measured yet.
pub fn forget() void {
    measured = .{};
}

/// How a run may get its pages.
fn waysOfRun(has_room_for_256: bool) Ways {
    var ways: Ways = .init(.{ .touch = true, .populate64 = true });
    ways.setPresent(.populate256, has_room_for_256);
    return ways;
}

fn setting() settings.Fresh {
    return if (settings.check) .touch else settings.fresh;
}

/// How the next run without pages gets them.
pub fn forRun(has_room_for_256: bool, granules: u32) Answer {
    const ahead: Way = if (has_room_for_256) .populate256 else .populate64;
    return switch (setting()) {
        .auto => measured.chooseForRun(waysOfRun(has_room_for_256), granules),
        .touch => .{ .way = .touch, .timed = false },
        .populate64 => .{ .way = .populate64, .timed = false },
        .populate256, .huge => .{ .way = ahead, .timed = false },
    };
}

/// Whether a new superslab is to be a huge page. What comes of it is to be told by `record`.
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

/// Touches a page that the caller owns in a new superslab for which a huge page is asked. Done if the whole superslab
/// is resident then: it came.
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

/// Notes what came of an answer for so many granules.
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

/// A machine whose ways cost what the test says.
const Machine = struct {
    chooser: Chooser = .{},
    /// Nanoseconds a granule.
    costs: std.EnumArray(Way, u32),
    random: ?std.Random = null,
    /// In thousandths: how far costs vary, and how often one is fifteen times as high.
    noise: u32 = 0,
    outliers: u32 = 0,
    spent: u64 = 0,
    switches: usize = 0,
    last: Way = .touch,
    /// How often each way served.
    served: std.EnumArray(Way, usize) = .initFill(0),

    fn run(machine: *Machine, ways: Ways) void {
        const granules: u32 = if (ways.contains(.populate256)) ahead_granules_max else 1;
        const answer = machine.chooser.chooseForRun(ways, granules);
        assert(ways.contains(answer.way));
        machine.serve(answer, granules);
    }

    /// As a heap grows: small pages first.
    fn start(machine: *Machine) void {
        for (0..400) |_| machine.run(waysOfRun(true));
        for (0..100) |_| machine.superslab();
    }

    fn superslab(machine: *Machine) void {
        const answer = machine.chooser.chooseForSuperslab(32);
        if (answer.way == .huge) {
            machine.serve(answer, 32);
        } else {
            for (0..8) |_| machine.run(waysOfRun(true));
        }
        const way = machine.chooser.courses.get(.superslab).way;
        if (way != machine.last) machine.switches += 1;
        machine.last = way;
    }

    fn serve(machine: *Machine, answer: Answer, granules: u32) void {
        // Noise hits all ways alike, so what counts is the cost without.
        machine.spent += @as(u64, machine.costs.get(answer.way)) * granules;
        machine.served.getPtr(answer.way).* += 1;
        if (answer.timed) machine.chooser.record(answer.way, machine.noisyCost(answer.way));
    }

    fn noisyCost(machine: *Machine, way: Way) u32 {
        const cost = machine.costs.get(way);
        const random = machine.random orelse return cost;
        if (random.uintLessThan(u32, 1000) < machine.outliers) return cost * 15;
        return cost * (1000 + random.uintAtMost(u32, 2 * machine.noise) - machine.noise) / 1000;
    }

    fn cheapest(machine: *const Machine) u32 {
        return std.mem.min(u32, &machine.costs.values);
    }
};

fn costsOf(touch_cost: u32, populate64: u32, populate256: u32, huge: u32) std.EnumArray(Way, u32) {
    return .init(.{ .touch = touch_cost, .populate64 = populate64, .populate256 = populate256, .huge = huge });
}

test "fresh_pages: whatever ways cost, with noise and outliers, the sum is within 5 % of the best fixed way" {
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    for (0..300) |_| {
        var machine: Machine = .{ .costs = undefined, .random = random, .noise = 40, .outliers = 5 };
        for (&machine.costs.values) |*cost| cost.* = random.intRangeAtMost(u32, 2_000, 60_000);
        // The first trials of each way cost what they cost.
        machine.start();
        machine.spent = 0;
        const superslabs = 2000;
        for (0..superslabs) |_| machine.superslab();
        const best = @as(u64, machine.cheapest()) * 32 * superslabs;
        try std.testing.expect(machine.spent * 100 <= best * 105);
    }
}

test "fresh_pages: a way that is a little cheaper is no reason to change" {
    var machine: Machine = .{ .costs = costsOf(10_000, 10_000, 10_000, 10_000) };
    machine.start();
    const kept = machine.last;
    machine.switches = 0;
    for (std.enums.values(Way)) |cheaper| {
        if (cheaper == kept) continue;
        machine.costs = costsOf(10_000, 10_000, 10_000, 10_000);
        machine.costs.set(cheaper, 9_750);
        for (0..500) |_| machine.superslab();
        try std.testing.expectEqual(0, machine.switches);
    }
    // One that is clearly cheaper is, once.
    machine.costs.set(.huge, 9_000);
    for (0..100) |_| machine.superslab();
    try std.testing.expectEqual(.huge, machine.last);
    try std.testing.expectEqual(1, machine.switches);
}

test "fresh_pages: a machine that changes is followed, and one outlier is not" {
    // Small pages against huge ones as measured on a virtual machine: of memory in use lately, and of memory that the
    // host had taken back.
    const warm = costsOf(26_000, 23_000, 21_000, 4_000);
    const cold = costsOf(26_000, 23_000, 21_000, 60_000);
    var machine: Machine = .{ .costs = warm };
    machine.start();
    try std.testing.expectEqual(.huge, machine.last);
    for (0..5) |_| {
        // Two cold pages among warm ones.
        machine.switches = 0;
        machine.costs = cold;
        for (0..2) |_| machine.superslab();
        machine.costs = warm;
        for (0..20) |_| machine.superslab();
        try std.testing.expectEqual(0, machine.switches);

        machine.costs = cold;
        for (0..4) |_| machine.superslab();
        try std.testing.expect(machine.last != .huge);
        machine.served = .initFill(0);
        for (0..1000) |_| machine.superslab();
        try std.testing.expectEqual(.populate256, machine.last);
        // Trials go on, but cost little: (60 - 21) / 21 more for each.
        const trials = machine.served.get(.huge);
        try std.testing.expect(trials >= 3 and trials <= 20);

        machine.costs = warm;
        var superslabs: usize = 0;
        while (machine.last != .huge) : (superslabs += 1) machine.superslab();
        try std.testing.expect(superslabs <= 200);
        for (0..20) |_| machine.superslab();
    }
}

test "fresh_pages: a way without room is passed over, one that fails is left, one that is unknown never comes again" {
    var machine: Machine = .{ .costs = costsOf(26_000, 23_000, 21_000, 4_000) };
    const course = machine.chooser.courses.getPtr(.run);
    for (0..200) |_| machine.run(waysOfRun(true));
    try std.testing.expectEqual(.populate256, course.way);
    machine.served = .initFill(0);
    for (0..200) |_| machine.run(waysOfRun(false));
    try std.testing.expect(machine.served.get(.populate64) > 150);
    try std.testing.expectEqual(.populate256, course.way);

    machine.costs.set(.populate256, failed);
    machine.served = .initFill(0);
    for (0..600) |_| machine.run(waysOfRun(true));
    try std.testing.expectEqual(.populate64, course.way);
    try std.testing.expect(machine.served.get(.populate256) < 30);

    machine.chooser.unknown.insert(.populate64);
    machine.served = .initFill(0);
    for (0..200) |_| machine.run(waysOfRun(true));
    try std.testing.expectEqual(0, machine.served.get(.populate64));
    try std.testing.expect(machine.served.get(.touch) > 150);
}

test "fresh_pages: trials of a way that costs a little more do not keep a dear one from being tried" {
    var machine: Machine = .{ .costs = costsOf(12_500, 12_000, 52_000, 60_000) };
    for (0..400) |_| machine.run(waysOfRun(true));
    const course = machine.chooser.courses.getPtr(.run);
    try std.testing.expectEqual(.populate64, course.way);
    machine.costs.set(.populate256, 3_500);
    for (0..500) |_| machine.run(waysOfRun(true));
    try std.testing.expectEqual(.populate256, course.way);
}
