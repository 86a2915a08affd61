//! `hak-fuzz`: plays one random program against an allocator, and checks every step with a model.
//!
//! One process plays one program: `--seed` and `--round` decide it, down to the addresses where the
//! system lets a process have the same ones again. `hak fuzz` runs one process after another and
//! shortens the program of a failure by `--only`. The first thing found wrong is one line,
//! `fail fuzz (action N, …): …`, and exit status 1.
//!
//! The allocator is the one of this process (libc's, or what was preloaded), the `hak_*` of a
//! library, or one that is compiled into this program, whose system calls can be refused one by one
//! and in which a bug can be planted.

const std = @import("std");
const linux = std.os.linux;
const allocator = @import("allocator");
const doors = @import("doors.zig");
const process = @import("process.zig");
const suite = @import("suite.zig");
const oracle = @import("oracle.zig");
const shared = @import("stress/shared.zig");
const actions = @import("fuzz/action.zig");
const play = @import("fuzz/play.zig");

/// A crash becomes the one line of a failure, and no thread carries a signal stack in its thread-local storage.
pub const std_options: std.Options = .{ .enable_segfault_handler = false, .signal_stack_size = null };

pub const panic = std.debug.FullPanic(panicked);

fn panicked(message: []const u8, address: ?usize) noreturn {
    shared.fail("panic: {s} (code address 0x{x})", .{ message, address orelse @returnAddress() });
}

const usage =
    \\hak-fuzz --seed N [--round N] [--threads T] [--actions N] [--only RANGES] [--print]
    \\         [--in-process [--canary NAME] | --hak PATH] [--limit SECONDS]
    \\hak-fuzz --canaries
    \\  --seed N, --round N   decide the program
    \\  --threads T           threads at most (default 4)
    \\  --actions N           actions (default 6000)
    \\  --only RANGES         play only these actions, as 0-17,33
    \\  --print               print each action before it is played
    \\  --in-process          the allocator inside this program instead of the process's malloc
    \\  --canary NAME         plant a bug in it; --canaries lists them
    \\  --hak PATH            the hak_* functions of this library
    \\  --limit SECONDS       give up as hung after this time (default 20 and one for each 200 actions)
;

const Options = struct {
    seed: ?u64 = null,
    round: u64 = 0,
    thread_count: usize = 4,
    action_count: u64 = 6000,
    only: bool = false,
    print: bool = false,
    in_process: bool = false,
    canary: ?allocator.Canary = null,
    hak_path: ?[:0]const u8 = null,
    limit_seconds: ?c_uint = null,
};

var selection: play.Selection = .empty;

pub fn main(init: std.process.Init.Minimal) u8 {
    const options = parseOptions(init.args) catch |err| return switch (err) {
        error.Answered => 0,
        error.BadUsage => 2,
    };
    useFixedAddresses(init);
    shared.describe = play.describe;
    process.reportCrashes(shared.describeActivity);
    shared.seed = oracle.mix(oracle.mix(options.seed.?) ^ options.round);
    shared.prepareMemory() catch {
        process.printLine(.stderr, "hak-fuzz: the system gave no memory for the oracle", .{});
        return 2;
    };
    _ = std.c.alarm(options.limit_seconds orelse @intCast(20 + options.action_count / 200));
    shared.family = if (options.in_process) blk: {
        shared.errno_refused = 0;
        break :blk inProcess();
    } else blk: {
        const door = if (options.hak_path) |path| doors.openLibrary(path) else doors.openProcess();
        const subject = door catch return 2;
        shared.errno_refused = switch (subject.contract.errno) {
            .set_on_failure => if (doors.hakmemIsPreloaded()) @backingInt(linux.E.NOMEM) else null,
            .left_alone => 0,
            .absent => unreachable,
        };
        break :blk subject.door.c;
    };
    if (options.canary) |canary| allocator.plant(canary);
    const plan: play.Plan = .draw(options.thread_count);
    process.printLine(.stdout, "plan: {d} threads {s}, {s}, {s}, {s}", .{
        plan.lane_count,
        if (plan.racing) "race" else "take turns",
        if (plan.os_fails) "system calls fail" else "system calls succeed",
        if (plan.forks) "forks" else "no forks",
        if (hasFixedAddresses()) "fixed addresses" else "random addresses",
    });
    const summary = play.run(plan, .{
        .action_count = options.action_count,
        .only = if (options.only) &selection else null,
        .print = options.print,
        .in_process = options.in_process,
    });
    // Nothing but this program uses these two.
    if (options.in_process or options.hak_path != null) shared.expectNothingLeft();
    process.printLine(.stdout, "ok fuzz: {s}", .{summary});
    return 0;
}

fn inProcess() suite.Family {
    return .{
        .malloc = @ptrCast(function("hak_malloc")),
        .calloc = @ptrCast(function("hak_calloc")),
        .realloc = @ptrCast(function("hak_realloc")),
        .free = @ptrCast(function("hak_free")),
        .aligned_alloc = @ptrCast(function("hak_aligned_alloc")),
        .usable_size = @ptrCast(function("hak_usable_size")),
        .flush_all = @ptrCast(function("hak_tiny_magazine_flush_all")),
        .purge = @ptrCast(function("hak_purge")),
        .stats = @ptrCast(function("hak_stats")),
        .tiny = .{
            .class_count = @ptrCast(function("hak_tiny_class_count")),
            .class_size = @ptrCast(function("hak_tiny_class_size")),
            .class_of = @ptrCast(function("hak_tiny_class_of")),
            .flush = @ptrCast(function("hak_tiny_magazine_flush")),
        },
        .batch = .{ .malloc = @ptrCast(function("hak_malloc_batch")), .free = @ptrCast(function("hak_free_batch")) },
        .errno_location = std.c._errno,
    };
}

/// The types differ only in how they write a pointer or an enum.
fn function(comptime name: []const u8) *const anyopaque {
    inline for (allocator.functions) |entry| {
        if (comptime std.mem.eql(u8, entry[0], name)) return entry[1];
    }
    @compileError("the allocator has no " ++ name);
}

/// From sys/personality.h.
const no_randomize = 0x004_0000;
const personality_ask = 0xffff_ffff;

fn hasFixedAddresses() bool {
    const found = linux.syscall1(.personality, personality_ask);
    return linux.errno(found) == .SUCCESS and found & no_randomize != 0;
}

/// Starts the program anew without random addresses, so that it does the same each time. A system
/// that refuses leaves them random: then the actions are the same, and only the addresses are not.
fn useFixedAddresses(init: std.process.Init.Minimal) void {
    const before = linux.syscall1(.personality, personality_ask);
    if (linux.errno(before) != .SUCCESS or hasFixedAddresses()) return;
    if (linux.errno(linux.syscall1(.personality, before | no_randomize)) != .SUCCESS) return;
    if (!hasFixedAddresses()) return;
    const arguments: [*:null]const ?[*:0]const u8 = @ptrCast(init.args.vector.ptr);
    _ = linux.execve("/proc/self/exe", arguments, init.environ.block.slice.ptr);
}

/// What was to be said has been said, in one line.
fn parseOptions(args: std.process.Args) error{ BadUsage, Answered }!Options {
    var options: Options = .{};
    var arguments = args.iterate();
    _ = arguments.skip();
    while (arguments.next()) |argument| {
        if (std.mem.eql(u8, argument, "--help")) {
            process.writeAll(.stdout, usage ++ "\n");
            return error.Answered;
        } else if (std.mem.eql(u8, argument, "--canaries")) {
            for (std.enums.values(allocator.Canary)) |canary| process.printLine(.stdout, "{t}", .{canary});
            return error.Answered;
        } else if (std.mem.eql(u8, argument, "--print")) {
            options.print = true;
        } else if (std.mem.eql(u8, argument, "--in-process")) {
            options.in_process = true;
        } else if (std.mem.eql(u8, argument, "--canary")) {
            const name = arguments.next() orelse "";
            options.canary = std.meta.stringToEnum(allocator.Canary, name) orelse
                return badUsage("--canary takes a name that --canaries lists, not ", name);
        } else if (std.mem.eql(u8, argument, "--hak")) {
            options.hak_path = arguments.next() orelse return badUsage("--hak takes the path of a library", "");
        } else if (std.mem.eql(u8, argument, "--seed")) {
            options.seed = number(u64, arguments.next(), 0, std.math.maxInt(u64)) orelse
                return badUsage("--seed takes a number from 0 to 2^64-1", "");
        } else if (std.mem.eql(u8, argument, "--round")) {
            options.round = number(u64, arguments.next(), 0, std.math.maxInt(u64)) orelse
                return badUsage("--round takes a number from 0 to 2^64-1", "");
        } else if (std.mem.eql(u8, argument, "--threads")) {
            comptime std.debug.assert(actions.lanes_max == 16);
            options.thread_count = number(usize, arguments.next(), 1, actions.lanes_max) orelse
                return badUsage("--threads takes a number from 1 to 16", "");
        } else if (std.mem.eql(u8, argument, "--actions")) {
            comptime std.debug.assert(play.actions_max == 262_144);
            options.action_count = number(u64, arguments.next(), 1, play.actions_max) orelse
                return badUsage("--actions takes a number from 1 to 262144", "");
        } else if (std.mem.eql(u8, argument, "--only")) {
            const ranges = arguments.next() orelse "";
            options.only = true;
            select(ranges) catch return badUsage("--only takes numbers of actions as 0-17,33, not ", ranges);
        } else if (std.mem.eql(u8, argument, "--limit")) {
            options.limit_seconds = number(c_uint, arguments.next(), 1, 1_000_000) orelse
                return badUsage("--limit takes seconds from 1 to 1000000", "");
        } else {
            return badUsage("no such option: ", argument);
        }
    }
    if (options.seed == null) return badUsage("--seed is needed", "");
    if (options.canary != null and !options.in_process) return badUsage("--canary needs --in-process", "");
    if (options.in_process and options.hak_path != null) return badUsage("choose --in-process or --hak", "");
    return options;
}

fn select(ranges: []const u8) error{Malformed}!void {
    var parts = std.mem.splitScalar(u8, ranges, ',');
    while (parts.next()) |part| {
        const dash = std.mem.findScalar(u8, part, '-');
        const first = number(usize, part[0 .. dash orelse part.len], 0, play.actions_max - 1) orelse
            return error.Malformed;
        const last = if (dash) |at|
            number(usize, part[at + 1 ..], first, play.actions_max - 1) orelse return error.Malformed
        else
            first;
        selection.setRangeValue(.{ .start = first, .end = last + 1 }, true);
    }
}

fn badUsage(what: []const u8, value: []const u8) error{BadUsage} {
    process.printLine(.stderr, "hak-fuzz: {s}{s} (--help shows the options)", .{ what, value });
    return error.BadUsage;
}

fn number(comptime T: type, text: ?[]const u8, min: T, max: T) ?T {
    const value = std.fmt.parseInt(T, text orelse return null, 10) catch return null;
    return if (value < min or value > max) null else value;
}
