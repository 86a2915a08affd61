//! Finds the doors that a test program drives: the malloc of its process and the `hak_*` of a
//! library that it opens, each as a `suite.Family`.
//!
//! Every function is looked up at run time. That way a preloaded malloc is found without relinking,
//! and the compiler, which knows what malloc and free do, cannot remove a call. Links libc.

const std = @import("std");
const suite = @import("suite.zig");
const process = @import("process.zig");

const DlInfo = extern struct {
    object_path: ?[*:0]const u8,
    object_base: ?*anyopaque,
    symbol_name: ?[*:0]const u8,
    symbol_address: ?*anyopaque,
};

extern "c" fn dladdr(address: ?*const anyopaque, info: *DlInfo) c_int;

/// The door could not be had; one line on stderr has said why.
pub const Error = error{NoSuchDoor};

/// The path of the object that holds the function.
pub fn objectOf(function: *const anyopaque) ?[:0]const u8 {
    var info: DlInfo = undefined;
    if (dladdr(function, &info) == 0) return null;
    return std.mem.span(info.object_path orelse return null);
}

/// A function that any object of the process offers.
pub fn findInProcess(name: [:0]const u8) ?*anyopaque {
    return std.c.dlsym(null, name);
}

/// Whether hakmem is this process's malloc.
pub fn hakmemIsPreloaded() bool {
    return findInProcess("hak_malloc") != null;
}

/// The malloc family of this process.
pub fn openProcess() Error!suite.Subject {
    const finder: Finder = .{ .handle = null };
    var family: suite.Family = .{
        .malloc = try finder.need("malloc", "malloc"),
        .calloc = try finder.need("calloc", "calloc"),
        .realloc = try finder.need("realloc", "realloc"),
        .free = try finder.need("free", "free"),
        .aligned_alloc = try finder.need("aligned_alloc", "aligned_alloc"),
        .usable_size = try finder.need("usable_size", "malloc_usable_size"),
        .posix_memalign = finder.optional("posix_memalign"),
        .memalign = finder.optional("memalign"),
        .valloc = finder.optional("valloc"),
        .pvalloc = finder.optional("pvalloc"),
        .reallocarray = finder.optional("reallocarray"),
        .free_sized = finder.optional("free_sized"),
        .free_aligned_sized = finder.optional("free_aligned_sized"),
        .errno_location = std.c._errno,
    };
    finder.addOwn(&family);
    const contract = contractOf(family);
    if (family.flush_all == null and isGlibc(family)) family.flush_all = trim;
    return .{ .name = "malloc", .door = .{ .c = family }, .contract = contract };
}

fn contractOf(family: suite.Family) suite.Contract {
    if (hakmemIsPreloaded()) return .hakmem_malloc;
    return if (isGlibc(family)) .glibc else .least;
}

fn isGlibc(family: suite.Family) bool {
    const object = std.fs.path.basename(objectOf(family.malloc) orelse "");
    return std.mem.startsWith(u8, object, "libc.so") or std.mem.startsWith(u8, object, "libc-2");
}

/// glibc's way to give memory back, which other libraries lack. Its result says whether there was any, which nobody
/// asks here.
fn trim() callconv(.c) void {
    const malloc_trim: *const fn (usize) callconv(.c) c_int = @ptrCast(@alignCast(findInProcess("malloc_trim").?));
    _ = malloc_trim(0);
}

/// The `hak_*` of the library at this path.
pub fn openLibrary(path: [:0]const u8) Error!suite.Subject {
    const handle = std.c.dlopen(path, .{ .NOW = true }) orelse {
        const reason: []const u8 = if (std.c.dlerror()) |text| std.mem.span(text) else "no reason given";
        process.printLine(.stderr, "cannot open {s}: {s}", .{ path, reason });
        return error.NoSuchDoor;
    };
    const finder: Finder = .{ .handle = handle };
    var family: suite.Family = .{
        .malloc = try finder.need("malloc", "hak_malloc"),
        .calloc = try finder.need("calloc", "hak_calloc"),
        .realloc = try finder.need("realloc", "hak_realloc"),
        .free = try finder.need("free", "hak_free"),
        .aligned_alloc = try finder.need("aligned_alloc", "hak_aligned_alloc"),
        .usable_size = try finder.need("usable_size", "hak_usable_size"),
        .errno_location = std.c._errno,
    };
    finder.addOwn(&family);
    return .{ .name = "hak", .door = .{ .c = family }, .contract = .hak, .opened = true };
}

const Finder = struct {
    handle: ?*anyopaque,

    fn need(finder: Finder, comptime field: []const u8, name: [:0]const u8) Error!@FieldType(suite.Family, field) {
        const function = std.c.dlsym(finder.handle, name) orelse {
            process.printLine(.stderr, "no function {s} in the objects that were searched", .{name});
            return error.NoSuchDoor;
        };
        return @ptrCast(@alignCast(function));
    }

    /// What only hakmem has.
    fn addOwn(finder: Finder, family: *suite.Family) void {
        family.flush_all = finder.find(@FieldType(suite.Family, "flush_all"), "hak_tiny_magazine_flush_all");
        family.purge = finder.find(@FieldType(suite.Family, "purge"), "hak_purge");
        family.stats = finder.find(@FieldType(suite.Family, "stats"), "hak_stats");
        const class_count = finder.find(?@FieldType(suite.Tiny, "class_count"), "hak_tiny_class_count");
        const class_size = finder.find(?@FieldType(suite.Tiny, "class_size"), "hak_tiny_class_size");
        const class_of = finder.find(?@FieldType(suite.Tiny, "class_of"), "hak_tiny_class_of");
        const flush = finder.find(?@FieldType(suite.Tiny, "flush"), "hak_tiny_magazine_flush");
        if (class_count != null and class_size != null and class_of != null and flush != null) {
            family.tiny = .{
                .class_count = class_count.?,
                .class_size = class_size.?,
                .class_of = class_of.?,
                .flush = flush.?,
            };
        }
        const malloc = finder.find(?@FieldType(suite.Batch, "malloc"), "hak_malloc_batch");
        const free = finder.find(?@FieldType(suite.Batch, "free"), "hak_free_batch");
        if (malloc != null and free != null) family.batch = .{ .malloc = malloc.?, .free = free.? };
    }

    fn find(finder: Finder, comptime Optional: type, name: [:0]const u8) Optional {
        return @ptrCast(@alignCast(std.c.dlsym(finder.handle, name) orelse return null));
    }

    fn optional(finder: Finder, comptime field: [:0]const u8) @FieldType(suite.Family, field) {
        return finder.find(@FieldType(suite.Family, field), field);
    }
};
