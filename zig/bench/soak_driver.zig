//! `hak-soak-driver`: a process that lives for hours and works when it is told to.
//!
//!   hak-soak-driver WORKLOAD --epoch-ms=N [--threads=N] [--seed=N] [--trace]
//!   hak-soak-driver --identify                        the object and version of the allocator
//!
//! It fills its slots and prints a line of JSON: which object `malloc` came from, and RSS before the first block (base).
//! Then each byte that it reads on standard input begins an epoch: it works that long and prints a line. In between it
//! sleeps in `read`, so that it takes nothing from the others. The end of input ends it: it checks and frees all blocks,
//! and prints a last line. Whatever is wrong becomes `{"error":"…"}` and exit status 1, also a block that does not hold
//! what was written to it, which is looked for after each epoch.
//!
//! Guarantees: nothing here calls malloc but the workload (and libc, a block for each thread that starts). The figures of
//! an epoch are those of the work alone. RSS is read after it, from `/proc/self/smaps_rollup`.
//!
//! With `--trace` a tracer follows the process, and each line has the system calls of the epoch (`system_calls.zig`). It is
//! for a process of its own: tracing makes system calls slow.
//!
//! A workload is one of the benchmark's, entered at the same code. How single operations are timed: `latency.zig`.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const measure = @import("measure.zig");
const identity = @import("identity.zig");
const team = @import("team.zig");
const latency = @import("latency.zig");
const system_calls = @import("system_calls.zig");
const slots_module = @import("slots.zig");
const random_mixed = @import("random_mixed.zig");
const larson = @import("larson.zig");
const medium = @import("medium.zig");
const xthread = @import("xthread.zig");
const Run = @import("run.zig").Run;

const Workload = struct {
    name: []const u8,
    /// The row whose code and blocks it has.
    row: *const @import("run.zig").Row,
    threads_max: usize = team.threads_max,
    soak: *const fn (run: *Run, epoch_ms: u64) void,
};

const workloads = [_]Workload{
    .{
        .name = "random-mixed",
        .row = &random_mixed.workload.rows[0],
        .soak = Soak(Replacing(random_mixed.shapeOf(.ends)), null).main,
    },
    .{
        .name = "medium",
        .row = &medium.workload.rows[1],
        .threads_max = 1,
        .soak = Soak(Replacing(medium.shapeOf(.pages)), null).main,
    },
    .{
        .name = "larson",
        .row = &larson.workload.rows[0],
        .soak = Soak(Replacing(larson.shape), larson.pairs_a_thread).main,
    },
    .{
        .name = "xthread",
        .row = &xthread.workload.rows[1],
        .soak = Soak(Exchanging, null).main,
    },
};

comptime {
    // The unit tests have a `main` of their own.
    if (!builtin.is_test) @export(&main, .{ .name = "main" });
}

pub fn main(argc: c_int, argv: [*]const [*:0]const u8) callconv(.c) c_int {
    const arguments = argv[1..@intCast(argc)];
    if (arguments.len == 1 and std.mem.eql(u8, std.mem.span(arguments[0]), "--identify")) {
        identity.identify();
        return 0;
    }
    var workload: ?*const Workload = null;
    var run: Run = .{ .row = undefined };
    var epoch_ms: u64 = 0;
    var trace = false;
    for (arguments) |argument_z| {
        const argument = std.mem.span(argument_z);
        if (measure.valueOf(argument, "--epoch-ms=")) |text| {
            epoch_ms = measure.parseNumber(u64, text);
        } else if (measure.valueOf(argument, "--threads=")) |text| {
            run.threads = measure.parseNumber(usize, text);
        } else if (measure.valueOf(argument, "--seed=")) |text| {
            run.seed = measure.parseNumber(u64, text);
        } else if (std.mem.eql(u8, argument, "--trace")) {
            trace = true;
        } else {
            workload = for (&workloads) |*each| {
                if (std.mem.eql(u8, each.name, argument)) break each;
            } else measure.badArgument(argument);
        }
    }
    const found = workload orelse measure.fail("which workload?", .{});
    if (epoch_ms == 0) measure.fail("--epoch-ms must be at least 1", .{});
    if (run.threads < 1 or run.threads > found.threads_max) {
        measure.fail("{s} takes 1 to {d} threads", .{ found.name, found.threads_max });
    }
    run.row = found.row;
    if (trace) system_calls.follow();
    found.soak(&run, epoch_ms);
    return 0;
}

/// A thread that replaces blocks in slots of its own.
fn Replacing(comptime shape: slots_module.Shape) type {
    return struct {
        slots: slots_module.Slots,

        const Worker = @This();

        fn initAll(run: *Run, workers: []Worker) void {
            for (workers, 0..) |*worker, index| worker.slots = .init(run, shape.slot_count, shape.size_min, shape.size_max, index);
        }
        fn prepare(worker: *Worker) void {
            worker.slots.fill(shape.touch);
        }
        pub fn step(worker: *Worker, times: usize) void {
            worker.slots.replace(times, shape.touch);
        }
        fn check(worker: *const Worker, run: *const Run) void {
            worker.slots.check(run, shape.touch);
        }
        fn finish(worker: *Worker) void {
            worker.slots.freeAll();
        }
    };
}

/// A thread that exchanges blocks with the others.
const Exchanging = struct {
    worker: xthread.Worker,

    fn initAll(run: *Run, workers: []Exchanging) void {
        const slots = xthread.sharedSlots(run);
        const sizes = xthread.soak_sizes;
        for (workers, 0..) |*each, index| each.worker = .init(run, slots, index, sizes.least, sizes.most);
    }
    fn prepare(each: *Exchanging) void {
        each.worker.prepare();
    }
    pub fn step(each: *Exchanging, times: usize) void {
        each.worker.exchange(times);
    }
    fn check(_: *const Exchanging, _: *const Run) void {
        // Each block is checked as it is freed.
    }
    fn finish(each: *Exchanging) void {
        each.worker.finish();
    }
};

/// The life of the process. Where `operations_a_thread` is given, a thread does that many and a new one goes on, as in
/// `larson`; else there are the threads that `--threads` says, and with one only the process's own.
fn Soak(comptime Worker: type, comptime operations_a_thread: ?u64) type {
    return struct {
        run: *Run,
        epoch_ms: u64,
        workers: []Worker,
        members: []Member,
        barrier: team.Barrier,
        /// What a thread sees after the barrier: the end of the epoch in ticks, or that there is none.
        deadline: u64 = 0,
        ending: bool = false,
        /// Nanoseconds a tick, as last measured.
        rate: f64 = 1,
        sum: latency.Histogram = .{},

        const Self = @This();

        const Member = struct {
            soak: *Self,
            worker: *Worker,
            index: usize,
            processors: team.Processors,
            meter: latency.Meter,
            /// For the threads that take turns.
            stack: team.Stack,
            ended_ticks: u64 = 0,

            /// A thread of the soak, from its first block to its last.
            fn body(member: *Member) void {
                const soak = member.soak;
                const thread: system_calls.Thread = .init(member.index + 1);
                member.processors.bind(member.index);
                thread.waits();
                member.worker.prepare();
                soak.barrier.wait();
                while (true) {
                    soak.barrier.wait();
                    if (soak.ending) break;
                    thread.works();
                    member.work();
                    thread.waits();
                    soak.barrier.wait();
                }
                member.worker.finish();
            }

            fn work(member: *Member) void {
                if (operations_a_thread == null) {
                    member.turn();
                } else {
                    while (latency.ticksNow() < member.soak.deadline) {
                        team.join(member.stack.spawn(Member, turn, member));
                    }
                }
                member.ended_ticks = latency.ticksNow();
            }

            fn turn(member: *Member) void {
                member.meter.follow(member.worker, member.soak.deadline, operations_a_thread orelse std.math.maxInt(u64));
            }
        };

        fn main(bench_run: *Run, epoch_ms: u64) void {
            const count = bench_run.threads;
            const self = &bench_run.array(Self, 1)[0];
            self.* = .{
                .run = bench_run,
                .epoch_ms = epoch_ms,
                .workers = bench_run.array(Worker, count),
                .members = bench_run.array(Member, count),
                .barrier = .{ .count = @intCast(count + 1) },
            };
            Worker.initAll(bench_run, self.workers);
            for (self.members, self.workers, 0..) |*member, *worker, index| member.* = .{
                .soak = self,
                .worker = worker,
                .index = index,
                .processors = .init(),
                .meter = .init(bench_run.seed, index),
                .stack = .init(),
            };
            const started: latency.Moment = .now();
            bench_run.readBase();
            if (count == 1) self.live(started) else self.liveInThreads(started);
            bench_run.readAfter();
            self.printEnd();
        }

        fn live(self: *Self, started: latency.Moment) void {
            const member = &self.members[0];
            member.worker.prepare();
            self.printReady(started);
            while (readByte()) {
                const begun = self.begin();
                system_calls.begin();
                member.work();
                system_calls.end();
                self.end(begun);
            }
            member.worker.finish();
        }

        fn liveInThreads(self: *Self, started: latency.Moment) void {
            const thread: system_calls.Thread = .init(0);
            thread.waits();
            const threads = self.run.array(std.c.pthread_t, self.members.len);
            for (threads, self.members) |*each, *member| each.* = team.Stack.init().spawn(Member, Member.body, member);
            self.barrier.wait();
            self.printReady(started);
            while (readByte()) {
                const begun = self.begin();
                system_calls.begin();
                self.barrier.wait();
                self.barrier.wait();
                system_calls.end();
                self.end(begun);
            }
            self.ending = true;
            self.barrier.wait();
            for (threads) |each| team.join(each);
        }

        fn begin(self: *Self) latency.Moment {
            for (self.members) |*member| member.meter.reset();
            self.run.measured = .{};
            self.run.start();
            const begun: latency.Moment = .now();
            const epoch_ns: f64 = @floatFromInt(self.epoch_ms * std.time.ns_per_ms);
            self.deadline = begun.ticks + @as(u64, @intFromFloat(epoch_ns / self.rate));
            return begun;
        }

        fn end(self: *Self, begun: latency.Moment) void {
            self.rate = latency.Moment.now().rateSince(begun);
            var ended_ticks: u64 = 0;
            self.run.operations = 0;
            self.sum = .{};
            for (self.members) |*member| {
                ended_ticks = @max(ended_ticks, member.ended_ticks);
                self.run.operations += member.meter.operations;
                self.sum.addAll(&member.meter.histogram);
            }
            const worked: f64 = @floatFromInt(ended_ticks -| begun.ticks);
            self.run.stopAt(begun.ns + @as(u64, @intFromFloat(worked * self.rate)));
            self.run.readLive();
            for (self.workers) |*worker| worker.check(self.run);
            self.printEpoch();
        }

        fn printReady(self: *Self, started: latency.Moment) void {
            // So much that the rate is right to a thousandth.
            while (measure.wallTimeNs() - started.ns < 2 * std.time.ns_per_ms) {}
            self.rate = latency.Moment.now().rateSince(started);
            var line: measure.Line = .{};
            line.print("{{\"malloc_path\":", .{});
            line.string(identity.objectName(identity.objectOf("malloc")));
            line.print(",\"base_rss_bytes\":{d}}}\n", .{self.run.base_rss_bytes});
            line.send();
        }

        fn printEpoch(self: *Self) void {
            const measured = &self.run.measured;
            var line: measure.Line = .{};
            line.print("{{\"operations\":{d},\"cpu_ns\":{d},\"wall_ns\":{d},\"rss_bytes\":{d}", .{
                self.run.operations, measured.cpu_ns, measured.wall_ns, self.run.live_rss_bytes,
            });
            line.print(",\"minor_faults\":{d},\"major_faults\":{d}", .{ measured.minor_faults, measured.major_faults });
            line.print(",\"latency_samples\":{d}", .{self.sum.total()});
            inline for (.{ .{ "p50", 500 }, .{ "p99", 990 }, .{ "p99_9", 999 }, .{ "max", 1000 } }) |quantile| {
                const ticks: f64 = @floatFromInt(self.sum.quantile(quantile[1]));
                line.print(",\"latency_{s}_ns\":{d:.1}", .{ quantile[0], ticks * self.rate });
            }
            line.print(",\"system_calls\":", .{});
            system_calls.print(&line);
            line.print("}}\n", .{});
            line.send();
        }

        fn printEnd(self: *Self) void {
            var line: measure.Line = .{};
            line.print("{{\"after_rss_bytes\":{d}}}\n", .{self.run.after_rss_bytes});
            line.send();
        }
    };
}

/// Waits for a byte; false at the end of input.
fn readByte() bool {
    var byte: [1]u8 = undefined;
    while (true) {
        const got = linux.read(0, &byte, 1);
        switch (linux.errno(got)) {
            .SUCCESS => return got == 1,
            .INTR => {},
            else => |errno| measure.fail("cannot read standard input: {s}", .{@tagName(errno)}),
        }
    }
}

test {
    _ = latency;
    _ = system_calls;
}
