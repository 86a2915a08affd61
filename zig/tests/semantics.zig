//! `hak-semantics`: checks each cell of the tables in docs/SEMANTICS.md that speak of C functions.
//!
//! `rows` below is the one list of what is claimed; tests/semantics_test.ts asks that the tables say the same in
//! the same words. Without an option each cell is checked against the malloc of this process, which must be
//! hakmem's: `pass ROW | COLUMN | CLAIM`, or `fail …: WHY`. `--list` prints the cells. `--self-test` plants a
//! defect in the function of each cell and asks that the cell's check notices it.

const std = @import("std");
const process = @import("process.zig");
const children = @import("child.zig");
const doors = @import("doors.zig");
const impossible = @import("suite/impossible.zig");

pub const std_options: std.Options = .{ .enable_segfault_handler = false };

const Pointer = ?[*]u8;

const Mallinfo = extern struct { fields: [10]c_int };
const Mallinfo2 = extern struct { fields: [10]usize };

/// Where the parts of mallinfo lie among its fields.
const field_arena = 0;
const field_mapped_bytes = 4;
const field_used = 7;
const field_free = 8;

const Stats = extern struct { struct_bytes: u64, rest: [31]u64 };

const Calls = struct {
    malloc: *const fn (usize) callconv(.c) Pointer,
    calloc: *const fn (usize, usize) callconv(.c) Pointer,
    realloc: *const fn (Pointer, usize) callconv(.c) Pointer,
    reallocarray: *const fn (Pointer, usize, usize) callconv(.c) Pointer,
    free: *const fn (Pointer) callconv(.c) void,
    free_sized: *const fn (Pointer, usize) callconv(.c) void,
    free_aligned_sized: *const fn (Pointer, usize, usize) callconv(.c) void,
    memalign: *const fn (usize, usize) callconv(.c) Pointer,
    aligned_alloc: *const fn (usize, usize) callconv(.c) Pointer,
    posix_memalign: *const fn (*Pointer, usize, usize) callconv(.c) c_int,
    valloc: *const fn (usize) callconv(.c) Pointer,
    pvalloc: *const fn (usize) callconv(.c) Pointer,
    malloc_usable_size: *const fn (Pointer) callconv(.c) usize,
    malloc_trim: *const fn (usize) callconv(.c) c_int,
    mallinfo: *const fn () callconv(.c) Mallinfo,
    mallinfo2: *const fn () callconv(.c) Mallinfo2,
    mallopt: *const fn (c_int, c_int) callconv(.c) c_int,
    malloc_stats: *const fn () callconv(.c) void,
    malloc_info: *const fn (c_int, ?*anyopaque) callconv(.c) c_int,
    hak_malloc: *const fn (usize) callconv(.c) Pointer,
    hak_calloc: *const fn (usize, usize) callconv(.c) Pointer,
    hak_realloc: *const fn (Pointer, usize) callconv(.c) Pointer,
    hak_free: *const fn (Pointer) callconv(.c) void,
    hak_aligned_alloc: *const fn (usize, usize) callconv(.c) Pointer,
    hak_usable_size: *const fn (Pointer) callconv(.c) usize,
    hak_malloc_batch: *const fn (usize, usize, [*]Pointer) callconv(.c) usize,
    hak_free_batch: *const fn ([*]Pointer, usize) callconv(.c) void,
    hak_tiny_class_count: *const fn () callconv(.c) c_int,
    hak_tiny_class_size: *const fn (c_int) callconv(.c) usize,
    hak_tiny_class_of: *const fn (usize) callconv(.c) c_int,
    hak_tiny_magazine_flush: *const fn (c_int) callconv(.c) void,
    hak_tiny_magazine_flush_all: *const fn () callconv(.c) void,
    hak_purge: *const fn () callconv(.c) usize,
    hak_stats: *const fn (?*Stats, usize) callconv(.c) c_int,
    hak_is_active: *const fn () callconv(.c) c_int,
    hak_version: *const fn () callconv(.c) ?[*:0]const u8,
    hak_abi_manifest: *const fn () callconv(.c) ?[*:0]const u8,
};

/// What the checks use for everything but the function they check.
var sound: Calls = undefined;

const sentinel = 4242;
const no_memory: c_int = @backingInt(std.os.linux.E.NOMEM);
const invalid: c_int = @backingInt(std.os.linux.E.INVAL);
const mib = 1024 * 1024;
const size_max: usize = std.math.maxInt(usize);

const Failure = error{CellFailed};

const Trial = struct {
    calls: Calls,
    message_buffer: [300]u8 = undefined,
    message: []const u8 = "",

    fn fail(trial: *Trial, comptime format: []const u8, args: anytype) Failure {
        trial.message = process.formatLine(&trial.message_buffer, format, args);
        return error.CellFailed;
    }

    fn expect(trial: *Trial, what: []const u8, expected: anytype, found: @TypeOf(expected)) Failure!void {
        if (found != expected) return trial.fail("{s} is {any}, expected {any}", .{ what, found, expected });
    }

    fn expectErrno(trial: *Trial, expected: c_int) Failure!void {
        try trial.expect("errno", expected, std.c._errno().*);
    }

    /// A block that may be written as far as it says.
    fn expectBlock(trial: *Trial, pointer: Pointer, size: usize, alignment: usize) Failure![*]u8 {
        const block = pointer orelse return trial.fail("a block of {d} bytes is NULL", .{size});
        if (@intFromPtr(block) % alignment != 0) {
            return trial.fail("0x{x} is not aligned to {d}", .{ @intFromPtr(block), alignment });
        }
        const usable = sound.malloc_usable_size(block);
        if (usable < size) return trial.fail("{d} of {d} bytes may be used", .{ usable, size });
        @memset(block[0..@min(usable, mib)], 0x5a);
        return block;
    }

    fn expectNull(trial: *Trial, pointer: Pointer, size: usize) Failure!void {
        if (pointer) |block| return trial.fail("{d} bytes gave 0x{x}, expected NULL", .{ size, @intFromPtr(block) });
    }

    /// A block that was freed is the next one to be given out.
    fn expectFreed(trial: *Trial, block: [*]u8, size: usize) Failure!void {
        const next = sound.malloc(size);
        defer sound.free(next);
        if (next != @as(Pointer, block)) return trial.fail("0x{x} was not freed", .{@intFromPtr(block)});
    }
};

fn armErrno() void {
    std.c._errno().* = sentinel;
}

const Check = *const fn (*Trial) Failure!void;

const Cell = struct {
    /// What the table says.
    claim: []const u8,
    check: Check,
    /// The defect that the check must notice, where it is not the column's own.
    defect: ?Defect = null,
};

const Column = enum {
    zero,
    large,
    alignment,
    null_pointer,
    foreign,
    errno_failure,
    errno_success,

    fn title(column: Column) []const u8 {
        return switch (column) {
            .zero => "size 0",
            .large => "too large",
            .alignment => "bad alignment",
            .null_pointer => "NULL",
            .foreign => "foreign pointer",
            .errno_failure => "errno on failure",
            .errno_success => "errno on success",
        };
    }

    fn defect(column: Column) Defect {
        return switch (column) {
            .zero, .large, .alignment, .null_pointer => .inverted,
            .foreign => .skipped,
            .errno_failure => .errno_frozen,
            .errno_success => .errno_changed,
        };
    }
};

const Row = struct {
    /// The function of the row, and its other names.
    names: []const [:0]const u8,
    zero: ?Cell = null,
    large: ?Cell = null,
    alignment: ?Cell = null,
    null_pointer: ?Cell = null,
    foreign: ?Cell = null,
    errno_failure: ?Cell = null,
    errno_success: ?Cell = null,

    fn cell(row: *const Row, column: Column) ?Cell {
        return switch (column) {
            inline else => |tag| @field(row, @tagName(tag)),
        };
    }
};

// What the cells of several functions share.

const Ask = *const fn (*const Calls, usize) Pointer;

/// The checks of a function that gives a block of a size.
fn Giving(comptime ask: Ask, comptime alignment: usize) type {
    return struct {
        fn zero(trial: *Trial) Failure!void {
            var blocks: [64][*]u8 = undefined;
            for (&blocks, 0..) |*block, at| {
                block.* = try trial.expectBlock(ask(&trial.calls, 0), 0, alignment);
                for (blocks[0..at]) |other| {
                    if (other == block.*) return trial.fail("0x{x} was given twice", .{@intFromPtr(other)});
                }
            }
            for (blocks) |block| sound.free(block);
        }

        fn large(trial: *Trial) Failure!void {
            for (impossible.huge_sizes) |size| try trial.expectNull(ask(&trial.calls, size), size);
            // The refusals have left nothing behind that would spoil an ordinary request.
            sound.free(try trial.expectBlock(ask(&trial.calls, 5000), 5000, alignment));
        }

        fn failure(comptime expected: c_int) Check {
            return struct {
                fn check(trial: *Trial) Failure!void {
                    for (impossible.huge_sizes) |size| {
                        armErrno();
                        try trial.expectNull(ask(&trial.calls, size), size);
                        try trial.expectErrno(expected);
                    }
                }
            }.check;
        }

        fn success(trial: *Trial) Failure!void {
            for ([_]usize{ 1, 8, 100, 256, 512, 5000, 100_000, 300_000, 3 * mib }) |size| {
                // Several at once: one may be aligned by luck.
                var blocks: [4][*]u8 = undefined;
                for (&blocks) |*block| {
                    armErrno();
                    const asked = ask(&trial.calls, size);
                    try trial.expectErrno(sentinel);
                    block.* = try trial.expectBlock(asked, size, if (size > 8) @max(16, alignment) else alignment);
                }
                for (blocks) |block| sound.free(block);
            }
        }
    };
}

const own_block = "a block of its own";
const abort_line = "one line, abort";
const kept = "kept";
const not_looked_at = "not looked at";

fn giving(comptime ask: Ask, comptime alignment: usize, comptime errno: c_int) Row {
    const checks = Giving(ask, alignment);
    return .{
        .names = &.{},
        .zero = .{ .claim = own_block, .check = checks.zero },
        .large = .{ .claim = "NULL", .check = checks.large },
        .errno_failure = .{
            .claim = if (errno == no_memory) "ENOMEM" else kept,
            .check = checks.failure(errno),
            .defect = if (errno == no_memory) .errno_frozen else .errno_changed,
        },
        .errno_success = .{ .claim = kept, .check = checks.success },
    };
}

fn with(comptime row: Row, comptime names: []const [:0]const u8, comptime changes: anytype) Row {
    var result = row;
    result.names = names;
    for (@typeInfo(@TypeOf(changes)).@"struct".field_names) |name| {
        @field(result, name) = @field(changes, name);
    }
    return result;
}

var static_memory: [4096]u8 align(64) = @splat(0);

/// Checks that each kind of pointer that is no block ends the process with one line.
fn foreign(comptime give: *const fn (*const Calls, [*]u8) void) Cell {
    const checks = struct {
        const Given = struct { calls: *const Calls, pointer: [*]u8 };

        fn run(given: Given) void {
            process.leaveCrashesAlone();
            give(given.calls, given.pointer);
        }

        fn check(trial: *Trial) Failure!void {
            var stack_memory: [256]u8 align(64) = @splat(0);
            const unmapped: [*]u8 = @ptrFromInt(0x7f00_dead_0000);
            const wild: [*]u8 = @ptrFromInt(@intFromPtr(&static_memory) | 0xdead << 48);
            for ([_][*]u8{ static_memory[64..].ptr, &stack_memory, unmapped, wild }) |pointer| {
                var buffer: [1024]u8 = undefined;
                const given: Given = .{ .calls = &trial.calls, .pointer = pointer };
                const end = children.capture(&buffer, given, run) catch |err| return trial.fail("{t}", .{err});
                const said = std.mem.trimEnd(u8, end.said, "\n");
                if (!end.killedBy(.ABRT) or !std.mem.startsWith(u8, said, "hakmem: ") or
                    std.mem.findScalar(u8, said, '\n') != null)
                {
                    return trial.fail("0x{x}: wait status 0x{x}, said: {s}", .{
                        @intFromPtr(pointer), end.status, said,
                    });
                }
            }
        }
    };
    return .{ .claim = abort_line, .check = checks.check };
}

/// Checks that calls leave errno alone.
fn keepsErrno(comptime claim: []const u8, comptime call: *const fn (*Trial) Failure!void) Cell {
    return .{ .claim = claim, .defect = .errno_changed, .check = struct {
        fn check(trial: *Trial) Failure!void {
            armErrno();
            try call(trial);
            try trial.expectErrno(sentinel);
        }
    }.check };
}

/// The cells of a function that takes a block back: NULL is nothing, and errno stays.
fn taking(comptime take: *const fn (*const Calls, Pointer) void) Row {
    const checks = struct {
        fn nothing(trial: *Trial) Failure!void {
            for (0..1000) |_| take(&trial.calls, null);
            for ([_]usize{ 0, 8, 100, 3000 }) |size| {
                sound.free(try trial.expectBlock(sound.malloc(size), size, 8));
            }
        }

        fn give(calls: *const Calls, pointer: [*]u8) void {
            take(calls, pointer);
        }

        fn success(trial: *Trial) Failure!void {
            for ([_]usize{ 0, 100, 5000, 300_000, 3 * mib }) |size| {
                const block = sound.malloc(size);
                armErrno();
                take(&trial.calls, block);
                try trial.expectErrno(sentinel);
            }
        }
    };
    return .{
        .names = &.{},
        .null_pointer = .{ .claim = "nothing", .check = checks.nothing, .defect = .dies },
        .foreign = foreign(checks.give),
        .errno_success = .{ .claim = kept, .check = checks.success },
    };
}

/// A function that takes a block of 100 bytes back whatever else it is told.
fn takes(comptime take: *const fn (*const Calls, Pointer) void) Cell {
    return .{ .claim = not_looked_at, .defect = .skipped, .check = struct {
        fn check(trial: *Trial) Failure!void {
            const block = try trial.expectBlock(sound.malloc(100), 100, 16);
            take(&trial.calls, block);
            try trial.expectFreed(block, 100);
        }
    }.check };
}

/// The checks of realloc and its kin.
fn Resizing(comptime resize: *const fn (*const Calls, Pointer, usize) Pointer) type {
    return struct {
        fn ask(calls: *const Calls, size: usize) Pointer {
            const block = sound.malloc(64);
            if (resize(calls, block, size)) |moved| return moved;
            sound.free(block);
            return null;
        }

        fn zero(trial: *Trial) Failure!void {
            const block = try trial.expectBlock(sound.malloc(100), 100, 16);
            try trial.expectNull(resize(&trial.calls, block, 0), 0);
            try trial.expectFreed(block, 100);
        }

        fn large(trial: *Trial) Failure!void {
            for ([_]usize{ 100, 5000, 300_000, 3 * mib }) |size| {
                const block = try trial.expectBlock(sound.malloc(size), size, 16);
                for (impossible.huge_sizes) |huge| {
                    try trial.expectNull(resize(&trial.calls, block, huge), huge);
                    for (block[0..@min(size, mib)]) |byte| try trial.expect("a byte after failure", @as(u8, 0x5a), byte);
                }
                sound.free(block);
            }
        }

        fn ofNull(trial: *Trial) Failure!void {
            for ([_]usize{ 0, 1, 100, 5000, 300_000, 3 * mib }) |size| {
                sound.free(try trial.expectBlock(resize(&trial.calls, null, size), size, 8));
            }
        }

        fn give(calls: *const Calls, pointer: [*]u8) void {
            _ = resize(calls, pointer, 100);
        }
    };
}

fn resizing(comptime resize: *const fn (*const Calls, Pointer, usize) Pointer, comptime errno: c_int) Row {
    const checks = Resizing(resize);
    return with(giving(checks.ask, 8, errno), &.{}, .{
        .zero = Cell{ .claim = "frees, NULL", .check = checks.zero },
        .large = Cell{ .claim = "NULL, the block stays", .check = checks.large },
        .null_pointer = Cell{ .claim = "as malloc", .check = checks.ofNull },
        .foreign = foreign(checks.give),
    });
}

fn product(comptime multiply: *const fn (*const Calls, usize, usize) Pointer, comptime large: Check) Cell {
    return .{ .claim = "NULL, also when the product wraps", .check = struct {
        fn check(trial: *Trial) Failure!void {
            try large(trial);
            for (impossible.overflowing_products) |pair| {
                try trial.expectNull(multiply(&trial.calls, pair[0], pair[1]), pair[0]);
            }
        }
    }.check };
}

/// Alignments that are no power of two, 0 among them.
const odd_alignments = [_]usize{ 0, 3, 6, 12, 24, 100, 4097, 3 * mib, size_max };

fn refusesAlignment(comptime ask: *const fn (*const Calls, usize, usize) Pointer, comptime errno: c_int) Check {
    return struct {
        fn check(trial: *Trial) Failure!void {
            for (odd_alignments) |alignment| {
                armErrno();
                try trial.expectNull(ask(&trial.calls, alignment, 64), alignment);
                try trial.expectErrno(errno);
            }
            // A size that is no multiple of the alignment is no error.
            sound.free(try trial.expectBlock(ask(&trial.calls, 256, 100), 100, 256));
        }
    }.check;
}

/// Failure for want of memory and, with another code, for a bad alignment.
fn bothFailures(comptime memory: Check, comptime alignment: Check) Check {
    return struct {
        fn check(trial: *Trial) Failure!void {
            try memory(trial);
            try alignment(trial);
        }
    }.check;
}

fn usableChecks(comptime usable: *const fn (*const Calls, Pointer) usize, comptime names: []const [:0]const u8) Row {
    const checks = struct {
        fn ofNull(trial: *Trial) Failure!void {
            try trial.expect("the usable size of NULL", @as(usize, 0), usable(&trial.calls, null));
        }

        fn give(calls: *const Calls, pointer: [*]u8) void {
            _ = usable(calls, pointer);
        }

        fn success(trial: *Trial) Failure!void {
            for ([_]usize{ 0, 100, 5000, 300_000, 3 * mib }) |size| {
                const block = try trial.expectBlock(sound.malloc(size), size, 8);
                defer sound.free(block);
                armErrno();
                const first = usable(&trial.calls, block);
                if (first < size) return trial.fail("{d} of {d} bytes may be used", .{ first, size });
                try trial.expect("the usable size later", first, usable(&trial.calls, block));
                try trial.expectErrno(sentinel);
            }
        }
    };
    return .{
        .names = names,
        .null_pointer = .{ .claim = "0", .check = checks.ofNull },
        .foreign = foreign(checks.give),
        .errno_success = .{ .claim = kept, .check = checks.success },
    };
}

fn onlySuccess(comptime names: []const [:0]const u8, comptime claim: []const u8, comptime call: Check) Row {
    return .{ .names = names, .errno_success = keepsErrno(claim, call) };
}

/// Every call, in the simplest form.
const calls_of = struct {
    fn malloc(c: *const Calls, size: usize) Pointer {
        return c.malloc(size);
    }
    fn calloc(c: *const Calls, size: usize) Pointer {
        return if (size % 2 == 0) c.calloc(1, size) else c.calloc(size, 1);
    }
    fn callocProduct(c: *const Calls, count: usize, size: usize) Pointer {
        return c.calloc(count, size);
    }
    fn realloc(c: *const Calls, block: Pointer, size: usize) Pointer {
        return c.realloc(block, size);
    }
    fn reallocarray(c: *const Calls, block: Pointer, size: usize) Pointer {
        return c.reallocarray(block, 1, size);
    }
    fn free(c: *const Calls, block: Pointer) void {
        c.free(block);
    }
    fn freeSized(c: *const Calls, block: Pointer) void {
        c.free_sized(block, 100);
    }
    fn freeSizedZero(c: *const Calls, block: Pointer) void {
        c.free_sized(block, 0);
    }
    fn freeSizedLarge(c: *const Calls, block: Pointer) void {
        c.free_sized(block, size_max);
    }
    fn freeAlignedSized(c: *const Calls, block: Pointer) void {
        c.free_aligned_sized(block, 16, 100);
    }
    fn freeAlignedSizedZero(c: *const Calls, block: Pointer) void {
        c.free_aligned_sized(block, 16, 0);
    }
    fn freeAlignedSizedLarge(c: *const Calls, block: Pointer) void {
        c.free_aligned_sized(block, 16, size_max);
    }
    fn freeAlignedSizedOdd(c: *const Calls, block: Pointer) void {
        c.free_aligned_sized(block, 3, 100);
    }
    fn memalign(c: *const Calls, size: usize) Pointer {
        return c.memalign(512, size);
    }
    fn alignedAlloc(c: *const Calls, size: usize) Pointer {
        return c.aligned_alloc(256, size);
    }
    fn alignedAllocOf(c: *const Calls, alignment: usize, size: usize) Pointer {
        return c.aligned_alloc(alignment, size);
    }
    fn posixMemalign(c: *const Calls, size: usize) Pointer {
        var block: Pointer = null;
        return if (c.posix_memalign(&block, 256, size) == 0) block else null;
    }
    fn valloc(c: *const Calls, size: usize) Pointer {
        return c.valloc(size);
    }
    fn pvalloc(c: *const Calls, size: usize) Pointer {
        return c.pvalloc(size);
    }
    fn usableSize(c: *const Calls, block: Pointer) usize {
        return c.malloc_usable_size(block);
    }
    fn hakMalloc(c: *const Calls, size: usize) Pointer {
        return c.hak_malloc(size);
    }
    fn hakCalloc(c: *const Calls, size: usize) Pointer {
        return c.hak_calloc(1, size);
    }
    fn hakCallocProduct(c: *const Calls, count: usize, size: usize) Pointer {
        return c.hak_calloc(count, size);
    }
    fn hakRealloc(c: *const Calls, block: Pointer, size: usize) Pointer {
        return c.hak_realloc(block, size);
    }
    fn hakFree(c: *const Calls, block: Pointer) void {
        c.hak_free(block);
    }
    fn hakFreeBatch(c: *const Calls, block: Pointer) void {
        var blocks = [_]Pointer{ null, block, null };
        c.hak_free_batch(&blocks, blocks.len);
    }
    fn hakAlignedAlloc(c: *const Calls, size: usize) Pointer {
        return c.hak_aligned_alloc(256, size);
    }
    fn hakAlignedAllocOf(c: *const Calls, alignment: usize, size: usize) Pointer {
        return c.hak_aligned_alloc(alignment, size);
    }
    fn hakUsableSize(c: *const Calls, block: Pointer) usize {
        return c.hak_usable_size(block);
    }
    fn hakMallocBatch(c: *const Calls, size: usize) Pointer {
        var blocks: [2]Pointer = .{ null, null };
        const got = c.hak_malloc_batch(size, 1, &blocks);
        return if (got == 1) blocks[0] else null;
    }
};

// What is particular to one function.

fn callocZero(trial: *Trial) Failure!void {
    var blocks: [64][*]u8 = undefined;
    for (&blocks, 0..) |*block, at| {
        const asked = switch (at % 3) {
            0 => trial.calls.calloc(0, 24),
            1 => trial.calls.calloc(24, 0),
            else => trial.calls.calloc(0, size_max),
        };
        block.* = try trial.expectBlock(asked, 0, 8);
        for (blocks[0..at]) |other| {
            if (other == block.*) return trial.fail("0x{x} was given twice", .{@intFromPtr(other)});
        }
    }
    for (blocks) |block| sound.free(block);
}

fn reallocarrayLarge(trial: *Trial) Failure!void {
    try Resizing(calls_of.reallocarray).large(trial);
    const block = try trial.expectBlock(sound.malloc(100), 100, 16);
    for (impossible.overflowing_products) |pair| {
        try trial.expectNull(trial.calls.reallocarray(block, pair[0], pair[1]), pair[0]);
        for (block[0..100]) |byte| try trial.expect("a byte after failure", @as(u8, 0x5a), byte);
    }
    sound.free(block);
}

fn memalignOdd(trial: *Trial) Failure!void {
    for ([_]usize{ 0, 3, 24, 48, 100, 4097, 70_000 }) |alignment| {
        const power = std.math.ceilPowerOfTwo(usize, @max(alignment, 1)) catch unreachable;
        // Several are held at once, since one may be aligned by luck.
        var blocks: [16][*]u8 = undefined;
        for (&blocks) |*block| block.* = try trial.expectBlock(trial.calls.memalign(alignment, 200), 200, power);
        for (blocks) |block| sound.free(block);
    }
    try trial.expectNull(trial.calls.memalign(size_max / 2 + 2, 1), 1);
}

fn memalignInvalid(trial: *Trial) Failure!void {
    for ([_]usize{ size_max / 2 + 2, size_max }) |alignment| {
        armErrno();
        try trial.expectNull(trial.calls.memalign(alignment, 1), 1);
        try trial.expectErrno(invalid);
    }
}

const PosixMemalign = struct {
    fn expectRefused(trial: *Trial, alignment: usize, size: usize, code: c_int) Failure!void {
        var pointer: Pointer = &static_memory;
        armErrno();
        try trial.expect("the result", code, trial.calls.posix_memalign(&pointer, alignment, size));
        if (pointer != @as(Pointer, &static_memory)) return trial.fail("the pointer was written", .{});
    }

    fn large(trial: *Trial) Failure!void {
        for (impossible.huge_sizes) |size| try expectRefused(trial, 64, size, no_memory);
    }

    fn odd(trial: *Trial) Failure!void {
        for (odd_alignments ++ [_]usize{ 1, 2, 4 }) |alignment| {
            for ([_]usize{ 0, 64, size_max }) |size| try expectRefused(trial, alignment, size, invalid);
        }
    }

    fn failure(trial: *Trial) Failure!void {
        try expectRefused(trial, 64, size_max, no_memory);
        try trial.expectErrno(sentinel);
        try expectRefused(trial, 3, 100, invalid);
        try trial.expectErrno(sentinel);
    }
};

fn pvallocZero(trial: *Trial) Failure!void {
    const page_bytes = std.heap.pageSize();
    for (0..8) |_| {
        const block = try trial.expectBlock(trial.calls.pvalloc(0), page_bytes, page_bytes);
        defer sound.free(block);
    }
}

/// Free memory that can go back.
fn leaveGarbage() void {
    _ = sound.hak_purge();
    const block = sound.malloc(500_000).?;
    @memset(block[0..500_000], 1);
    sound.free(block);
}

fn trims(comptime pad: usize) Cell {
    return .{ .claim = not_looked_at, .check = struct {
        fn check(trial: *Trial) Failure!void {
            leaveGarbage();
            try trial.expect("the first result", @as(c_int, 1), trial.calls.malloc_trim(pad));
            try trial.expect("the second result", @as(c_int, 0), trial.calls.malloc_trim(pad));
        }
    }.check };
}

fn trimKeeps(trial: *Trial) Failure!void {
    leaveGarbage();
    armErrno();
    _ = trial.calls.malloc_trim(0);
    _ = trial.calls.malloc_trim(0);
}

/// The figures follow what is allocated, and their parts make up the whole.
fn figures(comptime Number: type, trial: *Trial) Failure!void {
    const call = if (Number == usize) struct {
        fn call(c: *const Calls) [10]usize {
            return c.mallinfo2().fields;
        }
    }.call else struct {
        fn call(c: *const Calls) [10]c_int {
            return c.mallinfo().fields;
        }
    }.call;
    const before = call(&trial.calls);
    armErrno();
    const block = sound.malloc(500_000).?;
    const mapping = sound.malloc(3 * mib).?;
    const during = call(&trial.calls);
    sound.free(block);
    sound.free(mapping);
    const after = call(&trial.calls);
    for ([_][10]Number{ before, during, after }) |one| {
        try trial.expect("uordblks and fordblks together", one[field_arena], one[field_used] + one[field_free]);
    }
    if (during[field_used] < before[field_used] + 500_000 or during[field_used] < after[field_used] + 500_000) {
        return trial.fail("uordblks does not follow a block of 500,000 bytes", .{});
    }
    try trial.expect("hblkhd", before[field_mapped_bytes] + 3 * mib, during[field_mapped_bytes]);
    try trial.expect("hblks", before[3] + 1, during[3]);
}

fn mallinfoFigures(trial: *Trial) Failure!void {
    try figures(c_int, trial);
}

fn mallinfo2Figures(trial: *Trial) Failure!void {
    try figures(usize, trial);
}

/// More than an `int` can say. The memory is not touched.
const beyond_int = 3 << 30;

fn mallinfoLarge(trial: *Trial) Failure!void {
    const block = sound.malloc(beyond_int) orelse return trial.fail("no 3 GiB of address space", .{});
    defer sound.free(block);
    const found = trial.calls.mallinfo().fields;
    try trial.expect("hblkhd", @as(c_int, std.math.maxInt(c_int)), found[field_mapped_bytes]);
}

fn mallinfo2Large(trial: *Trial) Failure!void {
    const before = trial.calls.mallinfo2().fields;
    const block = sound.malloc(beyond_int) orelse return trial.fail("no 3 GiB of address space", .{});
    defer sound.free(block);
    const found = trial.calls.mallinfo2().fields;
    try trial.expect("hblkhd", before[field_mapped_bytes] + beyond_int, found[field_mapped_bytes]);
}

fn malloptAccepts(trial: *Trial) Failure!void {
    for ([_]c_int{ 1, -1, -2, -3, -4, -5, -7, -8 }) |parameter| {
        try trial.expect("the result", @as(c_int, 1), trial.calls.mallopt(parameter, 1 << 20));
    }
}

fn malloptRefuses(trial: *Trial) Failure!void {
    for ([_]c_int{ -6, -9, 0, 2, 1000, std.math.minInt(c_int) }) |parameter| {
        try trial.expect("the result", @as(c_int, 0), trial.calls.mallopt(parameter, 1));
    }
}

fn mallocStats(trial: *Trial) Failure!void {
    var buffer: [2048]u8 = undefined;
    const end = children.capture(&buffer, &trial.calls, struct {
        fn run(calls: *const Calls) void {
            armErrno();
            calls.malloc_stats();
            process.exitNow(if (std.c._errno().* == sentinel) 0 else 1);
        }
    }.run) catch |err| return trial.fail("{t}", .{err});
    if (end.exitStatus() != 0) return trial.fail("wait status 0x{x}: errno changed", .{end.status});
    for ([_][]const u8{ "hakmem ", "\nsystem bytes     = ", "\nin use bytes     = ", "\nmmap bytes       = " }) |part| {
        if (std.mem.find(u8, end.said, part) == null) return trial.fail("it said: {s}", .{end.said});
    }
}

const stdio = struct {
    extern "c" fn fmemopen(buffer: [*]u8, size: usize, mode: [*:0]const u8) ?*anyopaque;
    extern "c" fn fclose(file: *anyopaque) c_int;
};

fn mallocInfo(trial: *Trial) Failure!void {
    var text: [4096]u8 = @splat(0);
    const file = stdio.fmemopen(&text, text.len, "w") orelse return trial.fail("no fmemopen", .{});
    armErrno();
    try trial.expect("the result", @as(c_int, 0), trial.calls.malloc_info(0, file));
    const errno = std.c._errno().*;
    _ = stdio.fclose(file);
    std.c._errno().* = errno;
    const written = std.mem.sliceTo(&text, 0);
    const start = "<malloc version=\"1\">\n<heap nr=\"0\">\n";
    if (!std.mem.startsWith(u8, written, start) or !std.mem.endsWith(u8, written, "</malloc>\n")) {
        return trial.fail("it wrote: {s}", .{written});
    }
    // Every element that is opened is closed.
    var depth: usize = 0;
    var lines = std.mem.tokenizeScalar(u8, written, '\n');
    while (lines.next()) |line| {
        if (std.mem.startsWith(u8, line, "</")) depth -= 1 else if (!std.mem.endsWith(u8, line, "/>")) depth += 1;
    }
    try trial.expect("the depth at the end", @as(usize, 0), depth);
}

fn mallocInfoFails(trial: *Trial) Failure!void {
    var text: [4096]u8 = @splat(0);
    const file = stdio.fmemopen(&text, text.len, "r") orelse return trial.fail("no fmemopen", .{});
    defer _ = stdio.fclose(file);
    armErrno();
    try trial.expect("the result for an option", invalid, trial.calls.malloc_info(1, file));
    try trial.expectErrno(sentinel);
    // Stdio refuses to write to a file that is open for reading.
    try trial.expect("the result of a failed write", @as(c_int, -1), trial.calls.malloc_info(0, file));
    try trial.expectErrno(@backingInt(std.os.linux.E.BADF));
}

fn batchOf(comptime size: usize, comptime expected: usize) Check {
    return struct {
        fn check(trial: *Trial) Failure!void {
            var blocks: [10]Pointer = @splat(null);
            try trial.expect("the count", expected, trial.calls.hak_malloc_batch(size, blocks.len, &blocks));
            for (blocks[0..expected], 0..) |block, at| {
                _ = try trial.expectBlock(block, size, 8);
                for (blocks[0..at]) |other| if (other == block) return trial.fail("a block was given twice", .{});
            }
            for (blocks[0..expected]) |block| sound.free(block);
        }
    }.check;
}

const Tiny = struct {
    fn count(trial: *Trial) Failure!void {
        if (trial.calls.hak_tiny_class_count() < 8) return trial.fail("fewer than eight classes", .{});
    }
    fn sizeOutside(trial: *Trial) Failure!void {
        for ([_]c_int{ -1, sound.hak_tiny_class_count(), std.math.maxInt(c_int), std.math.minInt(c_int) }) |class| {
            try trial.expect("the size", @as(usize, 0), trial.calls.hak_tiny_class_size(class));
        }
    }
    fn sizeInside(trial: *Trial) Failure!void {
        try trial.expect("the size", @as(usize, 8), trial.calls.hak_tiny_class_size(0));
    }
    fn ofZero(trial: *Trial) Failure!void {
        try trial.expect("the class", @as(c_int, 0), trial.calls.hak_tiny_class_of(0));
    }
    fn ofLarge(trial: *Trial) Failure!void {
        for ([_]usize{ 1025, 1 << 32, size_max }) |size| {
            try trial.expect("the class", @as(c_int, -1), trial.calls.hak_tiny_class_of(size));
        }
    }
    fn flushOutside(trial: *Trial) Failure!void {
        // A block in use keeps its bytes, and the allocator goes on.
        const block = try trial.expectBlock(sound.malloc(100), 100, 16);
        for ([_]c_int{ -1, sound.hak_tiny_class_count(), std.math.maxInt(c_int), std.math.minInt(c_int) }) |class| {
            trial.calls.hak_tiny_magazine_flush(class);
        }
        for (block[0..100]) |byte| try trial.expect("a byte", @as(u8, 0x5a), byte);
        sound.free(block);
    }
    fn flush(trial: *Trial) Failure!void {
        trial.calls.hak_tiny_magazine_flush(3);
    }
    fn flushAll(trial: *Trial) Failure!void {
        trial.calls.hak_tiny_magazine_flush_all();
    }
    fn purge(trial: *Trial) Failure!void {
        leaveGarbage();
        armErrno();
        if (trial.calls.hak_purge() < 500_000) return trial.fail("500,000 free bytes were not given back", .{});
    }
};

const Statistics = struct {
    fn tooSmall(trial: *Trial) Failure!void {
        var stats: Stats = undefined;
        for (0..8) |size| try trial.expect("the result", @as(c_int, 1), trial.calls.hak_stats(&stats, size));
    }
    fn asMuchAsThereIs(trial: *Trial) Failure!void {
        var stats: Stats = .{ .struct_bytes = 0, .rest = @splat(0xdead) };
        try trial.expect("the result", @as(c_int, 0), trial.calls.hak_stats(&stats, @sizeOf(Stats)));
        if (stats.struct_bytes < 100 or stats.struct_bytes >= @sizeOf(Stats)) {
            return trial.fail("{d} bytes were filled in", .{stats.struct_bytes});
        }
        try trial.expect("what lies behind", @as(u64, 0xdead), stats.rest[stats.struct_bytes / 8 - 1]);
    }
    fn ofNull(trial: *Trial) Failure!void {
        try trial.expect("the result", @as(c_int, 1), trial.calls.hak_stats(null, 100));
    }
    fn active(trial: *Trial) Failure!void {
        try trial.expect("the answer", @as(c_int, 1), trial.calls.hak_is_active());
    }
    fn version(trial: *Trial) Failure!void {
        if (trial.calls.hak_version() == null) return trial.fail("no version", .{});
    }
    fn manifest(trial: *Trial) Failure!void {
        if (trial.calls.hak_abi_manifest() == null) return trial.fail("no manifest", .{});
    }
};

const rows = [_]Row{
    with(giving(calls_of.malloc, 8, no_memory), &.{ "malloc", "__libc_malloc" }, .{}),
    with(giving(calls_of.calloc, 8, no_memory), &.{ "calloc", "__libc_calloc" }, .{
        .zero = Cell{ .claim = own_block, .check = callocZero },
        .large = product(calls_of.callocProduct, Giving(calls_of.calloc, 8).large),
    }),
    with(resizing(calls_of.realloc, no_memory), &.{ "realloc", "__libc_realloc" }, .{}),
    with(resizing(calls_of.reallocarray, no_memory), &.{ "reallocarray", "__libc_reallocarray" }, .{
        .large = Cell{ .claim = "NULL, also when the product wraps; the block stays", .check = reallocarrayLarge },
    }),
    with(taking(calls_of.free), &.{ "free", "cfree", "__libc_free" }, .{}),
    with(taking(calls_of.freeSized), &.{"free_sized"}, .{
        .zero = takes(calls_of.freeSizedZero),
        .large = takes(calls_of.freeSizedLarge),
    }),
    with(taking(calls_of.freeAlignedSized), &.{"free_aligned_sized"}, .{
        .zero = takes(calls_of.freeAlignedSizedZero),
        .large = takes(calls_of.freeAlignedSizedLarge),
        .alignment = takes(calls_of.freeAlignedSizedOdd),
    }),
    with(giving(calls_of.memalign, 512, no_memory), &.{ "memalign", "__libc_memalign" }, .{
        .alignment = Cell{ .claim = "rounded up; above 2^63 NULL", .check = memalignOdd },
        .errno_failure = Cell{
            .claim = "ENOMEM; above 2^63 EINVAL",
            .check = bothFailures(Giving(calls_of.memalign, 512).failure(no_memory), memalignInvalid),
        },
    }),
    with(giving(calls_of.alignedAlloc, 256, no_memory), &.{"aligned_alloc"}, .{
        .alignment = Cell{ .claim = "NULL", .check = refusesAlignment(calls_of.alignedAllocOf, invalid) },
        .errno_failure = Cell{
            .claim = "ENOMEM; bad alignment EINVAL",
            .check = bothFailures(
                Giving(calls_of.alignedAlloc, 256).failure(no_memory),
                refusesAlignment(calls_of.alignedAllocOf, invalid),
            ),
        },
    }),
    with(giving(calls_of.posixMemalign, 256, sentinel), &.{"posix_memalign"}, .{
        .large = Cell{ .claim = "ENOMEM, the pointer stays", .check = PosixMemalign.large },
        .alignment = Cell{ .claim = "EINVAL, the pointer stays", .check = PosixMemalign.odd },
        .errno_failure = Cell{ .claim = kept, .check = PosixMemalign.failure, .defect = .errno_changed },
    }),
    with(giving(calls_of.valloc, 4096, no_memory), &.{ "valloc", "__libc_valloc" }, .{}),
    with(giving(calls_of.pvalloc, 4096, no_memory), &.{ "pvalloc", "__libc_pvalloc" }, .{
        .zero = Cell{ .claim = "one page", .check = pvallocZero },
        .large = Cell{ .claim = "NULL, also when rounding wraps", .check = Giving(calls_of.pvalloc, 4096).large },
    }),
    usableChecks(calls_of.usableSize, &.{"malloc_usable_size"}),
    .{
        .names = &.{"malloc_trim"},
        .zero = trims(0),
        .large = trims(size_max),
        .errno_success = keepsErrno(kept, trimKeeps),
    },
    .{
        .names = &.{ "mallinfo", "__libc_mallinfo" },
        .large = .{ .claim = "INT_MAX for a larger figure", .check = mallinfoLarge },
        .errno_success = keepsErrno(kept, mallinfoFigures),
    },
    .{
        .names = &.{"mallinfo2"},
        .large = .{ .claim = "the figure", .check = mallinfo2Large },
        .errno_success = keepsErrno(kept, mallinfo2Figures),
    },
    .{
        .names = &.{ "mallopt", "__libc_mallopt" },
        .errno_failure = keepsErrno("kept; 0 is returned", malloptRefuses),
        .errno_success = keepsErrno("kept; 1 is returned", malloptAccepts),
    },
    onlySuccess(&.{"malloc_stats"}, kept, mallocStats),
    .{
        .names = &.{"malloc_info"},
        .errno_failure = .{ .claim = "kept and EINVAL returned; stdio's with -1", .check = mallocInfoFails },
        .errno_success = keepsErrno(kept, mallocInfo),
    },
    with(giving(calls_of.hakMalloc, 8, sentinel), &.{"hak_malloc"}, .{}),
    with(giving(calls_of.hakCalloc, 8, sentinel), &.{"hak_calloc"}, .{
        .large = product(calls_of.hakCallocProduct, Giving(calls_of.hakCalloc, 8).large),
    }),
    with(resizing(calls_of.hakRealloc, sentinel), &.{"hak_realloc"}, .{}),
    with(taking(calls_of.hakFree), &.{"hak_free"}, .{}),
    with(giving(calls_of.hakAlignedAlloc, 256, sentinel), &.{"hak_aligned_alloc"}, .{
        .alignment = Cell{ .claim = "NULL", .check = refusesAlignment(calls_of.hakAlignedAllocOf, sentinel) },
    }),
    usableChecks(calls_of.hakUsableSize, &.{"hak_usable_size"}),
    with(giving(calls_of.hakMallocBatch, 8, sentinel), &.{"hak_malloc_batch"}, .{
        .zero = Cell{ .claim = "blocks of their own", .check = batchOf(0, 10) },
        .large = Cell{ .claim = "0 blocks", .check = batchOf(size_max, 0) },
    }),
    with(taking(calls_of.hakFreeBatch), &.{"hak_free_batch"}, .{}),
    onlySuccess(&.{"hak_tiny_class_count"}, kept, Tiny.count),
    .{
        .names = &.{"hak_tiny_class_size"},
        .large = .{ .claim = "0 for no such class", .check = Tiny.sizeOutside },
        .errno_success = keepsErrno(kept, Tiny.sizeInside),
    },
    .{
        .names = &.{"hak_tiny_class_of"},
        .zero = .{ .claim = "the first class", .check = Tiny.ofZero },
        .large = .{ .claim = "-1 above 1024", .check = Tiny.ofLarge },
        .errno_success = keepsErrno(kept, Tiny.ofZero),
    },
    .{
        .names = &.{"hak_tiny_magazine_flush"},
        .large = .{ .claim = "nothing for no such class", .check = Tiny.flushOutside, .defect = .dies },
        .errno_success = keepsErrno(kept, Tiny.flush),
    },
    onlySuccess(&.{"hak_tiny_magazine_flush_all"}, kept, Tiny.flushAll),
    onlySuccess(&.{"hak_purge"}, kept, Tiny.purge),
    .{
        .names = &.{"hak_stats"},
        .zero = .{ .claim = "HAK_INVALID_ARGUMENT below 8", .check = Statistics.tooSmall },
        .large = .{ .claim = "as much as there is", .check = Statistics.asMuchAsThereIs },
        .null_pointer = .{ .claim = "HAK_INVALID_ARGUMENT", .check = Statistics.ofNull },
        .errno_failure = keepsErrno(kept, Statistics.ofNull),
        .errno_success = keepsErrno(kept, Statistics.asMuchAsThereIs),
    },
    onlySuccess(&.{"hak_is_active"}, kept, Statistics.active),
    onlySuccess(&.{"hak_version"}, kept, Statistics.version),
    onlySuccess(&.{"hak_abi_manifest"}, kept, Statistics.manifest),
};

/// What is wrong with the one function that is spoiled.
const Defect = enum {
    /// A block for NULL, NULL for a block, a number that is one too large.
    inverted,
    /// It does nothing.
    skipped,
    /// It ends the process.
    dies,
    errno_changed,
    errno_frozen,
};

fn spoiled(comptime name: []const u8, defect: Defect) @FieldType(Calls, name) {
    return switch (defect) {
        inline else => |tag| &Spoiled(name, tag).call,
    };
}

fn Spoiled(comptime name: []const u8, comptime defect: Defect) type {
    const info = @typeInfo(@typeInfo(@FieldType(Calls, name)).pointer.child).@"fn";
    const Result = info.return_type.?;
    const P = info.param_types;
    const shared = struct {
        fn run(args: anytype) Result {
            const function = @field(sound, name);
            switch (defect) {
                .inverted => return inverted(Result, @call(.auto, function, args)),
                .skipped => return nothing(Result),
                .dies => process.exitNow(1),
                .errno_changed => {
                    defer std.c._errno().* = 1;
                    return @call(.auto, function, args);
                },
                .errno_frozen => {
                    const before = std.c._errno().*;
                    defer std.c._errno().* = before;
                    return @call(.auto, function, args);
                },
            }
        }
    };
    return switch (P.len) {
        0 => struct {
            fn call() callconv(.c) Result {
                return shared.run(.{});
            }
        },
        1 => struct {
            fn call(a: P[0].?) callconv(.c) Result {
                return shared.run(.{a});
            }
        },
        2 => struct {
            fn call(a: P[0].?, b: P[1].?) callconv(.c) Result {
                return shared.run(.{ a, b });
            }
        },
        3 => struct {
            fn call(a: P[0].?, b: P[1].?, c: P[2].?) callconv(.c) Result {
                return shared.run(.{ a, b, c });
            }
        },
        else => comptime unreachable,
    };
}

fn inverted(comptime Result: type, result: Result) Result {
    return switch (Result) {
        void => {},
        usize, c_int => result +% 1,
        Mallinfo, Mallinfo2 => nothing(Result),
        Pointer => if (result == null) static_memory[0..].ptr else null,
        else => null,
    };
}

fn nothing(comptime Result: type) Result {
    return switch (Result) {
        void => {},
        usize, c_int => 0,
        Mallinfo, Mallinfo2 => .{ .fields = @splat(0) },
        else => null,
    };
}

const usage = "hak-semantics [--list | --self-test]: checks the cells of docs/SEMANTICS.md on a preloaded hakmem";

var current: []const u8 = "start";
var current_buffer: [200]u8 = undefined;

fn describeActivity(buffer: []u8) []const u8 {
    return process.formatLine(buffer, "{s}", .{current});
}

pub fn main(init: std.process.Init.Minimal) u8 {
    process.reportCrashes(describeActivity);
    var list = false;
    var self_test = false;
    var arguments = init.args.iterate();
    _ = arguments.skip();
    while (arguments.next()) |argument| {
        if (std.mem.eql(u8, argument, "--list")) {
            list = true;
        } else if (std.mem.eql(u8, argument, "--self-test")) {
            self_test = true;
        } else {
            process.printLine(.stderr, "hak-semantics: no such option: {s} ({s})", .{ argument, usage });
            return 2;
        }
    }
    if (!list) {
        if (!doors.hakmemIsPreloaded()) {
            process.printLine(.stderr, "hak-semantics: hakmem is not preloaded ({s})", .{usage});
            return 2;
        }
        inline for (@typeInfo(Calls).@"struct".field_names) |name| {
            const function = doors.findInProcess(name ++ "") orelse {
                process.printLine(.stderr, "hak-semantics: the process has no {s}", .{name});
                return 2;
            };
            @field(sound, name) = @ptrCast(@alignCast(function));
        }
    }
    var failed = false;
    for (&rows) |*row| {
        if (!list and !self_test and !sameFunction(row)) failed = true;
        for (std.enums.values(Column)) |column| {
            const cell = row.cell(column) orelse continue;
            current = process.formatLine(&current_buffer, "{s} | {s} | {s}", .{
                row.names[0], column.title(), cell.claim,
            });
            if (list) {
                process.printLine(.stdout, "{s}", .{current});
            } else if (self_test) {
                if (!noticesDefect(row, column, cell)) failed = true;
            } else {
                var trial: Trial = .{ .calls = sound };
                if (cell.check(&trial)) |_| {
                    process.printLine(.stdout, "pass {s}", .{current});
                } else |_| {
                    process.printLine(.stdout, "fail {s}: {s}", .{ current, trial.message });
                    failed = true;
                }
            }
        }
        if (list) for (row.names[1..]) |name| {
            process.printLine(.stdout, "{s} | is | {s}", .{ name, row.names[0] });
        };
    }
    return if (failed) 1 else 0;
}

/// Whether all names of a row are one function of one object.
fn sameFunction(row: *const Row) bool {
    var same = true;
    const first = doors.findInProcess(row.names[0]);
    for (row.names[1..]) |name| {
        const is_same = doors.findInProcess(name) == first;
        process.printLine(.stdout, "{s} {s} | is | {s}", .{ if (is_same) "pass" else "fail", name, row.names[0] });
        if (!is_same) same = false;
    }
    return same;
}

const DefectTrial = struct {
    row: *const Row,
    defect: Defect,
    check: Check,

    fn run(trial_of: DefectTrial) void {
        var trial: Trial = .{ .calls = sound };
        inline for (@typeInfo(Calls).@"struct".field_names) |name| {
            if (std.mem.eql(u8, name, trial_of.row.names[0])) {
                @field(trial.calls, name) = spoiled(name, trial_of.defect);
            }
        }
        process.exitNow(if (trial_of.check(&trial)) |_| 0 else |_| 1);
    }
};

fn noticesDefect(row: *const Row, column: Column, cell: Cell) bool {
    const defect = cell.defect orelse column.defect();
    var ignored: [0]u8 = .{};
    const trial: DefectTrial = .{ .row = row, .defect = defect, .check = cell.check };
    const end = children.capture(&ignored, trial, DefectTrial.run) catch |err| {
        process.printLine(.stdout, "fail {s}: {t}", .{ current, err });
        return false;
    };
    // A crash is noticed as well.
    const noticed = end.exitStatus() != 0;
    process.printLine(.stdout, "{s} {s}: {t}", .{ if (noticed) "noticed" else "fail", current, defect });
    return noticed;
}
