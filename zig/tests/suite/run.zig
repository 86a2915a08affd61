//! How a case drives its subject: every call through `Run` checks that the block is not NULL,
//! aligned, as large as it says, apart from every other live block, still holds its bytes when
//! looked at again, and that errno is what it should be. The first thing wrong ends the case with
//! one line.
//!
//! The suite's own memory comes from the system and nothing from the allocator under test.

const std = @import("std");
const linux = std.os.linux;
const oracle_module = @import("../oracle.zig");
const process = @import("../process.zig");
const subject_module = @import("subject.zig");

const Failure = subject_module.Failure;
const Family = subject_module.Family;
const Subject = subject_module.Subject;
const Oracle = oracle_module.Oracle;

pub const kib = 1024;
pub const mib = 1024 * kib;
pub const ptrdiff_max: usize = std.math.maxInt(isize);
pub const size_max: usize = std.math.maxInt(usize);

/// No code of Linux's errno, so that a value left behind by the allocator always shows.
const errno_sentinel = 4242;

pub const errno_no_memory: c_int = @backingInt(linux.E.NOMEM);
pub const errno_invalid: c_int = @backingInt(linux.E.INVAL);

/// One live block, as the suite remembers it.
pub const Block = struct {
    pointer: [*]u8,
    /// What was asked for.
    size: usize,
    /// What the allocator says may be used, and what the oracle holds claimed.
    usable: usize,
    alignment: std.mem.Alignment,
    identity: u64,

    pub fn address(block: Block) usize {
        return @intFromPtr(block.pointer);
    }

    pub fn key(block: Block) u64 {
        return oracle_module.patternKey(block.address(), block.usable, block.identity);
    }
};

/// The state of one case: the door, the oracle and the message of the failure.
pub const Run = struct {
    subject: *const Subject,
    oracle: Oracle,
    next_identity: u64 = 1,
    message_buffer: [480]u8 = undefined,
    message: []const u8 = "",

    /// Records why the case fails, in one line.
    pub fn fail(run: *Run, comptime format: []const u8, args: anytype) Failure {
        run.message = process.formatLine(&run.message_buffer, format, args);
        return error.ConformanceFailed;
    }

    /// The C functions, for a case that needs them.
    pub fn family(run: *Run) *const Family {
        return &run.subject.door.c;
    }

    // The bare calls, which the oracle does not see.

    /// Asks for a block as malloc does. Whether errno is as it should be is for the caller to ask.
    pub fn take(run: *Run, size: usize) ?[*]u8 {
        run.armErrno();
        return switch (run.subject.door) {
            .c => |*c| c.malloc(size),
            .zig => |zig| zig.rawAlloc(size, naturalAlignment(size), @returnAddress()),
        };
    }

    /// Frees what `take` gave.
    pub fn give(run: *Run, pointer: [*]u8, size: usize, alignment: std.mem.Alignment) Failure!void {
        run.armErrno();
        switch (run.subject.door) {
            .c => |*c| c.free(pointer),
            .zig => |zig| zig.rawFree(pointer[0..size], alignment, @returnAddress()),
        }
        try run.expectErrnoKept("free", size);
    }

    /// Sets errno to a value that no call leaves behind.
    pub fn armErrno(run: *Run) void {
        switch (run.subject.door) {
            .c => |*c| c.errno_location().* = errno_sentinel,
            .zig => {},
        }
    }

    pub fn expectErrnoKept(run: *Run, what: []const u8, size: usize) Failure!void {
        switch (run.subject.door) {
            .c => |*c| {
                const found = c.errno_location().*;
                if (found != errno_sentinel) {
                    return run.fail("{s} of {d} bytes succeeded and left errno {d}", .{ what, size, found });
                }
            },
            .zig => {},
        }
    }

    /// Checks that a call failed as it should: NULL, and errno by the contract.
    pub fn expectRefused(
        run: *Run,
        what: []const u8,
        pointer: ?[*]u8,
        errno_expected: c_int,
        numbers: [2]usize,
    ) Failure!void {
        if (pointer) |p| {
            return run.fail("{s}({d}, {d}) returned 0x{x}, expected NULL", .{
                what, numbers[0], numbers[1], @intFromPtr(p),
            });
        }
        switch (run.subject.door) {
            .c => |*c| {
                const found = c.errno_location().*;
                const expected = switch (run.subject.contract.errno) {
                    .set_on_failure => errno_expected,
                    .left_alone, .absent => errno_sentinel,
                };
                if (found != expected) {
                    return run.fail("{s}({d}, {d}) returned NULL with errno {d}, expected {d}", .{
                        what, numbers[0], numbers[1], found, expected,
                    });
                }
            },
            .zig => {},
        }
    }

    // The checked calls.

    /// Checks what an allocating call returned and makes a live block of it.
    pub fn adopt(run: *Run, what: []const u8, result: ?[*]u8, size: usize, alignment: std.mem.Alignment) Failure!Block {
        const pointer = result orelse return run.fail("{s} of {d} bytes returned NULL", .{ what, size });
        const address = @intFromPtr(pointer);
        try run.expectErrnoKept(what, size);
        if (!alignment.check(address)) {
            return run.fail("{s} of {d} bytes returned 0x{x}, not aligned to {d}", .{
                what, size, address, alignment.toByteUnits(),
            });
        }
        const usable = switch (run.subject.door) {
            .c => |*c| c.usable_size(pointer),
            .zig => size,
        };
        if (usable < size) {
            return run.fail("{s} of {d} bytes: usable size of 0x{x} is {d}", .{ what, size, address, usable });
        }
        try run.expectErrnoKept("usable size", size);
        const block: Block = .{
            .pointer = pointer,
            .size = size,
            .usable = usable,
            .alignment = alignment,
            .identity = run.next_identity,
        };
        run.next_identity += 1;
        const taken = run.oracle.claim(address, usable) catch |err| {
            return run.fail("{s} of {d} bytes returned 0x{x} (usable {d}): {t}", .{
                what, size, address, usable, err,
            });
        };
        if (taken) |at| {
            return run.fail("{s} of {d} bytes returned 0x{x} (usable {d}), which overlaps a live block at 0x{x}", .{
                what, size, address, usable, at,
            });
        }
        return block;
    }

    pub fn allocate(run: *Run, size: usize) Failure!Block {
        return run.adopt("malloc", run.take(size), size, naturalAlignment(size));
    }

    pub fn allocateAligned(run: *Run, alignment: std.mem.Alignment, size: usize) Failure!Block {
        run.armErrno();
        const pointer = switch (run.subject.door) {
            .c => |*c| c.aligned_alloc(alignment.toByteUnits(), size),
            .zig => |zig| zig.rawAlloc(size, alignment, @returnAddress()),
        };
        return run.adopt("aligned_alloc", pointer, size, alignment);
    }

    /// calloc, every byte of which must be zero.
    pub fn allocateZeroed(run: *Run, count: usize, size_each: usize) Failure!Block {
        const size = count * size_each;
        run.armErrno();
        const block = try run.adopt("calloc", run.family().calloc(count, size_each), size, naturalAlignment(size));
        for (block.pointer[0..size], 0..) |byte, index| {
            if (byte != 0) {
                return run.fail("calloc({d}, {d}) returned 0x{x}, whose byte {d} is 0x{x}", .{
                    count, size_each, block.address(), index, byte,
                });
            }
        }
        return block;
    }

    /// Writes the block's pattern over all that may be used of it.
    pub fn fill(run: *Run, block: Block) void {
        _ = run;
        oracle_module.fillPattern(block.pointer[0..block.usable], block.key());
    }

    /// Checks every byte that `fill` wrote.
    pub fn check(run: *Run, block: Block) Failure!void {
        try run.checkBytes("later", block.pointer, block.usable, block.key(), block);
    }

    pub fn checkBytes(
        run: *Run,
        when: []const u8,
        pointer: [*]u8,
        size: usize,
        pattern: u64,
        block: Block,
    ) Failure!void {
        if (oracle_module.firstWrongByte(pointer[0..size], pattern)) |index| {
            return run.fail("byte {d} of block 0x{x} (size {d}, usable {d}) changed: 0x{x} for 0x{x}, seen {s}", .{
                index,                                     block.address(), block.size, block.usable, pointer[index],
                oracle_module.patternByte(pattern, index), when,
            });
        }
    }

    /// Frees a live block, whose usable size must be what it was.
    pub fn free(run: *Run, block: Block) Failure!void {
        switch (run.subject.door) {
            .c => |*c| {
                const usable = c.usable_size(block.pointer);
                if (usable != block.usable) {
                    return run.fail("usable size of 0x{x} (size {d}) was {d} and is {d}", .{
                        block.address(), block.size, block.usable, usable,
                    });
                }
            },
            .zig => {},
        }
        try run.unclaim(block);
        try run.give(block.pointer, block.size, block.alignment);
    }

    /// Tells the oracle that the block is about to go.
    pub fn unclaim(run: *Run, block: Block) Failure!void {
        const foreign = run.oracle.release(block.address(), block.usable) catch |err| {
            return run.fail("block 0x{x} (usable {d}): {t}", .{ block.address(), block.usable, err });
        };
        // The suite frees only what it claimed, so this is a mistake of the suite itself.
        if (foreign) |at| return run.fail("the suite freed 0x{x} without owning 0x{x}", .{ block.address(), at });
    }

    pub fn checkAndFree(run: *Run, block: Block) Failure!void {
        try run.check(block);
        try run.free(block);
    }

    /// Changes the size of a filled block, checks the bytes that must survive and fills it anew.
    pub fn resize(run: *Run, block: Block, size: usize) Failure!Block {
        try run.check(block);
        try run.unclaim(block);
        run.armErrno();
        const result: ?[*]u8 = switch (run.subject.door) {
            .c => |*c| c.realloc(block.pointer, size),
            .zig => |zig| resizeZig(zig, block, size),
        };
        const alignment = switch (run.subject.door) {
            .c => naturalAlignment(size),
            .zig => block.alignment,
        };
        const resized = try run.adopt("realloc", result, size, alignment);
        try run.checkBytes("after realloc", resized.pointer, @min(block.size, size), block.key(), resized);
        run.fill(resized);
        return resized;
    }

    /// As `std.mem.Allocator.realloc`, for an alignment known only at run time.
    pub fn resizeZig(zig: std.mem.Allocator, block: Block, size: usize) ?[*]u8 {
        const old = block.pointer[0..block.size];
        if (zig.rawRemap(old, block.alignment, size, @returnAddress())) |moved| return moved;
        const fresh = zig.rawAlloc(size, block.alignment, @returnAddress()) orelse return null;
        const kept = @min(block.size, size);
        @memcpy(fresh[0..kept], old[0..kept]);
        zig.rawFree(old, block.alignment, @returnAddress());
        return fresh;
    }

    /// Memory of the suite itself, from the system. It lives until the case ends with the process
    /// or until `freeScratch`.
    pub fn scratch(run: *Run, comptime T: type, count: usize) Failure![]T {
        return std.heap.page_allocator.alloc(T, count) catch {
            return run.fail("the suite itself could not map {d} bytes", .{count * @sizeOf(T)});
        };
    }

    pub fn freeScratch(run: *Run, slice: anytype) void {
        _ = run;
        std.heap.page_allocator.free(slice);
    }

    pub fn residentBytes(run: *Run) Failure!usize {
        return process.residentBytes() catch |err| run.fail("cannot read the resident size: {t}", .{err});
    }

    pub fn expectFallBy(run: *Run, what: []const u8, before: usize, bytes: usize) Failure!void {
        const after = try run.residentBytes();
        if (after + bytes > before) {
            return run.fail("{s}: resident memory went from {d} to {d} bytes, expected {d} less", .{
                what, before, after, bytes,
            });
        }
    }

    pub fn expectGrowthWithin(run: *Run, what: []const u8, before: usize, allowance: usize) Failure!void {
        const after = try run.residentBytes();
        if (after > before + allowance) {
            return run.fail("{s}: resident memory grew from {d} to {d} bytes, allowed {d}", .{
                what, before, after, allowance,
            });
        }
    }
};

/// A size of which the address space has room for several, also where it is limited.
pub fn roomySize(wanted: usize) usize {
    const share = process.addressSpaceLimit() / 8;
    return if (share >= wanted) wanted else @max(128 * mib, std.mem.alignBackward(usize, share, mib));
}

/// What the process may grow by while nothing more is live. A page or two of bookkeeping is no
/// leak; a lost block each round is far more.
pub const growth_allowance = 2 * mib;

/// A pseudo-random sequence that depends on nothing but its seed.
pub const Random = struct {
    state: u64,

    pub fn next(random: *Random) u64 {
        random.state +%= 1;
        return oracle_module.mix(random.state);
    }

    pub fn below(random: *Random, limit: usize) usize {
        return random.next() % limit;
    }

    /// Evenly spread over the doublings, so that small sizes are frequent.
    pub fn size(random: *Random, bits_max: u6) usize {
        const bits = 1 + random.below(bits_max);
        return 1 + random.below(@as(usize, 1) << @intCast(bits));
    }

    pub fn shuffle(random: *Random, comptime T: type, items: []T) void {
        var remaining = items.len;
        while (remaining > 1) {
            const chosen = random.below(remaining);
            remaining -= 1;
            std.mem.swap(T, &items[chosen], &items[remaining]);
        }
    }
};

/// The alignment that malloc owes a block: 16 bytes, or 8 for those too small to hold more.
pub fn naturalAlignment(size: usize) std.mem.Alignment {
    return if (size <= 8) .@"8" else .@"16";
}

/// Sizes in memory of the suite's own.
pub const Sizes = struct {
    storage: []usize,
    items: []const usize,

    pub fn deinit(sizes: Sizes, run: *Run) void {
        run.freeScratch(sizes.storage);
    }
};

/// Every size at which an allocator may change class: eighths of each doubling with both
/// neighbours, ascending, each once.
pub fn boundarySizes(run: *Run, last: usize) Failure!Sizes {
    const storage = try run.scratch(usize, @bitSizeOf(usize) * 8 * 3);
    var count: usize = 0;
    var doubling: usize = 8;
    while (doubling <= last) : (doubling *= 2) {
        for (0..8) |eighth| {
            const middle = doubling + eighth * doubling / 8;
            for ([_]usize{ middle - 1, middle, middle + 1 }) |size| {
                if (size > last or (count > 0 and size <= storage[count - 1])) continue;
                storage[count] = size;
                count += 1;
            }
        }
    }
    return .{ .storage = storage, .items = storage[0..count] };
}
