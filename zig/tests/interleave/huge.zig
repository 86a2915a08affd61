//! Freed huge blocks that wait: put there, taken and dropped by several threads at once.

const std = @import("std");
const explorer = @import("explorer");
const internals = @import("hakmem").internals;
const expectStart = @import("lock.zig").expectStart;
const cache = internals.huge_cache;
const Mapping = cache.Mapping;
const Scenario = explorer.Scenario;
const Step = explorer.Step;
const Defect = explorer.Defect;

const bytes = 2 << 20;
const mapped = 1 << 30;

/// As if mappings lay there. Nothing here follows an address.
fn pretend(number: usize) Mapping {
    return .of((number + 1) << 32, bytes);
}

/// What is in each, and who has it: whoever took it out.
var contents: [2]usize = undefined;
var owners: [2]usize = undefined;

fn begin() !void {
    owners = @splat(0);
    internals.os.clock_set = 1_000;
    // Both slots have been in use.
    for (0..2) |number| try std.testing.expectEqual(.kept, cache.put(pretend(number), mapped));
    for (0..2) |_| _ = cache.take(bytes, 1).?;
}

fn end() !void {
    while (cache.takeAny()) |mapping| own(mapping);
    cache.renew();
    for (owners) |count| if (count != 1) explorer.fail("{d} have a block", .{count});
}

fn own(mapping: Mapping) void {
    const number = (mapping.address() >> 32) - 1;
    explorer.writeData(&contents[number]);
    owners[number] += 1;
}

fn freeOne(number: usize) void {
    explorer.writeData(&contents[number]);
    if (!cache.putFirst(pretend(number), mapped)) {
        if (cache.put(pretend(number), mapped) != .kept) explorer.fail("no room", .{});
    }
}

fn freeAndAllocate() void {
    freeOne(0);
    own(cache.takeFirst(bytes) orelse cache.take(bytes, 1) orelse return);
}

fn freeOther() void {
    freeOne(1);
}

fn take() void {
    own(cache.take(bytes, 1) orelse return);
}

fn tick() void {
    internals.os.clock_set = 1_600;
    cache.tick(mapped, own);
    internals.os.clock_set = 2_200;
    cache.tick(mapped, own);
}

/// Behind a block that begins to grow there is a rest.
fn beginGrowing() !void {
    try begin();
    if (cache.put(pretend(0).restBehind(part), mapped) != .kept) explorer.fail("no room", .{});
}

const part = 1 << 16;

/// Takes the rest, puts back all but its start, and takes that.
fn grow() void {
    const start = pretend(0).address() + part;
    const rest = cache.takeRest(start, .any) orelse return;
    explorer.writeData(&contents[0]);
    if (cache.put(rest.restBehind(part), mapped) != .kept) explorer.fail("no room", .{});
    own(cache.takeRest(start + part, .any) orelse return);
}

const exchanging: Scenario = .{
    .threads = &.{ freeAndAllocate, freeOther, take },
    .before = begin,
    .after = end,
    .preemptions = 3,
};

const ticking: Scenario = .{
    .threads = &.{ freeAndAllocate, freeOther, tick },
    .before = begin,
    .after = endTicking,
    .preemptions = 2,
};

const growing: Scenario = .{
    .threads = &.{ grow, freeOther, tick },
    .before = beginGrowing,
    .after = endTicking,
    .preemptions = 2,
};

/// Nothing stays that no tick will drop.
fn endTicking() !void {
    if (cache.held().bytes > 0 and !cache.waits()) explorer.fail("a block waits for ever", .{});
    try end();
}

test "interleave: huge blocks that wait have one owner, who sees what the one before wrote" {
    try explorer.explore(exchanging, .{ .schedules_min = 5_000 });
    try explorer.explore(ticking, .{ .schedules_min = 2_000 });
    try explorer.explore(growing, .{ .schedules_min = 2_000 });
}

test "interleave: huge blocks that wait, planted: a word taken in two steps" {
    _ = try explorer.expectFound(exchanging.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .exchange and step.value == 0) .torn else null;
        }
    }.planted));
}

test "interleave: huge blocks that wait, planted: a word put in two steps" {
    _ = try explorer.expectFound(exchanging.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .exchange and step.value >= 1 << 32) .torn else null;
        }
    }.planted));
}

test "interleave: huge blocks that wait, planted: a word that hands nothing over" {
    try expectStart("a race", try explorer.expectFound(exchanging.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .exchange and step.value >= 1 << 32) .weakened else null;
        }
    }.planted)));
}

test "interleave: huge blocks that wait, planted: the next tick is not asked for" {
    try expectStart("a block waits for ever", try explorer.expectFound(ticking.with(struct {
        fn planted(step: Step) ?Defect {
            return if (step.kind == .exchange and step.value > 1_600 and step.value < 1 << 32) .dropped else null;
        }
    }.planted)));
}
