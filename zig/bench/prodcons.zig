//! `prodcons`: producers allocate blocks of 64 B and write them; a consumer reads and frees them. Each producer hands
//! over through a bounded ring of its own. Either each has a consumer of its own (1:1) or all share one (N:1).

const std = @import("std");
const measure = @import("measure.zig");
const team = @import("team.zig");
const run_module = @import("run.zig");
const Run = run_module.Run;
const Row = run_module.Row;

pub const workload: run_module.Workload = .{
    .name = "prodcons",
    .summary = "some threads allocate, others free",
    .rows = &.{ rowOf(.one_to_one), rowOf(.many_to_one) },
};

const Sharing = enum { one_to_one, many_to_one };

const block_bytes = 64;
const pairs_total = 6_000_000;

fn rowOf(comptime sharing: Sharing) Row {
    return .{
        .id = if (sharing == .one_to_one) "prodcons-1-1" else "prodcons-n-1",
        .label = if (sharing == .one_to_one) "64 B, N producers, each with a consumer" else "64 B, N producers, one consumer",
        .threads = true,
        .quick = sharing == .one_to_one,
        .live_bytes = Ring.capacity * block_bytes,
        .peak_bytes = run_module.peakBytes(Ring.capacity, block_bytes, @sizeOf(Ring)),
        .measure = struct {
            fn measureRow(run: *Run) void {
                measureSharing(run, sharing);
            }
        }.measureRow,
    };
}

fn measureSharing(run: *Run, sharing: Sharing) void {
    const rings = run.array(Ring, run.threads);
    const consumers: usize = if (sharing == .one_to_one) rings.len else 1;
    const workers = run.array(Worker, rings.len + consumers);
    run.operations = run.scaled(pairs_total);
    // Neighbours in the team get different processors: a consumer comes right after its producer.
    var rest = workers;
    for (rings, 0..) |*ring, index| {
        ring.init(run_module.shareOf(run.operations, rings.len, index));
        const own = rings[index..][0..1];
        rest[0] = .{ .run = run, .produces = true, .rings = own };
        rest = rest[1..];
        if (index >= consumers) continue;
        rest[0] = .{ .run = run, .produces = false, .rings = if (consumers == 1) rings else own };
        rest = rest[1..];
    }
    team.measureTeam(run, Worker, workers);
}

const Worker = struct {
    run: *Run,
    produces: bool,
    rings: []Ring,

    pub fn prepare(_: *Worker) void {}

    pub fn work(worker: *Worker) void {
        if (worker.produces) produce(&worker.rings[0], worker.rings[0].pairs) else worker.consume();
    }

    /// The high point: every ring is full.
    pub fn hold(worker: *Worker) void {
        if (worker.produces) produce(&worker.rings[0], Ring.capacity);
    }

    pub fn finish(worker: *Worker) void {
        if (worker.produces) return;
        for (worker.rings) |*ring| ring.pairs += Ring.capacity;
        worker.consume();
    }

    noinline fn produce(ring: *Ring, count: usize) void {
        for (0..count) |_| {
            const block: *Block = @ptrCast(@alignCast(measure.allocate(block_bytes)));
            block.* = @splat(ring.written);
            ring.push(block);
        }
    }

    /// Takes in turn from all its rings, until it has had what their producers were to give.
    noinline fn consume(worker: *Worker) void {
        var open = worker.rings.len;
        for (worker.rings) |*ring| open -= @intFromBool(ring.read == ring.pairs);
        var patience: team.Patience = .{};
        while (open > 0) {
            var taken: usize = 0;
            for (worker.rings) |*ring| {
                // Some at a time, so that no ring waits while a fast one never runs empty.
                for (0..64) |_| {
                    const number = ring.read;
                    const block = ring.pop() orelse break;
                    var difference: usize = 0;
                    for (block) |word| difference |= word ^ number;
                    if (difference != 0) worker.run.failDamaged(number);
                    measure.free(block);
                    taken += 1;
                    if (ring.read == ring.pairs) {
                        open -= 1;
                        break;
                    }
                }
            }
            if (taken == 0) patience.wait() else patience = .{};
        }
    }
};

/// Every word holds the block's number in its ring.
const Block = [block_bytes / @sizeOf(usize)]usize;

/// A bounded queue of one producer and one consumer (Lamport 1977). Each side keeps what it last saw of the other's
/// count, and looks again only when by that the ring is full or empty, so that the lines of the counts rarely move.
pub const Ring = struct {
    pub const capacity = 4096;

    /// How many blocks were pushed. Written by the producer; the consumer acquires what `push` releases.
    pushed: std.atomic.Value(usize) align(64),
    /// The producer's own: `pushed`, and what it last saw of `popped`.
    written: usize,
    popped_seen: usize,
    /// How many were popped. Written by the consumer; the producer acquires what `pop` releases.
    popped: std.atomic.Value(usize) align(64),
    /// The consumer's own: `popped`, and what it last saw of `pushed`.
    read: usize,
    pushed_seen: usize,
    /// How many the consumer is to take in all. Changed only while nobody runs.
    pairs: usize,
    blocks: [capacity]*Block align(64),

    pub fn init(ring: *Ring, pairs: usize) void {
        ring.pushed = .init(0);
        ring.popped = .init(0);
        ring.written = 0;
        ring.read = 0;
        ring.popped_seen = 0;
        ring.pushed_seen = 0;
        ring.pairs = pairs;
    }

    /// Waits while the ring is full.
    pub inline fn push(ring: *Ring, block: *Block) void {
        if (ring.written - ring.popped_seen == capacity) ring.waitForRoom();
        ring.blocks[ring.written % capacity] = block;
        ring.written += 1;
        ring.pushed.store(ring.written, .release);
    }

    noinline fn waitForRoom(ring: *Ring) void {
        var patience: team.Patience = .{};
        while (true) {
            ring.popped_seen = ring.popped.load(.acquire);
            if (ring.written - ring.popped_seen < capacity) return;
            patience.wait();
        }
    }

    /// Null if the ring is empty.
    pub inline fn pop(ring: *Ring) ?*Block {
        if (ring.read == ring.pushed_seen) {
            ring.pushed_seen = ring.pushed.load(.acquire);
            if (ring.read == ring.pushed_seen) return null;
        }
        const block = ring.blocks[ring.read % capacity];
        ring.read += 1;
        ring.popped.store(ring.read, .release);
        return block;
    }
};

test "a ring gives in order what was pushed, as much as it holds, and then nothing" {
    const ring = try std.testing.allocator.create(Ring);
    defer std.testing.allocator.destroy(ring);
    ring.init(0);
    var blocks: [3]Block = undefined;
    try std.testing.expectEqual(null, ring.pop());
    for (0..3) |_| {
        for (0..Ring.capacity) |index| ring.push(&blocks[index % 3]);
        for (0..Ring.capacity) |index| try std.testing.expectEqual(&blocks[index % 3], ring.pop().?);
        try std.testing.expectEqual(null, ring.pop());
    }
}
