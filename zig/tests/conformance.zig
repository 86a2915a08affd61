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
const children = @import("child.zig");

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
    process.withoutHugePages();
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

/// The cases that need the dynamic linker or processes of their own come after those of the suite.
const all_cases = suite.cases ++ [_]suite.Case{
    .{ .name = "family-from-one-object", .run = familyFromOneObject, .needs = &.{.c_family} },
    .{ .name = "misuse", .run = misuse, .needs = &.{ .c_family, .misuse_ends_process } },
    .{ .name = "unload", .run = unload, .needs = &.{ .c_family, .opened_library } },
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
    if (run.subject.opened) {
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
        const own_names = [_][:0]const u8{
            "hak_malloc",         "hak_free",       "cfree",           "malloc_trim",         "__libc_malloc",
            "__libc_calloc",      "__libc_realloc", "__libc_free",     "__libc_reallocarray", "__libc_memalign",
            "__libc_valloc",      "__libc_pvalloc", "__libc_mallinfo", "__libc_mallopt",      "mallinfo",
            "mallinfo2",          "mallopt",        "malloc_stats",    "malloc_info",         "free_sized",
            "free_aligned_sized",
        };
        for (own_names) |name| {
            const function = doors.findInProcess(name) orelse {
                return run.fail("{s} does not export {s}", .{ owner, name });
            };
            try expectOwner(run, name, function, owner, true);
        }
    }
}

fn expectOwner(
    run: *suite.Run,
    name: []const u8,
    function: *const anyopaque,
    owner: [:0]const u8,
    expected: bool,
) suite.Failure!void {
    const object = doors.objectOf(function) orelse return run.fail("the object of {s} is unknown", .{name});
    if (std.mem.eql(u8, object, owner) != expected) {
        return run.fail("{s} comes from {s}, beside malloc from {s}", .{ name, object, owner });
    }
}

/// A thread that has used the library, and ends after the library was closed.
const Straggler = struct {
    family: *const suite.Family,
    block: ?[*]u8 = null,
    step: std.atomic.Value(u32) = .init(0),

    fn main(context: ?*anyopaque) callconv(.c) ?*anyopaque {
        const straggler: *Straggler = @ptrCast(@alignCast(context));
        const family = straggler.family;
        // Filled magazines of several classes, so that ending the thread has something to give back.
        var pointers: [64]?[*]u8 = undefined;
        for (&pointers, 1..) |*pointer, index| pointer.* = family.malloc(index * 40);
        for (pointers) |pointer| family.free(pointer);
        straggler.block = family.malloc(100);
        straggler.reach(1);
        straggler.wait(2);
        return null;
    }

    fn reach(straggler: *Straggler, step: u32) void {
        straggler.step.store(step, .release);
    }

    fn wait(straggler: *Straggler, step: u32) void {
        while (straggler.step.load(.acquire) < step) process.yieldProcessor();
    }
};

/// Closing the library while a thread lives that has used it: the end of that thread must not call
/// code that is gone, and blocks that are in use stay. The last case, since it closes its door.
fn unload(run: *suite.Run) suite.Failure!void {
    const family = &run.subject.door.c;
    const path = doors.objectOf(family.malloc) orelse return run.fail("the object of malloc is unknown", .{});
    var straggler: Straggler = .{ .family = family };
    var thread: std.c.pthread_t = undefined;
    if (std.c.pthread_create(&thread, null, Straggler.main, &straggler) != .SUCCESS) {
        return run.fail("cannot start a thread", .{});
    }
    straggler.wait(1);
    const block = straggler.block orelse return run.fail("malloc of 100 bytes returned NULL", .{});
    @memset(block[0..100], 0x5a);
    // Once for the door itself, once for this handle.
    const handle = std.c.dlopen(path, .{ .LAZY = true, .NOLOAD = true }) orelse {
        return run.fail("{s} is not loaded", .{path});
    };
    for (0..2) |_| {
        if (std.c.dlclose(handle) != 0) return run.fail("dlclose failed", .{});
    }
    straggler.reach(2);
    if (std.c.pthread_join(thread, null) != .SUCCESS) return run.fail("cannot join a thread", .{});
    for (block[0..100], 0..) |byte, index| {
        if (byte != 0x5a) {
            return run.fail("byte {d} of a block in use changed when the library was closed", .{index});
        }
    }
    // A library that stays loaded goes on serving; one that is gone has left all above in peace.
    if (std.c.dlopen(path, .{ .LAZY = true, .NOLOAD = true }) == null) return;
    family.free(block);
    const another = family.malloc(100) orelse {
        return run.fail("malloc of 100 bytes returned NULL after dlclose", .{});
    };
    @memset(another[0..100], 1);
    family.free(another);
}

/// What a broken program does; each must end with an abort and one line on stderr.
const Misuse = struct {
    name: []const u8,
    commit: *const fn (*const suite.Family) void,
};

const misuses = [_]Misuse{
    .{ .name = "free of an address on the stack", .commit = freeOfStack },
    .{ .name = "free of a static address", .commit = freeOfStatic },
    .{ .name = "free inside a small block", .commit = freeInsideSmall },
    .{ .name = "free inside a large block", .commit = freeInsideLarge },
    .{ .name = "free inside a huge block", .commit = freeInsideHuge },
    .{ .name = "free of a non-canonical address", .commit = freeOfNonCanonical },
    .{ .name = "realloc of a static address", .commit = reallocOfStatic },
    .{ .name = "double free of a small block", .commit = freeSmallTwice },
    .{ .name = "double free of a large block", .commit = freeLargeTwice },
    .{ .name = "double free of a huge block", .commit = freeHugeTwice },
};

var static_memory: [4096]u8 align(64) = @splat(0);

fn freeOfStack(c: *const suite.Family) void {
    var memory: [256]u8 align(64) = @splat(0);
    c.free(&memory);
    flush(c);
}

fn freeOfStatic(c: *const suite.Family) void {
    c.free(static_memory[64..]);
    flush(c);
}

fn freeInside(c: *const suite.Family, size: usize, offset: usize) void {
    const block = c.malloc(size) orelse return;
    c.free(block + offset);
    flush(c);
}

fn freeInsideSmall(c: *const suite.Family) void {
    freeInside(c, 200, 16);
}

fn freeInsideLarge(c: *const suite.Family) void {
    freeInside(c, 300_000, 4096);
}

fn freeInsideHuge(c: *const suite.Family) void {
    freeInside(c, 10_000_000, 4096);
}

fn freeOfNonCanonical(c: *const suite.Family) void {
    // Built at run time, so that only the allocator gets to see it.
    c.free(@ptrFromInt(@intFromPtr(&static_memory) | 0xdead << 48));
    flush(c);
}

fn reallocOfStatic(c: *const suite.Family) void {
    _ = c.realloc(static_memory[64..], 100);
}

fn freeTwice(c: *const suite.Family, size: usize) void {
    const block = c.malloc(size) orelse return;
    c.free(block);
    c.free(block);
    flush(c);
}

fn freeSmallTwice(c: *const suite.Family) void {
    freeTwice(c, 200);
}

fn freeLargeTwice(c: *const suite.Family) void {
    freeTwice(c, 300_000);
}

fn freeHugeTwice(c: *const suite.Family) void {
    freeTwice(c, 10_000_000);
}

/// A magazine may hold the wrong pointer for a while; here it comes to light.
fn flush(c: *const suite.Family) void {
    if (c.flush_all) |call| call();
}

fn misuse(run: *suite.Run) suite.Failure!void {
    const begins = run.subject.contract.misuse_line.?;
    for (misuses) |wrong| {
        var buffer: [2048]u8 = undefined;
        const trial: MisuseTrial = .{ .family = &run.subject.door.c, .commit = wrong.commit };
        const end = children.capture(&buffer, trial, MisuseTrial.run) catch |err| {
            return run.fail("{s}: {t}", .{ wrong.name, err });
        };
        const said = std.mem.trimEnd(u8, end.said, "\n");
        if (!end.killedBy(.ABRT)) {
            return run.fail("{s}: wait status 0x{x}, expected an abort; it said: {s}", .{
                wrong.name, end.status, said,
            });
        }
        if (!std.mem.startsWith(u8, said, begins) or std.mem.findScalar(u8, said, '\n') != null) {
            return run.fail("{s}: expected one line that begins with \"{s}\", got: {s}", .{
                wrong.name, begins, said,
            });
        }
    }
}

const MisuseTrial = struct {
    family: *const suite.Family,
    commit: *const fn (*const suite.Family) void,

    fn run(trial: MisuseTrial) void {
        process.leaveCrashesAlone();
        trial.commit(trial.family);
    }
};

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

const Found = enum { passed, failed, skipped };

fn expectOutcome(defect: defects.Defect, sound: suite.Family, name: []const u8, expected: Found) bool {
    const case = findCase(name) orelse {
        process.printLine(.stdout, "fail defect: {s}: there is no case {s}", .{ defect.name, name });
        return false;
    };
    // What the defects print while they crash and complain is of no interest, only the verdict.
    var ignored: [0]u8 = .{};
    const trial: DefectTrial = .{ .defect = defect, .sound = sound, .case = case };
    const end = children.capture(&ignored, trial, DefectTrial.run) catch |err| {
        process.printLine(.stdout, "fail defect: {s}: {t}", .{ defect.name, err });
        return false;
    };
    // A crash is a failed case as well.
    const found: Found = switch (end.exitStatus() orelse exit_failed) {
        exit_passed => .passed,
        exit_skipped => .skipped,
        else => .failed,
    };
    if (found == expected) return true;
    process.printLine(.stdout, "fail defect: {s}: case {s} {t}, expected {t}", .{
        defect.name, name, found, expected,
    });
    return false;
}

const exit_passed = 0;
const exit_failed = 1;
const exit_skipped = 3;

const DefectTrial = struct {
    defect: defects.Defect,
    sound: suite.Family,
    case: suite.Case,

    fn run(trial: DefectTrial) void {
        const subject = defects.spoiled(trial.defect, trial.sound);
        var buffer: [512]u8 = undefined;
        process.exitNow(switch (suite.runCase(&subject, trial.case, &buffer)) {
            .pass => exit_passed,
            .fail => exit_failed,
            .skip => exit_skipped,
        });
    }
};

test {
    _ = suite;
    _ = @import("oracle.zig");
    _ = @import("fuzz/action.zig");
}
