//! fork at every instruction of another thread's slow paths, in code optimised as the shipped objects are.
//!
//! The processor's trap flag stops the thread after each instruction. In the handler this thread stands for another
//! one that forks: it has a heap of its own, and where a lock is held it would wait, so there is no fork. The child
//! must be able to use all that is left. Where no memory that a child could see has changed since the last fork, the
//! child would be the same, and there is none.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const internals = @import("hakmem").internals;
const libc = @import("libc.zig");
const child = @import("child.zig");
const heap = internals.heap;
const lifecycle = internals.lifecycle;
const thread_slot = internals.thread_slot;
const Heap = heap.Heap;

/// What a planted defect takes away.
const Defect = enum { none, busy_unsaid, locks_not_taken };

const Result = struct { instructions: usize = 0, locked: usize = 0, children: usize = 0, failed: usize = 0 };

var defect: Defect = .none;
var result: Result = .{};
/// The heap of the thread that forks.
var forking_heap: *Heap = undefined;
/// What a child could see, at the last fork.
var seen: Visible = undefined;

const Visible = struct {
    thread_heap: Heap,
    blocks: [256]usize,
    held: [child.held_count]usize,

    fn now() Visible {
        var visible: Visible = undefined;
        @memset(std.mem.asBytes(&visible), 0);
        const own = thread_slot.get();
        visible.thread_heap = own.*;
        visible.held = child.heldBlocks();
        // Both may be of different arrays for a moment; the words below the newer one are as good as any.
        const shelf = &own.shelves[child.class];
        if (shelf.base) |base| {
            const words = @min(shelf.words_owned, visible.blocks.len);
            @memcpy(visible.blocks[0..words], base[0..words]);
        }
        return visible;
    }
};

fn empty() *Heap {
    return @constCast(&heap.empty_heap);
}

fn renew() void {
    thread_slot.set(empty());
}

/// Stops and starts the trapping after each instruction.
fn toggle() void {
    @breakpoint();
}

const trap_trace = 2;
/// The word of the flags in x86-64's `ucontext_t`, and the trap flag in it.
const flags_word = (40 + 17 * 8) / 8;
const trap_flag = 1 << 8;

fn onTrap(_: linux.SIG, info: *const linux.siginfo_t, context: ?*anyopaque) callconv(.c) void {
    if (info.code != trap_trace) {
        const words: [*]u64 = @ptrCast(@alignCast(context.?));
        words[flags_word] ^= trap_flag;
        return;
    }
    result.instructions += 1;
    if (result.failed > 0) return;
    const locks = lifecycle.allLocks();
    var states: [locks.len]u32 = undefined;
    var held = false;
    for (locks, &states) |lock, *state| {
        state.* = lock.state.raw;
        held = held or state.* != 0;
    }
    if (held) {
        result.locked += 1;
        if (defect != .locks_not_taken) {
            @memset(std.mem.asBytes(&seen), 0xff);
            return;
        }
        for (locks) |lock| lock.state.raw = 0;
    }
    const visible = Visible.now();
    if (!held and std.mem.eql(u8, std.mem.asBytes(&visible), std.mem.asBytes(&seen))) return;
    seen = visible;
    fork();
    for (locks, states) |lock, state| lock.state.raw = state;
}

fn fork() void {
    const stopped_heap = thread_slot.get();
    thread_slot.set(forking_heap);
    defer thread_slot.set(stopped_heap);
    libc.beforeFork();
    const pid = std.c.fork();
    if (pid == 0) {
        if (defect == .busy_unsaid and stopped_heap.kind == .live) stopped_heap.busy = false;
        if (defect != .none) _ = linux.close(2);
        // Broken lists can have no end.
        const seconds: linux.rlimit = .{ .cur = 2, .max = 2 };
        _ = linux.prlimit(0, .CPU, &seconds, null);
        libc.afterForkInChild();
        child.check(renew) catch |err| {
            std.debug.print("in the child: {t}\n", .{err});
            linux.exit_group(1);
        };
        linux.exit_group(0);
    }
    libc.afterForkInParent();
    result.children += 1;
    var status: c_int = 1;
    if (pid > 0) {
        while (std.c.waitpid(pid, &status, 0) < 0) {}
    }
    if (status != 0) result.failed += 1;
}

fn stepThrough(planted: Defect, comptime victim: fn () void) !Result {
    if (builtin.cpu.arch != .x86_64) {
        const root = @import("root");
        if (@hasDecl(root, "skip_reason")) root.skip_reason = "needs the trap flag of x86-64";
        return error.SkipZigTest;
    }
    const action: linux.Sigaction = .{
        .handler = .{ .sigaction = onTrap },
        .mask = linux.sigemptyset(),
        .flags = linux.SA.SIGINFO,
    };
    var before: linux.Sigaction = undefined;
    if (linux.errno(linux.sigaction(.TRAP, &action, &before)) != .SUCCESS) return error.NoHandler;
    defer _ = linux.sigaction(.TRAP, &before, null);

    defect = planted;
    result = .{};
    renew();
    child.reset();
    forking_heap = lifecycle.enter() orelse return error.NoMemory;
    renew();
    @memset(std.mem.asBytes(&seen), 0xff);
    toggle();
    victim();
    toggle();
    // The end of both threads.
    heap.flushMagazines();
    libc.key_destructor.?(thread_slot.get());
    libc.key_destructor.?(forking_heap);
    return result;
}

fn endOfThread() void {
    child.flushes();
    libc.key_destructor.?(thread_slot.get());
    renew();
    child.freeAll();
}

fn say(what: Result) !void {
    var buffer: [200]u8 = undefined;
    const text = try std.fmt.bufPrint(&buffer, "{d} instructions, {d} of them under a lock, {d} children\n", .{
        what.instructions, what.locked, what.children,
    });
    _ = linux.write(1, text.ptr, text.len);
}

test "interleave: fork at every instruction of refills, growth and flushes of a magazine" {
    const found = try stepThrough(.none, child.missesAndOverflows);
    try say(found);
    try std.testing.expectEqual(0, found.failed);
    try std.testing.expect(found.instructions > 3_000 and found.locked > 1_000 and found.children > 200);
}

test "interleave: fork at every instruction of flushing all, and of the end of a thread" {
    const found = try stepThrough(.none, endOfThread);
    try say(found);
    try std.testing.expectEqual(0, found.failed);
    try std.testing.expect(found.instructions > 3_000 and found.locked > 1_000 and found.children > 50);
}

test "interleave: fork at every instruction, planted: a slow path that does not say that it is busy" {
    const found = try stepThrough(.busy_unsaid, child.missesAndOverflows);
    try std.testing.expect(found.failed > 0);
}

test "interleave: fork at every instruction, planted: a handler that takes no locks" {
    const found = try stepThrough(.locks_not_taken, child.shortFlush);
    try std.testing.expect(found.failed > 0);
}
