//! The one conformance suite: what every door of an allocator must do, whoever made it.
//!
//! A `Subject` is a door: a family of C functions (libc's malloc, a preloaded malloc, `hak_*`) or a
//! `std.mem.Allocator`. Each case drives it through `Run`, which checks at every single call that
//! the block is not NULL, aligned, as large as it says, apart from every other live block, still
//! holds its bytes when looked at again, and that errno is what it should be.
//!
//! Where doors may rightly differ, the difference is a field of `Contract`, and a case that a door
//! cannot have is reported as skipped with its reason. The suite takes its own memory from the
//! system and nothing from the allocator under test; it links no libc by itself. It is single
//! threaded: threads, fork and exit are the stress program's.

const std = @import("std");
const linux = std.os.linux;
const oracle_module = @import("oracle.zig");
const process = @import("process.zig");

pub const Oracle = oracle_module.Oracle;
const mix = oracle_module.mix;

const kib = 1024;
const mib = 1024 * kib;
const ptrdiff_max: usize = std.math.maxInt(isize);
const size_max: usize = std.math.maxInt(usize);

/// No code of Linux's errno, so that a value left behind by the allocator always shows.
const errno_sentinel = 4242;
const errno_no_memory: c_int = @backingInt(linux.E.NOMEM);
const errno_invalid: c_int = @backingInt(linux.E.INVAL);

/// The C functions of one allocator. What it does not have is null.
pub const Family = struct {
    malloc: *const fn (usize) callconv(.c) ?[*]u8,
    calloc: *const fn (usize, usize) callconv(.c) ?[*]u8,
    realloc: *const fn (?[*]u8, usize) callconv(.c) ?[*]u8,
    free: *const fn (?[*]u8) callconv(.c) void,
    aligned_alloc: *const fn (usize, usize) callconv(.c) ?[*]u8,
    usable_size: *const fn (?*const anyopaque) callconv(.c) usize,
    posix_memalign: ?*const fn (*?[*]u8, usize, usize) callconv(.c) c_int = null,
    memalign: ?*const fn (usize, usize) callconv(.c) ?[*]u8 = null,
    valloc: ?*const fn (usize) callconv(.c) ?[*]u8 = null,
    pvalloc: ?*const fn (usize) callconv(.c) ?[*]u8 = null,
    reallocarray: ?*const fn (?[*]u8, usize, usize) callconv(.c) ?[*]u8 = null,
    free_sized: ?*const fn (?[*]u8, usize) callconv(.c) void = null,
    free_aligned_sized: ?*const fn (?[*]u8, usize, usize) callconv(.c) void = null,
    /// Gives back to the system what is free: hak_tiny_magazine_flush_all, or malloc_trim.
    flush_all: ?*const fn () callconv(.c) void = null,
    purge: ?*const fn () callconv(.c) usize = null,
    /// Fills in as many bytes of `Stats` as are given; 0 is success.
    stats: ?*const fn (*Stats, usize) callconv(.c) c_int = null,
    tiny: ?Tiny = null,
    batch: ?Batch = null,
    /// Where the calling thread's errno lies.
    errno_location: *const fn () callconv(.c) *c_int,
};

/// hakmem's tiny classes, numbered from 0.
pub const Tiny = struct {
    class_count: *const fn () callconv(.c) c_int,
    class_size: *const fn (c_int) callconv(.c) usize,
    class_of: *const fn (usize) callconv(.c) c_int,
    flush: *const fn (c_int) callconv(.c) void,
};

/// The head of hakmem's statistics, in the order of its header.
pub const Stats = extern struct {
    struct_bytes: u64 = 0,
    threads: u64 = 0,
    superslabs: u64 = 0,
    superslabs_empty: u64 = 0,
    superslabs_mapped_ever: u64 = 0,
    superslabs_unmapped_ever: u64 = 0,
    superslabs_refused_ever: u64 = 0,
    slabs: u64 = 0,
    slab_bytes: u64 = 0,
    large_bytes: u64 = 0,
    dirty_bytes: u64 = 0,
    magazine_bytes: u64 = 0,
    cold_bytes: u64 = 0,
    slab_free_bytes: u64 = 0,
    slab_fresh_bytes: u64 = 0,
    huge_blocks: u64 = 0,
    huge_bytes: u64 = 0,
};

pub const Batch = struct {
    malloc: *const fn (usize, usize, [*]?[*]u8) callconv(.c) usize,
    free: *const fn ([*]?[*]u8, usize) callconv(.c) void,
};

/// What a door promises where allocators differ.
pub const Contract = struct {
    /// On failure errno becomes ENOMEM or EINVAL (the malloc family), or it is left alone
    /// (`hak_*`), or the door has none (Zig). On success it is left alone in each case.
    errno: enum { set_on_failure, left_alone, absent },
    /// posix_memalign reports by its result and leaves errno alone, also when out of memory.
    posix_memalign_keeps_errno: bool,
    /// What aligned_alloc does with an alignment that is not a power of two.
    bad_alignment: enum { refused, rounded_up, unspecified },
    /// realloc(p, 0) frees p and returns NULL.
    realloc_to_zero_frees: bool,
    /// A block of size zero has an address of its own. Zig's interface never asks for one.
    zero_sizes: bool,
    /// The suite may lower the limits of the process for a moment.
    may_change_limits: bool,
    /// Any size may be asked for, and the impossible ones are refused. Zig's own allocators stop
    /// the program with an integer overflow for sizes near the end of the address space.
    refuses_any_size: bool,
    /// Memory given back at one size serves another. Zig's smp_allocator keeps what it has for the
    /// class it was first used for.
    reuses_across_sizes: bool,
    /// A pointer that is no block in use ends the process with one line that begins with this.
    misuse_line: ?[]const u8,

    pub const hakmem_malloc: Contract = .{
        .errno = .set_on_failure,
        .posix_memalign_keeps_errno = true,
        .bad_alignment = .refused,
        .realloc_to_zero_frees = true,
        .zero_sizes = true,
        .may_change_limits = true,
        .refuses_any_size = true,
        .reuses_across_sizes = true,
        .misuse_line = "hakmem: ",
    };

    pub const hak: Contract = blk: {
        var contract = hakmem_malloc;
        contract.errno = .left_alone;
        break :blk contract;
    };

    /// glibc before 2.38 rounds an odd alignment up, and its posix_memalign sets errno as malloc does.
    pub const glibc: Contract = blk: {
        var contract = hakmem_malloc;
        contract.posix_memalign_keeps_errno = false;
        contract.bad_alignment = .unspecified;
        contract.misuse_line = null;
        break :blk contract;
    };

    /// What C and POSIX ask of any malloc.
    pub const least: Contract = blk: {
        var contract = glibc;
        contract.realloc_to_zero_frees = false;
        break :blk contract;
    };

    pub const zig: Contract = .{
        .errno = .absent,
        .posix_memalign_keeps_errno = true,
        .bad_alignment = .unspecified,
        .realloc_to_zero_frees = false,
        .zero_sizes = false,
        .may_change_limits = false,
        .refuses_any_size = true,
        .reuses_across_sizes = true,
        .misuse_line = null,
    };

    /// `std.heap.smp_allocator`, the control for the Zig door.
    pub const zig_control: Contract = blk: {
        var contract = zig;
        contract.refuses_any_size = false;
        contract.reuses_across_sizes = false;
        break :blk contract;
    };
};

pub const Subject = struct {
    name: []const u8,
    door: union(enum) { c: Family, zig: std.mem.Allocator },
    contract: Contract,
    /// The door is in a library that this program opened and may close.
    opened: bool = false,
};

/// One live block, as the suite remembers it.
pub const Block = struct {
    pointer: [*]u8,
    /// What was asked for.
    size: usize,
    /// What the allocator says may be used, and what the oracle holds claimed.
    usable: usize,
    alignment: std.mem.Alignment,
    identity: u64,

    fn address(block: Block) usize {
        return @intFromPtr(block.pointer);
    }

    fn key(block: Block) u64 {
        return oracle_module.patternKey(block.address(), block.usable, block.identity);
    }
};

pub const Failure = error{ConformanceFailed};

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

    fn family(run: *Run) *const Family {
        return &run.subject.door.c;
    }

    // The bare calls: errno is checked, the oracle is not told.

    /// Asks for a block, or null.
    fn take(run: *Run, size: usize) ?[*]u8 {
        run.armErrno();
        return switch (run.subject.door) {
            .c => |*c| c.malloc(size),
            .zig => |zig| zig.rawAlloc(size, naturalAlignment(size), @returnAddress()),
        };
    }

    fn give(run: *Run, pointer: [*]u8, size: usize, alignment: std.mem.Alignment) Failure!void {
        run.armErrno();
        switch (run.subject.door) {
            .c => |*c| c.free(pointer),
            .zig => |zig| zig.rawFree(pointer[0..size], alignment, @returnAddress()),
        }
        try run.expectErrnoKept("free", size);
    }

    fn armErrno(run: *Run) void {
        switch (run.subject.door) {
            .c => |*c| c.errno_location().* = errno_sentinel,
            .zig => {},
        }
    }

    fn expectErrnoKept(run: *Run, what: []const u8, size: usize) Failure!void {
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
    fn expectRefused(run: *Run, what: []const u8, pointer: ?[*]u8, errno_expected: c_int, numbers: [2]usize) Failure!void {
        if (pointer) |p| {
            return run.fail("{s}({d}, {d}) returned 0x{x}, expected NULL", .{ what, numbers[0], numbers[1], @intFromPtr(p) });
        }
        switch (run.subject.door) {
            .c => |*c| {
                const found = c.errno_location().*;
                const expected = switch (run.subject.contract.errno) {
                    .set_on_failure => errno_expected,
                    .left_alone, .absent => errno_sentinel,
                };
                if (found != expected) {
                    return run.fail("{s}({d}, {d}) returned NULL with errno {d}, expected {d}", .{ what, numbers[0], numbers[1], found, expected });
                }
            },
            .zig => {},
        }
    }

    // The checked calls.

    /// Checks what an allocating call returned and makes a live block of it.
    fn adopt(run: *Run, what: []const u8, result: ?[*]u8, size: usize, alignment: std.mem.Alignment) Failure!Block {
        const pointer = result orelse return run.fail("{s} of {d} bytes returned NULL", .{ what, size });
        const address = @intFromPtr(pointer);
        try run.expectErrnoKept(what, size);
        if (!alignment.check(address)) {
            return run.fail("{s} of {d} bytes returned 0x{x}, not aligned to {d}", .{ what, size, address, alignment.toByteUnits() });
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
            return run.fail("{s} of {d} bytes returned 0x{x} (usable {d}): {t}", .{ what, size, address, usable, err });
        };
        if (taken) |at| {
            return run.fail("{s} of {d} bytes returned 0x{x} (usable {d}), which overlaps a live block at 0x{x}", .{ what, size, address, usable, at });
        }
        return block;
    }

    fn allocate(run: *Run, size: usize) Failure!Block {
        return run.adopt("malloc", run.take(size), size, naturalAlignment(size));
    }

    fn allocateAligned(run: *Run, alignment: std.mem.Alignment, size: usize) Failure!Block {
        run.armErrno();
        const pointer = switch (run.subject.door) {
            .c => |*c| c.aligned_alloc(alignment.toByteUnits(), size),
            .zig => |zig| zig.rawAlloc(size, alignment, @returnAddress()),
        };
        return run.adopt("aligned_alloc", pointer, size, alignment);
    }

    fn allocateZeroed(run: *Run, count: usize, size_each: usize) Failure!Block {
        const size = count * size_each;
        run.armErrno();
        const block = try run.adopt("calloc", run.family().calloc(count, size_each), size, naturalAlignment(size));
        for (block.pointer[0..size], 0..) |byte, index| {
            if (byte != 0) {
                return run.fail("calloc({d}, {d}) returned 0x{x}, whose byte {d} is 0x{x}", .{ count, size_each, block.address(), index, byte });
            }
        }
        return block;
    }

    /// Writes the block's pattern over all that may be used of it.
    fn fill(run: *Run, block: Block) void {
        _ = run;
        oracle_module.fillPattern(block.pointer[0..block.usable], block.key());
    }

    fn check(run: *Run, block: Block) Failure!void {
        try run.checkBytes("later", block.pointer, block.usable, block.key(), block);
    }

    fn checkBytes(run: *Run, when: []const u8, pointer: [*]u8, size: usize, pattern: u64, block: Block) Failure!void {
        if (oracle_module.firstWrongByte(pointer[0..size], pattern)) |index| {
            return run.fail("byte {d} of block 0x{x} (size {d}, usable {d}) changed: 0x{x} for 0x{x}, seen {s}", .{
                index,                                     block.address(), block.size, block.usable, pointer[index],
                oracle_module.patternByte(pattern, index), when,
            });
        }
    }

    fn free(run: *Run, block: Block) Failure!void {
        switch (run.subject.door) {
            .c => |*c| {
                const usable = c.usable_size(block.pointer);
                if (usable != block.usable) {
                    return run.fail("usable size of 0x{x} (size {d}) was {d} and is {d}", .{ block.address(), block.size, block.usable, usable });
                }
            },
            .zig => {},
        }
        try run.unclaim(block);
        try run.give(block.pointer, block.size, block.alignment);
    }

    fn unclaim(run: *Run, block: Block) Failure!void {
        const foreign = run.oracle.release(block.address(), block.usable) catch |err| {
            return run.fail("block 0x{x} (usable {d}): {t}", .{ block.address(), block.usable, err });
        };
        // The suite frees only what it claimed, so this is a mistake of the suite itself.
        if (foreign) |at| return run.fail("the suite freed 0x{x} without owning 0x{x}", .{ block.address(), at });
    }

    fn checkAndFree(run: *Run, block: Block) Failure!void {
        try run.check(block);
        try run.free(block);
    }

    /// Changes the size of a filled block, checks the bytes that must survive and fills it anew.
    fn resize(run: *Run, block: Block, size: usize) Failure!Block {
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
    fn resizeZig(zig: std.mem.Allocator, block: Block, size: usize) ?[*]u8 {
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
    fn scratch(run: *Run, comptime T: type, count: usize) Failure![]T {
        return std.heap.page_allocator.alloc(T, count) catch {
            return run.fail("the suite itself could not map {d} bytes", .{count * @sizeOf(T)});
        };
    }

    fn freeScratch(run: *Run, slice: anytype) void {
        _ = run;
        std.heap.page_allocator.free(slice);
    }

    fn residentBytes(run: *Run) Failure!usize {
        return process.residentBytes() catch |err| run.fail("cannot read the resident size: {t}", .{err});
    }

    fn expectGrowthWithin(run: *Run, what: []const u8, before: usize, allowance: usize) Failure!void {
        const after = try run.residentBytes();
        if (after > before + allowance) {
            return run.fail("{s}: resident memory grew from {d} to {d} bytes, allowed {d}", .{ what, before, after, allowance });
        }
    }
};

/// A pseudo-random sequence that depends on nothing but its seed.
const Random = struct {
    state: u64,

    fn next(random: *Random) u64 {
        random.state +%= 1;
        return mix(random.state);
    }

    fn below(random: *Random, limit: usize) usize {
        return random.next() % limit;
    }

    /// Evenly spread over the doublings, so that small sizes are frequent.
    fn size(random: *Random, bits_max: u6) usize {
        const bits = 1 + random.below(bits_max);
        return 1 + random.below(@as(usize, 1) << @intCast(bits));
    }

    fn shuffle(random: *Random, comptime T: type, items: []T) void {
        var remaining = items.len;
        while (remaining > 1) {
            const chosen = random.below(remaining);
            remaining -= 1;
            std.mem.swap(T, &items[chosen], &items[remaining]);
        }
    }
};

/// The alignment that malloc owes a block: 16 bytes, or 8 for those too small to hold more.
fn naturalAlignment(size: usize) std.mem.Alignment {
    return if (size <= 8) .@"8" else .@"16";
}

pub const Need = enum {
    c_family,
    posix_memalign,
    memalign,
    valloc,
    pvalloc,
    reallocarray,
    zero_sizes,
    realloc_to_zero_frees,
    bad_alignment_specified,
    process_limits,
    reuse_across_sizes,
    free_sized,
    flush,
    tiny_classes,
    batch,
    misuse_ends_process,
    opened_library,
    zig_interface,
};

pub const Case = struct {
    name: []const u8,
    run: *const fn (*Run) Failure!void,
    needs: []const Need = &.{},

    /// Why this subject cannot have the case, or null.
    pub fn skipReason(case: Case, subject: *const Subject) ?[]const u8 {
        for (case.needs) |need| {
            if (missing(need, subject)) |reason| return reason;
        }
        return null;
    }

    fn missing(need: Need, subject: *const Subject) ?[]const u8 {
        if (need == .zig_interface) {
            return if (subject.door == .zig) null else "a C family has no Zig interface";
        }
        if (need == .zero_sizes) {
            return if (subject.contract.zero_sizes) null else "its interface never asks for zero bytes";
        }
        if (need == .process_limits) {
            return if (subject.contract.may_change_limits) null else "it may share its process, whose limits stay as they are";
        }
        if (need == .reuse_across_sizes) {
            return if (subject.contract.reuses_across_sizes) null else "it keeps memory for the size class that first used it";
        }
        if (need == .opened_library) {
            return if (subject.opened) null else "it came with the process and stays";
        }
        if (need == .misuse_ends_process) {
            return if (subject.contract.misuse_line != null) null else "it promises nothing about pointers that are no blocks";
        }
        if (need == .realloc_to_zero_frees) {
            return if (subject.contract.realloc_to_zero_frees) null else "it promises nothing about realloc to zero";
        }
        if (need == .bad_alignment_specified) {
            return if (subject.contract.bad_alignment != .unspecified) null else "it promises nothing about an alignment that is no power of two";
        }
        const family = switch (subject.door) {
            .c => |*c| c,
            .zig => return "its interface has no C functions",
        };
        return switch (need) {
            .c_family => null,
            .posix_memalign => if (family.posix_memalign != null) null else "it has no posix_memalign",
            .memalign => if (family.memalign != null) null else "it has no memalign",
            .valloc => if (family.valloc != null) null else "it has no valloc",
            .pvalloc => if (family.pvalloc != null) null else "it has no pvalloc",
            .reallocarray => if (family.reallocarray != null) null else "it has no reallocarray",
            .free_sized => if (family.free_sized != null) null else "it has no free_sized",
            .flush => if (family.flush_all != null) null else "it has no call that gives memory back",
            .tiny_classes => if (family.tiny != null) null else "it has no tiny classes to ask about",
            .batch => if (family.batch != null) null else "it has no batch calls",
            .misuse_ends_process, .opened_library, .zig_interface, .zero_sizes, .process_limits, .reuse_across_sizes, .realloc_to_zero_frees, .bad_alignment_specified => unreachable,
        };
    }
};

pub const cases = [_]Case{
    .{ .name = "free-null", .run = freeNull, .needs = &.{.c_family} },
    .{ .name = "usable-size", .run = usableSize, .needs = &.{.c_family} },
    .{ .name = "sizes-small", .run = sizesSmall },
    .{ .name = "sizes-powers", .run = sizesPowers },
    .{ .name = "sizes-sampled", .run = sizesSampled },
    .{ .name = "zero-sizes", .run = zeroSizes, .needs = &.{ .c_family, .zero_sizes } },
    .{ .name = "calloc-zeroed", .run = callocZeroed, .needs = &.{.c_family} },
    .{ .name = "calloc-overflow", .run = callocOverflow, .needs = &.{.c_family} },
    .{ .name = "reallocarray", .run = reallocarray, .needs = &.{.reallocarray} },
    .{ .name = "realloc-null", .run = reallocNull, .needs = &.{.c_family} },
    .{ .name = "realloc-contents", .run = reallocContents },
    .{ .name = "realloc-growth", .run = reallocGrowth },
    .{ .name = "realloc-append", .run = reallocAppend },
    .{ .name = "realloc-to-zero", .run = reallocToZero, .needs = &.{ .c_family, .realloc_to_zero_frees } },
    .{ .name = "realloc-failure", .run = reallocFailure },
    .{ .name = "huge-sizes", .run = hugeSizes },
    .{ .name = "aligned-alloc", .run = alignedAlloc },
    .{ .name = "aligned-alloc-bad-alignment", .run = alignedAllocBadAlignment, .needs = &.{ .c_family, .bad_alignment_specified } },
    .{ .name = "aligned-realloc", .run = alignedRealloc },
    .{ .name = "posix-memalign", .run = posixMemalign, .needs = &.{.posix_memalign} },
    .{ .name = "posix-memalign-errors", .run = posixMemalignErrors, .needs = &.{.posix_memalign} },
    .{ .name = "memalign", .run = memalign, .needs = &.{.memalign} },
    .{ .name = "valloc", .run = valloc, .needs = &.{.valloc} },
    .{ .name = "pvalloc", .run = pvalloc, .needs = &.{.pvalloc} },
    .{ .name = "many-blocks", .run = manyBlocks },
    .{ .name = "many-large-blocks", .run = manyLargeBlocks },
    .{ .name = "reuse-one", .run = reuseOne },
    .{ .name = "reuse-batches", .run = reuseBatches },
    .{ .name = "reuse-across-sizes", .run = reuseAcrossSizes, .needs = &.{.reuse_across_sizes} },
    .{ .name = "free-sized", .run = freeSized, .needs = &.{.free_sized} },
    .{ .name = "batch", .run = batch, .needs = &.{.batch} },
    .{ .name = "tiny-classes", .run = tinyClasses, .needs = &.{.tiny_classes} },
    .{ .name = "flush-live-blocks", .run = flushLiveBlocks, .needs = &.{.flush} },
    .{ .name = "flush-gives-back", .run = flushGivesBack, .needs = &.{.flush} },
    .{ .name = "out-of-memory", .run = outOfMemory, .needs = &.{ .c_family, .process_limits } },
    .{ .name = "zig-resize", .run = zigResize, .needs = &.{.zig_interface} },
    .{ .name = "zig-standard-suite", .run = zigStandardSuite, .needs = &.{.zig_interface} },
};

pub const Outcome = union(enum) {
    pass,
    skip: []const u8,
    /// One line; lies in the buffer given to `runCase`.
    fail: []const u8,
};

/// Runs one case. Blocks of a failed case are left where they are.
pub fn runCase(subject: *const Subject, case: Case, message_buffer: []u8) Outcome {
    if (case.skipReason(subject)) |reason| return .{ .skip = reason };
    var run: Run = .{
        .subject = subject,
        .oracle = Oracle.init() catch return .{ .fail = "the oracle could not map its own memory" },
    };
    defer run.oracle.deinit();
    case.run(&run) catch {
        return .{ .fail = process.formatLine(message_buffer, "{s}", .{run.message}) };
    };
    return .pass;
}

/// Runs every case that applies to a Zig allocator, for use from a unit test. Each failure is one
/// line on stderr.
pub fn runAllocator(allocator: std.mem.Allocator) Failure!void {
    const subject: Subject = .{ .name = "zig", .door = .{ .zig = allocator }, .contract = .zig };
    var failed = false;
    for (cases) |case| {
        var buffer: [512]u8 = undefined;
        switch (runCase(&subject, case, &buffer)) {
            .pass, .skip => {},
            .fail => |message| {
                process.printLine(.stderr, "fail {s}: {s}", .{ case.name, message });
                failed = true;
            },
        }
    }
    if (failed) return error.ConformanceFailed;
}

/// Every size at which an allocator may change class: eighths of each doubling with both
/// neighbours, ascending, each once.
fn boundarySizes(run: *Run, size_max_wanted: usize) Failure![]usize {
    const sizes = try run.scratch(usize, 64 * 8 * 3);
    var count: usize = 0;
    var doubling: usize = 8;
    while (doubling <= size_max_wanted) : (doubling *= 2) {
        for (0..8) |eighth| {
            const middle = doubling + eighth * doubling / 8;
            for ([_]usize{ middle - 1, middle, middle + 1 }) |size| {
                if (size > size_max_wanted or (count > 0 and size <= sizes[count - 1])) continue;
                sizes[count] = size;
                count += 1;
            }
        }
    }
    return sizes[0..count];
}

fn freeNull(run: *Run) Failure!void {
    // First of all cases, so that in a process of its own the allocator's first call is this one.
    const c = run.family();
    for (0..100_000) |_| {
        run.armErrno();
        c.free(null);
        try run.expectErrnoKept("free(NULL)", 0);
    }
    // NULL must not have entered any list of free blocks.
    for (0..1000) |index| {
        const block = try run.allocate(index);
        run.fill(block);
        try run.checkAndFree(block);
    }
}

fn usableSize(run: *Run) Failure!void {
    const c = run.family();
    run.armErrno();
    const of_null = c.usable_size(null);
    if (of_null != 0) return run.fail("usable size of NULL is {d}", .{of_null});
    try run.expectErrnoKept("usable size of NULL", 0);
    const sizes = try boundarySizes(run, 2 * mib);
    defer run.freeScratch(sizes.ptr[0 .. 64 * 8 * 3]);
    for (sizes) |size| {
        // All that the neighbours may use is written, then all that the middle one may use.
        var neighbours: [3]Block = undefined;
        for (&neighbours) |*block| block.* = try run.allocate(size);
        run.fill(neighbours[0]);
        run.fill(neighbours[2]);
        run.fill(neighbours[1]);
        for (neighbours) |block| try run.checkAndFree(block);
    }
}

fn sizesSmall(run: *Run) Failure!void {
    const first: usize = if (run.subject.contract.zero_sizes) 0 else 1;
    const last = 4096;
    const blocks = try run.scratch(Block, last + 1);
    defer run.freeScratch(blocks);
    for (0..3) |round| {
        for (first..last + 1) |size| {
            blocks[size] = try run.allocate(size);
            run.fill(blocks[size]);
        }
        // The order of freeing differs each round: up, down, then odd sizes before even ones.
        for (0..2) |half| {
            for (first..last + 1) |index| {
                if (round < 2 and half == 1) continue;
                if (round == 2 and index % 2 == half) continue;
                try run.checkAndFree(blocks[if (round == 1) last - (index - first) else index]);
            }
        }
    }
}

fn sizesPowers(run: *Run) Failure!void {
    for (0..27) |exponent| {
        const power = @as(usize, 1) << @intCast(exponent);
        var blocks: [3]Block = undefined;
        for (&blocks, [_]usize{ @max(1, power - 1), power, power + 1 }) |*block, size| {
            block.* = try run.allocate(size);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
}

fn sizesSampled(run: *Run) Failure!void {
    var live: [8]?Block = @splat(null);
    var size: usize = 4097;
    var turn: usize = 0;
    // A prime step meets each remainder of every page, slab and cache line size.
    while (size < 2 * mib) : (size += 8209) {
        const place = &live[turn % live.len];
        turn += 1;
        if (place.*) |block| try run.checkAndFree(block);
        const block = try run.allocate(size);
        run.fill(block);
        place.* = block;
    }
    for (live) |maybe| if (maybe) |block| try run.checkAndFree(block);
}

fn zeroSizes(run: *Run) Failure!void {
    const c = run.family();
    var blocks: [1000]Block = undefined;
    for (0..2) |_| {
        for (&blocks, 0..) |*block, index| {
            run.armErrno();
            // The oracle claims at least one granule for each, so two of the same address overlap.
            block.* = switch (index % 5) {
                0 => try run.adopt("malloc", c.malloc(0), 0, .@"8"),
                1 => try run.adopt("calloc(0, 24)", c.calloc(0, 24), 0, .@"8"),
                2 => try run.adopt("calloc(24, 0)", c.calloc(24, 0), 0, .@"8"),
                3 => try run.adopt("realloc(NULL, 0)", c.realloc(null, 0), 0, .@"8"),
                4 => try run.adopt("aligned_alloc(64, 0)", c.aligned_alloc(64, 0), 0, .@"64"),
                else => unreachable,
            };
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // Growing a block of size zero is an ordinary realloc.
    var block = try run.allocate(0);
    run.fill(block);
    block = try run.resize(block, 100);
    try run.checkAndFree(block);
}

fn callocZeroed(run: *Run) Failure!void {
    const small = try boundarySizes(run, 64 * kib);
    defer run.freeScratch(small.ptr[0 .. 64 * 8 * 3]);
    for (small) |size| try callocAfterDirt(run, size, std.math.clamp(128 * kib / size, 1, 40));
    for ([_]usize{ 100_000, 256 * kib, mib - 16, mib, mib + 1, 2 * mib, 4 * mib - 4096, 5_000_000, 33 * mib }) |size| {
        try callocAfterDirt(run, size, if (size < 4 * mib) 2 else 1);
        // A freed block of which only the last byte was written: a mark "known to be zero" must
        // have gone with that one write.
        const dirtied = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
        dirtied[size - 1] = 0x55;
        try run.give(dirtied, size, naturalAlignment(size));
        try run.free(try run.allocateZeroed(1, size));
        // Shrunk in place, so that the tail goes back apart from the head.
        var shrunk = try run.allocate(size);
        run.fill(shrunk);
        shrunk = try run.resize(shrunk, size / 2);
        try run.checkAndFree(shrunk);
        try run.free(try run.allocateZeroed(size, 1));
    }
}

fn callocAfterDirt(run: *Run, size: usize, count: usize) Failure!void {
    var blocks: [40]Block = undefined;
    for (blocks[0..count]) |*block| {
        block.* = try run.allocate(size);
        @memset(block.pointer[0..block.usable], 0xaa);
    }
    for (blocks[0..count]) |block| try run.free(block);
    for (blocks[0..count], 0..) |*block, index| {
        block.* = switch (index % 3) {
            0 => try run.allocateZeroed(1, size),
            1 => try run.allocateZeroed(size, 1),
            2 => if (size % 2 == 0) try run.allocateZeroed(2, size / 2) else try run.allocateZeroed(1, size),
            else => unreachable,
        };
        @memset(block.pointer[0..block.usable], 0x77);
    }
    for (blocks[0..count]) |block| try run.free(block);
}

/// Pairs whose product does not fit a size; several wrap to a small number or to zero.
const overflowing_products = [_][2]usize{
    .{ size_max, 2 },
    .{ 2, size_max },
    .{ size_max, size_max },
    .{ 1 << 32, 1 << 32 },
    .{ size_max / 2 + 1, 2 },
    .{ size_max / 16 + 2, 16 },
    .{ 3, size_max / 3 + 2 },
    .{ 0x1_0000_0001, 0xffff_ffff_0000_0001 },
};

/// Products that fit a size but no address space.
const huge_products = [_][2]usize{
    .{ ptrdiff_max, 2 },
    .{ 1 << 31, 1 << 32 },
    .{ 1, size_max },
    .{ size_max / 3, 3 },
    .{ 1 << 24, 1 << 24 },
};

fn callocOverflow(run: *Run) Failure!void {
    const c = run.family();
    for (overflowing_products ++ huge_products) |pair| {
        run.armErrno();
        try run.expectRefused("calloc", c.calloc(pair[0], pair[1]), errno_no_memory, pair);
    }
}

fn reallocarray(run: *Run) Failure!void {
    const call = run.family().reallocarray.?;
    for ([_]usize{ 24, 3000, 200_000, 3 * mib }) |size| {
        var block = try run.allocate(size);
        run.fill(block);
        for (overflowing_products ++ huge_products) |pair| {
            run.armErrno();
            try run.expectRefused("reallocarray", call(block.pointer, pair[0], pair[1]), errno_no_memory, pair);
            try run.check(block);
        }
        try run.unclaim(block);
        run.armErrno();
        const grown = try run.adopt("reallocarray", call(block.pointer, 3, size), 3 * size, naturalAlignment(3 * size));
        try run.checkBytes("after reallocarray", grown.pointer, size, block.key(), grown);
        block = grown;
        run.fill(block);
        try run.checkAndFree(block);
    }
    run.armErrno();
    const fresh = try run.adopt("reallocarray of NULL", call(null, 10, 12), 120, .@"16");
    run.fill(fresh);
    try run.checkAndFree(fresh);
}

fn reallocNull(run: *Run) Failure!void {
    const c = run.family();
    const sizes = try boundarySizes(run, 4 * mib);
    defer run.freeScratch(sizes.ptr[0 .. 64 * 8 * 3]);
    for (sizes) |size| {
        run.armErrno();
        const block = try run.adopt("realloc of NULL", c.realloc(null, size), size, naturalAlignment(size));
        run.fill(block);
        try run.checkAndFree(block);
    }
    for ([_]usize{ ptrdiff_max + 1, size_max }) |size| {
        run.armErrno();
        try run.expectRefused("realloc of NULL", c.realloc(null, size), errno_no_memory, .{ 0, size });
    }
}

fn reallocContents(run: *Run) Failure!void {
    const sizes = try boundarySizes(run, 64 * kib);
    defer run.freeScratch(sizes.ptr[0 .. 64 * 8 * 3]);
    // Over each boundary, up and down again.
    for (sizes[0 .. sizes.len - 1], sizes[1..]) |lower, upper| {
        var block = try run.allocate(lower);
        run.fill(block);
        block = try run.resize(block, upper);
        block = try run.resize(block, lower);
        try run.checkAndFree(block);
    }
    // From each size to a spread of all others.
    for (sizes, 0..) |from, offset| {
        var index = offset % 11;
        while (index < sizes.len) : (index += 11) {
            var block = try run.allocate(from);
            run.fill(block);
            block = try run.resize(block, sizes[index]);
            try run.checkAndFree(block);
        }
    }
    // Through the large sizes, with a second block alive that may stand in the way.
    const large = [_]usize{
        20_000,      32 * kib,    32 * kib + 1, 70_000,  128 * kib - 24, 128 * kib, 300_000, mib - 1,
        mib,         mib + 1,     2 * mib - 16, 2 * mib, 2 * mib + 1,    3_333_333, 4 * mib, 5 * mib + 17,
        8 * mib - 1, 8 * mib + 1, 100,          1,
    };
    var random: Random = .{ .state = 5 };
    var blocks: [2]Block = undefined;
    for (&blocks) |*block| {
        block.* = try run.allocate(1000);
        run.fill(block.*);
    }
    for (0..120) |turn| {
        const block = &blocks[turn % 2];
        block.* = try run.resize(block.*, large[random.below(large.len)]);
    }
    for (blocks) |block| try run.checkAndFree(block);
}

fn reallocGrowth(run: *Run) Failure!void {
    // By doubling to 256 MiB, and down again.
    var block = try run.allocate(1);
    run.fill(block);
    while (block.size < 256 * mib) block = try run.resize(block, block.size * 2);
    while (block.size > 100) block = try run.resize(block, block.size / 13);
    try run.checkAndFree(block);
    // By half as much again, beside a second block that grows in turn.
    var pair: [2]Block = undefined;
    for (&pair) |*half| {
        half.* = try run.allocate(10);
        run.fill(half.*);
    }
    while (pair[1].size < 16 * mib) {
        for (&pair) |*half| half.* = try run.resize(half.*, half.size + half.size / 2);
    }
    for (pair) |half| try run.checkAndFree(half);
}

fn reallocAppend(run: *Run) Failure!void {
    // A buffer that grows byte by byte, as a naive string does.
    var block = try run.allocate(1);
    run.fill(block);
    while (block.size < 5000) block = try run.resize(block, block.size + 1);
    while (block.size > 1) block = try run.resize(block, block.size - 1);
    // And page by page, off the page boundary.
    while (block.size < 2 * mib) block = try run.resize(block, block.size + 12_289);
    try run.checkAndFree(block);
}

fn reallocToZero(run: *Run) Failure!void {
    const c = run.family();
    for ([_]usize{ 1, 8, 16, 100, 4096, 40_000, 300_000, 3 * mib }) |size| {
        // Enough that each block kept by mistake would show as resident memory.
        const rounds = std.math.clamp(64 * mib / size, 20, 300_000);
        var before: usize = 0;
        for (0..rounds) |round| {
            if (round == rounds / 10) before = try run.residentBytes();
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            pointer[0] = 1;
            pointer[size - 1] = 1;
            run.armErrno();
            if (c.realloc(pointer, 0)) |p| return run.fail("realloc(0x{x}, 0) of a block of {d} bytes returned 0x{x}, expected NULL", .{ @intFromPtr(pointer), size, @intFromPtr(p) });
            try run.expectErrnoKept("realloc to zero", size);
        }
        try run.expectGrowthWithin("realloc(p, 0) in a loop", before, 2 * mib + 2 * size);
    }
}

fn reallocFailure(run: *Run) Failure!void {
    for ([_]usize{ 1, 8, 100, 1024, 5000, 40_000, 300_000, mib, 3 * mib }) |size| {
        const block = try run.allocate(size);
        run.fill(block);
        for (hugeSizesFor(run)) |huge| {
            run.armErrno();
            const result = switch (run.subject.door) {
                .c => |*c| c.realloc(block.pointer, huge),
                .zig => |zig| Run.resizeZig(zig, block, huge),
            };
            try run.expectRefused("realloc", result, errno_no_memory, .{ block.address(), huge });
            try run.check(block);
        }
        try run.checkAndFree(block);
    }
}

/// The impossible sizes that this door may be asked for.
fn hugeSizesFor(run: *const Run) []const usize {
    return if (run.subject.contract.refuses_any_size) &huge_sizes else huge_sizes[huge_sizes_extreme..];
}

/// The first ones of `huge_sizes` overflow when they are rounded up.
const huge_sizes_extreme = 14;

/// Sizes that no process can have. The last ones are below PTRDIFF_MAX but beyond what a 48-bit
/// address space holds.
const huge_sizes = [_]usize{
    size_max,           size_max - 1,       size_max - 7,           size_max - 8,          size_max - 15,      size_max - 16,
    size_max - 4094,    size_max - 4095,    size_max - 4096,        size_max - 64 * kib,   size_max - 2 * mib, size_max - 4 * mib,
    size_max / 2 + 2,   ptrdiff_max + 1,    ptrdiff_max,            ptrdiff_max - 1,       ptrdiff_max - 15,   ptrdiff_max - 4095,
    ptrdiff_max - 4096, ptrdiff_max - 8192, ptrdiff_max - 64 * kib, ptrdiff_max - 2 * mib, 1 << 62,            (1 << 62) + 1,
    1 << 56,            1 << 48,            (1 << 48) - 4096,       1 << 47,
};

fn hugeSizes(run: *Run) Failure!void {
    // Each is asked for with small blocks alive, which must stay as they are.
    var witnesses: [16]Block = undefined;
    for (&witnesses, 0..) |*block, index| {
        block.* = try run.allocate(@as(usize, 17) << @intCast(index));
        run.fill(block.*);
    }
    for (hugeSizesFor(run)) |size| {
        try run.expectRefused("malloc", run.take(size), errno_no_memory, .{ size, 0 });
        for ([_]std.mem.Alignment{ .@"8", .@"16", .@"64", .fromByteUnits(4096), .fromByteUnits(mib) }) |alignment| {
            run.armErrno();
            const pointer = switch (run.subject.door) {
                .c => |*c| c.aligned_alloc(alignment.toByteUnits(), size),
                .zig => |zig| zig.rawAlloc(size, alignment, @returnAddress()),
            };
            try run.expectRefused("aligned_alloc", pointer, errno_no_memory, .{ alignment.toByteUnits(), size });
        }
        switch (run.subject.door) {
            .c => |*c| {
                run.armErrno();
                try run.expectRefused("calloc", c.calloc(size, 1), errno_no_memory, .{ size, 1 });
                run.armErrno();
                try run.expectRefused("realloc of NULL", c.realloc(null, size), errno_no_memory, .{ 0, size });
                if (c.memalign) |call| {
                    run.armErrno();
                    try run.expectRefused("memalign", call(256, size), errno_no_memory, .{ 256, size });
                }
            },
            .zig => {},
        }
    }
    for (witnesses) |block| try run.checkAndFree(block);
}

fn alignedAlloc(run: *Run) Failure!void {
    for (0..23) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        const bytes = alignment.toByteUnits();
        for ([_]usize{ 0, 1, bytes - 1, bytes, bytes * 3, 100_000 }) |size| {
            if (size == 0 and !run.subject.contract.zero_sizes) continue;
            // Three at once, since the first of a fresh page is aligned by chance.
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                block.* = try run.allocateAligned(alignment, size);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
    // Larger than any superslab.
    for ([_]usize{ 16 * mib, 64 * mib }) |bytes| {
        const alignment: std.mem.Alignment = .fromByteUnits(bytes);
        var blocks: [2]Block = undefined;
        for (&blocks, [_]usize{ 48, 300_000 }) |*block, size| {
            block.* = try run.allocateAligned(alignment, size);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // An alignment with which even a small block cannot fit the address space.
    for ([_]usize{ 1 << 48, 1 << 62, 1 << 63 }) |bytes| {
        run.armErrno();
        const pointer = switch (run.subject.door) {
            .c => |*c| c.aligned_alloc(bytes, 64),
            .zig => |zig| zig.rawAlloc(64, .fromByteUnits(bytes), @returnAddress()),
        };
        // glibc calls an alignment above half of the address space invalid.
        const code = switch (run.subject.door) {
            .c => |*c| if (c.errno_location().* == errno_invalid and bytes == 1 << 63) errno_invalid else errno_no_memory,
            .zig => errno_no_memory,
        };
        try run.expectRefused("aligned_alloc", pointer, code, .{ bytes, 64 });
    }
}

fn alignedAllocBadAlignment(run: *Run) Failure!void {
    const c = run.family();
    for ([_]usize{ 0, 3, 5, 6, 7, 12, 24, 48, 100, 4095, 4097, 3 * mib, size_max }) |alignment| {
        run.armErrno();
        const pointer = c.aligned_alloc(alignment, 64);
        switch (run.subject.contract.bad_alignment) {
            .refused => try run.expectRefused("aligned_alloc", pointer, errno_invalid, .{ alignment, 64 }),
            .rounded_up => {
                const power = std.math.ceilPowerOfTwo(usize, @max(alignment, 1)) catch continue;
                try run.free(try run.adopt("aligned_alloc", pointer, 64, .fromByteUnits(power)));
            },
            .unspecified => unreachable,
        }
    }
}

fn alignedRealloc(run: *Run) Failure!void {
    for (3..22) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        for ([_]usize{ 24, 5000, 100_000 }) |size| {
            var block = try run.allocateAligned(alignment, size);
            run.fill(block);
            block = try run.resize(block, size * 3);
            block = try run.resize(block, size / 2);
            block = try run.resize(block, size * 7 + 1);
            try run.checkAndFree(block);
        }
    }
}

fn posixMemalign(run: *Run) Failure!void {
    const call = run.family().posix_memalign.?;
    for (3..21) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        const bytes = alignment.toByteUnits();
        for ([_]usize{ 0, 1, bytes - 1, bytes, bytes + 1, 100_000 }) |size| {
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                var pointer: ?[*]u8 = null;
                run.armErrno();
                const code = call(&pointer, bytes, size);
                if (code != 0) return run.fail("posix_memalign({d}, {d}) returned {d}", .{ bytes, size, code });
                block.* = try run.adopt("posix_memalign", pointer, size, alignment);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
}

fn posixMemalignErrors(run: *Run) Failure!void {
    const call = run.family().posix_memalign.?;
    var untouched: [1]u8 = .{0};
    for ([_]usize{ 0, 1, 2, 3, 4, 6, 7, 9, 12, 20, 24, 40, 4095, 4104, size_max, size_max - 7 }) |alignment| {
        for ([_]usize{ 0, 64, 100_000, size_max }) |size| {
            var pointer: ?[*]u8 = &untouched;
            run.armErrno();
            const code = call(&pointer, alignment, size);
            if (code != errno_invalid) return run.fail("posix_memalign({d}, {d}) returned {d}, expected EINVAL ({d})", .{ alignment, size, code, errno_invalid });
            try expectPointerUntouched(run, pointer, &untouched, alignment, size);
            try run.expectErrnoKept("posix_memalign with a bad alignment,", size);
        }
    }
    for (hugeSizesFor(run)) |size| {
        var pointer: ?[*]u8 = &untouched;
        run.armErrno();
        const code = call(&pointer, 64, size);
        if (code != errno_no_memory) return run.fail("posix_memalign(64, {d}) returned {d}, expected ENOMEM ({d})", .{ size, code, errno_no_memory });
        try expectPointerUntouched(run, pointer, &untouched, 64, size);
        if (run.subject.contract.posix_memalign_keeps_errno) {
            try run.expectErrnoKept("posix_memalign without memory,", size);
        }
    }
}

fn expectPointerUntouched(run: *Run, pointer: ?[*]u8, untouched: [*]u8, alignment: usize, size: usize) Failure!void {
    if (pointer != untouched) {
        return run.fail("posix_memalign({d}, {d}) failed and wrote 0x{x} into the caller's pointer", .{ alignment, size, @intFromPtr(pointer) });
    }
}

fn memalign(run: *Run) Failure!void {
    const call = run.family().memalign.?;
    for (0..21) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        for ([_]usize{ 0, 1, 100, 5000, 70_000 }) |size| {
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                run.armErrno();
                block.* = try run.adopt("memalign", call(alignment.toByteUnits(), size), size, alignment);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
    // An alignment that is no power of two: refused as invalid, or rounded up, but never a block
    // that is aligned to less than was asked for.
    for ([_]usize{ 24, 48, 100, 4097 }) |alignment| {
        run.armErrno();
        const pointer = call(alignment, 200);
        if (pointer == null) {
            try run.expectRefused("memalign", pointer, errno_invalid, .{ alignment, 200 });
        } else {
            const power = std.math.ceilPowerOfTwo(usize, alignment) catch unreachable;
            try run.free(try run.adopt("memalign", pointer, 200, .fromByteUnits(power)));
        }
    }
}

fn valloc(run: *Run) Failure!void {
    const call = run.family().valloc.?;
    const page: std.mem.Alignment = .fromByteUnits(std.heap.pageSize());
    for ([_]usize{ 0, 1, 100, 4095, 4096, 4097, 70_000, 3 * mib }) |size| {
        var blocks: [3]Block = undefined;
        for (&blocks) |*block| {
            run.armErrno();
            block.* = try run.adopt("valloc", call(size), size, page);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    for (hugeSizesFor(run)) |size| {
        run.armErrno();
        try run.expectRefused("valloc", call(size), errno_no_memory, .{ size, 0 });
    }
}

fn pvalloc(run: *Run) Failure!void {
    const call = run.family().pvalloc.?;
    const page_bytes = std.heap.pageSize();
    const page: std.mem.Alignment = .fromByteUnits(page_bytes);
    for ([_]usize{ 0, 1, 100, 4095, 4096, 4097, 70_000, 3 * mib }) |size| {
        // The size is rounded up to whole pages, all of which the caller may write.
        const rounded = std.mem.alignForward(usize, size, page_bytes);
        var blocks: [3]Block = undefined;
        for (&blocks) |*block| {
            run.armErrno();
            block.* = try run.adopt("pvalloc", call(size), rounded, page);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // The rounding itself must not wrap to a small size.
    for (hugeSizesFor(run)) |size| {
        run.armErrno();
        try run.expectRefused("pvalloc", call(size), errno_no_memory, .{ size, 0 });
    }
}

fn manyBlocks(run: *Run) Failure!void {
    const count = 200_000;
    const blocks = try run.scratch(Block, count);
    defer run.freeScratch(blocks);
    var random: Random = .{ .state = 11 };
    for (0..2) |_| {
        for (blocks, 0..) |*block, index| {
            // One in a hundred above the small classes.
            block.* = try run.allocate(random.size(if (index % 100 == 0) 16 else 11));
            run.fill(block.*);
        }
        random.shuffle(Block, blocks);
        // Nine tenths go, their places are filled again beside the survivors, then all go.
        for (blocks[0 .. count / 10 * 9]) |block| try run.checkAndFree(block);
        for (blocks[0 .. count / 2]) |*block| {
            block.* = try run.allocate(random.size(10));
            run.fill(block.*);
        }
        random.shuffle(Block, blocks[0 .. count / 2]);
        for (blocks[0 .. count / 2]) |block| try run.checkAndFree(block);
        for (blocks[count / 10 * 9 ..]) |block| try run.checkAndFree(block);
    }
}

fn manyLargeBlocks(run: *Run) Failure!void {
    var live: [48]?Block = @splat(null);
    var random: Random = .{ .state = 23 };
    for (0..1500) |turn| {
        const place = &live[random.below(live.len)];
        const size = 16 * kib + random.below(if (turn % 20 == 0) 4 * mib else 300 * kib);
        if (place.*) |block| {
            if (turn % 3 == 0) {
                place.* = try run.resize(block, size);
            } else {
                try run.checkAndFree(block);
                place.* = null;
            }
        } else {
            const block = try run.allocate(size);
            run.fill(block);
            place.* = block;
        }
    }
    for (live) |maybe| if (maybe) |block| try run.checkAndFree(block);
}

/// What the process may grow by while nothing more is live. A page or two of bookkeeping is no
/// leak; a lost block each round is far more.
const growth_allowance = 2 * mib;

fn reuseOne(run: *Run) Failure!void {
    for ([_]usize{ 1, 16, 100, 1000, 5000, 40_000, 300_000, 3 * mib }) |size| {
        const rounds: usize = if (size < 8 * kib) 1_000_000 else if (size < mib) 20_000 else 2000;
        var before: usize = 0;
        for (0..rounds) |round| {
            if (round == rounds / 10) before = try run.residentBytes();
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            pointer[0] = 1;
            pointer[size - 1] = 1;
            try run.give(pointer, size, naturalAlignment(size));
        }
        try run.expectGrowthWithin("one block taken and given back in a loop", before, growth_allowance + size);
    }
}

fn reuseBatches(run: *Run) Failure!void {
    const Place = struct { pointer: [*]u8 };
    for ([_]usize{ 8, 48, 200, 1000, 6000, 50_000 }) |size| {
        const count = std.math.clamp(4 * mib / size, 50, 4000);
        const places = try run.scratch(Place, count);
        defer run.freeScratch(places);
        var random: Random = .{ .state = size };
        const rounds = 60;
        var before: usize = 0;
        for (0..rounds) |round| {
            for (places) |*place| {
                const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
                pointer[0] = 1;
                pointer[size - 1] = 1;
                place.* = .{ .pointer = pointer };
            }
            // Measured at the peak, where every block is live, so that only lost blocks count.
            if (round == 5) before = try run.residentBytes();
            if (round == rounds - 1) try run.expectGrowthWithin("batches taken and given back", before, growth_allowance);
            random.shuffle(Place, places);
            for (places) |place| try run.give(place.pointer, size, naturalAlignment(size));
        }
    }
}

fn reuseAcrossSizes(run: *Run) Failure!void {
    const live_bytes = 16 * mib;
    const Place = struct { pointer: [*]u8 };
    const places = try run.scratch(Place, live_bytes / 24);
    defer run.freeScratch(places);
    const before = try run.residentBytes();
    // What one class has given back must serve the next: ten times 16 MiB, one after the other.
    for ([_]usize{ 24, 48, 100, 200, 500, 1000, 3000, 10_000, 50_000, 400_000 }) |size| {
        const count = live_bytes / size;
        for (places[0..count]) |*place| {
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            var offset: usize = 0;
            while (offset < size) : (offset += 4096) pointer[offset] = 1;
            place.* = .{ .pointer = pointer };
        }
        try run.expectGrowthWithin("16 MiB of one size after another", before, 4 * live_bytes);
        for (places[0..count]) |place| try run.give(place.pointer, size, naturalAlignment(size));
    }
}

fn freeSized(run: *Run) Failure!void {
    const c = run.family();
    const sizes = try boundarySizes(run, mib);
    defer run.freeScratch(sizes.ptr[0 .. 64 * 8 * 3]);
    run.armErrno();
    c.free_sized.?(null, 100);
    try run.expectErrnoKept("free_sized(NULL)", 100);
    var before: usize = 0;
    // Some 80 MiB each round: what is not really freed shows in the second.
    for (0..2) |round| {
        for (sizes) |size| {
            const block = try run.allocate(size);
            run.fill(block);
            try run.unclaim(block);
            run.armErrno();
            c.free_sized.?(block.pointer, size);
            try run.expectErrnoKept("free_sized", size);
            if (c.free_aligned_sized) |call| {
                const aligned = try run.allocateAligned(.@"64", size);
                run.fill(aligned);
                try run.unclaim(aligned);
                run.armErrno();
                call(aligned.pointer, 64, size);
                try run.expectErrnoKept("free_aligned_sized", size);
            }
        }
        if (round == 0) before = try run.residentBytes();
    }
    try run.expectGrowthWithin("blocks freed by free_sized", before, growth_allowance);
}

fn batch(run: *Run) Failure!void {
    const calls = run.family().batch.?;
    var blocks: [300]Block = undefined;
    var pointers: [300]?[*]u8 = undefined;
    for ([_]usize{ 0, 1, 8, 16, 100, 1024, 1025, 6000, 40_000, 200_000, 2 * mib }) |size| {
        for ([_]usize{ 0, 1, 7, 64, 300 }) |wanted| {
            const count = if (size > 100_000) @min(wanted, 7) else wanted;
            run.armErrno();
            const got = calls.malloc(size, count, &pointers);
            if (got != count) return run.fail("a batch of {d} blocks of {d} bytes gave {d}", .{ count, size, got });
            for (blocks[0..count], pointers[0..count]) |*block, pointer| {
                block.* = try run.adopt("malloc of a batch", pointer, size, naturalAlignment(size));
                run.fill(block.*);
            }
            for (blocks[0..count], 0..) |block, index| {
                try run.check(block);
                // One in three is freed alone and leaves a NULL behind, which is nothing.
                if (index % 3 == 1) {
                    try run.free(block);
                    pointers[index] = null;
                } else try run.unclaim(block);
            }
            run.armErrno();
            calls.free(&pointers, count);
            try run.expectErrnoKept("free of a batch", size);
        }
    }
    // What cannot be had is counted as not given, and errno is left alone as by every hak_* call.
    for (huge_sizes) |size| {
        run.armErrno();
        const got = calls.malloc(size, 3, &pointers);
        if (got != 0) return run.fail("a batch of 3 blocks of {d} bytes gave {d}", .{ size, got });
        try run.expectErrnoKept("malloc of an impossible batch", size);
    }
}

fn tinyClasses(run: *Run) Failure!void {
    const tiny = run.family().tiny.?;
    const count = tiny.class_count();
    if (count < 1) return run.fail("there are {d} tiny classes", .{count});
    var previous: usize = 0;
    var class: c_int = 0;
    while (class < count) : (class += 1) {
        const size = tiny.class_size(class);
        if (size <= previous) return run.fail("class {d} has {d} bytes, the one before {d}", .{ class, size, previous });
        // Every size from the end of the class below to this one's belongs here.
        for (previous + 1..size + 1) |wanted| {
            const found = tiny.class_of(wanted);
            if (found != class) return run.fail("{d} bytes belong to class {d}, expected {d}", .{ wanted, found, class });
            const block = try run.allocate(wanted);
            if (block.usable != size) return run.fail("a block of {d} bytes of class {d} has the usable size {d}, expected {d}", .{ wanted, class, block.usable, size });
            run.fill(block);
            try run.checkAndFree(block);
        }
        previous = size;
    }
    for ([_]usize{ previous + 1, 1 << 20, size_max }) |beyond| {
        if (tiny.class_of(beyond) != -1) return run.fail("{d} bytes belong to tiny class {d}", .{ beyond, tiny.class_of(beyond) });
    }
    for ([_]c_int{ -1, count, std.math.minInt(c_int), std.math.maxInt(c_int) }) |outside| {
        if (tiny.class_size(outside) != 0) return run.fail("class {d} of {d} has {d} bytes", .{ outside, count, tiny.class_size(outside) });
    }
}

/// Everything of the door that gives memory back, with indices that do not exist too.
fn flushAll(run: *Run) Failure!void {
    const c = run.family();
    run.armErrno();
    if (c.tiny) |tiny| {
        for ([_]c_int{ -1, std.math.minInt(c_int), std.math.maxInt(c_int), tiny.class_count() }) |outside| tiny.flush(outside);
        var class: c_int = 0;
        while (class < tiny.class_count()) : (class += 1) tiny.flush(class);
    }
    c.flush_all.?();
    if (c.purge) |call| _ = call();
    if (run.subject.contract.errno == .left_alone) try run.expectErrnoKept("a flush", 0);
}

fn flushLiveBlocks(run: *Run) Failure!void {
    // Before anything was allocated, a flush is nothing.
    try flushAll(run);
    var random: Random = .{ .state = 31 };
    const blocks = try run.scratch(Block, 20_000);
    defer run.freeScratch(blocks);
    for (blocks) |*block| {
        block.* = try run.allocate(random.size(14));
        run.fill(block.*);
    }
    random.shuffle(Block, blocks);
    // Ever fewer are live; all that still are must keep their bytes while what lies between them
    // goes back, and new blocks must not land on them.
    var live = blocks;
    while (live.len > 10) {
        const kept = live.len * 2 / 3;
        for (live[kept..]) |block| try run.checkAndFree(block);
        try flushAll(run);
        for (live[0 .. kept / 10]) |*block| {
            try run.checkAndFree(block.*);
            block.* = try run.allocate(random.size(14));
            run.fill(block.*);
        }
        live = live[0..kept];
        for (live) |block| try run.check(block);
    }
    for (live) |block| try run.checkAndFree(block);
    try flushAll(run);
}

fn flushGivesBack(run: *Run) Failure!void {
    const live_bytes = 32 * mib;
    const Place = struct { pointer: [*]u8 };
    const places = try run.scratch(Place, live_bytes / 16);
    defer run.freeScratch(places);
    @memset(std.mem.sliceAsBytes(places), 1);
    var random: Random = .{ .state = 41 };
    for ([_]usize{ 16, 100, 1000, 10_000, 100_000, 3 * mib }) |size| {
        try flushAll(run);
        const before = try run.residentBytes();
        const count = live_bytes / size;
        for (places[0..count]) |*place| {
            const pointer = run.take(size) orelse return run.fail("malloc of {d} bytes returned NULL", .{size});
            @memset(pointer[0..size], 1);
            place.* = .{ .pointer = pointer };
        }
        random.shuffle(Place, places[0..count]);
        for (places[0..count]) |place| try run.give(place.pointer, size, naturalAlignment(size));
        try flushAll(run);
        var what_buffer: [80]u8 = undefined;
        const what = process.formatLine(&what_buffer, "after a flush of {d} freed blocks of {d} bytes", .{ count, size });
        try run.expectGrowthWithin(what, before, mib);
    }
}

fn outOfMemory(run: *Run) Failure!void {
    const budget = 96 * mib;
    const c = run.family();
    // Room for what the allocator may have kept from earlier cases, beyond the budget.
    const pointers = try run.scratch([*]u8, 4 * budget / 64);
    defer run.freeScratch(pointers);
    // The list is touched before the limit falls, and the allocator has begun to work.
    for (pointers) |*pointer| pointer.* = @ptrCast(pointers.ptr);
    try run.free(try run.allocate(100));

    const limit = process.limitAddressSpace(budget) catch |err| return run.fail("cannot lower the limit of the address space: {t}", .{err});
    defer limit.restore();
    for ([_]usize{ 100, 1000, 64, 6000, 40_000, 300_000, 3 * mib, 64 }) |size| {
        var count: usize = 0;
        while (count < pointers.len) : (count += 1) {
            run.armErrno();
            const zeroed = count % 2 == 1;
            const pointer = (if (zeroed) c.calloc(1, size) else c.malloc(size)) orelse break;
            try run.expectErrnoKept("malloc or calloc", size);
            pointers[count] = pointer;
            oracle_module.fillPattern(pointer[0..size], @intFromPtr(pointer));
        }
        if (count == pointers.len) {
            return run.fail("{d} blocks of {d} bytes fit under a limit of {d} bytes more", .{ count, size, @as(usize, budget) });
        }
        try run.expectRefused("malloc or calloc at the limit", null, errno_no_memory, .{ size, 1 });
        // Half of the limit at least must be of use, also after other sizes had it all.
        if (count * size < budget / 2) {
            return run.fail("only {d} blocks of {d} bytes fit under a limit of {d} bytes", .{ count, size, @as(usize, budget) });
        }
        // With nothing left, what fails must leave the block and the others as they are.
        run.armErrno();
        try run.expectRefused("realloc at the limit", c.realloc(pointers[0], size + budget), errno_no_memory, .{ size, size + budget });
        run.armErrno();
        try run.expectRefused("aligned_alloc at the limit", c.aligned_alloc(4096, budget), errno_no_memory, .{ 4096, budget });
        for (pointers[0..count]) |pointer| {
            if (oracle_module.firstWrongByte(pointer[0..size], @intFromPtr(pointer))) |index| {
                return run.fail("byte {d} of block 0x{x} ({d} bytes) changed at the limit", .{ index, @intFromPtr(pointer), size });
            }
        }
        for (pointers[0..count]) |pointer| try run.give(pointer, size, naturalAlignment(size));
    }
}

fn zigResize(run: *Run) Failure!void {
    const zig = run.subject.door.zig;
    const sizes = try boundarySizes(run, 4 * mib);
    defer run.freeScratch(sizes.ptr[0 .. 64 * 8 * 3]);
    for (sizes) |size| {
        for ([_]usize{ @max(1, size / 2), @max(1, size - 1), size, size + 1, size + 7, size * 2 }) |wanted| {
            var block = try run.allocate(size);
            run.fill(block);
            const neighbour = try run.allocate(size);
            run.fill(neighbour);
            // A true answer means that the block is now the wanted size at the same place.
            if (zig.rawResize(block.pointer[0..block.size], block.alignment, wanted, @returnAddress())) {
                try run.checkBytes("after resize", block.pointer, @min(size, wanted), block.key(), block);
                try run.unclaim(block);
                block = try run.adopt("resize", block.pointer, wanted, block.alignment);
                run.fill(block);
            } else {
                try run.check(block);
                if (wanted == size) return run.fail("a resize of {d} bytes to the same size is refused", .{size});
            }
            try run.checkAndFree(neighbour);
            try run.checkAndFree(block);
        }
    }
    for (hugeSizesFor(run)) |huge| {
        const block = try run.allocate(100);
        run.fill(block);
        if (zig.rawResize(block.pointer[0..100], block.alignment, huge, @returnAddress())) {
            return run.fail("a block of 100 bytes claims to have grown to {d}", .{huge});
        }
        try run.checkAndFree(block);
    }
}

fn zigStandardSuite(run: *Run) Failure!void {
    const zig = run.subject.door.zig;
    std.heap.testAllocator(zig) catch |err| return run.fail("std.heap.testAllocator: {t}", .{err});
    std.heap.testAllocatorAligned(zig) catch |err| return run.fail("std.heap.testAllocatorAligned: {t}", .{err});
    std.heap.testAllocatorLargeAlignment(zig) catch |err| return run.fail("std.heap.testAllocatorLargeAlignment: {t}", .{err});
    std.heap.testAllocatorAlignedShrink(zig) catch |err| return run.fail("std.heap.testAllocatorAlignedShrink: {t}", .{err});
}
