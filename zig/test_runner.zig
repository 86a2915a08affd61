//! The test runner of the unit tests.
//!
//! It guarantees one line on stdout for each test that comes to an end: `pass NAME`,
//! `fail NAME: ERROR` or `skip NAME: REASON`. The exit status is 1 if a test failed, else 0.
//! A test fails by an error, by memory of `std.testing.allocator` that it did not free, and by
//! a message logged with `std.log.err`.
//!
//! A test that cannot run here says why before it returns `error.SkipZigTest`:
//!
//!     const root = @import("root");
//!     if (@hasDecl(root, "skip_reason")) root.skip_reason = "needs a kernel of 5.14 or newer";
//!     return error.SkipZigTest;
//!
//! Each line leaves in one write, so that lines of a forked child or of another runner on the same
//! pipe never mix. `HAK_TEST_PAGE_BYTES` is a page size for the tested code to take for the kernel's; it is added to
//! the names of the tests. Two environment variables serve `./hak test`: with `HAK_TEST_STARTS` set, a
//! line `plan COUNT` comes first and `start NAME` before each test, from which a reader knows
//! which test a crashed run was in; `HAK_TEST_FILTER` holds a text, and only tests whose names
//! contain it run.
//!
//! It does not catch crashes: a panic or a signal ends the run.

const std = @import("std");
const builtin = @import("builtin");
const Io = std.Io;
const testing = std.testing;

pub const std_options: std.Options = .{ .logFn = log };

/// Why the running test is about to return `error.SkipZigTest`. The runner empties it before each
/// test, and keeps no copy: it must be text that outlives the test, such as a literal.
pub var skip_reason: ?[]const u8 = null;

/// The page size that the tested code takes for the kernel's, where that is not to be asked.
pub var page_bytes: ?usize = null;

/// What is added to the names of the tests.
var name_suffix: []const u8 = "";
var suffix_buffer: [64]u8 = undefined;

/// Errors logged by the running test. Tests may log from several threads.
var errors_logged: std.atomic.Value(usize) = .init(0);

/// Writes with plain system calls: no event loop and no thread of its own, so that a test which
/// counts threads or forks finds the process as it expects.
const io: Io = Io.Threaded.global_single_threaded.io();

pub fn main(init: std.process.Init.Minimal) !void {
    const environ = init.environ;
    const filter = environ.getPosix("HAK_TEST_FILTER") orelse "";
    const announce = environ.getPosix("HAK_TEST_STARTS") != null;

    if (environ.getPosix("HAK_TEST_PAGE_BYTES")) |text| {
        page_bytes = try std.fmt.parseInt(usize, text, 10);
        name_suffix = try std.fmt.bufPrint(&suffix_buffer, " [pages of {s}]", .{text});
    }

    if (announce) {
        var planned: usize = 0;
        for (builtin.test_functions) |case| {
            if (selected(case.name, filter)) planned += 1;
        }
        line("plan {d}", .{planned});
    }

    var failed: usize = 0;
    for (builtin.test_functions) |case| {
        if (!selected(case.name, filter)) continue;
        if (announce) line("start {s}{s}", .{ case.name, name_suffix });
        if (!run(case, init)) failed += 1;
    }
    if (failed > 0) std.process.exit(1);
}

fn selected(name: []const u8, filter: []const u8) bool {
    return std.mem.find(u8, name, filter) != null;
}

/// Runs one test and prints its line. Returns false if it failed.
fn run(case: std.builtin.TestFn, init: std.process.Init.Minimal) bool {
    skip_reason = null;
    errors_logged.store(0, .monotonic);
    testing.log_level = .warn;
    testing.environ = init.environ;
    testing.allocator_instance = .init(std.heap.page_allocator, .{
        .canary = 0x68616b,
        .check_write_after_free = true,
    });
    testing.io_instance = .init(testing.allocator, .{
        .argv0 = .init(init.args),
        .environ = init.environ,
    });

    const result = case.func();
    if (result) |_| {} else |err| if (err != error.SkipZigTest) {
        if (@errorReturnTrace()) |trace| std.debug.dumpErrorReturnTrace(trace);
    }

    testing.io_instance.deinit();
    const leaked = testing.allocator_instance.deinit();
    const logged = errors_logged.load(.monotonic);

    if (result) |_| {} else |err| if (err != error.SkipZigTest) {
        line("fail {s}{s}: {t}", .{ case.name, name_suffix, err });
        return false;
    }
    if (leaked > 0) {
        line("fail {s}{s}: {d} allocations were not freed", .{ case.name, name_suffix, leaked });
        return false;
    }
    if (logged > 0) {
        line("fail {s}{s}: {d} errors were logged", .{ case.name, name_suffix, logged });
        return false;
    }
    if (result) |_| {
        line("pass {s}{s}", .{ case.name, name_suffix });
    } else |_| {
        line("skip {s}{s}: {s}", .{ case.name, name_suffix, skip_reason orelse "unsupported here" });
    }
    return true;
}

/// Prints one line, in one write. A reader that has gone away ends the run: nobody would learn how
/// the tests came out.
fn line(comptime format: []const u8, args: anytype) void {
    var buffer: [4096]u8 = undefined;
    const text = std.fmt.bufPrint(&buffer, format ++ "\n", args) catch cut: {
        // Only a name or a reason of thousands of bytes comes here.
        buffer[buffer.len - 1] = '\n';
        break :cut &buffer;
    };
    Io.File.stdout().writeStreamingAll(io, text) catch std.process.exit(1);
}

fn log(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    if (level == .err) _ = errors_logged.fetchAdd(1, .monotonic);
    if (@backingInt(level) > @backingInt(testing.log_level)) return;
    std.debug.print("[" ++ @tagName(scope) ++ "] (" ++ @tagName(level) ++ "): " ++ format ++ "\n", args);
}
