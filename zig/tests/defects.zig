//! Allocators with one planted defect each, and the cases of the suite that must notice it.
//!
//! A test that cannot fail proves nothing. Each defect wraps the process's own malloc and spoils
//! one promise, as some real allocator once did; `hak-conformance --self-test` runs the cases named
//! here against it and asks that each fails. Every case of the suite is named at least once.
//!
//! The wrappers keep their state in globals and serve one thread of one short-lived process.

const std = @import("std");
const suite = @import("suite.zig");

const Family = suite.Family;

pub const Defect = struct {
    name: []const u8,
    /// Cases that must fail.
    noticed_by: []const []const u8,
    /// Cases that must pass nevertheless.
    unnoticed_by: []const []const u8 = &.{},
    spoil: union(enum) {
        c: *const fn (*Family) void,
        zig: std.mem.Allocator,
    },
};

/// What each wrapper calls. Set by `spoiled` before the first call.
var base: Family = undefined;
var call_count: usize = 0;
var previous: ?[*]u8 = null;
var previous_size: usize = 0;
var unowned: [64]u8 align(64) = @splat(0);

const errno_no_memory = @backingInt(std.os.linux.E.NOMEM);
const errno_invalid = @backingInt(std.os.linux.E.INVAL);

/// A subject with the defect planted over the given family.
pub fn spoiled(defect: Defect, sound: Family) suite.Subject {
    switch (defect.spoil) {
        .c => |spoil| {
            base = sound;
            var family = sound;
            family.aligned_alloc = strictAlignedAlloc;
            family.posix_memalign = strictPosixMemalign;
            family.free_sized = freeSized;
            family.batch = .{ .malloc = mallocBatch, .free = freeBatch };
            family.tiny = .{
                .class_count = classCount,
                .class_size = classSize,
                .class_of = classOf,
                .flush = flushClass,
            };
            spoil(&family);
            return .{ .name = defect.name, .door = .{ .c = family }, .contract = .hakmem_malloc };
        },
        .zig => |allocator| return .{ .name = defect.name, .door = .{ .zig = allocator }, .contract = .zig_control },
    }
}

fn plant(name: []const u8, noticed_by: []const []const u8, spoil: *const fn (*Family) void) Defect {
    return .{ .name = name, .noticed_by = noticed_by, .spoil = .{ .c = spoil } };
}

pub const defects = [_]Defect{
    .{
        .name = "none",
        .noticed_by = &.{},
        .unnoticed_by = &.{
            "free-null",  "aligned-alloc-bad-alignment", "posix-memalign-errors", "memalign",
            "free-sized", "batch",                       "tiny-classes",          "flush-live-blocks",
        },
        .spoil = .{ .c = spoilNothing },
    },
    plant("one block given out twice", &.{ "sizes-small", "many-blocks", "many-large-blocks" }, spoilByRepeating),
    plant("another live block written by malloc", &.{
        "sizes-small", "many-blocks", "many-large-blocks",
    }, spoilByScribbling),
    plant("blocks aligned to 8", &.{ "sizes-small", "sizes-powers", "sizes-sampled" }, spoilAlignment),
    plant("usable size below the size", &.{ "usable-size", "sizes-small" }, spoilUsableDown),
    plant("usable size over the next block", &.{ "usable-size", "sizes-small" }, spoilUsableUp),
    plant("usable size changes", &.{"sizes-powers"}, spoilUsableStability),
    plant("usable size of NULL", &.{"usable-size"}, spoilUsableOfNull),
    plant("NULL kept as a free block", &.{"free-null"}, spoilFreeOfNull),
    plant("free sets errno", &.{ "free-null", "sizes-powers" }, spoilErrnoByFree),
    plant("success sets errno", &.{ "sizes-powers", "sizes-sampled" }, spoilErrnoOnSuccess),
    plant("failure leaves errno", &.{
        "huge-sizes",   "calloc-overflow", "realloc-failure", "realloc-null",
        "reallocarray", "valloc",          "pvalloc",         "out-of-memory",
    }, spoilErrnoOnFailure),
    plant("malloc(0) is NULL", &.{"zero-sizes"}, spoilZeroByNull),
    plant("malloc(0) is always the same", &.{"zero-sizes"}, spoilZeroBySharing),
    plant("calloc zeroes all but the last byte", &.{"calloc-zeroed"}, spoilCalloc),
    plant("calloc trusts large blocks", &.{"calloc-zeroed"}, spoilCallocLarge),
    plant("calloc clears a fresh GiB", &.{"calloc-lazy"}, spoilCallocHuge),
    plant("calloc clears fresh blocks below a MiB", &.{"calloc-lazy"}, spoilCallocFresh),
    plant("calloc's product wraps", &.{"calloc-overflow"}, spoilCallocProduct),
    plant("reallocarray's product wraps", &.{"reallocarray"}, spoilReallocarrayProduct),
    plant("realloc loses the last byte", &.{
        "realloc-contents", "realloc-growth", "realloc-append", "aligned-realloc",
    }, spoilReallocTail),
    plant("realloc keeps the tail", &.{"realloc-shrink"}, spoilReallocShrink),
    plant("realloc copies", &.{"realloc-moves-pages"}, spoilReallocByCopy),
    plant("realloc frees on failure", &.{"realloc-failure"}, spoilReallocFailure),
    plant("realloc(NULL) is NULL", &.{"realloc-null"}, spoilReallocOfNull),
    plant("realloc to zero returns a block", &.{"realloc-to-zero"}, spoilReallocToZero),
    plant("realloc to zero leaks", &.{"realloc-to-zero"}, spoilReallocToZeroByLeak),
    plant("a huge size wraps", &.{ "huge-sizes", "realloc-null" }, spoilHugeSizes),
    plant("alignment above a page ignored", &.{ "aligned-alloc", "aligned-realloc" }, spoilLargeAlignment),
    plant("odd alignment accepted", &.{"aligned-alloc-bad-alignment"}, spoilOddAlignment),
    plant("posix_memalign aligns to 16", &.{"posix-memalign"}, spoilPosixMemalign),
    plant("posix_memalign accepts 4", &.{"posix-memalign-errors"}, spoilPosixMemalignCheck),
    plant("posix_memalign writes NULL on error", &.{"posix-memalign-errors"}, spoilPosixMemalignPointer),
    plant("posix_memalign sets errno", &.{"posix-memalign-errors"}, spoilPosixMemalignErrno),
    plant("memalign rounds down", &.{"memalign"}, spoilMemalign),
    plant("valloc is malloc", &.{"valloc"}, spoilValloc),
    plant("pvalloc does not round", &.{"pvalloc"}, spoilPvalloc),
    plant("pvalloc's rounding wraps", &.{"pvalloc"}, spoilPvallocWrap),
    plant("free does nothing", &.{
        "reuse-one", "reuse-batches", "reuse-across-sizes", "flush-gives-back", "out-of-memory",
    }, spoilFree),
    plant("free loses one block in ten", &.{ "reuse-one", "reuse-batches" }, spoilFreeSometimes),
    plant("free_sized does nothing", &.{"free-sized"}, spoilFreeSized),
    plant("a batch holds a block twice", &.{"batch"}, spoilBatch),
    plant("a size in the class below its own", &.{"tiny-classes"}, spoilTinyClasses),
    plant("a flush writes into a live block", &.{"flush-live-blocks"}, spoilFlush),
    plant("out of memory aborts", &.{"out-of-memory"}, spoilOutOfMemory),
    .{
        .name = "resize says yes and does nothing",
        .noticed_by = &.{"zig-resize"},
        .spoil = .{ .zig = zigWith(.{ .resize = resizeByLying }) },
    },
    .{
        .name = "Zig alignment ignored",
        .noticed_by = &.{ "zig-standard-suite", "aligned-alloc" },
        .spoil = .{ .zig = zigWith(.{ .alloc = allocUnaligned }) },
    },
    .{
        .name = "remap loses the bytes",
        .noticed_by = &.{ "realloc-contents", "realloc-growth" },
        .spoil = .{ .zig = zigWith(.{ .remap = remapByForgetting }) },
    },
};

fn spoilNothing(family: *Family) void {
    _ = family;
}

/// glibc 2.36 rounds odd alignments up; the contract under test refuses them.
fn strictAlignedAlloc(alignment: usize, size: usize) callconv(.c) ?[*]u8 {
    if (@popCount(alignment) != 1) {
        base.errno_location().* = errno_invalid;
        return null;
    }
    const result = base.aligned_alloc(alignment, size);
    if (result == null) base.errno_location().* = errno_no_memory;
    return result;
}

fn strictPosixMemalign(out: *?[*]u8, alignment: usize, size: usize) callconv(.c) c_int {
    const kept = base.errno_location().*;
    defer base.errno_location().* = kept;
    return base.posix_memalign.?(out, alignment, size);
}

// What libc lacks, in the simplest form, so that the defects can be planted there too.

fn freeSized(pointer: ?[*]u8, size: usize) callconv(.c) void {
    _ = size;
    base.free(pointer);
}

fn mallocBatch(size: usize, count: usize, pointers: [*]?[*]u8) callconv(.c) usize {
    const kept = base.errno_location().*;
    defer base.errno_location().* = kept;
    for (pointers[0..count], 0..) |*pointer, index| pointer.* = base.malloc(size) orelse return index;
    return count;
}

fn freeBatch(pointers: [*]?[*]u8, count: usize) callconv(.c) void {
    for (pointers[0..count]) |pointer| base.free(pointer);
}

/// glibc's chunks leave 24 bytes to use, and 16 more from each class to the next.
const class_count = 40;

fn classCount() callconv(.c) c_int {
    return class_count;
}

fn classSize(class: c_int) callconv(.c) usize {
    return if (class < 0 or class >= class_count) 0 else 24 + 16 * @as(usize, @intCast(class));
}

fn classOf(size: usize) callconv(.c) c_int {
    if (size > classSize(class_count - 1)) return -1;
    return if (size <= 24) 0 else @intCast((size - 24 + 15) / 16);
}

fn flushClass(class: c_int) callconv(.c) void {
    _ = class;
}

fn ignoreFree(pointer: ?[*]u8) callconv(.c) void {
    _ = pointer;
}

fn spoilByRepeating(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            call_count += 1;
            if (call_count % 40 == 0 and size <= base.usable_size(previous)) return previous;
            previous = base.malloc(size);
            previous_size = size;
            return previous;
        }
    }.call;
    // The repeated block would otherwise be freed twice, which libc itself ends.
    family.free = ignoreFree;
}

fn spoilByScribbling(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            call_count += 1;
            if (call_count % 40 == 0 and previous_size > 0) previous.?[previous_size - 1] +%= 1;
            previous = base.malloc(size);
            previous_size = size;
            return previous;
        }
    }.call;
    family.free = ignoreFree;
}

fn spoilAlignment(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            const pointer = base.malloc(size + 8) orelse return null;
            return if (size > 8) pointer + 8 else pointer;
        }
    }.call;
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            const address = @intFromPtr(pointer);
            return base.usable_size(@ptrFromInt(address - address % 16)) - address % 16;
        }
    }.call;
    family.free = ignoreFree;
}

fn spoilUsableDown(family: *Family) void {
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            return base.usable_size(pointer) / 2;
        }
    }.call;
}

fn spoilUsableUp(family: *Family) void {
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            return if (pointer == null) 0 else base.usable_size(pointer) + 16;
        }
    }.call;
    family.free = ignoreFree;
}

fn spoilUsableStability(family: *Family) void {
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            call_count += 1;
            return base.usable_size(pointer) - call_count % 2;
        }
    }.call;
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return base.malloc(size + 16);
        }
    }.call;
}

fn spoilUsableOfNull(family: *Family) void {
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            return if (pointer == null) 16 else base.usable_size(pointer);
        }
    }.call;
}

fn spoilFreeOfNull(family: *Family) void {
    family.free = struct {
        fn call(pointer: ?[*]u8) callconv(.c) void {
            if (pointer == null) call_count += 1;
            base.free(pointer);
        }
    }.call;
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return if (call_count > 0) null else base.malloc(size);
        }
    }.call;
}

fn spoilErrnoByFree(family: *Family) void {
    family.free = struct {
        fn call(pointer: ?[*]u8) callconv(.c) void {
            base.free(pointer);
            base.errno_location().* = errno_invalid;
        }
    }.call;
}

fn spoilErrnoOnSuccess(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            const pointer = base.malloc(size);
            if (size > 10_000) base.errno_location().* = errno_no_memory;
            return pointer;
        }
    }.call;
}

fn spoilErrnoOnFailure(family: *Family) void {
    const Quiet = struct {
        fn malloc(size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.malloc(size);
        }
        fn calloc(count: usize, size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.calloc(count, size);
        }
        fn realloc(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.realloc(pointer, size);
        }
        fn reallocarray(pointer: ?[*]u8, count: usize, size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.reallocarray.?(pointer, count, size);
        }
        fn valloc(size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.valloc.?(size);
        }
        fn pvalloc(size: usize) callconv(.c) ?[*]u8 {
            const kept = base.errno_location().*;
            defer base.errno_location().* = kept;
            return base.pvalloc.?(size);
        }
    };
    family.malloc = Quiet.malloc;
    family.calloc = Quiet.calloc;
    family.realloc = Quiet.realloc;
    family.reallocarray = Quiet.reallocarray;
    family.valloc = Quiet.valloc;
    family.pvalloc = Quiet.pvalloc;
}

fn spoilZeroByNull(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return if (size == 0) null else base.malloc(size);
        }
    }.call;
}

fn spoilZeroBySharing(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return if (size == 0) &unowned else base.malloc(size);
        }
    }.call;
    family.free = struct {
        fn call(pointer: ?[*]u8) callconv(.c) void {
            if (pointer != @as([*]u8, &unowned)) base.free(pointer);
        }
    }.call;
    family.usable_size = struct {
        fn call(pointer: ?*const anyopaque) callconv(.c) usize {
            return if (pointer == @as(*const anyopaque, &unowned)) 0 else base.usable_size(pointer);
        }
    }.call;
}

fn spoilCalloc(family: *Family) void {
    family.calloc = struct {
        fn call(count: usize, size: usize) callconv(.c) ?[*]u8 {
            const pointer = base.malloc(count * size) orelse return null;
            if (count * size > 0) @memset(pointer[0 .. count * size - 1], 0);
            return pointer;
        }
    }.call;
}

fn spoilCallocLarge(family: *Family) void {
    // Large freed blocks are kept, and calloc takes every large block for fresh memory.
    const Kept = struct {
        fn calloc(count: usize, size: usize) callconv(.c) ?[*]u8 {
            if (count * size < 1024 * 1024) return base.calloc(count, size);
            return malloc(count * size);
        }
        fn malloc(size: usize) callconv(.c) ?[*]u8 {
            if (previous) |kept| if (size <= previous_size and size >= 1024 * 1024) {
                previous = null;
                return kept;
            };
            return base.malloc(size);
        }
        fn free(pointer: ?[*]u8) callconv(.c) void {
            const size = base.usable_size(pointer);
            if (size < 1024 * 1024 or previous != null) return base.free(pointer);
            previous = pointer;
            previous_size = size;
        }
    };
    family.malloc = Kept.malloc;
    family.calloc = Kept.calloc;
    family.free = Kept.free;
}

fn clearing(count: usize, size: usize) ?[*]u8 {
    const pointer = base.calloc(count, size) orelse return null;
    @memset(pointer[0 .. count * size], 0);
    return pointer;
}

fn spoilCallocHuge(family: *Family) void {
    family.calloc = struct {
        fn call(count: usize, size: usize) callconv(.c) ?[*]u8 {
            return if (count * size > 1024 * 1024) clearing(count, size) else base.calloc(count, size);
        }
    }.call;
}

fn spoilCallocFresh(family: *Family) void {
    family.calloc = struct {
        fn call(count: usize, size: usize) callconv(.c) ?[*]u8 {
            return if (count * size > 1024 * 1024) base.calloc(count, size) else clearing(count, size);
        }
    }.call;
}

fn spoilCallocProduct(family: *Family) void {
    family.calloc = struct {
        fn call(count: usize, size: usize) callconv(.c) ?[*]u8 {
            return base.calloc(1, count *% size);
        }
    }.call;
}

fn spoilReallocarrayProduct(family: *Family) void {
    family.reallocarray = struct {
        fn call(pointer: ?[*]u8, count: usize, size: usize) callconv(.c) ?[*]u8 {
            return base.realloc(pointer, count *% size);
        }
    }.call;
}

fn spoilReallocTail(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            const fresh = base.calloc(1, size) orelse return null;
            const kept = @min(size, base.usable_size(pointer));
            if (kept > 1) @memcpy(fresh[0 .. kept - 1], pointer.?[0 .. kept - 1]);
            base.free(pointer);
            return fresh;
        }
    }.call;
}

fn spoilReallocShrink(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            return if (size <= base.usable_size(pointer)) pointer else base.realloc(pointer, size);
        }
    }.call;
}

fn spoilReallocByCopy(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            const fresh = base.malloc(size) orelse return null;
            const kept = @min(size, base.usable_size(pointer));
            @memcpy(fresh[0..kept], pointer.?[0..kept]);
            base.free(pointer);
            return fresh;
        }
    }.call;
}

fn spoilReallocFailure(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            if (base.realloc(pointer, size)) |moved| return moved;
            base.free(pointer);
            base.errno_location().* = errno_no_memory;
            return null;
        }
    }.call;
}

fn spoilReallocOfNull(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            return if (pointer == null) null else base.realloc(pointer, size);
        }
    }.call;
}

fn spoilReallocToZero(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            return base.realloc(pointer, @max(size, 1));
        }
    }.call;
}

fn spoilReallocToZeroByLeak(family: *Family) void {
    family.realloc = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            return if (size == 0) null else base.realloc(pointer, size);
        }
    }.call;
}

fn spoilHugeSizes(family: *Family) void {
    // Rounding up to a page without asking whether it still fits.
    const Wrapping = struct {
        fn malloc(size: usize) callconv(.c) ?[*]u8 {
            return base.malloc(if (size > 4096) (size +% 4095) & ~@as(usize, 4095) else size);
        }
        fn realloc(pointer: ?[*]u8, size: usize) callconv(.c) ?[*]u8 {
            return base.realloc(pointer, if (size > 4096) (size +% 4095) & ~@as(usize, 4095) else size);
        }
    };
    family.malloc = Wrapping.malloc;
    family.realloc = Wrapping.realloc;
}

fn spoilLargeAlignment(family: *Family) void {
    family.aligned_alloc = struct {
        fn call(alignment: usize, size: usize) callconv(.c) ?[*]u8 {
            return base.aligned_alloc(@min(alignment, 4096), size);
        }
    }.call;
}

fn spoilOddAlignment(family: *Family) void {
    family.aligned_alloc = struct {
        fn call(alignment: usize, size: usize) callconv(.c) ?[*]u8 {
            return if (@popCount(alignment) == 1) strictAlignedAlloc(alignment, size) else base.malloc(size);
        }
    }.call;
}

fn spoilPosixMemalign(family: *Family) void {
    family.posix_memalign = struct {
        fn call(out: *?[*]u8, alignment: usize, size: usize) callconv(.c) c_int {
            return base.posix_memalign.?(out, @min(alignment, 16), size);
        }
    }.call;
}

fn spoilPosixMemalignCheck(family: *Family) void {
    family.posix_memalign = struct {
        fn call(out: *?[*]u8, alignment: usize, size: usize) callconv(.c) c_int {
            return strictPosixMemalign(out, if (alignment == 4) 8 else alignment, size);
        }
    }.call;
}

fn spoilPosixMemalignPointer(family: *Family) void {
    family.posix_memalign = struct {
        fn call(out: *?[*]u8, alignment: usize, size: usize) callconv(.c) c_int {
            out.* = null;
            return strictPosixMemalign(out, alignment, size);
        }
    }.call;
}

fn spoilPosixMemalignErrno(family: *Family) void {
    family.posix_memalign = struct {
        fn call(out: *?[*]u8, alignment: usize, size: usize) callconv(.c) c_int {
            const code = base.posix_memalign.?(out, alignment, size);
            if (code != 0) base.errno_location().* = code;
            return code;
        }
    }.call;
}

fn spoilMemalign(family: *Family) void {
    family.memalign = struct {
        fn call(alignment: usize, size: usize) callconv(.c) ?[*]u8 {
            const power = @as(usize, 1) << @intCast(std.math.log2_int(usize, alignment));
            return base.memalign.?(power, size);
        }
    }.call;
}

fn spoilValloc(family: *Family) void {
    family.valloc = base.malloc;
}

fn spoilPvalloc(family: *Family) void {
    family.pvalloc = family.valloc;
}

fn spoilPvallocWrap(family: *Family) void {
    family.pvalloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return base.valloc.?((size +% 4095) & ~@as(usize, 4095));
        }
    }.call;
}

fn spoilFree(family: *Family) void {
    family.free = ignoreFree;
}

fn spoilFreeSometimes(family: *Family) void {
    family.free = struct {
        fn call(pointer: ?[*]u8) callconv(.c) void {
            call_count += 1;
            if (call_count % 10 != 0) base.free(pointer);
        }
    }.call;
}

fn spoilFreeSized(family: *Family) void {
    family.free_sized = struct {
        fn call(pointer: ?[*]u8, size: usize) callconv(.c) void {
            _ = pointer;
            _ = size;
        }
    }.call;
}

fn spoilBatch(family: *Family) void {
    family.batch.?.malloc = struct {
        fn call(size: usize, count: usize, pointers: [*]?[*]u8) callconv(.c) usize {
            const got = mallocBatch(size, count, pointers);
            if (got > 5) pointers[5] = pointers[2];
            return got;
        }
    }.call;
}

fn spoilTinyClasses(family: *Family) void {
    family.tiny.?.class_of = struct {
        fn call(size: usize) callconv(.c) c_int {
            return if (size == 25) 0 else classOf(size);
        }
    }.call;
}

fn spoilFlush(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            const pointer = base.malloc(size);
            // One that lives to the end of the case, since few do.
            call_count += 1;
            if (call_count % 2 == 0) previous = pointer;
            return pointer;
        }
    }.call;
    family.flush_all = struct {
        fn call() callconv(.c) void {
            if (previous) |pointer| pointer[0] +%= 1;
        }
    }.call;
}

fn spoilOutOfMemory(family: *Family) void {
    family.malloc = struct {
        fn call(size: usize) callconv(.c) ?[*]u8 {
            return base.malloc(size) orelse std.c.abort();
        }
    }.call;
}

const Overrides = struct {
    alloc: *const fn (*anyopaque, usize, std.mem.Alignment, usize) ?[*]u8 = std.heap.smp_allocator.vtable.alloc,
    resize: *const fn (*anyopaque, []u8, std.mem.Alignment, usize, usize) bool = std.heap.smp_allocator.vtable.resize,
    remap: *const fn (*anyopaque, []u8, std.mem.Alignment, usize, usize) ?[*]u8 = std.heap.smp_allocator.vtable.remap,
};

/// Zig's own general allocator with some functions replaced.
fn zigWith(comptime overrides: Overrides) std.mem.Allocator {
    const table = struct {
        const vtable: std.mem.Allocator.VTable = .{
            .alloc = overrides.alloc,
            .resize = overrides.resize,
            .remap = overrides.remap,
            .free = std.heap.smp_allocator.vtable.free,
        };
    };
    return .{ .ptr = std.heap.smp_allocator.ptr, .vtable = &table.vtable };
}

fn resizeByLying(_: *anyopaque, memory: []u8, _: std.mem.Alignment, size: usize, _: usize) bool {
    return size <= memory.len * 2;
}

fn allocUnaligned(context: *anyopaque, size: usize, alignment: std.mem.Alignment, return_address: usize) ?[*]u8 {
    if (size > 1 << 40) return null;
    const kept: std.mem.Alignment = .min(alignment, .@"16");
    const table = std.heap.smp_allocator.vtable;
    const pointer = table.alloc(context, size + 64, kept, return_address) orelse return null;
    return if (alignment.compare(.gt, .@"16")) pointer + 16 else pointer;
}

fn remapByForgetting(
    context: *anyopaque,
    memory: []u8,
    alignment: std.mem.Alignment,
    size: usize,
    return_address: usize,
) ?[*]u8 {
    if (size > 1 << 40) return null;
    const fresh = std.heap.smp_allocator.vtable.alloc(context, size, alignment, return_address) orelse return null;
    std.heap.smp_allocator.vtable.free(context, memory, alignment, return_address);
    return fresh;
}
