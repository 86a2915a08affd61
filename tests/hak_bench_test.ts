/**
 * `hak-bench`, the native workloads: every row at a tiny scale with the system's malloc and with ours, the
 * calls that each makes, and that each finds an allocator out that does wrong. No test here depends on a time.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { zigPath } from "../cli/build.ts";
import { preloadLibrary } from "../cli/paths.ts";
import { type Door, type Ended, libc, preload, runNative } from "./native_support.ts";
import { inFolder } from "./verb_support.ts";

/** A row as `--list` tells it. */
interface ListedRow {
  id: string;
  label: string;
  threads: boolean;
  operation: string;
  quick: boolean;
  live_bytes: number;
  peak_bytes: number;
}

/** What `--list` prints. */
interface Listing {
  workloads: { name: string; summary: string; rows: ListedRow[] }[];
}

/** What a run prints. */
interface Figures {
  row: string;
  threads: number;
  operations: number;
  cpu_ns: number;
  wall_ns: number;
  base_rss_bytes: number;
  live_rss_bytes: number;
  after_rss_bytes: number;
  minor_faults: number;
  major_faults: number;
  malloc_path: string;
  free_path: string;
  costs: Record<string, number> | null;
}

const names = [
  ...["tight", "batch", "random-mixed", "larson", "prodcons", "xthread", "churn", "growth"],
  ...["massfree", "medium", "vm", "realloc", "calloc", "fragment", "false-sharing"],
];

async function list(): Promise<Listing> {
  const { code, text } = await runNative("hak-bench", libc, ["--list"]);
  assert.equal(code, 0, text);
  return JSON.parse(text);
}

async function listedRows(): Promise<ListedRow[]> {
  return (await list()).workloads.flatMap(({ rows }) => rows);
}

/** More threads than most machines of a test have processors. */
const threads = 3;

/** Runs a row at a thousandth of its operations. */
function runRow(row: ListedRow, door: Door, seed = 1): Promise<Ended> {
  const some = row.threads ? [`--threads=${threads}`] : [];
  return runNative("hak-bench", door, [row.id, ...some, `--seed=${seed}`, "--scale=0.001"]);
}

/** Runs a row that must end well. */
async function figuresOf(row: ListedRow, door: Door, seed = 1): Promise<Figures> {
  const { code, text, command } = await runRow(row, door, seed);
  assert.equal(code, 0, `${text}\n${command}`);
  assert.equal(text.includes("\n"), false, `more than a line: ${text}\n${command}`);
  return JSON.parse(text);
}

/** What a run says that must fail. */
function messageOf({ code, text, command }: Ended): string {
  assert.equal(code, 1, `${text}\n${command}`);
  assert.equal(text.includes("\n"), false, `more than a line: ${text}\n${command}`);
  const { error, ...rest } = JSON.parse(text);
  assert.deepEqual(rest, {}, text);
  return error;
}

Deno.test("hak-bench --list names every workload, and rows with ids of their own", async () => {
  const { workloads } = await list();
  assert.deepEqual(workloads.map(({ name }) => name), names);
  const rows = workloads.flatMap(({ rows }) => rows);
  assert.equal(new Set(rows.map(({ id }) => id)).size, rows.length);
  for (const { name, summary, rows } of workloads) {
    assert.match(summary, /^\S[^\n]+\S$/);
    for (const row of rows) {
      assert(row.id === name || row.id.startsWith(`${name}-`), row.id);
      assert.match(row.id, /^[a-z0-9-]+$/);
      assert.notEqual(row.label, "");
      assert.equal(typeof row.threads, "boolean");
      assert(["pair", "block", "resize", "thread"].includes(row.operation), row.operation);
      assert(row.live_bytes > 0 && row.peak_bytes > row.live_bytes, row.id);
    }
    const quick = rows.filter((row) => row.quick).length;
    assert(quick === 1 || quick === 2, `${name}: ${quick} quick rows`);
  }
});

for (const [door, path] of [[libc, /\/libc\b/], [preload, preloadLibrary]] as const) {
  Deno.test(`hak-bench, ${door.name}: every row ends well and prints its figures`, async () => {
    for (const row of await listedRows()) {
      const figures = await figuresOf(row, door);
      const { row: id, threads: ran, malloc_path, free_path, costs, ...numbers } = figures;
      assert.equal(id, row.id);
      assert.equal(ran, row.threads ? threads : 1);
      assert.equal(free_path, malloc_path);
      if (typeof path === "string") assert.equal(malloc_path, path);
      else assert.match(malloc_path, path);
      assert.equal(costs, null);
      assert.deepEqual(
        Object.keys(numbers),
        [
          ...["operations", "cpu_ns", "wall_ns", "base_rss_bytes", "live_rss_bytes"],
          ...["after_rss_bytes", "minor_faults", "major_faults"],
        ],
      );
      for (const [name, value] of Object.entries(numbers)) {
        assert(Number.isSafeInteger(value) && value >= 0, `${row.id}: ${name} is ${value}`);
      }
      assert(figures.operations > 0 && figures.cpu_ns > 0 && figures.wall_ns > 0, row.id);
      assert(figures.base_rss_bytes > 0 && figures.after_rss_bytes > 0, row.id);
      // Those whose blocks --scale does not make fewer, and which write them all over.
      if (/^(batch-100000|medium-pages|vm-64m-(pages|whole)|realloc-vector)/.test(row.id)) {
        const live = figures.live_rss_bytes - figures.base_rss_bytes;
        assert(live > 0.9 * row.live_bytes, `${row.id}: ${live} B live`);
        assert(live < 3 * row.peak_bytes, `${row.id}: ${live} B live`);
      }
    }
  });
}

Deno.test("hak-bench --scale sets the number of operations, --threads divides them", async () => {
  const run = async (args: string[]): Promise<Figures> => {
    const { code, text } = await runNative("hak-bench", libc, args);
    assert.equal(code, 0, text);
    return JSON.parse(text);
  };
  assert.equal((await run(["tight-16", "--scale=0.001"])).operations, 20_000);
  assert.equal((await run(["tight-16", "--scale=0.0005"])).operations, 10_000);
  for (const count of [1, 7]) {
    const figures = await run(["xthread-small", "--scale=0.001", `--threads=${count}`]);
    assert.equal(figures.operations, 5_000);
    assert.equal(figures.threads, count);
  }
});

Deno.test("hak-bench says in one line of JSON what it cannot do", async () => {
  const cases: [args: string[], message: RegExp][] = [
    [[], /^which row\? --list prints/],
    [["no-such-row"], /^there is no row 'no-such-row': --list prints/],
    [["tight-16", "tight-64"], /^one row at a time: 'tight-64' comes after 'tight-16'$/],
    [["tight-16", "--threads=2"], /^row tight-16 has one thread: leave out --threads=2$/],
    [["larson", "--threads=0"], /^--threads takes a number from 1 to 256, not '0'$/],
    [["larson", "--threads=257"], /^--threads takes a number from 1 to 256, not '257'$/],
    [["larson", "--threads=x"], /^--threads takes a number from 1 to 256, not 'x'$/],
    [["tight-16", "--seed=-1"], /^--seed takes a number from 0 to 2\^64-1, not '-1'$/],
    [["tight-16", "--scale=0"], /^--scale takes a number above 0 and up to 1000, not '0'$/],
    [["tight-16", "--scale=nan"], /^--scale takes a number above 0 and up to 1000, not 'nan'$/],
    [["tight-16", "--lists"], /^there is no option '--lists': --list, --identify, or a row/],
    [["tight-16", "--list"], /^there is no option '--list': --list, --identify, or a row/],
  ];
  for (const [args, message] of cases) {
    assert.match(messageOf(await runNative("hak-bench", libc, args)), message);
  }
});

Deno.test("hak-bench --identify says the same as hak-sweep-driver --identify", async () => {
  for (const door of [libc, preload]) {
    const [bench, sweep] = await Promise.all(
      ["hak-bench", "hak-sweep-driver"].map((name) => runNative(name, door, ["--identify"])),
    );
    assert.equal(bench?.code, 0, bench?.text);
    assert.equal(bench?.text, sweep?.text);
    assert.equal(JSON.parse(bench?.text ?? "").release, door === libc ? "glibc" : "hakmem");
  }
});

/**
 * How the allocator of a test does wrong, if it does: its blocks overlap the beginning of the one before or
 * are all the same one, it runs out of memory, its calloc does not clear, its realloc loses a byte.
 */
type Defect = "none" | "overlaps" | "same" | "runs_out" | "not_zero" | "loses";

/** Source of an allocator that gives out no byte twice, and counts its calls as a counting build of ours does. */
function source(defect: Defect): string {
  return `
    const std = @import("std");
    const linux = std.os.linux;
    const Defect = enum { none, overlaps, same, runs_out, not_zero, loses };
    const defect: Defect = .${defect};
    const names = [_][*:0]const u8{ "mallocs", "callocs", "reallocs", "frees", "bytes" };
    var counts: [names.len]u64 = @splat(0);
    var next: usize = 0;

    fn count(index: usize, by: u64) u64 {
        return @atomicRmw(u64, &counts[index], .Add, by, .monotonic) + by;
    }

    /// 16 bytes before each block hold its size.
    fn take(size: usize) [*]u8 {
        const whole: usize = switch (defect) {
            .overlaps => 16,
            .same => 0,
            else => (size + 31) & ~@as(usize, 15),
        };
        // While there is one thread.
        if (@atomicLoad(usize, &next, .acquire) == 0) reserve();
        const block: [*]u8 = @ptrFromInt(@atomicRmw(usize, &next, .Add, whole, .monotonic) + 16);
        (block - 16)[0..8].* = @bitCast(size);
        return block;
    }

    fn reserve() void {
        const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
        const address = linux.mmap(null, 1 << 36, .{ .READ = true, .WRITE = true }, flags, -1, 0);
        if (linux.errno(address) != .SUCCESS) @trap();
        @atomicStore(usize, &next, address, .release);
    }

    export fn malloc(size: usize) ?[*]u8 {
        _ = count(4, size);
        if (count(0, 1) > 2 and defect == .runs_out) return null;
        return take(size);
    }
    export fn calloc(number: usize, size: usize) ?[*]u8 {
        // More than libc asks for to start the threads.
        if (count(1, 1) > 20 and defect == .runs_out) return null;
        const block = take(number * size);
        // What the system gives is zero, and no byte is given out twice.
        if (defect == .overlaps or defect == .same) @memset(block[0 .. number * size], 0);
        if (defect == .not_zero) block[number * size - 1] = 1;
        return block;
    }
    export fn realloc(old: ?[*]u8, size: usize) ?[*]u8 {
        if (count(2, 1) > 2 and defect == .runs_out) return null;
        const block = take(size);
        const from = old orelse return block;
        const had: usize = @bitCast((from - 16)[0..8].*);
        @memmove(block[0..@min(had, size)], from[0..@min(had, size)]);
        if (defect == .loses) block[0] +%= 1;
        return block;
    }
    export fn free(block: ?[*]u8) void {
        _ = count(3, @intFromBool(block != null));
    }
    export fn hak_cost_counts(to: [*]u64, room: usize) void {
        for (to[0..@min(room, counts.len)], &counts) |*each, *sum| each.* = @atomicLoad(u64, sum, .monotonic);
    }
    export fn hak_cost_name(index: usize) ?[*:0]const u8 {
        return if (index < names.len) names[index] else null;
    }
  `;
}

/** Compiles that allocator and gives it to `use` as a door. */
function withAllocator(defect: Defect, use: (door: Door) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const file = join(folder, `${defect}.zig`);
    await Deno.writeTextFile(file, source(defect));
    const library = join(folder, `lib${defect}.so`);
    const { success, stderr } = await new Deno.Command(await zigPath(), {
      args: [
        ...["build-lib", "-dynamic", "-O", "ReleaseSmall", file, `-femit-bin=${library}`],
        ...["--cache-dir", join(folder, "cache")],
      ],
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    await use({ name: defect, preload: library, args: [] });
  });
}

/** The calls that a row makes within its measured part, by what one operation of it is. */
function expectedCalls({ id }: ListedRow, operations: number): Record<string, number> {
  const all = { mallocs: 0, callocs: 0, reallocs: 0, frees: 0 };
  const [workload] = id.split("-");
  switch (workload) {
    case "growth":
      return { ...all, mallocs: operations };
    case "massfree":
      return { ...all, frees: operations };
    case "calloc":
      return { ...all, callocs: operations, frees: operations };
    case "fragment":
      return { ...all, [id === "fragment-free" ? "frees" : "mallocs"]: operations };
    case "realloc": {
      // A vector is a malloc, its growing, and a free.
      const growths = id === "realloc-vector" ? 35 : 14;
      const vectors = id === "realloc-shrink" ? 0 : operations / growths;
      return { mallocs: vectors, callocs: 0, reallocs: operations, frees: vectors };
    }
    case "churn":
      return { ...all, mallocs: 300 * operations, frees: 300 * operations };
    default:
      return { ...all, mallocs: operations, frees: operations };
  }
}

Deno.test("hak-bench: the measured part of each row makes the calls that it counts, and no other", () =>
  withAllocator("none", async (door) => {
    for (const row of await listedRows()) {
      const { operations, costs } = await figuresOf(row, door);
      assert(costs !== null);
      const { bytes, ...calls } = costs;
      assert(bytes !== undefined);
      // libc asks for a table for each thread that starts, and frees it when the thread is joined.
      const started = row.id === "churn" || row.id === "larson" ? calls.callocs ?? 0 : 0;
      if (row.id === "churn") assert.equal(started, operations);
      if (row.id === "larson") assert.equal(started, 20 * threads);
      const { callocs, frees, ...expected } = expectedCalls(row, operations);
      assert.deepEqual(calls, {
        ...expected,
        callocs: (callocs ?? 0) + started,
        frees: (frees ?? 0) + started,
      }, row.id);
    }
  }));

Deno.test("hak-bench draws the same sizes for the same seed, and others for another", () =>
  withAllocator("none", async (door) => {
    const drawing = (await listedRows()).filter(({ id }) =>
      /^(random-mixed|larson|xthread|churn|medium)/.test(id)
    );
    assert(drawing.length >= 8);
    for (const row of drawing) {
      const bytesOf = async (seed: number): Promise<number | undefined> =>
        (await figuresOf(row, door, seed)).costs?.bytes;
      const first = await bytesOf(5);
      assert.equal(await bytesOf(5), first, row.id);
      assert.notEqual(await bytesOf(6), first, row.id);
    }
  }));

/** That each row whose name fits ends with a message that fits. */
function assertFinds(defect: Defect, rows: RegExp, message: RegExp): Promise<void> {
  return withAllocator(defect, async (door) => {
    const fitting = (await listedRows()).filter(({ id }) => rows.test(id));
    assert(fitting.length > 0);
    for (const row of fitting) {
      const said = messageOf(await runRow(row, door));
      assert.match(said, message, row.id);
      if (said.startsWith("row ")) assert(said.startsWith(`row ${row.id}: block `), said);
    }
  });
}

const damaged =
  /^row \S+: block \d+ does not hold what was written to it: the allocator gave it to another or lost it$/;

Deno.test("hak-bench finds blocks that overlap, wherever a row has several or resizes one", () =>
  assertFinds("overlaps", /^(?!tight|vm|false-sharing)/, damaged));

Deno.test("hak-bench finds that threads were given the same block", () =>
  assertFinds("same", /^false-sharing/, damaged));

Deno.test("hak-bench finds that realloc lost a byte", () =>
  assertFinds("loses", /^realloc/, damaged));

Deno.test("hak-bench finds that calloc gave no zeros", () =>
  assertFinds(
    "not_zero",
    /^calloc/,
    /^calloc gave a block of \d+ bytes that is not all zero$/,
  ));

Deno.test("hak-bench says that memory ran out, in one line whatever the number of threads", () =>
  assertFinds(
    "runs_out",
    /./,
    /^the allocator gave no block of \d+ bytes: run a smaller row, or free memory$/,
  ));
