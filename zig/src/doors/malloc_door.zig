//! The malloc family under its libc names, for the object that is preloaded. Nothing but translation: errno,
//! overflow, and what each function says of odd arguments (glibc 2.36 and C23).

const std = @import("std");
const builtin = @import("builtin");
const geometry = @import("../numbers/geometry.zig");
const os = @import("../platform/os.zig");
const heap = @import("../allocator/heap.zig");
const figures = @import("malloc_figures.zig");

const errno_code = std.os.linux.E;

extern fn __errno_location() *c_int;

fn outOfMemory() ?*anyopaque {
    @branchHint(.cold);
    __errno_location().* = @backingInt(errno_code.NOMEM);
    return null;
}

fn invalid() ?*anyopaque {
    @branchHint(.cold);
    __errno_location().* = @backingInt(errno_code.INVAL);
    return null;
}

fn malloc(size: usize) callconv(.c) ?*anyopaque {
    return heap.allocateFast(size) orelse mallocSlow(size);
}

noinline fn mallocSlow(size: usize) ?*anyopaque {
    return heap.allocateSlow(size) orelse outOfMemory();
}

fn free(block: ?*anyopaque) callconv(.c) void {
    heap.free(block);
}

fn calloc(count: usize, size: usize) callconv(.c) ?*anyopaque {
    const bytes, const overflow = @mulWithOverflow(count, size);
    if (overflow != 0) return outOfMemory();
    return heap.allocateZeroedFast(bytes) orelse callocSlow(bytes);
}

noinline fn callocSlow(bytes: usize) ?*anyopaque {
    return heap.allocateZeroed(bytes) orelse outOfMemory();
}

/// A size of 0 frees the block and returns NULL, as in glibc.
fn realloc(block: ?*anyopaque, size: usize) callconv(.c) ?*anyopaque {
    const present = block orelse return malloc(size);
    if (size == 0) {
        heap.free(present);
        return null;
    }
    return heap.resize(present, size) orelse outOfMemory();
}

fn reallocarray(block: ?*anyopaque, count: usize, size: usize) callconv(.c) ?*anyopaque {
    const bytes, const overflow = @mulWithOverflow(count, size);
    if (overflow != 0) return outOfMemory();
    return realloc(block, bytes);
}

fn allocateAligned(alignment: usize, size: usize) ?*anyopaque {
    return heap.allocateAligned(size, alignment) orelse outOfMemory();
}

/// An alignment that is no power of two is rounded up to one, as in glibc.
fn memalign(alignment: usize, size: usize) callconv(.c) ?*anyopaque {
    const rounded = std.math.ceilPowerOfTwo(usize, @max(alignment, 1)) catch return invalid();
    return allocateAligned(rounded, size);
}

/// An alignment that is no power of two is an error (C23). The size need not be a multiple of it.
fn aligned_alloc(alignment: usize, size: usize) callconv(.c) ?*anyopaque {
    if (!std.math.isPowerOfTwo(@max(alignment, 1)) or alignment == 0) return invalid();
    return allocateAligned(alignment, size);
}

/// The result is in what it returns; errno and, on error, `*block` stay as they were.
fn posix_memalign(block: *?*anyopaque, alignment: usize, size: usize) callconv(.c) c_int {
    const usable = alignment >= @sizeOf(*anyopaque) and std.math.isPowerOfTwo(alignment);
    if (!usable) return @backingInt(errno_code.INVAL);
    block.* = heap.allocateAligned(size, alignment) orelse return @backingInt(errno_code.NOMEM);
    return 0;
}

fn valloc(size: usize) callconv(.c) ?*anyopaque {
    return allocateAligned(os.pageBytes(), size);
}

/// The size is rounded up to whole pages, one at least.
fn pvalloc(size: usize) callconv(.c) ?*anyopaque {
    const page_bytes = os.pageBytes();
    if (size > geometry.request_bytes_max) return outOfMemory();
    return allocateAligned(page_bytes, std.mem.alignForward(usize, @max(size, 1), page_bytes));
}

fn malloc_usable_size(block: ?*anyopaque) callconv(.c) usize {
    return heap.usableBytes(block orelse return 0);
}

fn free_sized(block: ?*anyopaque, size: usize) callconv(.c) void {
    heap.freeSized(block, size, null);
}

fn free_aligned_sized(block: ?*anyopaque, alignment: usize, size: usize) callconv(.c) void {
    heap.freeSized(block, size, alignment);
}

/// 1 if memory went back to the OS. `pad` speaks of the top of a heap, of which there is none here.
fn malloc_trim(pad: usize) callconv(.c) c_int {
    _ = pad;
    return @intFromBool(heap.purge() > 0);
}

/// The parameters of mallopt that are wishes about speed or footprint (malloc.h): M_MXFAST, M_TRIM_THRESHOLD,
/// M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_TEST, M_ARENA_MAX; and M_CHECK_ACTION, which glibc has not followed
/// since 2.26 either.
const tuning_parameters = [_]c_int{ 1, -1, -2, -3, -4, -7, -8, -5 };

/// Accepts wishes about speed or footprint, and has nothing to tune by them: a program that stops when one is refused
/// would stop for nothing. 0 for all others, M_PERTURB too, since that promises something.
fn mallopt(parameter: c_int, value: c_int) callconv(.c) c_int {
    _ = value;
    return @intFromBool(std.mem.findScalar(c_int, &tuning_parameters, parameter) != null);
}

/// Where `malloc` lies in this object.
pub const address: *const anyopaque = &malloc;

pub fn exportAll() void {
    inline for (.{
        .{ "malloc", &malloc },
        .{ "free", &free },
        .{ "cfree", &free },
        .{ "calloc", &calloc },
        .{ "realloc", &realloc },
        .{ "reallocarray", &reallocarray },
        .{ "memalign", &memalign },
        .{ "aligned_alloc", &aligned_alloc },
        .{ "posix_memalign", &posix_memalign },
        .{ "valloc", &valloc },
        .{ "pvalloc", &pvalloc },
        .{ "malloc_usable_size", &malloc_usable_size },
        .{ "free_sized", &free_sized },
        .{ "free_aligned_sized", &free_aligned_sized },
        .{ "malloc_trim", &malloc_trim },
        .{ "mallopt", &mallopt },
        .{ "mallinfo", &figures.mallinfo },
        .{ "mallinfo2", &figures.mallinfo2 },
        .{ "malloc_stats", &figures.malloc_stats },
        .{ "malloc_info", &figures.malloc_info },
        // glibc's second names, by which some programs reach past a preloaded malloc: a block from one heap must
        // never be given to the other.
        .{ "__libc_malloc", &malloc },
        .{ "__libc_free", &free },
        .{ "__libc_calloc", &calloc },
        .{ "__libc_realloc", &realloc },
        .{ "__libc_reallocarray", &reallocarray },
        .{ "__libc_memalign", &memalign },
        .{ "__libc_valloc", &valloc },
        .{ "__libc_pvalloc", &pvalloc },
        .{ "__libc_mallinfo", &figures.mallinfo },
        .{ "__libc_mallopt", &mallopt },
    }) |entry| @export(entry[1], .{ .name = entry[0] });
}
