//! The proof that the stress can fail: allocators with planted defects, an overlapping block, a
//! corrupted canary and a child that hangs must each be found, and a sound allocator must not.

const std = @import("std");
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const doors = @import("../doors.zig");
const defects = @import("../defects.zig");
const children = @import("../child.zig");
const shared = @import("shared.zig");
const mixed = @import("mixed.zig");
const producer_consumer = @import("producer_consumer.zig");
const churn = @import("churn.zig");
const forking = @import("forking.zig");

const Mode = shared.Mode;
const fail = shared.fail;

const Trial = struct {
    defect: []const u8,
    mode: Mode,
    /// What the line of the failure must say.
    says: []const u8,
};

const trials = [_]Trial{
    .{ .defect = "one block given out twice", .mode = .mixed, .says = "overlaps a live block" },
    .{ .defect = "another live block written by malloc", .mode = .mixed, .says = "changed: byte" },
    .{ .defect = "calloc zeroes all but the last byte", .mode = .mixed, .says = "came from calloc" },
    .{ .defect = "realloc loses the last byte", .mode = .mixed, .says = "in realloc" },
    .{ .defect = "blocks aligned to 8", .mode = .mixed, .says = "is not aligned" },
    .{ .defect = "usable size below the size", .mode = .mixed, .says = "less than its size" },
    .{ .defect = "free does nothing", .mode = .@"producer-consumer", .says = "resident memory grew" },
    .{ .defect = "free loses one block in ten", .mode = .churn, .says = "resident memory grew" },
    .{ .defect = "out of memory aborts", .mode = .fork, .says = "abort was called" },
    .{ .defect = "realloc frees on failure", .mode = .scarce, .says = "fail scarce" },
    .{ .defect = "out of memory aborts", .mode = .scarce, .says = "abort was called" },
    .{ .defect = "none", .mode = .mixed, .says = "ok mixed" },
};

pub fn run() u8 {
    shared.family = (doors.openProcess() catch return 2).door.c;
    var failed = false;
    if (!oracleNotices()) failed = true;
    for (trials) |trial| {
        if (!defectNoticed(trial)) failed = true;
    }
    if (!hangNoticed()) failed = true;
    return if (failed) 1 else 0;
}

/// Feeds the oracle an overlapping block and a corrupted canary, without any allocator.
fn oracleNotices() bool {
    var memory: [256]u8 align(16) = undefined;
    const base = @intFromPtr(&memory);
    const overlapping = [_][2]usize{ .{ 0, 64 }, .{ 56, 8 }, .{ 60, 1 }, .{ 16, 300 } };
    var noticed = taken(base, 64) == null;
    for (overlapping) |range| {
        if (taken(base + range[0], range[1]) == null) noticed = false;
    }
    const verdict = if (noticed) "pass" else "fail";
    process.printLine(.stdout, "{s} oracle: an overlapping block", .{verdict});
    shared.oracle.forgetAll();

    var canary_noticed = true;
    for ([_]usize{ 0, 1, 127, 250, 255 }) |corrupted| {
        oracle_module.fillPattern(&memory, 7);
        if (oracle_module.firstWrongByte(&memory, 7) != null) canary_noticed = false;
        memory[corrupted] +%= 1;
        if (oracle_module.firstWrongByte(&memory, 7) != corrupted) canary_noticed = false;
    }
    process.printLine(.stdout, "{s} oracle: a corrupted canary", .{if (canary_noticed) "pass" else "fail"});
    return noticed and canary_noticed;
}

fn taken(address: usize, size: usize) ?usize {
    return shared.oracle.claim(address, size) catch |err| fail("the oracle: {t}", .{err});
}

fn defectNoticed(trial: Trial) bool {
    const defect = for (defects.defects) |candidate| {
        if (std.mem.eql(u8, candidate.name, trial.defect)) break candidate;
    } else {
        process.printLine(.stdout, "fail defect: {s}: there is none of this name", .{trial.defect});
        return false;
    };
    const planted: PlantedDefect = .{ .defect = defect, .mode = trial.mode };
    return expectSaid("defect", trial.defect, trial.says, planted, PlantedDefect.run);
}

/// Runs the function in a child, which must print a line with these words.
fn expectSaid(
    comptime kind: []const u8,
    name: []const u8,
    says: []const u8,
    context: anytype,
    act: *const fn (@TypeOf(context)) void,
) bool {
    var buffer: [2048]u8 = undefined;
    const end = children.capture(&buffer, context, act) catch |err| fail("{t}", .{err});
    if (std.mem.find(u8, end.said, says) == null) {
        const said = std.mem.trim(u8, end.said, "\n");
        process.printLine(.stdout, "fail " ++ kind ++ ": {s}: expected \"{s}\", got: {s}", .{ name, says, said });
        return false;
    }
    process.printLine(.stdout, "pass " ++ kind ++ ": {s}", .{name});
    return true;
}

const PlantedDefect = struct {
    defect: defects.Defect,
    mode: Mode,

    fn run(planted: PlantedDefect) void {
        shared.mode = planted.mode;
        _ = std.c.alarm(60);
        runTrial(planted.defect);
    }
};

fn runTrial(defect: defects.Defect) void {
    shared.family = defects.spoiled(defect, shared.family).door.c;
    shared.operation_count = switch (shared.mode) {
        .mixed => 5000,
        .scarce => 60_000,
        .fork => 4,
        else => shared.mode.operationsDefault(),
    };
    const summary = switch (shared.mode) {
        .mixed => mixed.run(),
        .scarce => mixed.runScarce(),
        .@"producer-consumer" => producer_consumer.run(),
        .churn => blk: {
            churn.createEarlyKey();
            break :blk churn.run();
        },
        .fork => blk: {
            // Nothing can be had any more once the limit is this low.
            _ = process.limitAddressSpace(0) catch process.exitNow(98);
            break :blk forking.run();
        },
        .exit, .@"exit-process" => unreachable,
    };
    process.printLine(.stdout, "ok {t}: {s}", .{ shared.mode, summary });
}

/// A child that never ends must be reported, not waited for.
fn hangNoticed() bool {
    return expectSaid("hang", "a child that does not end", "child 5 hung", {}, runHang);
}

fn runHang(_: void) void {
    shared.mode = .fork;
    shared.child_limit_seconds = 1;
    const child = std.c.fork();
    if (child == 0) while (true) process.sleepMicroseconds(1_000_000);
    forking.awaitChild(child, "child", 5, 0);
}
