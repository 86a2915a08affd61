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
const measure = @import("measure.zig");
const identity = @import("identity.zig");
const malloc = measure.malloc;
const free = measure.free;
const valueOf = measure.valueOf;
const parseNumber = measure.parseNumber;
const badArgument = measure.badArgument;
const residentBytes = measure.residentBytes;
const cpuTimeNs = measure.cpuTimeNs;
const fail = measure.fail;
const Line = measure.Line;
const Release = identity.Release;
const Mallctl = identity.Mallctl;
const lookUp = identity.lookUp;

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
    if (options.identify) identity.identify() else sweep(options);
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

// ---- measuring ----

fn sweep(options: Options) void {
    const array_bytes = std.math.mul(usize, options.count, @sizeOf([*]u8)) catch
        fail("{d} blocks are more than the address space holds", .{options.count});
    const blocks: [][*]u8 = @as([*][*]u8, @ptrCast(@alignCast(measure.mapTouched(array_bytes))))[0..options.count];
    measure.warmMemory(options.warm_bytes);
    measure.touchCode();
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
        @memset(block[0..size], measure.fillOf(index));
        slot.* = block;
    }
    return blocks.len;
}

/// The first block of which any byte is not what was written; null if all are whole.
fn firstDamaged(blocks: []const [*]u8, size: usize) ?usize {
    for (blocks, 0..) |block, index| {
        const fill = measure.fillOf(index);
        var difference: u8 = 0;
        for (block[0..size]) |byte| difference |= byte ^ fill;
        if (difference != 0) return index;
    }
    return null;
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

// ---- output ----

fn printFigures(figures: Figures) void {
    var line: Line = .{};
    line.print("{{\"malloc_path\":", .{});
    line.string(identity.objectName(identity.objectOf("malloc")));
    line.print(",\"base_rss_bytes\":{d},\"live_rss_bytes\":{d},\"after_free_rss_bytes\":{d},\"after_idle_rss_bytes\":", .{ figures.base, figures.live, figures.after_free });
    if (figures.after_idle) |bytes| line.print("{d}", .{bytes}) else line.print("null", .{});
    line.print(",\"after_flush_rss_bytes\":{d},\"alloc_total_ns\":{d},\"free_total_ns\":{d}}}\n", .{ figures.after_flush, figures.alloc_total_ns, figures.free_total_ns });
    line.send();
}
