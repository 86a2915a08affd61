//! `hak-bench`: the native workloads, each a file of its own here. One process runs one row once.
//!
//!   hak-bench --list                                      all workloads and their rows, as JSON
//!   hak-bench ROW-ID [--threads=N] [--seed=N] [--scale=F]   runs a row and prints one line of JSON
//!   hak-bench --identify                                  the object and version of the allocator
//!
//! Guarantees: nothing here calls malloc except the work of the row (and libc, a block for each thread that
//! starts), so the allocator under test, whichever was preloaded, serves exactly that. The line says which
//! object `malloc` and `free` really came from. Whatever is wrong becomes `{"error":"…"}` and exit
//! status 1: bad arguments, memory that ran out, a block that overlaps another.
//!
//! The order of a run is told in `run.zig`, that of one with threads in `team.zig`. What is drawn at random
//! depends on the seed alone; how threads interleave is the scheduler's.
//!
//! Not done here: repeats, statistics, the choice of allocators. The CLI does that.

const std = @import("std");
const builtin = @import("builtin");
const measure = @import("measure.zig");
const identity = @import("identity.zig");
const team = @import("team.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;

const workloads = [_]run_module.Workload{
    @import("tight.zig").workload,
    @import("batch.zig").workload,
    @import("random_mixed.zig").workload,
    @import("larson.zig").workload,
    @import("prodcons.zig").workload,
    @import("xthread.zig").workload,
    @import("churn.zig").workload,
    @import("growth.zig").workload,
    @import("massfree.zig").workload,
    @import("medium.zig").workload,
    @import("vm.zig").workload,
    @import("realloc.zig").workload,
    @import("calloc.zig").workload,
    @import("fragment.zig").workload,
    @import("false_sharing.zig").workload,
};

const scale_max = 1000;

comptime {
    // The unit tests have a `main` of their own.
    if (!builtin.is_test) @export(&main, .{ .name = "main" });
}

pub fn main(argc: c_int, argv: [*]const [*:0]const u8) callconv(.c) c_int {
    const arguments = argv[1..@intCast(argc)];
    if (arguments.len == 1 and std.mem.eql(u8, std.mem.span(arguments[0]), "--list")) {
        printList();
    } else if (arguments.len == 1 and std.mem.eql(u8, std.mem.span(arguments[0]), "--identify")) {
        identity.identify();
    } else {
        var run = parseRun(arguments);
        run.row.measure(&run);
        run.print(objectName("malloc"), objectName("free"));
    }
    return 0;
}

fn objectName(function: [*:0]const u8) []const u8 {
    return identity.objectName(identity.objectOf(function));
}

fn parseRun(arguments: []const [*:0]const u8) Run {
    var row: ?*const Row = null;
    var threads: usize = 1;
    var seed: u64 = 1;
    var scale: f64 = 1;
    for (arguments) |argument_z| {
        const argument = std.mem.span(argument_z);
        if (measure.valueOf(argument, "--threads=")) |text| {
            threads = std.fmt.parseInt(usize, text, 10) catch 0;
            if (threads < 1 or threads > team.threads_max) {
                measure.fail("--threads takes a number from 1 to {d}, not '{s}'", .{ team.threads_max, text });
            }
        } else if (measure.valueOf(argument, "--seed=")) |text| {
            seed = std.fmt.parseInt(u64, text, 10) catch
                measure.fail("--seed takes a number from 0 to 2^64-1, not '{s}'", .{text});
        } else if (measure.valueOf(argument, "--scale=")) |text| {
            scale = std.fmt.parseFloat(f64, text) catch 0;
            // Written so that "nan" is refused too.
            if (!(scale > 0 and scale <= scale_max)) {
                measure.fail("--scale takes a number above 0 and up to {d}, not '{s}'", .{ scale_max, text });
            }
        } else if (std.mem.startsWith(u8, argument, "-")) {
            measure.fail("there is no option '{s}': --list, --identify, or a row with --threads=, --seed=, --scale=", .{argument});
        } else if (row) |first| {
            measure.fail("one row at a time: '{s}' comes after '{s}'", .{ argument, first.id });
        } else {
            row = findRow(argument) orelse measure.fail("there is no row '{s}': --list prints those there are", .{argument});
        }
    }
    const found = row orelse measure.fail("which row? --list prints those there are", .{});
    if (!found.threads and threads != 1) measure.fail("row {s} has one thread: leave out --threads={d}", .{ found.id, threads });
    return .{ .row = found, .threads = threads, .seed = seed, .scale = scale };
}

fn findRow(id: []const u8) ?*const Row {
    for (&workloads) |*workload| {
        for (workload.rows) |*row| {
            if (std.mem.eql(u8, row.id, id)) return row;
        }
    }
    return null;
}

fn printList() void {
    for (&workloads, 0..) |*workload, workload_index| {
        // A line holds one workload with ease, but not all of them.
        var line: measure.Line = .{};
        line.print("{s}{{\"name\":", .{if (workload_index == 0) "{\"workloads\":[" else ",\n"});
        line.string(workload.name);
        line.print(",\"summary\":", .{});
        line.string(workload.summary);
        line.print(",\"rows\":[", .{});
        for (workload.rows, 0..) |*row, index| {
            line.print("{s}{{\"id\":", .{if (index == 0) "" else ","});
            line.string(row.id);
            line.print(",\"label\":", .{});
            line.string(row.label);
            line.print(",\"threads\":{},\"operation\":\"{t}\",\"quick\":{},\"live_bytes\":{d},\"peak_bytes\":{d}}}", .{
                row.threads, row.operation, row.quick, row.live_bytes, row.peak_bytes,
            });
        }
        line.print("]}}{s}", .{if (workload_index == workloads.len - 1) "]}\n" else ""});
        line.send();
    }
}

test {
    _ = run_module;
    _ = team;
    _ = @import("slots.zig");
    _ = @import("prodcons.zig");
    _ = @import("soak_driver.zig");
}

test "every row has an id of its own, and every workload a quick one" {
    for (&workloads) |*workload| {
        var quick: usize = 0;
        for (workload.rows) |*row| {
            try std.testing.expectEqual(row, findRow(row.id).?);
            try std.testing.expect(row.peak_bytes > row.live_bytes);
            quick += @intFromBool(row.quick);
        }
        try std.testing.expect(quick >= 1 and quick <= 2);
    }
}
