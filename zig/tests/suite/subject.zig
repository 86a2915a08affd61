//! What the conformance suite can be run against, and what each case needs of it.
//!
//! A `Subject` is a door of an allocator: a family of C functions, or a `std.mem.Allocator`. Where
//! doors may rightly differ, the difference is a field of `Contract`; a case that a door cannot
//! have says why in words. Nothing here runs anything.

const std = @import("std");
const Run = @import("run.zig").Run;

pub const Failure = error{ConformanceFailed};

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

/// hakmem's tiny classes, numbered from 0.
pub const Tiny = struct {
    class_count: *const fn () callconv(.c) c_int,
    class_size: *const fn (c_int) callconv(.c) usize,
    class_of: *const fn (usize) callconv(.c) c_int,
    flush: *const fn (c_int) callconv(.c) void,
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
    bad_alignment: enum { refused, unspecified },
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
        const contract = &subject.contract;
        const family: ?*const Family = switch (subject.door) {
            .c => |*c| c,
            .zig => null,
        };
        return switch (need) {
            .c_family => unless(family != null, "its interface has no C functions"),
            .posix_memalign => unless(has(family, "posix_memalign"), "it has no posix_memalign"),
            .memalign => unless(has(family, "memalign"), "it has no memalign"),
            .valloc => unless(has(family, "valloc"), "it has no valloc"),
            .pvalloc => unless(has(family, "pvalloc"), "it has no pvalloc"),
            .reallocarray => unless(has(family, "reallocarray"), "it has no reallocarray"),
            .free_sized => unless(has(family, "free_sized"), "it has no free_sized"),
            .flush => unless(has(family, "flush_all"), "it has no call that gives memory back"),
            .tiny_classes => unless(has(family, "tiny"), "it has no tiny classes to ask about"),
            .batch => unless(has(family, "batch"), "it has no batch calls"),
            .zig_interface => unless(family == null, "a C family has no Zig interface"),
            .zero_sizes => unless(contract.zero_sizes, "its interface never asks for zero bytes"),
            .process_limits => unless(contract.may_change_limits, "the limits of its process are not its own"),
            .reuse_across_sizes => unless(contract.reuses_across_sizes, "it keeps memory for one size class"),
            .opened_library => unless(subject.opened, "it came with the process and stays"),
            .misuse_ends_process => unless(contract.misuse_line != null, "it promises nothing about misuse"),
            .realloc_to_zero_frees => unless(contract.realloc_to_zero_frees, "realloc to zero is its own affair"),
            .bad_alignment_specified => unless(contract.bad_alignment == .refused, "a bad alignment is its own affair"),
        };
    }

    fn unless(present: bool, reason: []const u8) ?[]const u8 {
        return if (present) null else reason;
    }

    fn has(family: ?*const Family, comptime field: []const u8) bool {
        return if (family) |c| @field(c, field) != null else false;
    }
};
