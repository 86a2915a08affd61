//! `hak-conformance`: runs the conformance suite against one door of an allocator.
//!
//! Without an option the door is the malloc of this process: libc's, or whichever was preloaded.
//! `--hak PATH` opens a library and takes its `hak_*`; `--zig` takes Zig's own general allocator, the
//! control for the Zig door. Each case prints one line, `pass NAME`, `skip NAME: REASON` or
//! `fail NAME: WHAT`; the exit status is 1 if any failed, 2 for a call that makes no sense.
//!
//! The program itself never allocates, so the first call of a case is the allocator's first from
//! this program.

const std = @import("std");
const suite = @import("suite.zig");
const process = @import("process.zig");
const defects = @import("defects.zig");
const doors = @import("doors.zig");

/// A crash becomes a failed case instead of a stack trace.
pub const std_options: std.Options = .{ .enable_segfault_handler = false };

const usage =
    \\hak-conformance [--hak PATH | --zig] [--list | --self-test] [CASE]…
    \\  --hak PATH    test the hak_* functions of this library (default: the malloc of the process)
    \\  --zig         test Zig's general allocator, the control for Zig allocators
    \\  --list        print the name of each case, or `NAME: skip: REASON`
    \\  --self-test   plant defects in libc's malloc and ask that the suite notices each
;

var current_case: []const u8 = "start";

pub fn main(init: std.process.Init.Minimal) u8 {
    process.reportCrashes(describeActivity);
    var hak_path: ?[:0]const u8 = null;
    var zig = false;
    var list = false;
    var self_test = false;
    var wanted: [64][]const u8 = undefined;
    var wanted_count: usize = 0;

    var arguments = init.args.iterate();
    _ = arguments.skip();
    while (arguments.next()) |argument| {
        if (std.mem.eql(u8, argument, "--hak")) {
            hak_path = arguments.next() orelse return usageError("--hak needs the path of a library", "");
        } else if (std.mem.eql(u8, argument, "--zig")) {
            zig = true;
        } else if (std.mem.eql(u8, argument, "--list")) {
            list = true;
        } else if (std.mem.eql(u8, argument, "--self-test")) {
            self_test = true;
        } else if (std.mem.eql(u8, argument, "--help")) {
            process.writeAll(.stdout, usage ++ "\n");
            return 0;
        } else if (std.mem.startsWith(u8, argument, "-")) {
            return usageError("no such option: ", argument);
        } else {
            if (findCase(argument) == null) return usageError("no such case (--list names them): ", argument);
            if (wanted_count == wanted.len) return usageError("too many cases, all are run when none is named", "");
            wanted[wanted_count] = argument;
            wanted_count += 1;
        }
    }
    if (hak_path != null and zig) return usageError("--hak and --zig exclude each other", "");

    if (self_test) return selfTest();
    const subject: suite.Subject = if (zig)
        .{ .name = "zig", .door = .{ .zig = std.heap.smp_allocator }, .contract = .zig_control }
    else if (hak_path) |path|
        doors.openLibrary(path) catch return 2
    else
        doors.openProcess() catch return 2;

    var failed: usize = 0;
    var run_count: usize = 0;
    if (!list) printSubject(&subject);
    for (all_cases) |case| {
        if (wanted_count > 0 and !contains(wanted[0..wanted_count], case.name)) continue;
        run_count += 1;
        if (list) {
            if (case.skipReason(&subject)) |reason| {
                process.printLine(.stdout, "{s}: skip: {s}", .{ case.name, reason });
            } else {
                process.printLine(.stdout, "{s}", .{case.name});
            }
            continue;
        }
        current_case = case.name;
        var buffer: [512]u8 = undefined;
        switch (suite.runCase(&subject, case, &buffer)) {
            .pass => process.printLine(.stdout, "pass {s}", .{case.name}),
            .skip => |reason| process.printLine(.stdout, "skip {s}: {s}", .{ case.name, reason }),
            .fail => |message| {
                process.printLine(.stdout, "fail {s}: {s}", .{ case.name, message });
                failed += 1;
            },
        }
    }
    return if (failed > 0) 1 else 0;
}

fn usageError(what: []const u8, value: []const u8) u8 {
    process.printLine(.stderr, "hak-conformance: {s}{s} (--help shows the options)", .{ what, value });
    return 2;
}

fn describeActivity(buffer: []u8) []const u8 {
    return process.formatLine(buffer, "{s}", .{current_case});
}

fn contains(names: []const []const u8, name: []const u8) bool {
    for (names) |candidate| if (std.mem.eql(u8, candidate, name)) return true;
    return false;
}

fn findCase(name: []const u8) ?suite.Case {
    for (all_cases) |case| if (std.mem.eql(u8, case.name, name)) return case;
    return null;
}

/// The cases that need the dynamic linker come after those of the suite.
const all_cases = suite.cases ++ [_]suite.Case{
    .{ .name = "family-from-one-object", .run = familyFromOneObject, .needs = &.{.c_family} },
};

fn printSubject(subject: *const suite.Subject) void {
    const path: []const u8 = switch (subject.door) {
        .c => |family| doors.objectOf(family.malloc) orelse "an unknown object",
        .zig => "std.heap.smp_allocator",
    };
    process.printLine(.stdout, "subject {s}: {s}", .{ subject.name, path });
}

/// A family that is split over two allocators frees one's blocks with the other's free.
fn familyFromOneObject(run: *suite.Run) suite.Failure!void {
    const family = run.subject.door.c;
    const owner = doors.objectOf(family.malloc) orelse return run.fail("the object of malloc is unknown", .{});
    if (std.mem.eql(u8, run.subject.name, "hak")) {
        // Opened beside a running program, the library must not bring a malloc of its own.
        for ([_][:0]const u8{ "malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc" }) |name| {
            const handle = std.c.dlopen(owner, .{ .LAZY = true, .NOLOAD = true }) orelse {
                return run.fail("{s} is not loaded", .{owner});
            };
            const function = std.c.dlsym(handle, name) orelse return run.fail("the process has no {s}", .{name});
            try expectOwner(run, name, function, owner, false);
        }
        return;
    }
    const names = [_][:0]const u8{
        "calloc", "realloc", "free",         "aligned_alloc", "malloc_usable_size", "posix_memalign", "memalign",
        "valloc", "pvalloc", "reallocarray",
    };
    for (names) |name| {
        const function = doors.findInProcess(name) orelse continue;
        try expectOwner(run, name, function, owner, true);
    }
    if (doors.hakmemIsPreloaded()) {
        // Names by which programs and libc itself reach libc's own heap behind malloc's back.
        for ([_][:0]const u8{ "hak_malloc", "hak_free", "cfree", "malloc_trim", "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free", "__libc_memalign" }) |name| {
            const function = doors.findInProcess(name) orelse return run.fail("{s} does not export {s}", .{ owner, name });
            try expectOwner(run, name, function, owner, true);
        }
    }
}

fn expectOwner(run: *suite.Run, name: []const u8, function: *const anyopaque, owner: [:0]const u8, expected: bool) suite.Failure!void {
    const object = doors.objectOf(function) orelse return run.fail("the object of {s} is unknown", .{name});
    if (std.mem.eql(u8, object, owner) != expected) {
        return run.fail("{s} comes from {s}, beside malloc from {s}", .{ name, object, owner });
    }
}

/// Runs each planted defect in a process of its own against the cases that must notice it.
fn selfTest() u8 {
    const sound = (doors.openProcess() catch return 2).door.c;
    var failed = false;
    for (defects.defects) |defect| {
        current_case = defect.name;
        var sound_so_far = true;
        for (defect.noticed_by) |name| {
            if (!expectOutcome(defect, sound, name, .failed)) sound_so_far = false;
        }
        for (defect.unnoticed_by) |name| {
            if (!expectOutcome(defect, sound, name, .passed)) sound_so_far = false;
        }
        if (sound_so_far) process.printLine(.stdout, "pass defect: {s}", .{defect.name}) else failed = true;
    }
    for (suite.cases) |case| {
        for (defects.defects) |defect| {
            if (contains(defect.noticed_by, case.name)) break;
        } else {
            process.printLine(.stdout, "fail {s}: no planted defect shows that this case can fail", .{case.name});
            failed = true;
        }
    }
    return if (failed) 1 else 0;
}

const Expected = enum { passed, failed };

fn expectOutcome(defect: defects.Defect, sound: suite.Family, name: []const u8, expected: Expected) bool {
    const case = findCase(name) orelse {
        process.printLine(.stdout, "fail defect: {s}: there is no case {s}", .{ defect.name, name });
        return false;
    };
    const child = std.c.fork();
    if (child < 0) {
        process.printLine(.stdout, "fail defect: {s}: cannot fork", .{defect.name});
        return false;
    }
    if (child == 0) {
        silence();
        const subject = defects.spoiled(defect, sound);
        var buffer: [512]u8 = undefined;
        process.exitNow(switch (suite.runCase(&subject, case, &buffer)) {
            .pass => 0,
            .fail => 1,
            .skip => 3,
        });
    }
    var status: c_int = 0;
    while (std.c.waitpid(child, &status, 0) != child) {}
    // A crash is a failed case as well: any exit but 0 and 3.
    const found: enum { passed, failed, skipped } = switch (status) {
        0 => .passed,
        3 << 8 => .skipped,
        else => .failed,
    };
    if (found == .passed and expected == .passed) return true;
    if (found == .failed and expected == .failed) return true;
    process.printLine(.stdout, "fail defect: {s}: case {s} {t}, expected {t}", .{ defect.name, name, found, expected });
    return false;
}

/// The planted defects crash and complain as they please; only the verdict is printed.
fn silence() void {
    const linux = std.os.linux;
    const opened = linux.open("/dev/null", .{ .ACCMODE = .WRONLY }, 0);
    if (linux.errno(opened) != .SUCCESS) return;
    const descriptor: linux.fd_t = @intCast(opened);
    _ = linux.dup2(descriptor, 1);
    _ = linux.dup2(descriptor, 2);
}

test {
    _ = suite;
    _ = @import("oracle.zig");
}
