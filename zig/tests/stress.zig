//! `hak-stress`: drives an allocator from many threads and lets nothing wrong go unseen.
//!
//! Every block is claimed in the oracle while it is live and filled with a pattern made from its
//! address, size and identity; the pattern is checked when the block is resized and freed, by
//! whichever thread does it. Blocks change threads through a queue. The first thing found wrong is
//! printed as one line, `fail MODE: …, seed N`, and ends the process with status 1.
//!
//! What a thread draws for its n-th operation depends on the seed, its number and n alone, so
//! `--seed` draws the same again; how the threads interleave, and so what each finds in the queue,
//! is the scheduler's. The program takes its own memory from the system. The threads, keys and
//! handlers it makes are libc's, whose own blocks come from the allocator of the process.

const std = @import("std");
const linux = std.os.linux;
const oracle = @import("oracle.zig");
const process = @import("process.zig");
const doors = @import("doors.zig");
const shared = @import("stress/shared.zig");
const mixed = @import("stress/mixed.zig");
const producer_consumer = @import("stress/producer_consumer.zig");
const churn = @import("stress/churn.zig");
const forking = @import("stress/forking.zig");
const exiting = @import("stress/exiting.zig");
const self_test = @import("stress/self_test.zig");

/// A crash becomes the one line of a failure instead of a stack trace, and no thread carries a
/// signal stack in its thread-local storage.
pub const std_options: std.Options = .{ .enable_segfault_handler = false, .signal_stack_size = null };

const usage =
    \\hak-stress [--mode MODE] [--seed N] [--threads T] [--operations N] [--hak PATH] [--limit SECONDS]
    \\hak-stress --self-test
    \\  --mode MODE      mixed (default), scarce, producer-consumer, churn, fork or exit
    \\  --operations N   operations a thread (mixed, scarce), blocks a producer
    \\                   (producer-consumer), threads in all (churn), forks (fork), processes (exit)
    \\  --hak PATH       use the hak_* functions of this library instead of the process's malloc
    \\  --limit SECONDS  give up as hung after this time (default 120)
    \\  --self-test      plant defects and ask that each is found
;

pub fn main(init: std.process.Init.Minimal) u8 {
    process.reportCrashes(shared.describeActivity);
    const options = parseOptions(init.args) catch |err| return switch (err) {
        error.HelpPrinted => 0,
        error.BadUsage => 2,
    };
    shared.mode = options.mode;
    shared.seed = options.seed orelse randomSeed();
    shared.thread_count = options.thread_count;
    shared.operation_count = options.operation_count orelse options.mode.operationsDefault();
    shared.prepareMemory() catch {
        process.printLine(.stderr, "hak-stress: the system gave no memory for the oracle", .{});
        return 2;
    };
    if (options.self_test) return self_test.run();
    if (options.mode != .@"exit-process") process.printLine(.stdout, "seed {d}", .{shared.seed});
    _ = std.c.alarm(options.limit_seconds);

    // A thread key and handlers of fork and exit that are older than the library: libc calls them
    // after the library's own, or between its own, when the library may believe that all is over.
    switch (options.mode) {
        .churn => churn.createEarlyKey(),
        .fork => if (options.hak_path != null) forking.registerHandlers(),
        .@"exit-process" => exiting.registerHandler(),
        .mixed, .scarce, .@"producer-consumer", .exit => {},
    }
    const door = if (options.hak_path) |path| doors.openLibrary(path) else doors.openProcess();
    shared.family = (door catch return 2).door.c;
    const summary = switch (options.mode) {
        .mixed => mixed.run(),
        .scarce => mixed.runScarce(),
        .@"producer-consumer" => producer_consumer.run(),
        .churn => churn.run(),
        .fork => forking.run(),
        .exit => exiting.run(options.hak_path),
        .@"exit-process" => return exiting.runProcess(),
    };
    if (options.hak_path != null) shared.expectNothingLeft();
    process.printLine(.stdout, "ok {t}: {s}", .{ options.mode, summary });
    return 0;
}

const Options = struct {
    mode: shared.Mode = .mixed,
    seed: ?u64 = null,
    thread_count: u32 = 4,
    operation_count: ?u64 = null,
    limit_seconds: c_uint = 120,
    hak_path: ?[:0]const u8 = null,
    self_test: bool = false,
};

/// An error has been told on stderr, in one line.
fn parseOptions(args: std.process.Args) error{ BadUsage, HelpPrinted }!Options {
    var options: Options = .{};
    var arguments = args.iterate();
    _ = arguments.skip();
    while (arguments.next()) |argument| {
        if (std.mem.eql(u8, argument, "--self-test")) {
            options.self_test = true;
        } else if (std.mem.eql(u8, argument, "--help")) {
            process.writeAll(.stdout, usage ++ "\n");
            return error.HelpPrinted;
        } else if (std.mem.eql(u8, argument, "--mode")) {
            const name = arguments.next() orelse "";
            options.mode = std.meta.stringToEnum(shared.Mode, name) orelse
                return badUsage("--mode takes mixed, scarce, producer-consumer, churn, fork or exit, not ", name);
        } else if (std.mem.eql(u8, argument, "--hak")) {
            options.hak_path = arguments.next() orelse return badUsage("--hak takes the path of a library", "");
        } else if (std.mem.eql(u8, argument, "--seed")) {
            options.seed = number(u64, arguments.next(), 0, std.math.maxInt(u64)) orelse
                return badUsage("--seed takes a number from 0 to 2^64-1", "");
        } else if (std.mem.eql(u8, argument, "--threads")) {
            comptime std.debug.assert(shared.thread_count_max == 64);
            options.thread_count = number(u32, arguments.next(), 2, shared.thread_count_max) orelse
                return badUsage("--threads takes a number from 2 to 64", "");
        } else if (std.mem.eql(u8, argument, "--operations")) {
            options.operation_count = number(u64, arguments.next(), 1, 1 << 40) orelse
                return badUsage("--operations takes a number from 1 to 2^40", "");
        } else if (std.mem.eql(u8, argument, "--limit")) {
            options.limit_seconds = number(c_uint, arguments.next(), 1, 1_000_000) orelse
                return badUsage("--limit takes seconds from 1 to 1000000", "");
        } else {
            return badUsage("no such option: ", argument);
        }
    }
    return options;
}

fn badUsage(what: []const u8, value: []const u8) error{BadUsage} {
    process.printLine(.stderr, "hak-stress: {s}{s} (--help shows the options)", .{ what, value });
    return error.BadUsage;
}

fn number(comptime T: type, text: ?[]const u8, min: T, max: T) ?T {
    const value = std.fmt.parseInt(T, text orelse return null, 10) catch return null;
    return if (value < min or value > max) null else value;
}

fn randomSeed() u64 {
    var bytes: [4]u8 = undefined;
    if (linux.getrandom(&bytes, bytes.len, 0) != bytes.len) return oracle.mix(process.monotonicNanoseconds()) >> 32;
    return std.mem.readInt(u32, &bytes, .little);
}
