//! A lock for slow paths: no allocation, no libc, and passable by a thread that forks or aborts.
//!
//! Between the prepare and the parent or child handler of fork, the forking thread holds every lock of the
//! allocator. Handlers of other libraries may run in between and allocate: that thread walks through locks
//! that it already holds (`Lock.Passage`). No other thread can be inside then, so what it sees is whole.

const std = @import("std");
const atomic = @import("atomic.zig");
const os = @import("os.zig");
const thread_slot = @import("thread_slot.zig");
const assert = std.debug.assert;

const free: u32 = 0;
const held: u32 = 1;
/// Held, and a thread may be asleep on the word.
const contended: u32 = 2;
const spins = 100;

pub const Lock = struct {
    state: atomic.Value(u32) = .init(free),

    pub inline fn lock(self: *Lock) void {
        // Partner: the release in `unlock`.
        if (self.state.cmpxchgWeak(free, held, .acquire, .monotonic) != null) self.lockSlow();
    }

    pub inline fn unlock(self: *Lock) void {
        if (Passage.mine()) return;
        // Partner: the acquires in `lock`, `tryLock` and `lockSlow`.
        if (self.state.swap(free, .release) == contended) os.wake(&self.state);
    }

    pub fn isHeld(self: *const Lock) bool {
        return self.state.load(.monotonic) != free;
    }

    fn lockSlow(self: *Lock) void {
        @branchHint(.unlikely);
        if (Passage.mine()) return;
        for (0..atomic.tries(spins)) |_| {
            if (self.state.cmpxchgWeak(free, held, .acquire, .monotonic) == null) return;
            std.atomic.spinLoopHint();
        }
        while (self.state.swap(contended, .acquire) != free) os.wait(&self.state, contended);
    }
};

/// Which thread is between fork's prepare handler and its parent or child handler, or about to abort.
pub const Passage = struct {
    var forking_thread: atomic.Value(usize) = .init(0);

    inline fn mine() bool {
        const forking = forking_thread.load(.monotonic);
        return forking != 0 and forking == thread_slot.threadMark();
    }

    /// The caller holds every lock, and stays the only one inside until `close`.
    pub fn open() void {
        assert(forking_thread.load(.monotonic) == 0);
        forking_thread.store(thread_slot.threadMark(), .monotonic);
    }

    /// For a thread that ends the process: its handler of SIGABRT may allocate while it holds a lock.
    pub fn openForGood() void {
        forking_thread.store(thread_slot.threadMark(), .monotonic);
    }

    pub fn close() void {
        assert(mine());
        forking_thread.store(0, .monotonic);
    }
};

test "lock: two threads never stand inside at once" {
    const Shared = struct {
        var lock: Lock = .{};
        var inside: usize = 0;
        var total: usize = 0;
        fn work() void {
            for (0..20_000) |_| {
                lock.lock();
                defer lock.unlock();
                inside += 1;
                assert(inside == 1);
                total += 1;
                inside -= 1;
            }
        }
    };
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Shared.work, .{});
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(80_000, Shared.total);
    try std.testing.expect(!Shared.lock.isHeld());
}
