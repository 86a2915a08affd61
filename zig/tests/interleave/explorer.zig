//! Runs a few threads of the allocator in every order that a bound allows, one order after the other.
//!
//! It guarantees that of two runs with the same schedule one is like the other (where a scenario's are not, that is a
//! failure), that every schedule with at most `preemptions` preemptions is tried (a switch away from a thread that
//! cannot go on is none), and that a failure comes with its schedule as a text, which `HAK_SCHEDULE` replays. It finds
//! assertions and crashes, threads that all wait (a lost wake-up among them), data that two threads touch without order
//! between them, and what a scenario checks itself.
//!
//! A scenario may have a signal handler, which interrupts the first thread at any step, once or never.
//!
//! It does not try what only a weaker memory does: an atomic load gives the newest value. In place of that it keeps
//! what each thread knows of the others (vector clocks, advanced by acquire and release alone) and reports data of the
//! scenario that is touched without such knowledge.

// Threads are fibers: one thread of the system runs them all and passes from one to another only in `point`, which
// every atomic operation of `platform/atomic.zig` comes through first. A futex is simulated. An exploration runs in a
// process of its own, so that a crash is a result and leaves nothing behind; what it did so far lies in memory that
// both share.

const std = @import("std");
const linux = std.os.linux;
const fiber = std.Io.fiber;
const Order = std.builtin.AtomicOrder;

pub const threads_max = 4;
/// The context that sets a scenario up and checks it; in the tables it comes after the threads.
const outside: u8 = threads_max;
const stack_bytes = 1 << 18;
const points_max = 1 << 14;

pub const Kind = enum { load, store, exchange, swap, add, wait, wake, read, write };

/// One operation that a thread is about to do.
pub const Step = struct {
    kind: Kind,
    address: usize,
    bytes: usize,
    /// What it writes.
    value: u64 = 0,
};

/// What a planted defect makes of an operation.
pub const Defect = union(enum) {
    /// It is not done, though the caller is told that it was.
    dropped,
    /// Its reading and its writing come apart.
    torn,
    /// A byte is written by reading and writing the eight bytes around it.
    wide,
    /// It orders nothing: monotonic.
    weakened,
    /// It is done only before so many further operations of the thread have come.
    late: u32,
    /// It writes another value.
    writes: u64,
    /// It writes another value first, and its own in a step after that.
    passes: u64,
};

pub const Scenario = struct {
    threads: []const *const fn () void,
    /// Both run alone: before the threads begin, and when all have ended.
    before: *const fn () anyerror!void = nothing,
    after: *const fn () anyerror!void = nothing,
    /// Null: without a bound.
    preemptions: ?u16 = null,
    /// A weak compare-and-exchange may fail and a sleeper may wake without a cause. Each costs a preemption.
    spurious: bool = false,
    /// What no thread is preempted before, since no other thread takes part in it.
    aside: *const fn (Step) bool = nowhere,
    /// A signal handler that interrupts the first thread, at any of its steps or asleep, once or never.
    handler: ?*const fn () void = null,
    /// Ends the process where that handler made it a forked copy and the interrupted thread has come to its end.
    end_in_child: *const fn () noreturn = endUnasked,
    planted: *const fn (Step) ?Defect = sound,

    pub fn with(base: Scenario, planted: *const fn (Step) ?Defect) Scenario {
        var result = base;
        result.planted = planted;
        return result;
    }
};

fn nothing() anyerror!void {}

fn endUnasked() noreturn {
    fail("a forked child has come to the end of a thread", .{});
}

fn nowhere(_: Step) bool {
    return false;
}

fn sound(_: Step) ?Defect {
    return null;
}

// What the exploring process tells the one that started it.

const Report = extern struct {
    schedules: u64,
    points_longest: u64,
    /// Results that a scenario counts, such as children forked.
    counted: u64,
    message: [256]u8,
    message_bytes: usize,
    depth: usize,
    /// Who went on at each point, perhaps with `signal_mark`; or `value_mark` and which of several values it was.
    trace: [points_max]u8,
};

const value_mark = 0x80;
/// The thread whose number is added goes on with its signal handler.
const signal_mark = 0x40;

var report: *Report = undefined;

// The choices of one schedule, and how far the next keeps to them.

const options_max = 2 * threads_max + 1;

const Choice = struct {
    count: u8 = 0,
    taken: u8 = 0,
    /// Preemptions used before it.
    used: u16 = 0,
    /// Of all steps before it.
    digest: u64 = 0,
    who: [options_max]u8 = undefined,
    cost: [options_max]u8 = undefined,

    fn add(choice: *Choice, who: u8, cost: u8) void {
        choice.who[choice.count] = who;
        choice.cost[choice.count] = cost;
        choice.count += 1;
    }
};

var scenario: Scenario = undefined;
var choices: [points_max]Choice = undefined;
var depth: usize = 0;
var planned: usize = 0;
var preemptions_used: u16 = 0;
/// Of the steps of this run, so that one which is unlike the runs before it is noticed. Without addresses: which of
/// several heaps or records a thread gets depends on those runs, and is all one.
var digest: u64 = 0;
var replayed: ?[]const u8 = null;
var saying_steps = false;
const Warming = enum { switching, straight, done };
var warming: Warming = .done;

// The threads.

const State = union(enum) {
    ready,
    asleep: usize,
    until: struct { word: *const u32, value: u32 },
    /// Until no other thread can go on.
    resting,
    ended,
};

const Late = struct { address: usize, bytes: usize, value: u64, countdown: u32 };

const Thread = struct {
    state: State = .ended,
    context: fiber.Context = undefined,
    /// What stands for the thread's slot, which names its heap. Its address is the thread's mark.
    slots: [slots_max]usize = @splat(0),
    slot_number: usize = 0,
    key_value: ?*anyopaque = null,
    late: ?Late = null,
    clock: Clock = @splat(0),
};

const Clock = [threads_max + 1]u32;
const slots_max = 8;

var threads: [threads_max + 1]Thread = @splat(.{});
var stacks: [threads_max][stack_bytes]u8 align(64) = undefined;
var current: u8 = outside;
/// No thread but the current one goes on any more: the process is a forked copy.
var alone = false;

/// The signal of this schedule has come.
var signalled = false;
var signal_pending = false;

pub fn slot(initial: usize) *usize {
    const thread = &threads[current];
    const word = &thread.slots[thread.slot_number];
    if (word.* == 0) word.* = initial;
    return word;
}

/// Goes on as another thread that never called the allocator; what it was is left as it is.
pub fn renew() void {
    const thread = &threads[current];
    thread.slot_number += 1;
    thread.slots[thread.slot_number] = 0;
    thread.key_value = null;
}

/// Is the thread again that it was before it was renewed.
pub fn returnToFirst() void {
    threads[current].slot_number = 0;
}

/// From here on the process is a copy made by fork: the other threads are gone.
pub fn beAlone() void {
    alone = true;
}

pub fn isAlone() bool {
    return alone;
}

// Explorations.

/// Fails if a schedule fails, or if there are fewer than `schedules_min` of them. `counted_min` is the least that
/// `countOne` must have counted.
pub fn explore(what: Scenario, limits: struct { schedules_min: u64, counted_min: u64 = 0 }) !void {
    const given = std.testing.environ.getPosix("HAK_SCHEDULE");
    const outcome = try inChild(what, given, true);
    if (outcome == .failed) {
        std.debug.print("{s}\n", .{report.message[0..report.message_bytes]});
        var buffer: [points_max]u8 = undefined;
        std.debug.print("HAK_SCHEDULE='{s}'\n", .{scheduleText(&buffer)});
        return error.ScheduleFailed;
    }
    if (given != null) return;
    if (report.schedules < limits.schedules_min) {
        std.debug.print("only {d} schedules, {d} expected\n", .{ report.schedules, limits.schedules_min });
        return error.TooFewSchedules;
    }
    if (report.counted < limits.counted_min) {
        std.debug.print("only {d} counted, {d} expected\n", .{ report.counted, limits.counted_min });
        return error.TooFewCounted;
    }
    var buffer: [200]u8 = undefined;
    var text = std.Io.Writer.fixed(&buffer);
    try text.print("{d} schedules of up to {d} steps", .{ report.schedules, report.points_longest });
    if (what.preemptions) |most| try text.print(", at most {d} preemptions", .{most});
    if (report.counted > 0) try text.print(", {d} children", .{report.counted});
    try text.writeByte('\n');
    _ = linux.write(1, text.buffered().ptr, text.buffered().len);
}

/// What is said of the first schedule that fails; null if all pass.
pub fn firstFailure(what: Scenario) !?[]const u8 {
    if (try inChild(what, null, false) == .passed) return null;
    return report.message[0..report.message_bytes];
}

/// Fails unless some schedule of the scenario with its planted defect fails, and fails again when replayed from its
/// text. Returns what was said of it.
pub fn expectFound(what: Scenario) ![]const u8 {
    const message = try firstFailure(what) orelse {
        std.debug.print("the planted defect passed {d} schedules\n", .{report.schedules});
        return error.PlantedDefectNotFound;
    };
    const keep = struct {
        var text: [points_max]u8 = undefined;
    };
    const schedule = scheduleText(&keep.text);
    if (try inChild(what, schedule, false) == .passed) {
        std.debug.print("{s}: the schedule {s} did not fail again\n", .{ message, schedule });
        return error.ScheduleNotReplayed;
    }
    try std.testing.expectEqualStrings(message, report.message[0..report.message_bytes]);
    return message;
}

const Outcome = enum { passed, failed };

fn inChild(what: Scenario, schedule: ?[]const u8, loud: bool) !Outcome {
    const shared = linux.mmap(null, @sizeOf(Report), .{ .READ = true, .WRITE = true }, .{
        .TYPE = .SHARED,
        .ANONYMOUS = true,
    }, -1, 0);
    if (linux.errno(shared) != .SUCCESS) return error.NoMemory;
    report = @ptrFromInt(shared);
    const pid = std.c.fork();
    if (pid < 0) return error.NoChild;
    if (pid == 0) {
        // A loop without an atomic operation would never end.
        const seconds: linux.rlimit = .{ .cur = 100, .max = 100 };
        _ = linux.prlimit(0, .CPU, &seconds, null);
        saying_steps = schedule != null and loud;
        // What a planted defect makes the allocator say is of no interest.
        if (!loud) silence();
        scenario = what;
        replayed = schedule;
        exploreHere();
        linux.exit_group(0);
    }
    return awaitChild(pid);
}

/// Nothing that the process says is heard any more.
fn silence() void {
    const file = linux.open("/dev/null", .{ .ACCMODE = .WRONLY }, 0);
    if (linux.errno(file) == .SUCCESS) _ = linux.dup2(@intCast(file), 2);
}

/// Waits for a forked child. How it failed is in the report then.
pub fn awaitChild(pid: std.c.pid_t) Outcome {
    var status: c_int = 0;
    while (std.c.waitpid(pid, &status, 0) < 0) {}
    if (status == 0) return .passed;
    if (report.message_bytes == 0) {
        say("a crash: the process ended with status 0x{x}", .{@as(u32, @bitCast(status))});
    }
    return .failed;
}

fn say(comptime format: []const u8, args: anytype) void {
    const text = std.fmt.bufPrint(&report.message, format, args) catch &report.message;
    report.message_bytes = text.len;
}

/// The schedule failed: ends the process.
pub fn fail(comptime format: []const u8, args: anytype) noreturn {
    if (report.message_bytes == 0) say(format, args);
    linux.exit_group(1);
}

/// The schedule failed, and why is in the report already.
pub fn failAsSaid() noreturn {
    linux.exit_group(1);
}

pub fn countOne() void {
    report.counted += 1;
}

fn exploreHere() void {
    // Heaps and records that the first runs make are there for all later ones, which are alike then. With a switch
    // at every step as many are made as are ever needed at once.
    for ([_]Warming{ .switching, .straight, .straight }) |how| {
        warming = how;
        runOnce();
    }
    warming = .done;
    while (true) {
        runOnce();
        report.schedules += 1;
        report.points_longest = @max(report.points_longest, depth);
        if (replayed != null or !nextSchedule()) return;
    }
}

/// Changes the last choice that has an option left within the bound.
fn nextSchedule() bool {
    const most = scenario.preemptions orelse points_max;
    while (depth > 0) : (depth -= 1) {
        const choice = &choices[depth - 1];
        for (choice.taken + 1..choice.count) |option| {
            if (choice.used + choice.cost[option] > most) continue;
            choice.taken = @intCast(option);
            planned = depth;
            return true;
        }
    }
    return false;
}

fn runOnce() void {
    depth = 0;
    report.depth = 0;
    preemptions_used = 0;
    digest = 0;
    signalled = false;
    scenario.before() catch |err| fail("before: {t}", .{err});
    locations.clear();
    data.clear();
    for (scenario.threads, 0..) |_, number| {
        const thread = &threads[number];
        thread.* = .{ .state = .ready, .clock = threads[outside].clock };
        thread.clock[number] += 1;
        const top = @intFromPtr(&stacks[number]) + stack_bytes - 64;
        const frame: *[2]usize = @ptrFromInt(top);
        frame.* = .{ 0, 0 };
        const entry = @intFromPtr(&fiberMain);
        thread.context = switch (@import("builtin").cpu.arch) {
            .x86_64 => .{ .rsp = top + 8, .rbp = 0, .rip = entry },
            else => .{ .sp = top, .fp = 0, .pc = entry },
        };
    }
    reschedule();
    for (scenario.threads, 0..) |_, number| join(&threads[outside].clock, &threads[number].clock);
    scenario.after() catch |err| fail("after: {t}", .{err});
}

fn fiberMain() callconv(.c) noreturn {
    handleSignal();
    scenario.threads[current]();
    if (threads[current].key_value) |value| {
        threads[current].key_value = null;
        key_destructor.?(value);
    }
    if (threads[current].late) |late| write(late.address, late.bytes, late.value);
    if (alone) scenario.end_in_child();
    threads[current].state = .ended;
    reschedule();
    unreachable;
}

fn point(step: Step) void {
    if (current == outside or alone) return;
    digest = std.hash.int(digest ^ @as(u64, @backingInt(step.kind)) << 8 ^ step.bytes);
    if (!scenario.aside(step)) reschedule();
    if (saying_steps and warming == .done) std.debug.print("{c} {t} 0x{x} {d}\n", .{ letter(current), step.kind, step.address, step.value });
    const thread = &threads[current];
    if (thread.late) |*late| {
        late.countdown -= 1;
        if (late.countdown > 0 and late.address != step.address) return;
        write(late.address, late.bytes, late.value);
        thread.late = null;
    }
}

/// Lets the scenario's choice of thread go on.
fn reschedule() void {
    var choice: Choice = .{};
    const here_ready = current != outside and threads[current].state == .ready;
    if (here_ready) choice.add(current, 0);
    var ended: usize = 0;
    for (scenario.threads, 0..) |_, at| {
        const number: u8 = @intCast(at);
        if (threads[number].state == .ended) ended += 1;
        if (number == current and here_ready) continue;
        if (canGoOn(number)) choice.add(number, @intFromBool(here_ready));
    }
    if (choice.count == 0) {
        for (scenario.threads, 0..) |_, number| {
            if (threads[number].state == .resting) choice.add(@intCast(number), 0);
        }
    }
    if (choice.count == 0) {
        if (ended == scenario.threads.len) return switchTo(outside);
        fail("all threads wait: {s}", .{waitersText()});
    }
    // In the first runs nothing comes without a cause, or they had no end.
    if (scenario.spurious and warming == .done) {
        for (scenario.threads, 0..) |_, number| {
            if (threads[number].state == .asleep) choice.add(@intCast(number), 1);
        }
    }
    if (scenario.handler != null and !signalled) switch (threads[0].state) {
        .ready, .asleep => choice.add(signal_mark, @intFromBool(here_ready and current != 0)),
        .until, .resting, .ended => {},
    };
    const taken = take(choice);
    if (taken == signal_mark) {
        signalled = true;
        signal_pending = true;
    }
    const next = taken & ~@as(u8, signal_mark);
    switch (threads[next].state) {
        .asleep, .until, .resting => threads[next].state = .ready,
        .ready => {},
        .ended => unreachable,
    }
    switchTo(next);
    handleSignal();
}

fn handleSignal() void {
    if (!signal_pending or current != 0) return;
    signal_pending = false;
    scenario.handler.?();
}

fn canGoOn(number: u8) bool {
    return switch (threads[number].state) {
        .ready => true,
        .until => |condition| condition.word.* == condition.value,
        .asleep, .resting, .ended => false,
    };
}

fn waitersText() []const u8 {
    const keep = struct {
        var text: [200]u8 = undefined;
    };
    var writer = std.Io.Writer.fixed(&keep.text);
    for (scenario.threads, 0..) |_, number| {
        const state = threads[number].state;
        if (state == .ended) continue;
        writer.print("{c} {s} ", .{
            letter(@intCast(number)),
            if (state == .asleep) "asleep on a lock" else "for another thread",
        }) catch break;
    }
    return std.mem.trimEnd(u8, writer.buffered(), " ");
}

fn switchTo(next: u8) void {
    if (next == current) return;
    const change: fiber.Switch = .{ .old = &threads[current].context, .new = &threads[next].context };
    current = next;
    _ = fiber.contextSwitch(&change);
}

/// One of several values, such as which sleeper wakes. Each but the first costs so many preemptions.
fn chooseValue(count: usize, cost: u8) usize {
    if (count == 1) return 0;
    var choice: Choice = .{};
    for (0..count) |value| choice.add(value_mark | @as(u8, @intCast(value)), if (value == 0) 0 else cost);
    return take(choice) & ~@as(u8, value_mark);
}

fn take(given: Choice) u8 {
    if (depth == points_max) fail("no end after {d} steps", .{points_max});
    const choice = &choices[depth];
    if (warming != .done) {
        choice.* = given;
        choice.taken = if (warming == .switching) given.count - 1 else 0;
    } else if (replayed) |text| {
        choice.* = given;
        choice.taken = for (given.who[0..given.count], 0..) |who, option| {
            if (who == scheduleAt(text, depth)) break @intCast(option);
        } else 0;
    } else if (depth < planned) {
        const same = choice.digest == digest and choice.count == given.count and
            std.mem.eql(u8, choice.who[0..choice.count], given.who[0..given.count]);
        if (!same) fail("two runs of one schedule differ at step {d}", .{depth});
    } else {
        choice.* = given;
        choice.used = preemptions_used;
        choice.digest = digest;
    }
    preemptions_used += choice.cost[choice.taken];
    report.trace[depth] = choice.who[choice.taken];
    depth += 1;
    report.depth = depth;
    return choice.who[choice.taken];
}

// A schedule as text: who went on, and for how many steps; "!" before it where a signal came first; which value was
// taken: "Ax12 Bx3 !Ax1 =1x1".

fn letter(thread: u8) u8 {
    return 'A' + thread;
}

fn scheduleText(buffer: []u8) []const u8 {
    var writer = std.Io.Writer.fixed(buffer);
    var at: usize = 0;
    while (at < report.depth) {
        const who = report.trace[at];
        var length: usize = 1;
        while (at + length < report.depth and report.trace[at + length] == who) length += 1;
        if (at > 0) writer.writeByte(' ') catch break;
        if (who & value_mark != 0) {
            writer.print("={d}x{d}", .{ who & ~@as(u8, value_mark), length }) catch break;
        } else {
            const sign = if (who & signal_mark != 0) "!" else "";
            writer.print("{s}{c}x{d}", .{ sign, letter(who & ~@as(u8, signal_mark)), length }) catch break;
        }
        at += length;
    }
    return writer.buffered();
}

/// What the text says of a step; what no option has, if it says nothing.
fn scheduleAt(text: []const u8, step: usize) u8 {
    var at: usize = 0;
    var parts = std.mem.tokenizeScalar(u8, text, ' ');
    while (parts.next()) |part| {
        const cross = std.mem.indexOfScalar(u8, part, 'x') orelse fail("HAK_SCHEDULE: {s}: no x and number", .{part});
        at += std.fmt.parseInt(usize, part[cross + 1 ..], 10) catch
            fail("HAK_SCHEDULE: {s}: no number after x", .{part});
        if (step >= at) continue;
        if (part[0] == '!') return signal_mark | (part[1] -% 'A');
        if (part[0] != '=') return part[0] -% 'A';
        return value_mark | (std.fmt.parseInt(u8, part[1..cross], 10) catch
            fail("HAK_SCHEDULE: {s}: no number after =", .{part}));
    }
    return std.math.maxInt(u8);
}

// What the threads know of each other.

fn join(clock: *Clock, other: *const Clock) void {
    for (clock, other) |*mine, theirs| mine.* = @max(mine.*, theirs);
}

fn Table(comptime Entry: type) type {
    return struct {
        const size = 1 << 12;
        keys: [size]usize = @splat(0),
        entries: [size]Entry = undefined,
        used: [size]u16 = undefined,
        count: usize = 0,

        fn clear(table: *@This()) void {
            for (table.used[0..table.count]) |at| table.keys[at] = 0;
            table.count = 0;
        }

        fn of(table: *@This(), address: usize) *Entry {
            var at = (address *% 0x9e37_79b9_7f4a_7c15) >> 52;
            while (table.keys[at] != address) : (at = (at + 1) % size) {
                if (table.keys[at] != 0) continue;
                if (table.count == size / 2) fail("too many words", .{});
                table.keys[at] = address;
                table.entries[at] = .{};
                table.used[table.count] = @intCast(at);
                table.count += 1;
                break;
            }
            return &table.entries[at];
        }
    };
}

/// What a thread learns that acquires a word.
const Location = struct { released: Clock = @splat(0) };
const Datum = struct { writer: u8 = outside, written: u32 = 0, reads: Clock = @splat(0) };

var locations: Table(Location) = .{};
var data: Table(Datum) = .{};

fn acquires(order: Order) bool {
    return order == .acquire or order == .acq_rel or order == .seq_cst;
}

fn releases(order: Order) bool {
    return order == .release or order == .acq_rel or order == .seq_cst;
}

fn acquire(address: usize) void {
    join(&threads[current].clock, &locations.of(address).released);
}

/// A read-modify-write keeps what others have released by the word; a plain store does not.
fn release(address: usize, order: Order, keeps: bool) void {
    const known = &threads[current].clock;
    const location = locations.of(address);
    if (!keeps) location.released = @splat(0);
    if (releases(order)) {
        join(&location.released, known);
        known[current] += 1;
    }
}

/// The scenario reads data that the code under test keeps in order.
pub fn readData(address: *const anyopaque) void {
    const word = @intFromPtr(address);
    point(.{ .kind = .read, .address = word, .bytes = 0 });
    const datum = data.of(word);
    if (datum.written > threads[current].clock[datum.writer]) {
        fail("a race: {c} reads what {c} wrote", .{ letter(current), letter(datum.writer) });
    }
    datum.reads[current] = threads[current].clock[current];
}

pub fn writeData(address: *const anyopaque) void {
    const word = @intFromPtr(address);
    point(.{ .kind = .write, .address = word, .bytes = 0 });
    const datum = data.of(word);
    const known = &threads[current].clock;
    if (datum.written > known[datum.writer]) {
        fail("a race: {c} writes what {c} wrote", .{ letter(current), letter(datum.writer) });
    }
    for (datum.reads, known, 0..) |seen, knows, reader| {
        if (seen > knows) fail("a race: {c} writes what {c} reads", .{ letter(current), letter(@intCast(reader)) });
    }
    datum.* = .{ .writer = current, .written = known[current] };
}

// The atomic operations, as `platform/atomic.zig` has them.

fn asWord(comptime T: type, value: T) u64 {
    return switch (@typeInfo(T)) {
        .bool => @intFromBool(value),
        .int => value,
        .pointer => @intFromPtr(value),
        .optional => if (value) |pointer| @intFromPtr(pointer) else 0,
        else => @compileError("no word: " ++ @typeName(T)),
    };
}

fn write(address: usize, bytes: usize, value: u64) void {
    switch (bytes) {
        1 => @as(*u8, @ptrFromInt(address)).* = @truncate(value),
        4 => @as(*u32, @ptrFromInt(address)).* = @truncate(value),
        8 => @as(*u64, @ptrFromInt(address)).* = value,
        else => unreachable,
    }
}

fn defectOf(step: Step) ?Defect {
    if (current == outside) return null;
    const defect = scenario.planted(step);
    return if (warming == .done) defect else null;
}

pub fn load(comptime T: type, word: *const T, comptime order: Order) T {
    const step: Step = .{ .kind = .load, .address = @intFromPtr(word), .bytes = @sizeOf(T) };
    point(step);
    const weakened = if (defectOf(step)) |defect| defect == .weakened else false;
    if (acquires(order) and !weakened) acquire(step.address);
    return @atomicLoad(T, word, .seq_cst);
}

pub fn store(comptime T: type, word: *T, value: T, comptime order: Order) void {
    const bytes = @sizeOf(T);
    const step: Step = .{
        .kind = .store,
        .address = @intFromPtr(word),
        .bytes = bytes,
        .value = asWord(T, value),
    };
    point(step);
    var effective: Order = order;
    if (defectOf(step)) |defect| switch (defect) {
        .dropped => return,
        .weakened => effective = .monotonic,
        .writes => |other| return write(step.address, bytes, other),
        .late => |countdown| {
            if (threads[current].late) |late| write(late.address, late.bytes, late.value);
            threads[current].late = .{
                .address = step.address,
                .bytes = bytes,
                .value = step.value,
                .countdown = countdown,
            };
            return;
        },
        .wide => {
            const around: *[8]u8 = @ptrFromInt(step.address & ~@as(usize, 7));
            var copy = around.*;
            point(step);
            copy[step.address & 7] = @truncate(step.value);
            around.* = copy;
            return;
        },
        .passes => |other| {
            write(step.address, bytes, other);
            point(step);
        },
        .torn => unreachable,
    };
    release(step.address, effective, false);
    @atomicStore(T, word, value, .seq_cst);
}

/// Writes as a part of a read-modify-write. Returns the value before.
fn replace(comptime T: type, word: *T, value: T, comptime order: Order, step: Step) T {
    const defect = defectOf(step);
    var effective: Order = order;
    if (defect) |planted| switch (planted) {
        .dropped => return word.*,
        .weakened => effective = .monotonic,
        else => {},
    };
    if (acquires(effective)) acquire(step.address);
    release(step.address, effective, true);
    if (defect) |planted| switch (planted) {
        .dropped, .weakened => {},
        .writes => |other| {
            const before = word.*;
            write(step.address, @sizeOf(T), other);
            return before;
        },
        .torn => {
            const before = word.*;
            point(step);
            word.* = value;
            return before;
        },
        .wide, .late, .passes => unreachable,
    };
    return @atomicRmw(T, word, .Xchg, value, .seq_cst);
}

fn stepOf(comptime T: type, kind: Kind, word: *const T, value: T) Step {
    return .{ .kind = kind, .address = @intFromPtr(word), .bytes = @sizeOf(T), .value = asWord(T, value) };
}

pub fn add(comptime T: type, word: *T, value: T, comptime order: Order) T {
    const step = stepOf(T, .add, word, value);
    point(step);
    return replace(T, word, word.* +% value, order, step);
}

pub fn Value(comptime T: type) type {
    return extern struct {
        raw: T,

        const Self = @This();

        pub fn init(value: T) Self {
            return .{ .raw = value };
        }

        pub fn load(self: *const Self, comptime order: Order) T {
            return @import("explorer.zig").load(T, &self.raw, order);
        }

        pub fn store(self: *Self, value: T, comptime order: Order) void {
            @import("explorer.zig").store(T, &self.raw, value, order);
        }

        pub fn swap(self: *Self, value: T, comptime order: Order) T {
            const step = stepOf(T, .swap, &self.raw, value);
            point(step);
            return replace(T, &self.raw, value, order, step);
        }

        pub fn fetchAdd(self: *Self, value: T, comptime order: Order) T {
            return add(T, &self.raw, value, order);
        }

        pub fn cmpxchgWeak(self: *Self, expected: T, new: T, comptime success: Order, comptime failure: Order) ?T {
            comptime std.debug.assert(failure == .monotonic);
            const may_fail = scenario.spurious and warming == .done and current != outside and !alone;
            return self.exchange(expected, new, success, may_fail);
        }

        pub fn cmpxchgStrong(self: *Self, expected: T, new: T, comptime success: Order, comptime failure: Order) ?T {
            comptime std.debug.assert(failure == .monotonic);
            return self.exchange(expected, new, success, false);
        }

        fn exchange(self: *Self, expected: T, new: T, comptime success: Order, may_fail: bool) ?T {
            const step = stepOf(T, .exchange, &self.raw, new);
            point(step);
            if (self.raw != expected) return self.raw;
            if (may_fail and chooseValue(2, 1) == 1) return self.raw;
            _ = replace(T, &self.raw, new, success, step);
            return null;
        }
    };
}

// The futex, as `platform/os.zig` has it.

pub fn wait(word: *const u32, value: u32) void {
    if (current == outside or alone) fail("a lock is held by a thread that is gone", .{});
    point(stepOf(u32, .wait, word, value));
    if (word.* != value) return;
    threads[current].state = .{ .asleep = @intFromPtr(word) };
    reschedule();
}

pub fn wake(word: *const u32) void {
    const step = stepOf(u32, .wake, word, 0);
    point(step);
    if (defectOf(step) != null or alone) return;
    var sleepers: [threads_max]u8 = undefined;
    var count: usize = 0;
    for (scenario.threads, 0..) |_, number| switch (threads[number].state) {
        .asleep => |on| if (on == step.address) {
            sleepers[count] = @intCast(number);
            count += 1;
        },
        else => {},
    };
    if (count > 0) threads[sleepers[chooseValue(count, 0)]].state = .ready;
}

/// A pause of the calling thread: however short, the others come as far as they can meanwhile.
pub fn sleep() void {
    if (current == outside or alone) return;
    threads[current].state = .resting;
    reschedule();
}

/// For scenarios: waits for another thread's store, and acquires it.
pub fn waitFor(word: *const Value(u32), value: u32) void {
    point(stepOf(u32, .wait, &word.raw, value));
    if (word.raw != value) {
        threads[current].state = .{ .until = .{ .word = &word.raw, .value = value } };
        reschedule();
    }
    acquire(@intFromPtr(&word.raw));
}

// The end of a thread, as libc has it.

var key_destructor: ?*const fn (?*anyopaque) callconv(.c) void = null;

pub fn setKeyDestructor(destructor: *const fn (?*anyopaque) callconv(.c) void) void {
    key_destructor = destructor;
}

pub fn setKeyValue(value: ?*const anyopaque) void {
    threads[current].key_value = @constCast(value);
}
