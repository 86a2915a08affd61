//! The one conformance suite: what every door of an allocator must do, whoever made it.
//!
//! `cases` names them all, `runCase` runs one against a `Subject`, and `runAllocator` runs those that
//! a `std.mem.Allocator` can have, for use from a unit test. The suite links no libc and is single
//! threaded: threads, fork and exit are the stress program's. That each case can fail is shown by
//! `defects.zig`.

const std = @import("std");
const oracle = @import("oracle.zig");
const process = @import("process.zig");
const run_module = @import("suite/run.zig");
const subject_module = @import("suite/subject.zig");
const sizes = @import("suite/sizes.zig");
const resizing = @import("suite/resizing.zig");
const alignment = @import("suite/alignment.zig");
const reuse = @import("suite/reuse.zig");
const extras = @import("suite/extras.zig");

pub const Batch = subject_module.Batch;
pub const Case = subject_module.Case;
pub const Contract = subject_module.Contract;
pub const Failure = subject_module.Failure;
pub const Family = subject_module.Family;
pub const Run = run_module.Run;
pub const Stats = subject_module.Stats;
pub const Subject = subject_module.Subject;
pub const Tiny = subject_module.Tiny;

pub const cases = [_]Case{
    .{ .name = "free-null", .run = sizes.freeNull, .needs = &.{.c_family} },
    .{ .name = "usable-size", .run = sizes.usableSize, .needs = &.{.c_family} },
    .{ .name = "sizes-small", .run = sizes.sizesSmall },
    .{ .name = "sizes-powers", .run = sizes.sizesPowers },
    .{ .name = "sizes-sampled", .run = sizes.sizesSampled },
    .{ .name = "zero-sizes", .run = sizes.zeroSizes, .needs = &.{ .c_family, .zero_sizes } },
    .{ .name = "calloc-zeroed", .run = sizes.callocZeroed, .needs = &.{.c_family} },
    .{ .name = "calloc-lazy", .run = sizes.callocLazy, .needs = &.{.c_family} },
    .{ .name = "calloc-overflow", .run = sizes.callocOverflow, .needs = &.{.c_family} },
    .{ .name = "reallocarray", .run = resizing.reallocarray, .needs = &.{.reallocarray} },
    .{ .name = "realloc-null", .run = resizing.reallocNull, .needs = &.{.c_family} },
    .{ .name = "realloc-contents", .run = resizing.reallocContents },
    .{ .name = "realloc-growth", .run = resizing.reallocGrowth },
    .{ .name = "realloc-append", .run = resizing.reallocAppend },
    .{ .name = "realloc-shrink", .run = resizing.reallocShrink, .needs = &.{ .c_family, .flush } },
    .{ .name = "realloc-moves-pages", .run = resizing.reallocMovesPages, .needs = &.{.c_family} },
    .{ .name = "realloc-to-zero", .run = resizing.reallocToZero, .needs = &.{ .c_family, .realloc_to_zero_frees } },
    .{ .name = "realloc-failure", .run = resizing.reallocFailure },
    .{ .name = "huge-sizes", .run = sizes.hugeSizes },
    .{ .name = "aligned-alloc", .run = alignment.alignedAlloc },
    .{
        .name = "aligned-alloc-bad-alignment",
        .run = alignment.alignedAllocBadAlignment,
        .needs = &.{ .c_family, .bad_alignment_specified },
    },
    .{ .name = "aligned-realloc", .run = alignment.alignedRealloc },
    .{ .name = "posix-memalign", .run = alignment.posixMemalign, .needs = &.{.posix_memalign} },
    .{ .name = "posix-memalign-errors", .run = alignment.posixMemalignErrors, .needs = &.{.posix_memalign} },
    .{ .name = "memalign", .run = alignment.memalign, .needs = &.{.memalign} },
    .{ .name = "valloc", .run = alignment.valloc, .needs = &.{.valloc} },
    .{ .name = "pvalloc", .run = alignment.pvalloc, .needs = &.{.pvalloc} },
    .{ .name = "many-blocks", .run = reuse.manyBlocks },
    .{ .name = "many-large-blocks", .run = reuse.manyLargeBlocks },
    .{ .name = "reuse-one", .run = reuse.reuseOne },
    .{ .name = "reuse-batches", .run = reuse.reuseBatches },
    .{ .name = "reuse-across-sizes", .run = reuse.reuseAcrossSizes, .needs = &.{.reuse_across_sizes} },
    .{ .name = "free-sized", .run = extras.freeSized, .needs = &.{.free_sized} },
    .{ .name = "batch", .run = extras.batch, .needs = &.{.batch} },
    .{ .name = "tiny-classes", .run = extras.tinyClasses, .needs = &.{.tiny_classes} },
    .{ .name = "flush-live-blocks", .run = reuse.flushLiveBlocks, .needs = &.{.flush} },
    .{ .name = "flush-gives-back", .run = reuse.flushGivesBack, .needs = &.{.flush} },
    .{ .name = "out-of-memory", .run = reuse.outOfMemory, .needs = &.{ .c_family, .process_limits } },
    .{ .name = "zig-resize", .run = extras.zigResize, .needs = &.{.zig_interface} },
    .{ .name = "zig-standard-suite", .run = extras.zigStandardSuite, .needs = &.{.zig_interface} },
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
        .oracle = oracle.Oracle.init() catch return .{ .fail = "the oracle could not map its own memory" },
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
