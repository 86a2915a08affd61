//! Plays one program of the fuzzer: a number of actions on places that hold blocks.
//!
//! Threads either take turns, one action at a time in the order of the numbers, so that the same
//! seed does the same again; or they race, each with places and actions of its own, and exchange
//! blocks through the queue. While they take turns the model is exact: the places and the queue
//! hold every live block, and what the allocator says of itself is compared with that.
//!
//! A forked child goes on with the blocks that it inherits, checks them all and frees them.

const std = @import("std");
const linux = std.os.linux;
const allocator = @import("allocator");
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const suite = @import("../suite.zig");
const shared = @import("../stress/shared.zig");
const forking = @import("../stress/forking.zig");
const Action = @import("action.zig").Action;
const place_count = @import("action.zig").place_count;
const lanes_max = @import("action.zig").lanes_max;
const many_max = @import("action.zig").many_max;
const size_max = @import("action.zig").size_max;

const Block = shared.Block;
const Random = shared.Random;
const Worker = shared.Worker;
const fail = shared.fail;
const kib = shared.kib;
const mib = shared.mib;

/// What may be live at once, over all threads, and how much of it in blocks below `large_bytes`, so that the small
/// ones do not leave the large ones without any.
const live_bytes_max = 128 * mib;
const live_bytes_small_max = 64 * mib;
const large_bytes = 256 * kib;
const short_thread_actions = 30;
const child_actions = 120;

pub const Plan = struct {
    racing: bool,
    lane_count: usize,
    os_fails: bool,
    forks: bool,

    /// Drawn from the seed, which is that of the round.
    pub fn draw(thread_count: usize) Plan {
        var random: Random = .of(1 << 34, 0);
        const racing = random.below(3) == 0 and thread_count > 1;
        const lane_roll = random.next();
        return .{
            .racing = racing,
            .lane_count = if (racing) 2 + lane_roll % (thread_count - 1) else 1 + lane_roll % thread_count,
            .os_fails = random.below(3) == 0,
            .forks = random.below(2) == 0,
        };
    }
};

/// Which actions are played; all if it is null.
pub const Selection = std.bit_set.ArrayBitSet(usize, actions_max);
pub const actions_max = 1 << 18;

pub const Settings = struct {
    action_count: u64,
    only: ?*const Selection,
    print: bool,
    /// The program has the allocator under test inside, with its hooks.
    in_process: bool,
};

var settings: Settings = undefined;
var plan: Plan = undefined;
var lanes: [lanes_max]Lane = undefined;
/// The limit of the address space before it was lowered.
var limit_lowered: ?process.AddressSpaceLimit = null;
/// In a forked child, the action of the parent that made it.
var child_of: ?u64 = null;
/// The places and the queue hold every live block.
var exact = true;
/// Children that ended well. Summed up by whichever thread forked.
var forks: std.atomic.Value(u64) = .init(0);
/// Of the addresses that were given out, in their order.
var digest: u64 = 0;
var digest_buffer: [40]u8 = undefined;

const Lane = struct {
    player: Player,
    running: bool,
    turn: std.atomic.Value(Turn),
    action: Action,
    /// The thread that this one took over from, in a race.
    former: ?std.c.pthread_t,
    next_action: u64,

    const Turn = enum(u32) { wait, act, end };

    fn pass(lane: *Lane, to: Turn) void {
        // Partner: `await`, on the other side.
        lane.turn.store(to, .release);
        _ = linux.futex_3arg(&lane.turn.raw, .{ .cmd = .WAKE, .private = true }, 1);
    }

    fn awaitChangeFrom(lane: *Lane, from: Turn) Turn {
        while (true) {
            // Partner: `pass`.
            const turn = lane.turn.load(.acquire);
            if (turn != from) return turn;
            _ = linux.futex_4arg(&lane.turn.raw, .{ .cmd = .WAIT, .private = true }, @backingInt(from), null);
        }
    }
};

pub fn describe(buffer: []u8) []const u8 {
    const worker = shared.current_worker orelse return "fuzz (before its first action)";
    if (child_of) |parent_action| return process.formatLine(
        buffer,
        "fuzz (action {d}, in action {d} of the forked child)",
        .{ parent_action, worker.operation },
    );
    if (worker.number >= lanes_max and worker.number < 2 * lanes_max) return process.formatLine(
        buffer,
        "fuzz (action {d}, in action {d} of the short thread)",
        .{ lanes[worker.number - lanes_max].player.worker.operation, worker.operation },
    );
    return process.formatLine(buffer, "fuzz (action {d}, thread {d})", .{ worker.operation, worker.number });
}

/// Returns what was done, in a line.
pub fn run(chosen_plan: Plan, chosen_settings: Settings) []const u8 {
    plan = chosen_plan;
    settings = chosen_settings;
    if (plan.os_fails) shared.oracle.reserveLeaves(64) catch fail("the system gave no memory for the oracle", .{});
    const tables = oracle_module.mapZeroed(lanes_max * place_count * @sizeOf(Block)) catch
        fail("the system gave no memory for the places", .{});
    const places = @as([*]Block, @ptrCast(@alignCast(tables)))[0 .. lanes_max * place_count];
    @memset(places, .none);
    for (&lanes, 0..) |*lane, number| {
        const worker = &shared.workers[number];
        worker.reset(number);
        const table = if (plan.racing) number else 0;
        lane.* = .{
            .player = .{
                .worker = worker,
                .places = places[table * place_count ..][0..place_count],
                .stream = if (plan.racing) number else 0,
            },
            .running = false,
            .turn = .init(.wait),
            .action = undefined,
            .former = null,
            .next_action = 0,
        };
    }
    for (shared.workers[lanes_max..], lanes_max..) |*worker, number| worker.reset(number);
    shared.current_worker = lanes[0].player.worker;
    if (plan.racing) race() else takeTurns();

    const last = &lanes[0].player;
    last.worker.operation = settings.action_count;
    exact = true;
    last.recoverOs();
    shared.scarce.store(false, .release);
    last.checkModel();
    for (lanes[0..if (plan.racing) plan.lane_count else 1]) |*lane| {
        for (lane.player.places) |*place| last.empty(place);
    }
    shared.drainQueue(last.worker);
    last.checkModel();
    const totals = shared.sumWorkers();
    return shared.summarize("{d} blocks made, {d} freed by another thread, {d} requests refused, {d} forks{s}", .{
        totals.blocks_made,
        totals.foreign_frees,
        totals.refusals,
        forks.load(.monotonic),
        // In a race the addresses depend on the scheduler.
        if (plan.racing) "" else process.formatLine(&digest_buffer, ", digest {x}", .{digest}),
    });
}

fn isPlayed(number: u64) bool {
    const only = settings.only orelse return true;
    return only.isSet(number);
}

fn takeTurns() void {
    for (0..settings.action_count) |number| {
        if (!isPlayed(number)) continue;
        const action: Action = .draw(0, number, number, plan.lane_count);
        const lane = &lanes[action.lane];
        if (action.lane == 0 or !(lane.running or canStartThreads())) {
            lanes[0].player.perform(action);
            continue;
        }
        if (action.kind == .end_thread) {
            if (settings.print) action.print(false);
            endLane(lane);
            continue;
        }
        if (!lane.running) {
            lane.running = true;
            shared.startThread(lane.player.worker, laneThread);
        }
        lane.action = action;
        lane.pass(.act);
        _ = lane.awaitChangeFrom(.act);
    }
    for (&lanes) |*lane| endLane(lane);
}

fn laneThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = shared.enter(context);
    settleThread();
    const lane = &lanes[worker.number];
    while (lane.awaitChangeFrom(.wait) == .act) {
        lane.player.perform(lane.action);
        lane.pass(.wait);
    }
    return null;
}

fn endLane(lane: *Lane) void {
    if (!lane.running) return;
    lane.pass(.end);
    shared.joinThread(lane.player.worker);
    lane.turn.store(.wait, .monotonic);
    lane.running = false;
}

fn race() void {
    exact = false;
    // Whoever races cannot know when the others' system calls succeed.
    shared.scarce.store(plan.os_fails, .release);
    for (lanes[0..plan.lane_count]) |*lane| shared.startThread(lane.player.worker, racingThread);
    for (lanes[0..plan.lane_count]) |*lane| {
        _ = lane.awaitChangeFrom(.wait);
        shared.joinThread(lane.player.worker);
    }
}

fn racingThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = shared.enter(context);
    settleThread();
    const lane = &lanes[worker.number];
    // All are there before the first of them makes the system fail, since libc could start no other then.
    if (lane.former) |former| _ = std.c.pthread_join(former, null) else shared.waitForAll(@intCast(plan.lane_count));
    while (lane.next_action < settings.action_count / plan.lane_count) {
        const action: Action = .draw(lane.player.stream, lane.next_action, lane.next_action, 1);
        lane.next_action += 1;
        lane.player.perform(action);
        if (action.kind == .end_thread and canStartThreads()) {
            // The next thread waits for the end of this one, and goes on.
            lane.former = std.c.pthread_self();
            shared.startThread(worker, racingThread);
            return null;
        }
    }
    lane.pass(.end);
    return null;
}

/// libc's own memory for a thread may come from the allocator under test, and libc aborts without it.
fn canStartThreads() bool {
    if (child_of != null) return false;
    return settings.in_process or !shared.scarce.load(.acquire);
}

/// The first call in a thread has libc set up thread-local storage for an object opened late, and libc leaves
/// ENOMEM behind where it found another way.
fn settleThread() void {
    if (!settings.in_process) shared.family.free(shared.family.malloc(1));
}

fn shortThread(context: ?*anyopaque) callconv(.c) ?*anyopaque {
    const worker = shared.enter(context);
    const creator = &lanes[worker.number - lanes_max];
    var player = creator.player;
    player.worker = worker;
    player.stream = (1 << 20) + creator.player.worker.operation * lanes_max + creator.player.worker.number;
    player.brief = true;
    const made_by = creator.player.worker.operation;
    settleThread();
    for (0..short_thread_actions) |number| player.perform(.draw(player.stream, number, made_by, 1));
    return null;
}

/// Who plays, on what.
const Player = struct {
    worker: *Worker,
    places: []Block,
    /// Of random numbers.
    stream: u64,
    /// A short thread or a child, which starts no threads and does not fork.
    brief: bool = false,

    fn perform(player: *Player, action: Action) void {
        player.worker.operation = action.number;
        if (settings.print) action.print(player.brief);
        const place = &player.places[action.place];
        switch (action.kind) {
            .malloc => player.make(.malloc, action),
            .calloc => player.make(.calloc, action),
            .aligned_alloc => player.make(.aligned, action),
            .memalign => player.make(if (shared.family.memalign != null) .memalign else .aligned, action),
            .posix_memalign => player.make(if (shared.family.posix_memalign != null) .posix_memalign else .aligned, action),
            .valloc => player.make(if (shared.family.valloc != null) .valloc else .malloc, action),
            .pvalloc => player.make(if (shared.family.pvalloc != null) .pvalloc else .malloc, action),
            .realloc_null => player.make(.realloc, action),
            .reallocarray => player.make(if (shared.family.reallocarray != null) .reallocarray else .realloc, action),
            .realloc => if (place.address != 0) {
                place.* = player.remake(place.*, action);
            },
            .realloc_to_zero => if (place.address != 0) {
                const left = shared.family.realloc(player.worker.part(place.*), 0);
                if (left != null) fail("realloc to 0 bytes returned 0x{x}", .{@intFromPtr(left)});
                place.* = .none;
            },
            .free => player.empty(place),
            .free_sized => if (place.address != 0) {
                player.worker.destroySized(place.*);
                place.* = .none;
            },
            .check => if (place.address != 0) place.verify(),
            .make_many => player.makeMany(action),
            .free_many => player.freeMany(action),
            .give => if (place.address != 0 and place.usable <= 64 * kib and !player.isForkedFromRace()) {
                if (shared.queue.push(place.*)) place.* = .none;
            },
            .take => if (place.address == 0 and !player.isForkedFromRace()) {
                place.* = shared.queue.pop() orelse .none;
            },
            .flush_class => if (shared.family.tiny) |tiny| {
                // One index before the first class and one after the last are out of range.
                tiny.flush(@as(c_int, @intCast(action.roll % @as(u64, @intCast(tiny.class_count() + 2)))) - 1);
            },
            .flush_all => if (shared.family.flush_all) |call| call(),
            .purge => if (shared.family.purge) |call| {
                _ = call();
            },
            .stats => player.checkModel(),
            // Done by whoever starts the threads.
            .end_thread => {},
            .short_thread => if (!player.brief and canStartThreads()) {
                const worker = &shared.workers[lanes_max + player.worker.number];
                shared.startThread(worker, shortThread);
                shared.joinThread(worker);
            },
            .fork => if (plan.forks and !player.brief) player.forkChild(action),
            .os_fails => if (plan.os_fails and player.ownsOs()) player.failOs(action),
            .os_recovers => if (plan.os_fails and player.ownsOs()) player.recoverOs(),
            .os_fails_once => if (plan.os_fails and player.ownsOs()) {
                player.failOs(action);
                if (place.address == 0) {
                    player.make(.malloc, action);
                } else if (place.usable > mib and place.usable + 2 * mib <= size_max and action.roll % 2 == 0) {
                    // So much that it must move.
                    place.* = player.worker.remake(place.*, place.usable + 2 * mib);
                } else {
                    place.* = player.remake(place.*, action);
                }
                player.recoverOs();
            },
        }
        if (!plan.racing) digest = oracle_module.mix(digest ^ place.address);
    }

    fn empty(player: *Player, place: *Block) void {
        if (place.address == 0) return;
        player.worker.destroy(place.*);
        place.* = .none;
    }

    fn make(player: *Player, how: Worker.How, action: Action) void {
        const place = &player.places[action.place];
        player.empty(place);
        const least: usize = if (how == .posix_memalign) @sizeOf(usize) else 1;
        place.* = player.worker.make(how, player.affordable(action.size), @max(least, action.alignment)) orelse .none;
    }

    fn remake(player: *Player, block: Block, action: Action) Block {
        return player.worker.remake(block, @max(1, player.affordable(action.size)));
    }

    /// Keeps what is live within what a test may use of a machine.
    fn affordable(player: *Player, size: usize) usize {
        const most: usize = if (size < large_bytes) live_bytes_small_max else live_bytes_max;
        // In a race each thread has a share. One that freed more than it made is below zero, which is little too.
        const is_much = if (plan.racing)
            @as(i64, @bitCast(player.worker.live_bytes)) > most / plan.lane_count
        else
            liveBytes() > most;
        return if (is_much and size > 4 * kib) size % (4 * kib) else size;
    }

    fn makeMany(player: *Player, action: Action) void {
        const size = player.affordable(action.size);
        var taken: [many_max]*Block = undefined;
        var count: usize = 0;
        const count_max = @min(action.count, @max(1, 2 * mib / (size + 1)));
        for (player.places[action.place..]) |*place| {
            if (count == count_max) break;
            if (place.address != 0) continue;
            taken[count] = place;
            count += 1;
        }
        const batch = shared.family.batch;
        if (batch == null or action.roll % 2 == 0) {
            for (taken[0..count]) |place| place.* = player.worker.make(.malloc, size, 0) orelse .none;
            return;
        }
        var pointers: [many_max]?[*]u8 = @splat(null);
        const got = batch.?.malloc(size, count, &pointers);
        if (got > count) fail("hak_malloc_batch returned {d} of {d} blocks", .{ got, count });
        if (got < count and !shared.scarce.load(.acquire)) {
            fail("hak_malloc_batch gave {d} of {d} blocks of {d} bytes", .{ got, count, size });
        }
        for (taken[0..got], pointers[0..got]) |place, pointer| {
            if (pointer == null) fail("hak_malloc_batch gave NULL among its {d} blocks", .{got});
            place.* = player.worker.adopt(pointer, size, if (size <= 8) 8 else 16).?;
            oracle_module.fillPattern(place.bytes(), place.key());
        }
    }

    /// In one of three orders, one by one or as a batch.
    fn freeMany(player: *Player, action: Action) void {
        const within = player.places[action.place..@min(action.place + action.count, player.places.len)];
        var pointers: [many_max]?[*]u8 = undefined;
        var count: usize = 0;
        for (0..within.len) |step| {
            const place = &within[
                switch (action.roll % 3) {
                    0 => step,
                    1 => within.len - 1 - step,
                    // A permutation: 257 is prime.
                    else => if (within.len == 256) (step * 113) % 256 else step,
                }
            ];
            if (place.address == 0) continue;
            if (shared.family.batch != null and action.roll & 4 != 0) {
                pointers[count] = player.worker.part(place.*);
                count += 1;
                place.* = .none;
            } else player.empty(place);
        }
        if (count > 0) shared.family.batch.?.free(&pointers, count);
    }

    /// Its model lacks what the other threads had, and the queue may be in the middle of a push.
    fn isForkedFromRace(_: *const Player) bool {
        return plan.racing and child_of != null;
    }

    /// In a race one thread alone decides what the system does.
    fn ownsOs(player: *const Player) bool {
        return !plan.racing or player.worker == lanes[0].player.worker;
    }

    fn failOs(_: *Player, action: Action) void {
        var random: Random = .{ .state = action.roll };
        if (settings.in_process) {
            const counts = [_]usize{ 1, 1, 1, 2, 5, 1000, std.math.maxInt(usize) };
            allocator.refuseCalls(1 + random.below(8), counts[random.below(counts.len)]);
        } else {
            // Lowered at once, since the kernel knows no number of calls.
            if (limit_lowered != null) return;
            const growth = random.below(if (random.below(2) == 0) 256 * kib else 6 * mib);
            limit_lowered = process.limitAddressSpace(growth) catch |err| {
                fail("cannot lower the limit of the address space: {t}", .{err});
            };
        }
        shared.scarce.store(true, .release);
    }

    fn recoverOs(_: *Player) void {
        if (settings.in_process) allocator.refuseNothing();
        if (limit_lowered) |limit| limit.restore();
        limit_lowered = null;
        if (!plan.racing) shared.scarce.store(false, .release);
    }

    fn forkChild(player: *Player, action: Action) void {
        const child = std.c.fork();
        if (child < 0) fail("fork was refused", .{});
        if (child == 0) player.runChild(action);
        forking.awaitChild(child, "the child of action", action.number, 0);
        // Partner: `run`, after the threads have ended.
        _ = forks.fetchAdd(1, .monotonic);
    }

    fn runChild(player: *Player, action: Action) noreturn {
        // Should the parent die, the child must not stay.
        _ = std.c.alarm(2 * shared.child_limit_seconds);
        child_of = action.number;
        player.worker.operation = 0;
        if (plan.racing) {
            shared.oracle.forgetAll();
            for (player.places) |block| if (block.address != 0) block.claim();
        }
        // Found at once, and not by waiting for a child that hangs.
        player.verifyAllocator();
        for (player.places) |block| if (block.address != 0) block.verify();
        player.brief = true;
        player.worker.number = 1_000_000 + action.number;
        player.stream = (1 << 21) + action.number * lanes_max + action.lane;
        for (0..child_actions) |number| player.perform(.draw(player.stream, number, action.number, 1));
        for (player.places) |*place| player.empty(place);
        player.worker.operation = child_actions;
        if (!plan.racing) shared.drainQueue(player.worker);
        player.checkModel();
        if (action.roll % 5 == 0) std.c.exit(0);
        process.exitNow(0);
    }

    /// What the allocator says of itself must agree with what is live.
    fn checkModel(player: *Player) void {
        var stats: suite.Stats = .{};
        if (shared.family.stats) |gather| {
            shared.expectSaneStats(gather);
            if (gather(&stats, @sizeOf(suite.Stats)) != 0) fail("hak_stats refused", .{});
        }
        const alone = !plan.racing or child_of != null or exact;
        if (!alone) return;
        if (shared.family.stats != null) {
            expectAtMost("superslabs_empty", stats.superslabs_empty, "superslabs", stats.superslabs);
            expectAtMost(
                "superslabs and superslabs_unmapped_ever",
                stats.superslabs + stats.superslabs_unmapped_ever,
                "superslabs_mapped_ever",
                stats.superslabs_mapped_ever,
            );
            expectAtMost(
                "slab_bytes, large_bytes and dirty_bytes",
                stats.slab_bytes + stats.large_bytes + stats.dirty_bytes,
                "the bytes of superslabs",
                stats.superslabs * 2 * mib,
            );
            const idle = stats.magazine_bytes + stats.cold_bytes + stats.slab_free_bytes + stats.slab_fresh_bytes;
            expectAtMost("the bytes of idle blocks", idle, "slab_bytes", stats.slab_bytes);
            if (exact) expectAtMost(
                "the bytes that are live",
                liveBytes(),
                "those in use by hak_stats",
                stats.slab_bytes - idle + stats.large_bytes + stats.huge_bytes,
            );
        }
        player.verifyAllocator();
        if (settings.in_process and exact and allocator.usedBytes() != liveBytes()) {
            fail("{d} bytes are live, but {d} in use in the allocator", .{ liveBytes(), allocator.usedBytes() });
        }
    }

    fn verifyAllocator(player: *const Player) void {
        if (!settings.in_process) return;
        if (player.isForkedFromRace()) allocator.verifyForked() else allocator.verify();
    }
};

fn expectAtMost(what: []const u8, value: u64, most_of: []const u8, most: u64) void {
    if (value > most) fail("{s} ({d}) above {s} ({d})", .{ what, value, most_of, most });
}

/// Of all workers together.
fn liveBytes() u64 {
    var sum: u64 = 0;
    for (shared.workers) |worker| sum +%= worker.live_bytes;
    return sum;
}
