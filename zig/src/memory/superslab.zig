//! The page heap: superslabs of 2 MiB from the OS, handed out as runs of 64 KiB granules, for slabs and for
//! large blocks alike.
//!
//! A run comes from where pages are resident, if any superslab has so many free together, else from anywhere: from the
//! superslab whose longest such run is the shortest that fits, so that others can become empty. Free granules that still
//! hold pages are counted ("dirty"), and wait as `retention` says before their pages are given back. An empty superslab
//! without pages is unmapped, but for one that is kept for the next request.
//! Runs of slabs of small blocks get their pages as `fresh_pages` says: populated ahead, or a huge page for a whole
//! superslab. What is resident so and still free is "ready": dirty, but it reads as zero. Runs that may stay
//! untouched take no such pages: theirs come from superslabs of small pages.
//!
//! A superslab that the OS refuses is counted, logged once, and asked for again at the next request.
//! Against the limit of the process (`process_limit.zig`) granules count that are in use or dirty, and a record in service.
//!
//! The lock is never held while memory is given back or a line is written: what must be unmapped, purged or said
//! is set aside under the lock and done by `settle`, which slow paths call when they hold no lock.

const std = @import("std");
const geometry = @import("../numbers/geometry.zig");
const bitmap = @import("../numbers/bitmap.zig");
const atomic = @import("../platform/atomic.zig");
const os = @import("../platform/os.zig");
const page_map = @import("page_map.zig");
const process_limit = @import("process_limit.zig");
const registry = @import("registry.zig");
const space = @import("space.zig");
const fresh_pages = @import("fresh_pages.zig");
const Retention = @import("retention.zig").Retention;
const bins = @import("bins.zig");
const Slab = @import("slab.zig").Slab;
const BitmapArea = @import("bitmap_area.zig").BitmapArea;
const area_bytes = @import("bitmap_area.zig").area_bytes;
const Lock = @import("../platform/lock.zig").Lock;
const Line = @import("../seeing/fatal.zig").Line;
const canary = @import("../platform/canary.zig");
const cost = @import("../platform/cost.zig");
const settings = @import("../platform/settings.zig");
const assert = std.debug.assert;

const all_granules: bitmap.Granules = 0xffff_ffff;

/// What a run is for.
pub const Filling = enum {
    /// Blocks of at most a page of 4 KiB: if all are written, every page is.
    dense,
    /// Blocks that may have pages which are never written.
    sparse,
};

/// The pages of a superslab.
const Pages = enum(u8) {
    small,
    /// A huge page is asked for, and a thread is finding out whether it comes.
    asked,
    huge,
};

pub const Superslab = extern struct {
    base: usize,
    /// Neighbours among all superslabs; `next` also links unused records and the doomed.
    next: ?*Superslab,
    previous: ?*Superslab,
    /// The area for bitmaps of its slabs, and which of it is given out.
    words: [*]u64,
    bitmaps: BitmapArea,
    free: bitmap.Granules,
    /// Free granules that may hold pages.
    dirty: bitmap.Granules,
    /// Dirty granules that were never written.
    ready: bitmap.Granules,
    /// Dirty granules of which only a part is resident: of the slab that they were, some blocks were never handed out.
    partial: bitmap.Granules,
    /// Granules of runs with dense blocks.
    dense: bitmap.Granules,
    /// Its places among the superslabs by the longest run in `free`, and by the longest in `resident`.
    by_free: bins.Links(Superslab),
    by_resident: bins.Links(Superslab),
    pages: Pages,
    /// For each granule of a run, the first one; for the first, how many.
    run_start: [geometry.superslab_granules]u8,
    run_granules: [geometry.superslab_granules]u8,
    slabs: [geometry.superslab_granules]Slab align(64),

    /// Free granules to which a run goes first. Ready ones in small pages wait for their dense run: they are the few
    /// behind the last one.
    fn resident(superslab: *const Superslab) bitmap.Granules {
        return if (superslab.pages == .small) superslab.dirty & ~superslab.ready else superslab.dirty;
    }

    pub inline fn granuleOf(superslab: *const Superslab, address: usize) u32 {
        assert(address - superslab.base < geometry.superslab_bytes);
        return @intCast((address & (geometry.superslab_bytes - 1)) >> geometry.granule_shift);
    }

    /// The slab that an address lies in; the address is in a run that serves as a slab.
    pub inline fn slabOf(superslab: *Superslab, address: usize) *Slab {
        return &superslab.slabs[superslab.run_start[superslab.granuleOf(address)]];
    }

    pub fn runBytes(superslab: *const Superslab, address: usize) usize {
        return @as(usize, superslab.run_granules[superslab.granuleOf(address)]) << geometry.granule_shift;
    }
};

pub const Run = struct {
    superslab: *Superslab,
    start: u32,
    /// No page of it has been written since the OS gave it: it reads as zero.
    clean: bool,
    /// Its granules that are resident though no block of them was handed out. Whoever cuts the run into blocks says
    /// by `caughtUp` when that has changed.
    ahead: u8,
    /// Not all its pages are resident: others come as they are touched.
    fresh: bool,
    /// The bitmap that was asked for, all zero.
    words: ?[*]u64,

    pub fn address(run: Run) usize {
        return run.superslab.base + (@as(usize, run.start) << geometry.granule_shift);
    }
};

pub const Counts = struct {
    /// Superslabs mapped now, and of these the ones without any run in use.
    mapped: usize = 0,
    empty: usize = 0,
    /// Events since the process began.
    mapped_ever: usize = 0,
    unmapped_ever: usize = 0,
    refused_ever: usize = 0,
    used_granules: usize = 0,
    dirty_granules: usize = 0,
    /// Granules of runs with dense blocks.
    dense_granules: usize = 0,
    /// Granules populated ahead, of which no block was handed out, huge pages apart.
    ahead_granules: usize = 0,
    /// Superslabs that got a huge page.
    huge_ever: usize = 0,
    /// Memory mapped for records of superslabs.
    record_bytes: usize = 0,
};

const records_per_group = 16;
const record_bytes = @sizeOf(Superslab);
/// Records lie together, then their areas for bitmaps, so that a record costs little more than itself in pages.
const group_records_bytes = std.mem.alignForward(usize, records_per_group * record_bytes, 64 * 1024);
const group_bytes = group_records_bytes + records_per_group * area_bytes;
/// What a record in service counts for.
const record_counted = record_bytes + area_bytes;

/// Held by the one thread that gives memory back, so that a forked child finds nothing that is neither in service
/// nor gone. Comes before `lock`.
var purging: Lock = .{};
var lock: Lock = .{};
/// Superslabs by their longest free run, and by their longest resident one: those of small pages, and the others.
var by_free: [2]bins.Bins(Superslab, "by_free") = @splat(.{});
var by_resident: [2]bins.Bins(Superslab, "by_resident") = @splat(.{});
var all: ?*Superslab = null;
/// Records given back, and the group whose records from `group_next` on were never used nor touched.
var unused_records: ?*Superslab = null;
var group: usize = 0;
var group_next: usize = records_per_group;
var doomed: ?*Superslab = null;
/// Free granules are resident to which a dense run goes first. As the one below.
var resident_waits: bool = false;
/// Set when `settle` has work. Written under the lock; read without it as a hint.
var unsettled: bool = false;
var counts: Counts = .{};
var retention: Retention = .{};
/// The error number of the first refused superslab, until it is said; 0 before and after.
var refusal_unsaid: u32 = 0;
/// Below the superslabs: one that touches the last saves a mapping count and a trim.
var hint: usize = 0;

pub fn locks() [2]*Lock {
    return .{ &purging, &lock };
}

pub fn count() Counts {
    lock.lock();
    defer lock.unlock();
    return counts;
}

/// A run of `granules`. Null when the OS or the limit refuses.
pub fn allocateRun(granules: u32, filling: Filling) ?Run {
    return allocateSlab(granules, filling, 0);
}

/// As `allocateRun`, with a bitmap of `words` if that is not 0.
pub fn allocateSlab(granules: u32, filling: Filling, words: u32) ?Run {
    assert(granules >= 1 and granules <= geometry.superslab_granules);
    lock.lock();
    const superslab = find(granules, filling) orelse add(granules, filling) orelse {
        lock.unlock();
        return null;
    };
    const start = place(superslab, granules, filling);
    const mask = bitmap.run(start, granules);
    if (!takeClean(superslab, mask)) {
        lock.unlock();
        return null;
    }
    const clean = superslab.dirty & ~superslab.ready & mask == 0;
    const resident = superslab.dirty & mask != 0;
    const partial = superslab.partial & mask != 0;
    const is_new = superslab.free == all_granules;
    if (is_new) counts.empty -= 1;
    assert(superslab.run_granules[start] == 0);
    const ready = takeGranules(superslab, start, mask, filling);
    const bitmap_words = if (words == 0) null else superslab.words + superslab.bitmaps.take(words);
    var run: Run = .{ .superslab = superslab, .start = start, .clean = clean, .ahead = 0, .fresh = false, .words = bitmap_words };
    if (filling == .sparse) {
        lock.unlock();
        unready(superslab, ready);
        return run;
    }
    if (superslab.pages == .small) run.ahead = @popCount(ready);
    const asked = is_new and superslab.pages == .asked;
    const plan = if (resident) null else planRun(superslab, start, granules);
    if (plan != null) run.ahead = @intCast(granules);
    run.fresh = superslab.pages == .small and (!resident or partial) and plan == null;
    lock.unlock();
    if (asked) askHuge(superslab, run.address());
    if (plan) |planned| populate(run, granules, planned);
    return run;
}

/// Whether a dense run of one granule would find pages that are resident; of a moment ago.
pub inline fn hasResident() bool {
    // Partner: `noteResident`. A stale answer only costs or spares a few pages.
    return atomic.load(bool, &resident_waits, .monotonic);
}

/// The bins by resident runs have changed.
fn noteResident() void {
    const waits = by_resident[0].present | by_resident[1].present != 0;
    if (waits == resident_waits) return;
    // Partner: the load in `hasResident`.
    cost.wrote(&resident_waits);
    atomic.store(bool, &resident_waits, waits, .monotonic);
}

/// The superslab whose longest resident run is the shortest that fits, else the same of free runs.
fn find(granules: u32, filling: Filling) ?*Superslab {
    return shortest(&by_resident, granules, filling) orelse shortest(&by_free, granules, filling);
}

inline fn shortest(sets: anytype, granules: u32, filling: Filling) ?*Superslab {
    const small = sets[0].shortest(granules);
    const huge = if (filling == .dense) sets[1].shortest(granules) else null;
    if (small) |length| {
        if (huge == null or length <= huge.?) return sets[0].first(length);
    }
    return sets[1].first(huge orelse return null);
}

/// Where in a superslab a run begins: where pages are resident, but for blocks that may not need them.
fn place(superslab: *const Superslab, granules: u32, filling: Filling) u32 {
    if (filling == .sparse) {
        if (bitmap.findRun(superslab.dirty & ~superslab.ready, granules)) |start| return start;
        if (bitmap.findRun(superslab.free & ~superslab.ready, granules)) |start| return start;
    } else {
        if (bitmap.findRun(superslab.dirty & ~superslab.partial, granules)) |start| return start;
        if (bitmap.findRun(superslab.dirty, granules)) |start| return start;
    }
    return bitmap.findRun(superslab.free, granules).?;
}

/// Counts free granules against the limit that are about to be resident. False if they do not fit.
fn takeClean(superslab: *const Superslab, granules: bitmap.Granules) bool {
    // Until it is known whether the huge page comes, all of it counts.
    return process_limit.take(if (superslab.pages == .asked) 0 else granuleBytes(granules & ~superslab.dirty));
}

fn granuleBytes(granules: bitmap.Granules) usize {
    return @as(usize, @popCount(granules)) << geometry.granule_shift;
}

/// What counts against the limit. Walks all superslabs.
pub fn countedBytes() usize {
    lock.lock();
    defer lock.unlock();
    var bytes: usize = 0;
    for ([_]?*Superslab{ all, doomed }) |list| {
        var superslab = list;
        while (superslab) |one| : (superslab = one.next) {
            bytes += record_counted + granuleBytes(if (one.pages == .asked) all_granules else ~one.free | one.dirty);
        }
    }
    return bytes;
}

/// The pages of granules that were ready go back: they belong to a run now that may not need them.
fn unready(superslab: *const Superslab, ready: bitmap.Granules) void {
    // What the OS keeps stays resident, and zero.
    if (ready != 0) _ = releaseGranules(superslab.base, ready);
}

const Plan = struct {
    answer: fresh_pages.Answer,
    /// Free granules behind the run that are populated with it. Nobody else can take them meanwhile.
    behind: bitmap.Granules,
};

/// Decides how a run without pages gets them. Null if as the program touches them.
fn planRun(superslab: *Superslab, start: u32, granules: u32) ?Plan {
    if (superslab.pages != .small) return null;
    const room = counts.dense_granules / fresh_pages.ahead_share -| counts.ahead_granules;
    if (room < granules) return null;
    const behind = if (room < fresh_pages.ahead_granules_max) 0 else granulesBehind(superslab, start + granules, granules);
    const answer = fresh_pages.forRun(behind != 0, granules);
    if (answer.way == .touch and !answer.timed) return null;
    cost.wrote(&counts);
    counts.ahead_granules += granules;
    if (answer.way != .populate256 or !process_limit.take(granuleBytes(behind))) return .{ .answer = answer, .behind = 0 };
    counts.ahead_granules += @popCount(behind);
    superslab.free &= ~behind;
    rebin(superslab);
    return .{ .answer = answer, .behind = behind };
}

/// Granules from `end` on that are free and not resident, as many as are populated with a run of `granules`.
fn granulesBehind(superslab: *const Superslab, end: u32, granules: u32) bitmap.Granules {
    const fresh = superslab.free & ~superslab.dirty;
    var mask: bitmap.Granules = 0;
    for (end..@min(end + (fresh_pages.ahead_granules_max -| granules), geometry.superslab_granules)) |granule| {
        const bit = bitmap.run(@intCast(granule), 1);
        if (fresh & bit == 0) break;
        mask |= bit;
    }
    return mask;
}

/// Makes a run resident as planned. The caller owns the run and holds no lock of the page heap.
noinline fn populate(run: Run, granules: u32, plan: Plan) void {
    const all_of_it = granules + @popCount(plan.behind);
    const got = fresh_pages.get(plan.answer, run.address(), @as(usize, all_of_it) << geometry.granule_shift);
    if (!plan.answer.timed and plan.behind == 0 and got.result == .done) return;
    const superslab = run.superslab;
    lock.lock();
    defer lock.unlock();
    fresh_pages.record(plan.answer, all_of_it, got);
    if (plan.behind == 0) return;
    cost.wrote(&superslab.free);
    cost.wrote(&counts);
    superslab.free |= plan.behind;
    superslab.dirty |= plan.behind;
    superslab.ready |= plan.behind;
    counts.dirty_granules += @popCount(plan.behind);
    rebin(superslab);
}

/// Touches the first page of a new superslab for which a huge page is asked. The caller owns the run at `owned`.
noinline fn askHuge(superslab: *Superslab, owned: usize) void {
    const got = fresh_pages.getHuge(superslab.base, geometry.superslab_bytes, owned);
    // From here on what goes back page by page also comes back so, and neighbours are one mapping for the kernel.
    os.smallPages(superslab.base, geometry.superslab_bytes);
    lock.lock();
    defer lock.unlock();
    fresh_pages.record(.{ .way = .huge, .timed = true }, geometry.superslab_granules, got);
    if (got.result != .done) {
        process_limit.give(granuleBytes(superslab.free & ~superslab.dirty));
        return setPages(superslab, .small);
    }
    cost.wrote(&counts);
    counts.huge_ever += 1;
    const ready = superslab.free & ~superslab.dirty;
    superslab.dirty |= ready;
    superslab.ready |= ready;
    counts.dirty_granules += @popCount(ready);
    setPages(superslab, .huge);
}

fn setPages(superslab: *Superslab, pages: Pages) void {
    unbin(superslab);
    superslab.pages = pages;
    rebin(superslab);
}

/// Granules of a run that were ahead have been handed out, or are about to be free.
pub fn caughtUp(granules: u32) void {
    lock.lock();
    defer lock.unlock();
    cost.wrote(&counts);
    counts.ahead_granules -= granules;
}

/// Adds free granules, which begin where the run ends, to the run that begins at `start`. Returns those that were
/// ready: of a dense run in a superslab of small pages they stay counted as ahead.
fn takeGranules(superslab: *Superslab, start: u32, mask: bitmap.Granules, filling: Filling) bitmap.Granules {
    cost.wrote(&superslab.free);
    cost.wrote(&counts);
    cost.wrote(&retention);
    const ready = superslab.ready & mask;
    if (filling == .dense) {
        superslab.dense |= mask;
        counts.dense_granules += @popCount(mask);
    } else if (superslab.pages == .small) {
        counts.ahead_granules -= @popCount(ready);
    }
    superslab.ready &= ~mask;
    const before = superslab.run_granules[start];
    const after = before + @popCount(mask);
    const resident = @popCount(superslab.dirty & mask);
    counts.dirty_granules -= resident;
    counts.used_granules += @popCount(mask);
    retention.noteFewer(spareGranules());
    if (@popCount(mask) > resident) makeRoomLocked(@popCount(mask) - resident);
    superslab.free &= ~mask;
    superslab.dirty &= ~mask;
    superslab.partial &= ~mask;
    if (cost.counting) cost.wrote(superslab.run_start[start + before .. start + after]);
    if (cost.counting) cost.wrote(&superslab.run_granules[start]);
    superslab.run_granules[start] = after;
    for (start + before..start + after) |granule| superslab.run_start[granule] = @intCast(start);
    rebin(superslab);
    return ready;
}

/// Makes a sparse run as long as `granules` by what lies behind it. False if that is not free or does not fit in the
/// limit, and nothing has changed.
pub fn growRun(superslab: *Superslab, start: u32, granules: u32) bool {
    const ready = growRunLocked(superslab, start, granules) orelse return false;
    unready(superslab, ready);
    return true;
}

fn growRunLocked(superslab: *Superslab, start: u32, granules: u32) ?bitmap.Granules {
    lock.lock();
    defer lock.unlock();
    const before = superslab.run_granules[start];
    assert(before >= 1 and granules > before);
    if (start + granules > geometry.superslab_granules) return null;
    const mask = bitmap.run(start + before, granules - before);
    if (superslab.free & mask != mask or !takeClean(superslab, mask)) return null;
    return takeGranules(superslab, start, mask, .sparse);
}

/// Takes a run back. Its page map entries are 0 already, and nobody holds an address in it.
pub fn freeRun(superslab: *Superslab, start: u32) void {
    lock.lock();
    defer lock.unlock();
    freeRunLocked(superslab, start);
}

/// As `freeRun`, of a slab: its bitmap of `words`, all zero again, is at `bitmap_words`, if it has one outside its record.
/// It is `partial` where some of its pages were never touched.
pub fn freeSlab(superslab: *Superslab, start: u32, bitmap_words: ?[*]u64, words: u32, partial: bool) void {
    lock.lock();
    defer lock.unlock();
    if (bitmap_words) |present| superslab.bitmaps.give(@intCast(present - superslab.words), words);
    const granules = superslab.run_granules[start];
    freeRunLocked(superslab, start);
    if (partial) superslab.partial |= superslab.dirty & bitmap.run(start, granules);
}

fn freeRunLocked(superslab: *Superslab, start: u32) void {
    freeGranules(superslab, start, superslab.run_granules[start]);
    if (cost.counting) cost.wrote(&superslab.run_granules[start]);
    superslab.run_granules[start] = 0;
}

/// Takes back all but the first `granules` of a run.
pub fn shrinkRun(superslab: *Superslab, start: u32, granules: u32) void {
    lock.lock();
    defer lock.unlock();
    const before = superslab.run_granules[start];
    assert(granules >= 1 and granules < before);
    superslab.run_granules[start] = @intCast(granules);
    if (cost.counting) cost.wrote(&superslab.run_granules[start]);
    freeGranules(superslab, start + granules, before - granules);
}

fn freeGranules(superslab: *Superslab, start: u32, granules: u32) void {
    const mask = bitmap.run(start, granules);
    assert(superslab.free & mask == 0);
    cost.wrote(&superslab.free);
    cost.wrote(&counts);
    superslab.free |= if (canary.is(.free_run_long)) mask | mask << 1 else mask;
    superslab.dirty |= mask;
    counts.dense_granules -= @popCount(superslab.dense & mask);
    superslab.dense &= ~mask;
    counts.used_granules -= granules;
    counts.dirty_granules += granules;
    becameFree(superslab);
    retention.noteFree(spareGranules(), os.milliseconds);
    if (retention.pending != 0) setUnsettled(true);
}

/// The superslab gained free granules: it changes its bin, or is doomed.
fn becameFree(superslab: *Superslab) void {
    rebin(superslab);
    if (superslab.free != all_granules) return;
    counts.empty += 1;
    if (counts.empty > 1 and superslab.dirty == 0) doom(superslab);
}

/// Dirty granules beyond those that may always stay.
fn spareGranules() usize {
    return counts.dirty_granules -| @max(geometry.dirty_granules_min, counts.used_granules >> geometry.dirty_share_shift);
}

/// So many granules more become resident: as many that wait go, if there are.
fn makeRoomLocked(granules: usize) void {
    const spare = spareGranules();
    if (spare == 0) return;
    retention.noteFresh(granules, spare);
    setUnsettled(true);
}

/// As much memory as that is mapped elsewhere. The caller holds no lock.
pub fn makeRoom(bytes: usize) void {
    lock.lock();
    cost.wrote(&retention);
    makeRoomLocked(bytes >> geometry.granule_shift);
    lock.unlock();
    settle();
}

/// Takes an empty superslab out of service; `settle` unmaps it.
fn doom(superslab: *Superslab) void {
    assert(superslab.free == all_granules and superslab.bitmaps.isEmpty());
    counts.empty -= 1;
    counts.dirty_granules -= @popCount(superslab.dirty);
    if (superslab.pages == .small) counts.ahead_granules -= @popCount(superslab.ready);
    counts.mapped -= 1;
    unbin(superslab);
    unlink(superslab);
    registry.remove(superslab.base);
    cost.wrote(&superslab.next);
    cost.wrote(&doomed);
    superslab.next = doomed;
    doomed = superslab;
    setUnsettled(true);
}

/// Lets time pass: what the program no longer asks for again goes back. The caller holds no lock.
pub inline fn age() void {
    if (retention.isDue()) ageSlow();
}

noinline fn ageSlow() void {
    const now = os.milliseconds();
    if (retention.isBefore(now)) return settle();
    lock.lock();
    cost.wrote(&retention);
    retention.tick(now, spareGranules());
    if (retention.pending != 0) setUnsettled(true);
    lock.unlock();
    settle();
}

/// Does what was set aside: unmaps doomed superslabs, and purges some of the dirty granules that are to go.
/// The caller holds no lock.
pub inline fn settle() void {
    // Partner: `setUnsettled`. A stale answer only delays the work to the next slow path.
    if (atomic.load(bool, &unsettled, .monotonic)) settleSlow();
}

noinline fn settleSlow() void {
    // Another thread is at it. What it has passed already stays unsettled, for the next slow path.
    if (!purging.tryLock()) return;
    defer purging.unlock();
    lock.lock();
    setUnsettled(false);
    // What `purge` took, or what a thread that a forked child has not was taking, is dirty no more.
    retention.noteFewer(spareGranules());
    const slice = retention.slice();
    const limit = counts.dirty_granules - slice;
    const refusal = refusal_unsaid;
    refusal_unsaid = 0;
    if (slice != 0) doomEmpty(limit, 1);
    lock.unlock();
    if (refusal != 0) sayRefusal(refusal);
    var bytes = unmapDoomed();
    if (slice == 0) return;
    bytes += purgeTo(limit);
    lock.lock();
    defer lock.unlock();
    cost.wrote(&retention);
    retention.noteGone(bytes >> geometry.granule_shift, spareGranules());
    if (retention.pending != 0) setUnsettled(true);
}

/// Takes empty superslabs out of service until at most `limit` granules are dirty, or `spared` of them are left.
fn doomEmpty(limit: usize, spared: usize) void {
    var superslab = all;
    while (superslab) |one| {
        if (counts.dirty_granules <= limit or counts.empty <= spared) return;
        superslab = one.next;
        if (one.free == all_granules) doom(one);
    }
}

/// Gives back every free granule and every empty superslab. Returns the bytes.
pub fn purge() usize {
    purging.lock();
    defer purging.unlock();
    lock.lock();
    retention.reset();
    var superslab = all;
    while (superslab) |one| {
        superslab = one.next;
        if (one.free == all_granules) doom(one);
    }
    lock.unlock();
    return unmapDoomed() + purgeTo(0);
}

fn unmapDoomed() usize {
    var bytes: usize = 0;
    while (true) {
        lock.lock();
        const superslab = doomed orelse {
            lock.unlock();
            return bytes;
        };
        doomed = superslab.next;
        lock.unlock();

        bytes += granuleBytes(superslab.dirty);
        space.giveBack(superslab.base, geometry.superslab_bytes);
        process_limit.give(record_counted + granuleBytes(superslab.dirty));
        releaseWords(superslab);
        lock.lock();
        counts.unmapped_ever += 1;
        giveRecord(superslab);
        lock.unlock();
    }
}

/// Gives back the bitmaps of a record that serves no superslab; they are all zero, as slabs leave them.
fn releaseWords(superslab: *Superslab) void {
    // With larger pages the bitmaps of neighbours lie in one page. Refused, they stay resident, and zero.
    if (os.pageBytes() <= area_bytes) _ = os.release(@intFromPtr(superslab.words), area_bytes);
}

/// Gives back the pages of free granules until at most `limit` dirty ones are left. Huge pages come last: taking a
/// part of one splits it, and those with ready granules are in use for what comes next.
fn purgeTo(limit: usize) usize {
    var bytes: usize = 0;
    for (std.enums.values(Turn)) |turn| bytes += purgeTurn(turn, limit) orelse break;
    return bytes + unmapDoomed();
}

const Turn = enum {
    small_pages,
    huge_pages,
    rest,

    fn includes(turn: Turn, superslab: *const Superslab) bool {
        return switch (turn) {
            .small_pages => superslab.pages == .small or superslab.free == all_granules,
            .huge_pages => superslab.ready == 0,
            .rest => true,
        };
    }
};

/// Null when the OS refuses: the rest would most likely be refused as well.
fn purgeTurn(turn: Turn, limit: usize) ?usize {
    var bytes: usize = 0;
    lock.lock();
    defer lock.unlock();
    var superslab = all;
    while (superslab) |one| {
        if (counts.dirty_granules <= limit) break;
        const taken = one.dirty;
        if (taken == 0 or !turn.includes(one)) {
            superslab = one.next;
            continue;
        }
        // While their pages go, the granules count as used, so nobody else can take them, and the
        // superslab cannot become empty.
        if (one.free == all_granules) counts.empty -= 1;
        if (one.pages == .small) counts.ahead_granules -= @popCount(one.ready);
        one.free &= ~taken;
        one.dirty = 0;
        one.ready = 0;
        one.partial = 0;
        counts.dirty_granules -= @popCount(taken);
        rebin(one);
        lock.unlock();
        const kept = releaseGranules(one.base, if (canary.is(.purge_long)) taken | taken << 1 else taken);
        bytes += granuleBytes(taken & ~kept);
        lock.lock();
        if (one.pages != .asked) process_limit.give(granuleBytes(taken & ~kept));
        superslab = one.next;
        cost.wrote(&one.free);
        cost.wrote(&counts);
        one.free |= taken;
        one.dirty |= kept;
        counts.dirty_granules += @popCount(kept);
        if (one.pages == .huge) setPages(one, .small);
        becameFree(one);
        if (kept != 0) return null;
    }
    return bytes;
}

/// Returns the granules that the OS would not take.
fn releaseGranules(base: usize, granules: bitmap.Granules) bitmap.Granules {
    var rest = granules;
    var kept: bitmap.Granules = 0;
    while (rest != 0) {
        const start: u32 = @ctz(rest);
        const length: u32 = @min(@ctz(~(rest >> @intCast(start))), 32 - start);
        const mask = bitmap.run(start, length);
        const address = base + (@as(usize, start) << geometry.granule_shift);
        if (!os.release(address, @as(usize, length) << geometry.granule_shift)) kept |= mask;
        rest &= ~mask;
    }
    return kept;
}

fn setUnsettled(value: bool) void {
    // Partner: the load in `settle`.
    cost.wrote(&unsettled);
    atomic.store(bool, &unsettled, value, .monotonic);
}

/// Maps one more superslab and puts it in service, for a run of `granules`.
fn add(granules: u32, filling: Filling) ?*Superslab {
    // Not mapped at all rather than mapped for a run that does not fit.
    const run_bytes = @as(usize, granules) << geometry.granule_shift;
    if (!process_limit.hasRoom(record_counted + run_bytes) or !process_limit.take(record_counted)) return null;
    const superslab = takeRecord() orelse {
        process_limit.give(record_counted);
        return refuse();
    };
    // A record that served before knows where the hole is that its superslab left. Only a new one goes below
    // all others, so that the address space in use ends where the largest number of superslabs put it.
    const wanted = if (superslab.base != 0) superslab.base else hint;
    const mapping = map(wanted) orelse map(0) orelse {
        giveRecord(superslab);
        process_limit.give(record_counted);
        return refuse();
    };
    if (superslab.base == 0) hint = mapping.address - geometry.superslab_bytes;
    superslab.pages = if (filling == .dense and mapping.zeroed and askedFor(mapping.address)) .asked else .small;
    if (superslab.pages == .small) os.smallPages(mapping.address, geometry.superslab_bytes);
    superslab.base = mapping.address;
    superslab.free = all_granules;
    superslab.dirty = if (mapping.zeroed) 0 else all_granules;
    process_limit.add(granuleBytes(superslab.dirty));
    superslab.ready = 0;
    superslab.partial = 0;
    superslab.dense = 0;
    counts.dirty_granules += @popCount(superslab.dirty);
    superslab.run_start = @splat(0);
    superslab.run_granules = @splat(0);
    counts.mapped_ever += 1;
    counts.empty += 1;
    enter(superslab);
    return superslab;
}

/// A huge page is worth its while for the superslab at `address`, fits in the limit, and the OS may give one. Then it
/// counts already.
fn askedFor(address: usize) bool {
    if (counts.dense_granules < fresh_pages.huge_granules_min) return false;
    if (!fresh_pages.forSuperslab(geometry.superslab_granules)) return false;
    if (!process_limit.take(geometry.superslab_bytes)) return false;
    if (os.hugePages(address, geometry.superslab_bytes)) return true;
    process_limit.give(geometry.superslab_bytes);
    return false;
}

/// 2 MiB of address space that the page map and the registry have room for.
fn map(wanted: usize) ?space.Mapping {
    const mapping = space.map(geometry.superslab_bytes, geometry.superslab_bytes, wanted) orelse return null;
    if (page_map.register(mapping.address, geometry.superslab_bytes) and registry.prepare(mapping.address)) {
        return mapping;
    }
    space.unmap(mapping.address, geometry.superslab_bytes);
    return null;
}

/// Puts a superslab without any run in use into service.
fn enter(superslab: *Superslab) void {
    registry.insert(superslab.base, superslab);
    superslab.previous = null;
    cost.wrote(&all);
    cost.wroteBehind(&all);
    superslab.next = all;
    if (all) |head| head.previous = superslab;
    all = superslab;
    superslab.by_free = .none;
    superslab.by_resident = .none;
    counts.mapped += 1;
    rebin(superslab);
}

noinline fn refuse() ?*Superslab {
    if (counts.refused_ever == 0) {
        refusal_unsaid = os.lastError();
        setUnsettled(true);
    }
    counts.refused_ever += 1;
    return null;
}

noinline fn sayRefusal(error_number: u32) void {
    var line: Line = .{};
    line.text("hakmem: the system refused a superslab of 2 MiB (error ");
    line.number(error_number, 10);
    line.text("); such requests fail with ENOMEM until it grants one; further refusals are only counted");
    line.end();
}

fn takeRecord() ?*Superslab {
    if (unused_records) |superslab| {
        unused_records = superslab.next;
        return superslab;
    }
    if (group_next == records_per_group) {
        group = os.map(group_bytes, .read_write, 0) orelse return null;
        os.smallPages(group, group_bytes);
        counts.record_bytes += group_bytes;
        group_next = 0;
    }
    const superslab: *Superslab = @ptrFromInt(group + group_next * record_bytes);
    superslab.base = 0;
    superslab.words = @ptrFromInt(group + group_records_bytes + group_next * area_bytes);
    group_next += 1;
    return superslab;
}

fn giveRecord(superslab: *Superslab) void {
    superslab.next = unused_records;
    unused_records = superslab;
}

fn unlink(superslab: *Superslab) void {
    cost.wroteBehind(&superslab.next);
    cost.wroteBehind(&superslab.previous);
    if (cost.counting and superslab.previous == null) cost.wrote(&all);
    if (superslab.next) |next| next.previous = superslab.previous;
    if (superslab.previous) |previous| previous.next = superslab.next else all = superslab.next;
}

/// Moves a superslab to the bins of its longest runs.
fn rebin(superslab: *Superslab) void {
    const set = binSet(superslab);
    const free = bitmap.longestRun(superslab.free);
    if (free != superslab.by_free.length) {
        by_free[set].remove(superslab);
        by_free[set].insert(superslab, free);
    }
    const resident = bitmap.longestRun(superslab.resident());
    if (resident != superslab.by_resident.length) {
        by_resident[set].remove(superslab);
        by_resident[set].insert(superslab, resident);
        noteResident();
    }
}

fn unbin(superslab: *Superslab) void {
    by_free[binSet(superslab)].remove(superslab);
    by_resident[binSet(superslab)].remove(superslab);
    noteResident();
}

fn binSet(superslab: *const Superslab) usize {
    return @intFromBool(superslab.pages != .small);
}

comptime {
    assert(@alignOf(Superslab) == 64);
}

/// Panics unless bins, lists and counts agree. For tests, with no other thread inside.
pub fn verify() void {
    lock.lock();
    defer lock.unlock();
    var seen: Counts = .{};
    var seen_by_free: [2]usize = @splat(0);
    var seen_by_resident: [2]usize = @splat(0);
    var superslab = all;
    while (superslab) |one| : (superslab = one.next) {
        seen.mapped += 1;
        if (one.free == all_granules) seen.empty += 1;
        seen.used_granules += @popCount(~one.free);
        seen.dirty_granules += @popCount(one.dirty);
        seen.dense_granules += @popCount(one.dense);
        if (one.pages == .small) seen.ahead_granules += @popCount(one.ready);
        assert(one.dirty & ~one.free == 0);
        assert(one.ready & ~one.dirty == 0);
        assert(one.partial & ~one.dirty == 0);
        assert(one.dense & one.free == 0);
        assert(one.by_free.length == bitmap.longestRun(one.free));
        assert(one.by_resident.length == bitmap.longestRun(one.resident()));
        seen_by_free[binSet(one)] += @intFromBool(one.free != 0);
        seen_by_resident[binSet(one)] += @intFromBool(one.resident() != 0);
        assert(registry.find(Superslab, one.base) == one);
        if (one.next) |next| assert(next.previous == one);
    }
    assert(seen.mapped == counts.mapped);
    assert(seen.empty == counts.empty);
    assert(seen.used_granules == counts.used_granules);
    assert(seen.dirty_granules == counts.dirty_granules);
    assert(seen.dense_granules == counts.dense_granules);
    assert(seen.ahead_granules <= counts.ahead_granules);
    for (&by_free, seen_by_free) |*set, listed| assert(set.verify() == listed);
    for (&by_resident, seen_by_resident) |*set, listed| assert(set.verify() == listed);
    assert(resident_waits == (seen_by_resident[0] + seen_by_resident[1] != 0));
}

test "superslab: random runs never overlap, and everything goes back" {
    try std.testing.expect(page_map.start());
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    _ = purge();
    const before = count();
    var runs: std.ArrayList(Run) = .empty;
    defer runs.deinit(gpa);
    var grown: usize = 0;
    for (0..3000) |step| {
        if (runs.items.len > 0 and random.uintLessThan(u8, 4) == 0) {
            const run = runs.items[random.uintLessThan(usize, runs.items.len)];
            const length = run.superslab.run_granules[run.start];
            const wanted = length + random.intRangeAtMost(u32, 1, 4);
            if (growRun(run.superslab, run.start, wanted)) {
                const bytes = run.superslab.runBytes(run.address());
                try std.testing.expectEqual(wanted * geometry.granule_bytes, bytes);
                const last: *u64 = @ptrFromInt(run.address() + bytes - 8);
                last.* = run.address();
                grown += 1;
            } else {
                // Only because what lies behind it is taken, or is another superslab's.
                try std.testing.expectEqual(length, run.superslab.run_granules[run.start]);
                if (run.start + wanted <= geometry.superslab_granules) {
                    const behind = bitmap.run(run.start + length, wanted - length);
                    try std.testing.expect(run.superslab.free & behind != behind);
                }
            }
        }
        if (random.uintLessThan(usize, 3000) > step) {
            const granules = random.intRangeAtMost(u32, 1, if (random.boolean()) 3 else 32);
            const run = allocateRun(granules, .sparse).?;
            const first: *u64 = @ptrFromInt(run.address());
            const last: *u64 = @ptrFromInt(run.address() + run.superslab.runBytes(run.address()) - 8);
            if (run.clean) try std.testing.expectEqual(0, first.* | last.*);
            first.* = run.address();
            last.* = run.address();
            try runs.append(gpa, run);
        } else if (runs.items.len > 0) {
            const run = runs.swapRemove(random.uintLessThan(usize, runs.items.len));
            const bytes = run.superslab.runBytes(run.address());
            const last: *const u64 = @ptrFromInt(run.address() + bytes - 8);
            try std.testing.expectEqual(run.address(), @as(*const u64, @ptrFromInt(run.address())).*);
            try std.testing.expectEqual(run.address(), last.*);
            if (bytes > geometry.granule_bytes and random.boolean()) {
                shrinkRun(run.superslab, run.start, 1);
            }
            freeRun(run.superslab, run.start);
            settle();
        }
        if (step % 50 == 0) verify();
    }
    try std.testing.expect(grown > 50);
    for (runs.items) |run| freeRun(run.superslab, run.start);
    verify();
    _ = purge();
    verify();
    try std.testing.expectEqual(before.mapped, count().mapped);
    try std.testing.expectEqual(before.used_granules, count().used_granules);
    try std.testing.expectEqual(0, count().dirty_granules);
}

/// What a model says of the next run: the length of the shortest resident run that fits, if any, and where it may be.
const Expected = struct {
    length: ?u32 = null,
    places: std.ArrayList(Place) = .empty,

    const Place = struct { superslab: *Superslab, resident: bitmap.Granules };

    fn of(granules: u32, filling: Filling) !Expected {
        var expected: Expected = .{};
        var superslab = all;
        while (superslab) |one| : (superslab = one.next) {
            const resident = switch (filling) {
                .dense => if (one.pages == .small) one.dirty & ~one.ready else one.dirty,
                .sparse => if (one.pages == .small) one.dirty & ~one.ready else 0,
            };
            const longest = bitmap.longestRun(resident);
            if (longest < granules or longest > expected.length orelse bitmap.longestRun(all_granules)) continue;
            if (expected.length == null or longest < expected.length.?) expected.places.clearRetainingCapacity();
            expected.length = longest;
            try expected.places.append(std.testing.allocator, .{ .superslab = one, .resident = resident });
        }
        return expected;
    }

    fn check(expected: *Expected, run: Run, granules: u32) !void {
        defer expected.places.deinit(std.testing.allocator);
        if (expected.length == null) return;
        for (expected.places.items) |place_of| {
            if (place_of.superslab != run.superslab) continue;
            return std.testing.expectEqual(0, bitmap.run(run.start, granules) & ~place_of.resident);
        }
        return error.NotResident;
    }
};

test "superslab: a run lies where pages are resident, if so many are free together anywhere" {
    try std.testing.expect(page_map.start());
    const gpa = std.testing.allocator;
    var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
    const random = random_source.random();
    defer settings.fresh = .auto;
    for ([_]settings.Fresh{ .touch, .populate256, .huge }) |way| {
        _ = purge();
        settings.fresh = way;
        // As many as it takes to get huge pages.
        var base: std.ArrayList(Run) = .empty;
        defer freeDense(&base);
        try fillDense(&base, 1024);
        var runs: std.ArrayList(Run) = .empty;
        defer freeDense(&runs);
        var resident: usize = 0;
        for (0..3000) |step| {
            // It goes up and down.
            const wanted: usize = if (step / 500 % 2 == 0) 3 else 1;
            if (runs.items.len == 0 or random.uintLessThan(usize, 4) < wanted) {
                const filling: Filling = if (random.uintLessThan(u8, 3) == 0) .sparse else .dense;
                const granules = random.intRangeAtMost(u32, 1, if (random.uintLessThan(u8, 4) == 0) 12 else 2);
                var expected: Expected = try .of(granules, filling);
                resident += @intFromBool(expected.length != null);
                const run = allocateRun(granules, filling).?;
                try expected.check(run, granules);
                if (filling == .sparse) try std.testing.expect(run.superslab.pages == .small);
                try runs.append(gpa, run);
            } else {
                const run = runs.swapRemove(random.uintLessThan(usize, runs.items.len));
                if (run.ahead != 0) caughtUp(run.ahead);
                freeRun(run.superslab, run.start);
                settle();
            }
            if (step % 50 == 0) verify();
        }
        try std.testing.expect(resident > 200);
    }
}

test "superslab: a run goes to granules that are resident in part after those that are whole" {
    try std.testing.expect(page_map.start());
    _ = purge();
    const part = allocateRun(1, .dense).?;
    const whole = allocateRun(1, .dense).?;
    try std.testing.expect(part.fresh and whole.fresh and part.start < whole.start);
    freeSlab(part.superslab, part.start, null, 0, true);
    freeRun(whole.superslab, whole.start);
    try std.testing.expect(hasResident());
    const first = allocateRun(1, .dense).?;
    try std.testing.expectEqual(whole.address(), first.address());
    try std.testing.expect(!first.fresh);
    const second = allocateRun(1, .dense).?;
    try std.testing.expectEqual(part.address(), second.address());
    try std.testing.expect(second.fresh);
    verify();
    freeRun(first.superslab, first.start);
    freeRun(second.superslab, second.start);
    verify();
    // What the second one left counts as whole: nobody said otherwise.
    const again = allocateRun(1, .dense).?;
    try std.testing.expectEqual(part.address(), again.address());
    freeSlab(again.superslab, again.start, null, 0, true);
    _ = purge();
    verify();
    try std.testing.expect(!hasResident());
}

test "superslab: refused mappings are counted and asked for again; refused unmaps keep the memory in service" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer os.refusal = .{};
    const before = count();
    counts.refused_ever += 1;
    for (1..8) |number| {
        os.refusal = .{ .refuse_from = number, .refuse_count = 1 };
        const run = allocateRun(32, .sparse);
        os.refusal = .{};
        if (run) |one| freeRun(one.superslab, one.start);
        verify();
        _ = purge();
    }
    try std.testing.expect(count().refused_ever > before.refused_ever);

    // Only the unmapping is refused; then the release too, and the memory is not taken for zeroed. Either way the
    // next superslab lies there.
    for ([_]os.Refusal{
        .{ .refuse_from = 1, .refuse_count = 1 },
        .{ .refuse_from = 1, .refuse_count = 2, .spared = .init(.{ .make_writable = true }) },
    }) |refused| {
        const run = allocateRun(32, .sparse).?;
        @as(*u64, @ptrFromInt(run.address())).* = 42;
        freeRun(run.superslab, run.start);
        os.refusal = refused;
        _ = purge();
        os.refusal = .{};
        verify();
        try std.testing.expectEqual(before.mapped, count().mapped);
        try std.testing.expectEqual(geometry.superslab_bytes, space.keptBytes());
        const again = allocateRun(32, .sparse).?;
        try std.testing.expectEqual(run.address(), again.address());
        try std.testing.expectEqual(refused.refuse_count == 1, again.clean);
        try std.testing.expectEqual(refused.refuse_count == 1, @as(*u64, @ptrFromInt(again.address())).* == 0);
        verify();
        freeRun(again.superslab, again.start);
        _ = purge();
        verify();
        try std.testing.expectEqual(before.mapped, count().mapped);
        try std.testing.expectEqual(0, space.keptBytes());
    }
}

test "superslab: mapping and unmapping for ever stays in the same places" {
    try std.testing.expect(page_map.start());
    _ = purge();
    var lowest: usize = std.math.maxInt(usize);
    var lowest_early: usize = 0;
    for (0..300) |round| {
        var runs: [5]Run = undefined;
        for (&runs) |*run| {
            run.* = allocateRun(32, .sparse).?;
            lowest = @min(lowest, run.address());
        }
        // Another order of going each time.
        for (0..runs.len) |at| {
            const run = runs[(at + round) % runs.len];
            freeRun(run.superslab, run.start);
            settle();
        }
        if (round == 10) lowest_early = lowest;
    }
    _ = purge();
    try std.testing.expectEqual(lowest_early, lowest);
}

test "superslab: where pages cannot be given back, not every free tries again" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer os.refusal = .{};
    const keeper = allocateRun(1, .sparse).?;
    var runs: [200]Run = undefined;
    for (&runs) |*run| run.* = allocateRun(16, .sparse).?;
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    // Every second one, so that no superslab becomes empty.
    for (0..runs.len / 2) |half| {
        freeRun(runs[half * 2].superslab, runs[half * 2].start);
        settle();
    }
    try std.testing.expect(os.refusal.calls < 40);
    os.refusal = .{};
    for (0..runs.len / 2) |half| freeRun(runs[half * 2 + 1].superslab, runs[half * 2 + 1].start);
    freeRun(keeper.superslab, keeper.start);
    _ = purge();
    try std.testing.expectEqual(0, count().dirty_granules);
    verify();
}

/// Dense runs of one granule each, until small blocks use `granules`.
fn fillDense(runs: *std.ArrayList(Run), granules: usize) !void {
    while (count().dense_granules < granules) try runs.append(std.testing.allocator, allocateRun(1, .dense).?);
}

/// Frees all of them, as slabs that were never cut into blocks.
fn freeDense(runs: *std.ArrayList(Run)) void {
    for (runs.items) |run| {
        if (run.ahead != 0) caughtUp(run.ahead);
        freeRun(run.superslab, run.start);
    }
    runs.clearAndFree(std.testing.allocator);
    _ = purge();
    verify();
}

fn isTouched(granule: usize) bool {
    return os.isResident(granule) and os.isResident(granule + geometry.granule_bytes - os.pageBytes());
}

/// What the system does in the places where tests expect fresh pages.
fn populates() bool {
    const address = os.map(geometry.granule_bytes, .read_write, 0).?;
    defer _ = os.unmap(address, geometry.granule_bytes);
    return os.populate(address, geometry.granule_bytes) == .done;
}

fn hasHugePages() bool {
    const mapping = space.map(geometry.superslab_bytes, geometry.superslab_bytes, 0).?;
    defer space.unmap(mapping.address, geometry.superslab_bytes);
    if (!os.hugePages(mapping.address, geometry.superslab_bytes)) return false;
    return fresh_pages.getHuge(mapping.address, geometry.superslab_bytes, mapping.address).result == .done;
}

test "superslab: at most a hundredth of what small blocks use is populated ahead, and nothing in a small heap" {
    try std.testing.expect(page_map.start());
    _ = purge();
    fresh_pages.forget();
    defer settings.fresh = .auto;
    for ([_]settings.Fresh{ .populate64, .populate256 }) |way| {
        settings.fresh = way;
        var runs: std.ArrayList(Run) = .empty;
        defer freeDense(&runs);
        // No block is handed out of any run.
        for (1..1500) |granules| {
            try fillDense(&runs, granules);
            try std.testing.expect(count().ahead_granules <= granules / 100);
        }
        var resident: usize = 0;
        for (runs.items) |run| resident += @intFromBool(os.isResident(run.address()));
        var ready: usize = 0;
        var superslab = all;
        while (superslab) |one| : (superslab = one.next) ready += @popCount(one.ready);
        try std.testing.expect(resident + ready <= 15);
        if (populates()) {
            try std.testing.expectEqual(14, resident + ready);
            try std.testing.expectEqual(count().ahead_granules, resident + ready);
        }

        // They are handed out and written: the next may be populated, and are so before the program touches them.
        var populated: usize = 0;
        var written: usize = 0;
        for (0..400) |_| {
            while (written < runs.items.len) : (written += 1) {
                const run = &runs.items[written];
                const first: *u64 = @ptrFromInt(run.address());
                try std.testing.expectEqual(0, first.*);
                first.* = 1;
                if (run.ahead != 0) caughtUp(run.ahead);
                run.ahead = 0;
            }
            try fillDense(&runs, count().dense_granules + 1);
            const run = runs.getLast();
            if (isTouched(run.address())) populated += 1;
            try std.testing.expect(run.clean);
        }
        if (populates()) try std.testing.expect(populated > 390);
        // Pages that may be needed no more go back before others use their granules.
        const sparse = allocateRun(20, .sparse).?;
        try std.testing.expect(!os.isResident(sparse.address()));
        freeRun(sparse.superslab, sparse.start);
        verify();
    }
    try std.testing.expectEqual(0, count().ahead_granules);
}

test "superslab: granules that were ready lose their pages when a run takes them that may stay untouched" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer settings.fresh = .auto;
    settings.fresh = .touch;
    var runs: std.ArrayList(Run) = .empty;
    defer freeDense(&runs);
    // The last superslab has just begun, and four granules may be ahead.
    try fillDense(&runs, 512);
    settings.fresh = .populate256;
    try fillDense(&runs, 513);
    const run = runs.getLast();
    try std.testing.expectEqual(bitmap.run(1, 3), run.superslab.ready);
    const behind = run.address() + geometry.granule_bytes;
    if (populates()) try std.testing.expect(isTouched(behind));
    // Nothing else there holds so many.
    const sparse = allocateRun(31, .sparse).?;
    try std.testing.expectEqual(behind, sparse.address());
    try std.testing.expect(!os.isResident(behind));
    try std.testing.expectEqual(1, count().ahead_granules);
    freeRun(sparse.superslab, sparse.start);
    verify();
}

test "superslab: where populating is refused the program's own touches bring the pages" {
    try std.testing.expect(page_map.start());
    _ = purge();
    fresh_pages.forget();
    defer os.refusal = .{};
    var runs: std.ArrayList(Run) = .empty;
    defer freeDense(&runs);
    os.refusal = .{
        .refuse_from = 1,
        .refuse_count = std.math.maxInt(usize),
        .spared = std.EnumSet(os.Call).full.differenceWith(.initOne(.populate)),
    };
    try fillDense(&runs, 400);
    try std.testing.expect(os.refusal.refused.contains(.populate));
    const calls = os.refusal.calls;
    for (runs.items) |run| {
        const last: *u64 = @ptrFromInt(run.address() + geometry.granule_bytes - 8);
        try std.testing.expectEqual(0, last.*);
        last.* = 1;
    }
    // Few tries more.
    for (runs.items) |*run| {
        if (run.ahead != 0) caughtUp(run.ahead);
        run.ahead = 0;
    }
    try fillDense(&runs, 800);
    try std.testing.expect(os.refusal.calls - calls < 60);
    verify();
}

test "superslab: huge pages come from 64 MiB of small blocks up, under no others, and a purge leaves none in part" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer settings.fresh = .auto;
    settings.fresh = .huge;
    const before = count().huge_ever;
    var runs: std.ArrayList(Run) = .empty;
    defer freeDense(&runs);
    try fillDense(&runs, 1024);
    try std.testing.expectEqual(before, count().huge_ever);
    try fillDense(&runs, 1024 + 2 * 32 + 8);
    verify();
    var came: usize = 0;
    for (runs.items[1024..]) |run| {
        const whole = os.isResident(run.superslab.base + geometry.superslab_bytes - os.pageBytes());
        try std.testing.expectEqual(whole, run.superslab.pages == .huge);
        if (whole and run.start == 0) came += 1;
        try std.testing.expect(run.clean);
        try std.testing.expectEqual(0, @as(*u64, @ptrFromInt(run.address() + 4096)).*);
    }
    try std.testing.expectEqual(came, count().huge_ever - before);
    if (hasHugePages()) try std.testing.expect(came > 0);

    const sparse = allocateRun(20, .sparse).?;
    try std.testing.expect(sparse.superslab.pages == .small);
    freeRun(sparse.superslab, sparse.start);

    const last = runs.getLast();
    const unused = last.address() + geometry.granule_bytes;
    try std.testing.expectEqual(last.superslab.pages == .huge, os.isResident(unused));
    try std.testing.expectEqual(if (last.superslab.pages == .huge) bitmap.run(8, 24) else 0, last.superslab.ready);
    _ = purge();
    try std.testing.expect(!os.isResident(unused));
    try std.testing.expect(last.superslab.pages == .small);
    try std.testing.expectEqual(0, count().dirty_granules);
    verify();

    // A superslab that went back as a whole, but stays mapped, comes back in small pages.
    const whole = last.superslab;
    try fillDense(&runs, count().dense_granules + 24);
    while (runs.getLast().superslab == whole) {
        const run = runs.pop().?;
        if (run.ahead != 0) caughtUp(run.ahead);
        freeRun(run.superslab, run.start);
    }
    try std.testing.expectEqual(all_granules, whole.free);
    _ = purgeTo(0);
    settings.fresh = .touch;
    const again = allocateRun(1, .dense).?;
    try std.testing.expectEqual(whole, again.superslab);
    try std.testing.expect(again.clean);
    @as(*u64, @ptrFromInt(again.address())).* = 1;
    try std.testing.expect(!os.isResident(whole.base + geometry.superslab_bytes - os.pageBytes()));
    try runs.append(std.testing.allocator, again);
}

test "superslab: whole superslabs and small pages go back before parts of huge pages" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer settings.fresh = .auto;
    settings.fresh = .huge;
    var runs: std.ArrayList(Run) = .empty;
    defer freeDense(&runs);
    try fillDense(&runs, 1024 + 3 * 32);
    // A quarter of each superslab is free.
    var kept: std.ArrayList(Run) = .empty;
    defer freeDense(&kept);
    for (runs.items) |run| {
        if (run.ahead != 0) caughtUp(run.ahead);
        if (run.start % 4 == 0) {
            freeRun(run.superslab, run.start);
        } else {
            var one = run;
            one.ahead = 0;
            try kept.append(std.testing.allocator, one);
        }
    }
    runs.clearAndFree(std.testing.allocator);
    var huge_dirty: usize = 0;
    for (kept.items) |run| {
        if (run.start == 1 and run.superslab.pages == .huge) huge_dirty += @popCount(run.superslab.dirty);
    }
    if (hasHugePages()) try std.testing.expect(huge_dirty > 0);
    _ = purgeTo(huge_dirty);
    try std.testing.expectEqual(huge_dirty, count().dirty_granules);
    for (kept.items) |run| {
        try std.testing.expectEqual(run.superslab.pages == .huge, run.superslab.dirty != 0);
    }
    verify();
}

test "superslab: refused or absent huge pages leave small ones" {
    try std.testing.expect(page_map.start());
    _ = purge();
    defer settings.fresh = .auto;
    defer os.refusal = .{};
    settings.fresh = .huge;
    for ([_]os.Call{ .huge_pages, .resident }) |call| {
        const before = count().huge_ever;
        var runs: std.ArrayList(Run) = .empty;
        defer freeDense(&runs);
        try fillDense(&runs, 1024);
        os.refusal = .{
            .refuse_from = 1,
            .refuse_count = std.math.maxInt(usize),
            .spared = std.EnumSet(os.Call).full.differenceWith(.initOne(call)),
        };
        try fillDense(&runs, 1024 + 40);
        try std.testing.expect(os.refusal.refused.contains(call));
        os.refusal = .{};
        try std.testing.expectEqual(before, count().huge_ever);
        for (runs.items) |run| try std.testing.expect(run.superslab.pages == .small);
        const sparse = allocateRun(20, .sparse).?;
        try std.testing.expectEqual(runs.getLast().superslab, sparse.superslab);
        freeRun(sparse.superslab, sparse.start);
        verify();
    }
}

test "superslab: the way that costs least by the clock is taken" {
    try std.testing.expect(page_map.start());
    _ = purge();
    fresh_pages.forget();
    defer os.test_clock = null;
    const Clock = struct {
        var time: u64 = 0;

        /// Each way takes as long as any other, whatever it gets by it.
        fn tick() u64 {
            time += 1000;
            return time;
        }
    };
    os.test_clock = Clock.tick;
    var runs: std.ArrayList(Run) = .empty;
    defer freeDense(&runs);
    const before = count();
    while (count().dense_granules < 1024 + 60 * 32) {
        try fillDense(&runs, count().dense_granules + 1);
        const run = &runs.items[runs.items.len - 1];
        if (run.ahead != 0) caughtUp(run.ahead);
        run.ahead = 0;
    }
    const mapped = count().mapped_ever - before.mapped_ever;
    const came = count().huge_ever - before.huge_ever;
    if (hasHugePages()) try std.testing.expect(came > 50 and came < mapped - 31);
    if (populates()) {
        // Of the runs in small pages most were populated, though nobody touched any.
        var populated: usize = 0;
        for (runs.items[800..1000]) |run| populated += @intFromBool(isTouched(run.address()));
        try std.testing.expect(populated > 150);
    }
}

fn countedInTest() usize {
    return countedBytes() + registry.mappedBytes();
}

test "superslab: under a limit what is resident counts, and nothing is mapped for a run that does not fit" {
    try std.testing.expect(page_map.start());
    const gpa = std.testing.allocator;
    _ = purge();
    defer settings.fresh = .auto;
    defer process_limit.set(null, 0);
    defer os.refusal = .{};
    const refused_ever = count().refused_ever;
    for ([_]settings.Fresh{ .auto, .touch, .populate256, .huge }) |way| {
        settings.fresh = way;
        const most = countedInTest() + (if (way == .huge) @as(usize, 100) else 20) * geometry.superslab_bytes + 7 * geometry.granule_bytes;
        process_limit.set(most, countedInTest());
        var runs: std.ArrayList(Run) = .empty;
        defer runs.deinit(gpa);
        var random_source = std.Random.DefaultPrng.init(std.testing.random_seed);
        const random = random_source.random();
        var did_not_fit: usize = 0;
        for (0..6000) |step| {
            if (random.uintLessThan(u8, 32) == 0) os.refusal = .{ .refuse_from = random.intRangeAtMost(usize, 1, 4), .refuse_count = 1 };
            // Every fourth huge page does not come.
            if (way == .huge and random.uintLessThan(u8, 4) == 0) os.refusal = .{
                .refuse_from = 1,
                .refuse_count = 1,
                .spared = std.EnumSet(os.Call).full.differenceWith(.initOne(.resident)),
            };
            const filling: Filling = if (random.uintLessThan(u8, 8) == 0) .sparse else .dense;
            if (random.uintLessThan(u8, 4) != 0) {
                const granules = if (filling == .dense) 1 else random.intRangeAtMost(u32, 1, 16);
                if (allocateRun(granules, filling)) |run| try runs.append(gpa, run) else did_not_fit += 1;
            } else if (runs.items.len > 0) {
                const run = runs.swapRemove(random.uintLessThan(usize, runs.items.len));
                if (run.ahead != 0) caughtUp(run.ahead);
                const length = run.superslab.run_granules[run.start];
                if (length > 1) _ = growRun(run.superslab, run.start, length + 1);
                freeRun(run.superslab, run.start);
                if (random.boolean()) settle();
                if (random.uintLessThan(u8, 200) == 0) _ = purge();
            }
            os.refusal = .{};
            try std.testing.expect(process_limit.counted() <= most);
            if (step % 100 == 0) try std.testing.expectEqual(countedInTest(), process_limit.counted());
        }
        try std.testing.expectEqual(countedInTest(), process_limit.counted());
        // Where one superslab more does not fit, none is mapped and none is refused by the OS.
        for (0..2) |_| {
            while (allocateRun(32, .sparse)) |run| try runs.append(gpa, run);
            _ = purge();
        }
        const before = count();
        try std.testing.expectEqual(null, allocateRun(32, .sparse));
        try std.testing.expectEqual(before.mapped_ever, count().mapped_ever);
        try std.testing.expect(did_not_fit > 50);
        for (runs.items) |run| {
            if (run.ahead != 0) caughtUp(run.ahead);
            freeRun(run.superslab, run.start);
        }
        _ = purge();
        verify();
        try std.testing.expectEqual(countedInTest(), process_limit.counted());
        try std.testing.expectEqual(0, count().mapped);
        try std.testing.expectEqual(before.refused_ever, count().refused_ever);
    }
    counts.refused_ever = @max(refused_ever, 1);
}
