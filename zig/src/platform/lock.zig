//! A lock for slow paths: no allocation, no libc, and passable by a thread that forks or aborts.
//!
//! The word of a lock that is held is the mark of the thread inside, so a thread knows its own locks at every
//! instruction. fork's prepare handler asks for that: a signal handler that forks may have interrupted its thread
//! while it was inside.
//!
//! Between the prepare and the parent or child handler of fork, the forking thread holds every lock of the
//! allocator. Handlers of other libraries may run in between and allocate: that thread walks through locks
//! that fork took (`Lock.Passage`). No other thread can be inside then, so what it sees is whole.

const std = @import("std");
const builtin = @import("builtin");
const atomic = @import("atomic.zig");
const cost = @import("cost.zig");
const os = @import("os.zig");
const alone = @import("threads.zig");
const thread_slot = @import("thread_slot.zig");
const canary = @import("canary.zig");
const assert = std.debug.assert;

const free: usize = 0;
/// Added to the mark of the thread inside, which is even: a thread may be asleep on the word.
const contended: usize = 1;
const spins = 100;

pub const Lock = struct {
    state: atomic.Value(usize) = .init(free),
    /// The forks under way that found their own thread inside already: their handlers leave the lock to the code
    /// that they interrupted. Only the thread inside reads and writes it; 0 while nobody is.
    interruptions: u32 = 0,

    pub inline fn lock(self: *Lock) void {
        if (canary.is(.locks_open)) return;
        // Without other threads nobody can take it between a load and a store, so the bus need not be locked.
        if (alone.areNone() and self.state.load(.monotonic) == free) {
            return self.state.store(thread_slot.threadMark(), .monotonic);
        }
        // Partner: the release in `release`.
        if (self.state.cmpxchgWeak(free, thread_slot.threadMark(), .acquire, .monotonic) != null) return self.lockSlow();
        cost.entered(&self.state);
    }

    /// False where somebody is inside, the caller included.
    pub fn tryLock(self: *Lock) bool {
        // Partner: the release in `release`.
        if (self.state.cmpxchgStrong(free, thread_slot.threadMark(), .acquire, .monotonic) != null) return false;
        cost.entered(&self.state);
        return true;
    }

    pub inline fn unlock(self: *Lock) void {
        if (Passage.mine()) return;
        self.release();
    }

    pub fn isHeld(self: *const Lock) bool {
        return self.state.load(.monotonic) != free;
    }

    /// The calling thread is inside.
    pub fn isMine(self: *const Lock) bool {
        // Only this thread enters or removes its mark.
        return self.state.load(.monotonic) & ~contended == thread_slot.threadMark();
    }

    /// The calling thread is inside since the present fork's prepare handler, and not since before.
    pub fn isForFork(self: *const Lock) bool {
        return self.isMine() and self.interruptions == 0;
    }

    /// Undoes what the prepare handler did, in the parent.
    pub fn endFork(self: *Lock) void {
        if (!self.isMine()) return;
        if (self.interruptions == 0) self.release() else self.interruptions -= 1;
    }

    /// The same in the child, where a lock that fork could not get belongs to a thread that is gone.
    pub fn endForkInChild(self: *Lock) void {
        if (self.isMine()) return self.endFork();
        self.interruptions = 0;
        self.state.store(free, .monotonic);
    }

    pub fn release(self: *Lock) void {
        if (alone.areNone()) return self.state.store(free, .monotonic);
        // Partners: the acquires in `lock`, `tryLock` and `lockSlow`.
        const before = self.state.swap(free, .release);
        cost.left();
        if (before & contended != 0) self.wakeSleeper();
    }

    /// Whoever sleeps without need looks again and goes back to sleep.
    pub fn wakeSleeper(self: *const Lock) void {
        os.wake(self.word());
    }

    noinline fn lockSlow(self: *Lock) void {
        @branchHint(.unlikely);
        if (Passage.mine() or self.isMine()) {
            if (Passage.covers(self)) return;
            dieInside();
        }
        cost.add(.lock_waits, 1);
        const mark = thread_slot.threadMark();
        for (0..atomic.tries(spins, 1)) |_| {
            if (self.state.cmpxchgWeak(free, mark, .acquire, .monotonic) == null) return cost.entered(&self.state);
            std.atomic.spinLoopHint();
        }
        while (true) {
            const seen = self.state.load(.monotonic);
            if (seen == free) {
                // Others may be asleep still, so whoever slept once wakes the next.
                if (self.state.cmpxchgWeak(free, mark | contended, .acquire, .monotonic) == null) {
                    return cost.entered(&self.state);
                }
            } else if (seen & contended != 0 or
                self.state.cmpxchgWeak(seen, seen | contended, .monotonic, .monotonic) == null)
            {
                cost.add(.lock_sleeps, 1);
                os.wait(self.word(), @truncate(seen | contended));
            }
        }
    }

    /// The half of the state that the kernel compares: it has the bit, and some of the mark.
    fn word(self: *const Lock) *const atomic.Value(u32) {
        comptime assert(builtin.cpu.arch.endian() == .little);
        return @ptrCast(&self.state);
    }
};

/// Which thread is between fork's prepare handler and its parent or child handler, or about to abort.
pub const Passage = struct {
    var thread: atomic.Value(usize) = .init(0);
    /// The thread is about to abort, and passes whatever there is. Written and read by that thread alone.
    var for_good: bool = false;

    pub inline fn mine() bool {
        const passing = thread.load(.monotonic);
        return passing != 0 and passing == thread_slot.threadMark();
    }

    pub fn isForGood() bool {
        return mine() and for_good;
    }

    /// What the lock guards is whole, or no longer matters. It is not where a signal handler that forks
    /// interrupted its thread inside, nor where fork could not get the lock.
    fn covers(lock: *const Lock) bool {
        return mine() and (for_good or lock.isForFork());
    }

    /// The caller holds every lock that it could get, and the first one for this fork.
    pub fn open() void {
        assert(thread.load(.monotonic) == 0);
        thread.store(thread_slot.threadMark(), .monotonic);
    }

    /// For a thread that ends the process: its handler of SIGABRT may allocate while it holds a lock.
    pub fn openForGood() void {
        for_good = true;
        thread.store(thread_slot.threadMark(), .monotonic);
    }

    pub fn close() void {
        assert(mine());
        thread.store(0, .monotonic);
    }

    /// For a child: of a thread that is gone nothing is left.
    pub fn closeForOthers() void {
        if (mine()) return;
        for_good = false;
        thread.store(0, .monotonic);
    }
};

/// A signal handler interrupted its thread inside and wants in: it would wait for itself.
noinline fn dieInside() noreturn {
    @branchHint(.cold);
    os.writeError("hakmem: a signal handler that interrupted the allocator allocates or frees in the same thread, " ++
        "which would wait for ever; let it call async-signal-safe functions only\n");
    Passage.openForGood();
    os.die();
}

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

test "lock: a fork leaves the lock to the code of its thread that it interrupted, however many nest" {
    var lock: Lock = .{};
    try std.testing.expect(!lock.isMine());
    // Taken by a fork, it goes with that fork.
    try std.testing.expect(lock.tryLock());
    try std.testing.expect(!lock.tryLock());
    try std.testing.expect(lock.isForFork());
    lock.endFork();
    try std.testing.expect(!lock.isHeld());

    lock.lock();
    for (0..3) |_| lock.interruptions += 1;
    try std.testing.expect(lock.isMine() and !lock.isForFork());
    lock.endFork();
    lock.endForkInChild();
    lock.endFork();
    try std.testing.expect(lock.isMine() and lock.isForFork());
    lock.unlock();
    try std.testing.expect(!lock.isHeld());

    // What another thread holds is not ours to end, but in a child, where that thread is gone.
    const other = try std.Thread.spawn(.{}, Lock.lock, .{&lock});
    other.join();
    try std.testing.expect(lock.isHeld() and !lock.isMine());
    lock.endFork();
    try std.testing.expect(lock.isHeld());
    lock.endForkInChild();
    try std.testing.expect(lock.tryLock());
    lock.unlock();
}
