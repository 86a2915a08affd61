//! One measurement of the sweep: what one allocator needs to hold `count` blocks of `size` bytes.
//!
//! Guarantees: one process measures one thing and prints one line of JSON on standard output. Nothing
//! here calls malloc except the measured loop, so the allocator under test, whichever was preloaded,
//! serves exactly the blocks that are counted. The line says which object `malloc` really came from.
//!
//! How it works: the pointer array is mapped apart and touched; as much memory as the blocks may need is
//! touched and unmapped again, so that the host has already backed it and the first touch of fresh
//! memory is not charged to whoever happens to run first; all code that will run is touched. Then RSS
//! (base); allocate and write every block (timed); RSS (live); check every byte of every block; put the
//! pointers in the order of freeing; free (timed); RSS (after free); where asked for, an idle pause and
//! RSS (after idle); the allocator's own way of giving memory back; RSS (after flush).
//!
//! RSS is read from `/proc/self/smaps_rollup`, which is exact where `statm` and `ru_maxrss` are not.
//! Times are CPU time of the whole process, so that a helper thread of an allocator counts too.
//!
//! `--identify` measures nothing: it tells the object and version of the allocator and which release
//! function it has. That is a mode of its own because a `dlsym` that fails allocates its message with
//! the allocator under test; a measuring process is told the answer and looks up only what is there.
//!
//! Not done here: more than one thread, mixed sizes, repeats, statistics. The CLI does the last two.

const std = @import("std");
const linux = std.os.linux;

extern "c" fn malloc(size: usize) ?[*]u8;
extern "c" fn free(block: ?*anyopaque) void;
extern "c" fn dlsym(handle: ?*anyopaque, name: [*:0]const u8) ?*anyopaque;
extern "c" fn dladdr(address: ?*const anyopaque, info: *DlInfo) c_int;

/// `Dl_info` of <dlfcn.h>: which loaded object an address lies in.
const DlInfo = extern struct {
    object_name: ?[*:0]const u8,
    object_base: ?*anyopaque,
    symbol_name: ?[*:0]const u8,
    symbol_address: ?*anyopaque,
};

/// How an allocator is asked to give back what it holds free. Each name is the family whose function it is.
const Release = enum { hakmem, mimalloc, jemalloc, tcmalloc, glibc, none };

const Pattern = enum { sequential, random };

const Options = struct {
    identify: bool = false,
    size: usize = 0,
    count: usize = 0,
    pattern: Pattern = .sequential,
    seed: u64 = 0,
    /// Bytes to touch and unmap before anything is measured.
    warm_bytes: usize = 0,
    /// 0 = no idle pause and no figure for it.
    idle_ms: u64 = 0,
    release: Release = .none,
};

/// All RSS figures in bytes. `after_idle` is null where no pause was asked for.
const Figures = struct {
    base: u64 = 0,
    live: u64 = 0,
    after_free: u64 = 0,
    after_idle: ?u64 = null,
    after_flush: u64 = 0,
    alloc_total_ns: u64 = 0,
    free_total_ns: u64 = 0,
};

pub export fn main(argc: c_int, argv: [*]const [*:0]const u8) c_int {
    const options = parseOptions(argv[1..@intCast(argc)]);
    if (options.identify) identify() else measure(options);
    return 0;
}

fn parseOptions(arguments: []const [*:0]const u8) Options {
    var options: Options = .{};
    for (arguments) |argument_z| {
        const argument = std.mem.span(argument_z);
        if (std.mem.eql(u8, argument, "--identify")) {
            options.identify = true;
        } else if (valueOf(argument, "--size=")) |text| {
            options.size = parseNumber(usize, text);
        } else if (valueOf(argument, "--count=")) |text| {
            options.count = parseNumber(usize, text);
        } else if (valueOf(argument, "--pattern=")) |text| {
            options.pattern = std.meta.stringToEnum(Pattern, text) orelse badArgument(argument);
        } else if (valueOf(argument, "--seed=")) |text| {
            options.seed = parseNumber(u64, text);
        } else if (valueOf(argument, "--warm-bytes=")) |text| {
            options.warm_bytes = parseNumber(usize, text);
        } else if (valueOf(argument, "--idle-ms=")) |text| {
            options.idle_ms = parseNumber(u64, text);
        } else if (valueOf(argument, "--release=")) |text| {
            options.release = std.meta.stringToEnum(Release, text) orelse badArgument(argument);
        } else {
            badArgument(argument);
        }
    }
    if (!options.identify and (options.size == 0 or options.count == 0)) {
        fail("--size and --count must both be at least 1", .{});
    }
    return options;
}

fn valueOf(argument: []const u8, name: []const u8) ?[]const u8 {
    return if (std.mem.startsWith(u8, argument, name)) argument[name.len..] else null;
}

fn parseNumber(comptime T: type, text: []const u8) T {
    return std.fmt.parseInt(T, text, 10) catch badArgument(text);
}

fn badArgument(argument: []const u8) noreturn {
    fail("cannot use argument '{s}'", .{argument});
}

// ---- measuring ----

fn measure(options: Options) void {
    const array_bytes = std.math.mul(usize, options.count, @sizeOf([*]u8)) catch
        fail("{d} blocks are more than the address space holds", .{options.count});
    const blocks: [][*]u8 = @as([*][*]u8, @ptrCast(@alignCast(mapTouched(array_bytes))))[0..options.count];
    warmMemory(options.warm_bytes);
    touchCode();
    // The first reading faults in whatever reading needs, so that the second does not count it.
    _ = residentBytes();

    var figures: Figures = .{ .base = residentBytes() };

    const alloc_start_ns = cpuTimeNs();
    const served = allocateAll(blocks, options.size);
    figures.alloc_total_ns = cpuTimeNs() - alloc_start_ns;
    if (served < blocks.len) fail("out of memory at block {d} of {d}", .{ served, blocks.len });
    figures.live = residentBytes();

    if (firstDamaged(blocks, options.size)) |index| {
        fail("block {d} of {d} does not hold what was written: it overlaps another", .{ index, blocks.len });
    }
    if (options.pattern == .random) {
        var prng: std.Random.Xoshiro256 = .init(options.seed);
        prng.random().shuffle([*]u8, blocks);
    }

    const free_start_ns = cpuTimeNs();
    for (blocks) |block| free(block);
    figures.free_total_ns = cpuTimeNs() - free_start_ns;
    figures.after_free = residentBytes();

    if (options.idle_ms > 0) {
        sleepMs(options.idle_ms);
        figures.after_idle = residentBytes();
    }
    releaseAll(options.release);
    figures.after_flush = residentBytes();
    printFigures(figures);
}

/// Allocates and writes each block whole. Returns how many were served, all of them unless memory ran out.
fn allocateAll(blocks: [][*]u8, size: usize) usize {
    for (blocks, 0..) |*slot, index| {
        const block = malloc(size) orelse return index;
        @memset(block[0..size], fillOf(index));
        slot.* = block;
    }
    return blocks.len;
}

/// The byte that block `index` is filled with. Neighbouring indexes differ, so that overlap shows.
fn fillOf(index: usize) u8 {
    return @truncate((@as(u64, index) *% 0x9E37_79B9_7F4A_7C15) >> 56);
}

/// The first block of which any byte is not what was written; null if all are whole.
fn firstDamaged(blocks: []const [*]u8, size: usize) ?usize {
    for (blocks, 0..) |block, index| {
        const fill = fillOf(index);
        var difference: u8 = 0;
        for (block[0..size]) |byte| difference |= byte ^ fill;
        if (difference != 0) return index;
    }
    return null;
}

// ---- memory of the driver itself ----

/// Maps `bytes` of private memory of small pages and touches every page.
fn mapTouched(bytes: usize) [*]u8 {
    const address = linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, .{ .TYPE = .PRIVATE, .ANONYMOUS = true }, -1, 0);
    switch (linux.errno(address)) {
        .SUCCESS => {},
        else => |errno| fail("cannot map {d} bytes for the driver itself: {s}", .{ bytes, @tagName(errno) }),
    }
    const memory: [*]u8 = @ptrFromInt(address);
    // With huge pages the array's share of the base figure would depend on alignment. A kernel without
    // huge pages refuses the advice, which is then not needed.
    _ = linux.madvise(memory, bytes, linux.MADV.NOHUGEPAGE);
    touchForWriting(memory, bytes);
    return memory;
}

/// Touches and unmaps `bytes`, so that the machine beneath a virtual one has given us that much memory
/// before the clock runs.
fn warmMemory(bytes: usize) void {
    if (bytes == 0) return;
    const memory = mapTouched(bytes);
    _ = linux.munmap(memory, bytes);
}

fn touchForWriting(memory: [*]u8, bytes: usize) void {
    const volatile_memory: [*]volatile u8 = memory;
    var offset: usize = 0;
    while (offset < bytes) : (offset += std.heap.page_size_min) volatile_memory[offset] = 1;
}

/// Reads a byte of every page of code and constants of this program, of the C library and of the object
/// that `malloc` is in. Else the kernel maps them in windows as they are first used, which would be
/// counted as the allocator's memory, and by an amount that varies with address randomisation: up to
/// 64 KiB a time. What the objects write to is left alone, as that is memory the allocator uses.
fn touchCode() void {
    // "exit" stands for the C library, as an allocator has none.
    var used = [_]usize{ @intFromPtr(&main), @intFromPtr(dlsym(null, "malloc")), @intFromPtr(dlsym(null, "exit")) };
    _ = std.c.dl_iterate_phdr(&touchObject, &used);
}

/// Called for each loaded object; touches it if one of three addresses lies in it.
fn touchObject(object: *std.c.dl_phdr_info, _: usize, data: ?*anyopaque) callconv(.c) c_int {
    const used: *const [3]usize = @ptrCast(@alignCast(data));
    const headers = object.phdr[0..object.phnum];
    for (headers) |header| {
        if (header.type == .LOAD and containsAny(object.addr +% header.vaddr, header.memsz, used)) break;
    } else return 0;
    for (headers) |header| {
        if (header.type != .LOAD or header.flags.W or !header.flags.R) continue;
        const segment: [*]const volatile u8 = @ptrFromInt(object.addr +% header.vaddr);
        var offset: usize = 0;
        while (offset < header.memsz) : (offset += std.heap.page_size_min) _ = segment[offset];
    }
    return 0;
}

fn containsAny(start: usize, length: usize, addresses: []const usize) bool {
    for (addresses) |address| {
        if (address -% start < length) return true;
    }
    return false;
}

/// RSS of this process in bytes, from `/proc/self/smaps_rollup`.
fn residentBytes() u64 {
    const static = struct {
        var text: [4096]u8 = undefined;
    };
    const descriptor = linux.open("/proc/self/smaps_rollup", .{ .ACCMODE = .RDONLY }, 0);
    switch (linux.errno(descriptor)) {
        .SUCCESS => {},
        else => |errno| fail("cannot read /proc/self/smaps_rollup: {s}", .{@tagName(errno)}),
    }
    var length: usize = 0;
    while (length < static.text.len) {
        const got = linux.read(@intCast(descriptor), static.text[length..].ptr, static.text.len - length);
        switch (linux.errno(got)) {
            .SUCCESS => {},
            .INTR => continue,
            else => |errno| fail("cannot read /proc/self/smaps_rollup: {s}", .{@tagName(errno)}),
        }
        if (got == 0) break;
        length += got;
    }
    _ = linux.close(@intCast(descriptor));

    var lines = std.mem.tokenizeScalar(u8, static.text[0..length], '\n');
    while (lines.next()) |line| {
        const rest = valueOf(line, "Rss:") orelse continue;
        const kibibytes = std.mem.trim(u8, rest, " kB");
        return 1024 * (std.fmt.parseInt(u64, kibibytes, 10) catch break);
    }
    fail("/proc/self/smaps_rollup has no usable line 'Rss:'", .{});
}

fn cpuTimeNs() u64 {
    var time: linux.timespec = undefined;
    switch (linux.errno(linux.clock_gettime(.PROCESS_CPUTIME_ID, &time))) {
        .SUCCESS => {},
        else => |errno| fail("cannot read the CPU clock: {s}", .{@tagName(errno)}),
    }
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

fn sleepMs(milliseconds: u64) void {
    var remaining: linux.timespec = .{
        .sec = @intCast(milliseconds / std.time.ms_per_s),
        .nsec = @intCast(milliseconds % std.time.ms_per_s * std.time.ns_per_ms),
    };
    while (linux.errno(linux.nanosleep(&remaining, &remaining)) == .INTR) {}
}

// ---- the allocator under test ----

const HakFlushAll = *const fn () callconv(.c) void;
const HakPurge = *const fn () callconv(.c) usize;
const MiCollect = *const fn (force: bool) callconv(.c) void;
const Mallctl = *const fn ([*:0]const u8, ?*anyopaque, ?*usize, ?*const anyopaque, usize) callconv(.c) c_int;
const TcmallocCall = *const fn () callconv(.c) void;
const MallocTrim = *const fn (pad: usize) callconv(.c) c_int;

/// Asks the allocator to give back all it can, in its own way.
fn releaseAll(release: Release) void {
    switch (release) {
        .hakmem => {
            required(HakFlushAll, "hak_tiny_magazine_flush_all")();
            // Optional, as an older build of ours may lack it: the flush alone empties the magazines.
            if (lookUp(HakPurge, "hak_purge")) |purge| _ = purge();
        },
        .mimalloc => required(MiCollect, "mi_collect")(true),
        .jemalloc => {
            const mallctl = required(Mallctl, "mallctl");
            // This fails where the user has switched the thread cache off; then it holds nothing.
            _ = mallctl("thread.tcache.flush", null, null, null, 0);
            // 4096 is MALLCTL_ARENAS_ALL.
            const status = mallctl("arena.4096.purge", null, null, null, 0);
            if (status != 0) fail("mallctl(\"arena.4096.purge\") returned {d}", .{status});
        },
        .tcmalloc => {
            // The thread's own cache first, else its blocks keep their pages.
            required(TcmallocCall, "MallocExtension_MarkThreadIdle")();
            required(TcmallocCall, "MallocExtension_ReleaseFreeMemory")();
        },
        .glibc => _ = required(MallocTrim, "malloc_trim")(0),
        .none => {},
    }
}

fn required(comptime Function: type, name: [*:0]const u8) Function {
    return lookUp(Function, name) orelse fail("the allocator has no {s}", .{name});
}

fn lookUp(comptime Function: type, name: [*:0]const u8) ?Function {
    // A null handle is RTLD_DEFAULT in glibc and in musl.
    return @ptrCast(@alignCast(dlsym(null, name) orelse return null));
}

/// The loaded object that holds `name` as every other object of this process sees it.
fn objectOf(name: [*:0]const u8) ?DlInfo {
    const address = dlsym(null, name) orelse return null;
    var info: DlInfo = undefined;
    return if (dladdr(address, &info) != 0) info else null;
}

fn objectName(info: ?DlInfo) []const u8 {
    const found = info orelse return "";
    return std.mem.span(found.object_name orelse return "");
}

fn identify() void {
    const object = objectOf("malloc");
    var version_buffer: [64]u8 = undefined;
    var line: Line = .{};
    line.print("{{\"malloc_path\":", .{});
    line.string(objectName(object));
    line.print(",\"free_path\":", .{});
    line.string(objectName(objectOf("free")));
    line.print(",\"libc_path\":", .{});
    line.string(objectName(objectOf("exit")));
    line.print(",\"libc\":", .{});
    line.optionalString(libcVersion());
    const release = releaseOf(object);
    line.print(",\"release\":\"{s}\",\"version\":", .{@tagName(release)});
    line.optionalString(versionOf(release, &version_buffer));
    line.print("}}\n", .{});
    line.send();
}

/// The release functions of the object that `malloc` is in. One from another object is not this
/// allocator's: glibc's malloc_trim does nothing for a preloaded allocator that has none of its own.
fn releaseOf(object: ?DlInfo) Release {
    const candidates = [_]struct { release: Release, names: []const [*:0]const u8 }{
        .{ .release = .hakmem, .names = &.{"hak_tiny_magazine_flush_all"} },
        .{ .release = .mimalloc, .names = &.{"mi_collect"} },
        .{ .release = .jemalloc, .names = &.{"mallctl"} },
        .{ .release = .tcmalloc, .names = &.{ "MallocExtension_MarkThreadIdle", "MallocExtension_ReleaseFreeMemory" } },
        .{ .release = .glibc, .names = &.{"malloc_trim"} },
    };
    const base = (object orelse return .none).object_base;
    for (candidates) |candidate| {
        for (candidate.names) |name| {
            const found = objectOf(name) orelse break;
            if (found.object_base != base) break;
        } else return candidate.release;
    }
    return .none;
}

fn libcVersion() ?[]const u8 {
    const version = lookUp(*const fn () callconv(.c) [*:0]const u8, "gnu_get_libc_version") orelse return null;
    return std.mem.span(version());
}

fn versionOf(release: Release, buffer: []u8) ?[]const u8 {
    switch (release) {
        .hakmem => {
            const version = lookUp(*const fn () callconv(.c) [*:0]const u8, "hak_version") orelse return null;
            return std.mem.span(version());
        },
        .mimalloc => {
            const version = lookUp(*const fn () callconv(.c) c_int, "mi_version") orelse return null;
            const number: u32 = @intCast(version());
            // Three digits, as in 209, until 3.x took two digits for each of the last two parts.
            const base: u32 = if (number >= 10_000) 100 else 10;
            return std.fmt.bufPrint(buffer, "{d}.{d}.{d}", .{ number / (base * base), number / base % base, number % base }) catch null;
        },
        .jemalloc => {
            const mallctl = lookUp(Mallctl, "mallctl") orelse return null;
            var version: [*:0]const u8 = "";
            var length: usize = @sizeOf([*:0]const u8);
            if (mallctl("version", @ptrCast(&version), &length, null, 0) != 0) return null;
            // "5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c": the commit says nothing to a reader.
            return std.mem.sliceTo(std.mem.span(version), '-');
        },
        .tcmalloc => {
            const Version = *const fn (?*c_int, ?*c_int, ?*[*:0]const u8) callconv(.c) [*:0]const u8;
            const version = lookUp(Version, "tc_version") orelse return null;
            const text = std.mem.span(version(null, null, null));
            return if (std.mem.lastIndexOfScalar(u8, text, ' ')) |space| text[space + 1 ..] else text;
        },
        .glibc => return libcVersion(),
        .none => return null,
    }
}

// ---- output ----

fn printFigures(figures: Figures) void {
    var line: Line = .{};
    line.print("{{\"malloc_path\":", .{});
    line.string(objectName(objectOf("malloc")));
    line.print(",\"base_rss_bytes\":{d},\"live_rss_bytes\":{d},\"after_free_rss_bytes\":{d},\"after_idle_rss_bytes\":", .{ figures.base, figures.live, figures.after_free });
    if (figures.after_idle) |bytes| line.print("{d}", .{bytes}) else line.print("null", .{});
    line.print(",\"after_flush_rss_bytes\":{d},\"alloc_total_ns\":{d},\"free_total_ns\":{d}}}\n", .{ figures.after_flush, figures.alloc_total_ns, figures.free_total_ns });
    line.send();
}

/// Prints `{"error": …}` and ends the process with status 1.
fn fail(comptime format: []const u8, arguments: anytype) noreturn {
    var message_buffer: [512]u8 = undefined;
    const message = std.fmt.bufPrint(&message_buffer, format, arguments) catch "the error's own message is too long";
    var line: Line = .{};
    line.print("{{\"error\":", .{});
    line.string(message);
    line.print("}}\n", .{});
    line.send();
    linux.exit_group(1);
}

/// One line of output, built in place and written at once. What does not fit is cut, and the CLI then
/// says that the line is no JSON; the longest part, a path, is at most `PATH_MAX`.
const Line = struct {
    text: [16 * 1024]u8 = undefined,
    length: usize = 0,

    fn print(line: *Line, comptime format: []const u8, arguments: anytype) void {
        const written = std.fmt.bufPrint(line.text[line.length..], format, arguments) catch "";
        line.length += written.len;
    }

    fn string(line: *Line, text: []const u8) void {
        line.print("\"", .{});
        for (text) |byte| switch (byte) {
            '"', '\\' => line.print("\\{c}", .{byte}),
            0...0x1f => line.print("\\u{x:0>4}", .{byte}),
            else => line.print("{c}", .{byte}),
        };
        line.print("\"", .{});
    }

    fn optionalString(line: *Line, text: ?[]const u8) void {
        if (text) |present| line.string(present) else line.print("null", .{});
    }

    fn send(line: *const Line) void {
        var sent: usize = 0;
        while (sent < line.length) {
            const wrote = linux.write(1, line.text[sent..].ptr, line.length - sent);
            switch (linux.errno(wrote)) {
                .SUCCESS => sent += wrote,
                .INTR => {},
                else => linux.exit_group(1),
            }
        }
    }
};
