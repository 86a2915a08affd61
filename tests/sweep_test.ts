/**
 * Sweeps as a user runs them: what a small one writes, what becomes of peers that fail, Ctrl-C, and how
 * much memory a million small blocks take. Memory only: no test here depends on a time.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Row, SweepReport } from "../bench/sweep/schema.ts";
import { sweep } from "./sweep_support.ts";
import {
  compile,
  figure,
  inFolder,
  interruptOnce,
  namesIn,
  type Outcome,
  readReport,
  verbCommand,
} from "./verb_support.ts";

const figureNames = [
  ...["base_rss_bytes", "live_rss_bytes", "overhead_bytes", "overhead_per_block_bytes"],
  ...["after_free_rss_bytes", "after_flush_rss_bytes", "after_idle_rss_bytes"],
  ...["alloc_ns", "free_ns"],
];

Deno.test("a sweep writes what its schema says, and the rows add up", () =>
  inFolder(async (folder) => {
    const args = ["--allocators", "system,hakmem", "--counts", "1k,100k", "--repeat", "2"];
    const files = ["--json", "r.json", "--csv", "r.csv", "--html", "r.html", "--seed", "7"];
    const { code, stdout, stderr } = await sweep([...args, ...files], folder);
    assert.equal(code, 0, stderr);
    assert.deepEqual(namesIn(folder), ["r.csv", "r.html", "r.json"]);
    assert.match(stdout, /seed 7/);
    assert.match(stderr, /Seed 7[^]*Warm-up round[^]*Round 1 of 2[^]*Round 2 of 2/);

    const report = await readReport<SweepReport>(folder);
    assert.deepEqual(Object.keys(report), [
      ...["schema", "command", "seed", "started", "interrupted", "commit", "machine"],
      ...["rows", "models"],
    ]);
    assert.equal(report.schema, "hakmem.sweep/1");
    assert.deepEqual(report.command, ["sweep", ...args, ...files]);
    assert.equal(report.seed, 7);
    assert.match(report.started, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.equal(report.interrupted, false);
    const { cpu, cores, memory_bytes, kernel, libc, thp } = report.machine;
    for (const text of [cpu, kernel, libc, thp]) assert(text.length > 0);
    assert(cores >= 1 && memory_bytes > 2 ** 20);

    assert.deepEqual(
      report.rows.map(({ allocator, count }) => `${allocator} ${count}`).sort(),
      ["hakmem 1000", "hakmem 100000", "system 1000", "system 100000"],
    );
    for (const row of report.rows) checkRow(row, 2);
    assert.deepEqual(
      report.models.map(({ allocator, size }) => [allocator, size]),
      [["hakmem", 16], ["system", 16]],
    );
    for (const model of report.models) {
      assert(model.fixed_bytes >= 0 && model.per_block_bytes >= 0);
      assert(model.max_relative_error >= 0);
    }
    // A header in front of every 16 bytes, and alignment to 16: glibc cannot take less than that.
    const system = report.models.find((model) => model.allocator === "system");
    if (report.machine.libc.startsWith("glibc")) assert(figure(system?.per_block_bytes) > 8);
  }));

function checkRow(row: Row, repeats: number): void {
  assert.equal(row.loaded, true);
  assert.equal(row.error, null);
  assert.equal(row.size, 16);
  assert.equal(row.pattern, "sequential");
  assert.equal(row.repeats, repeats);
  assert.equal(row.samples.length, repeats);
  assert.match(row.path ?? "", row.allocator === "hakmem" ? /libhakmem_preload\.so$/ : /^\//);
  assert.match(row.version ?? "", /^\d+\.\d+/);
  assert.equal(typeof row.flush, "string");
  for (const [index, sample] of row.samples.entries()) {
    assert.deepEqual(Object.keys(sample).sort(), [...figureNames, "repeat"].sort());
    assert.equal(sample.repeat, index);
    assert.equal(sample.after_idle_rss_bytes !== null, index === 0);
  }
  for (const figures of [row, ...row.samples]) {
    const [live, base] = [figure(figures.live_rss_bytes), figure(figures.base_rss_bytes)];
    assert.equal(figures.overhead_bytes, live - base - row.count * row.size);
    assert.equal(figures.overhead_per_block_bytes, figure(figures.overhead_bytes) / row.count);
    // The pointer array is in the base.
    assert(base > 8 * row.count);
    assert(figure(figures.alloc_ns) > 0 && figure(figures.free_ns) > 0);
    assert(figure(figures.after_flush_rss_bytes) <= live + 2 ** 20);
  }
  // A thousand blocks may fit into pages that an allocator holds from its start, many cannot.
  if (row.count >= 1e5) {
    const data = row.count * row.size;
    assert(figure(row.live_rss_bytes) >= figure(row.base_rss_bytes) + data);
    assert(figure(row.overhead_bytes) < 3 * data, "an overhead of 48 bytes a block is a fault");
  }
}

Deno.test("--json - leaves only JSON on standard output, and the table on standard error", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await sweep(
      ["--allocators", "system", "--counts", "1k", "--repeat", "1", "--json", "-"],
      folder,
    );
    assert.equal(code, 0, stderr);
    const report: SweepReport = JSON.parse(stdout);
    assert.equal(report.rows.length, 1);
    assert.equal(report.models.length, 0);
    assert.match(stderr, /1k blocks of 16 B/);
    assert.deepEqual(namesIn(folder), []);
  }));

/** Source of an allocator that hands out its memory once, and does `extra` in each malloc. */
function peerSource(extra: string): string {
  return `
    var served: usize = 0;
    var used: usize = 0;
    var memory: [1 << 20]u8 align(16) = undefined;
    export fn malloc(size: usize) ?*anyopaque {
        const block = &memory[used];
        served += 1;
        used += (size + 15) & ~@as(usize, 15);
        ${extra}
        return block;
    }
    export fn free(_: ?*anyopaque) void {}
  `;
}

Deno.test("peers that fail are shown as failed, each with its reason, and fail nothing else", () =>
  inFolder(async (folder) => {
    const behaviours: [name: string, extra: string][] = [
      ["crashes", "if (served >= 1) @trap();"],
      ["crashes-later", "if (served >= 5_000) @trap();"],
      ["runs-out", "if (served >= 5_000) return null;"],
      ["overlaps", "used = 0;"],
    ];
    const peers: string[] = [];
    for (const [name, extra] of behaviours) {
      peers.push("--peer", `${name}=${await compile(folder, name, peerSource(extra))}`);
    }
    // A shared object, but not one that has malloc; and one at a path that LD_PRELOAD cannot name.
    const odd = join(folder, "odd: name.so");
    await Deno.copyFile(join(folder, "libruns-out.so"), odd);
    const nothing = await compile(folder, "nothing", "export fn nothing() void {}\n");
    const { code, stdout, stderr } = await sweep([
      ...["--allocators", "system", "--counts", "1k,10k", "--repeat", "1", "--json", "r.json"],
      ...peers,
      ...["--peer", `odd=${odd}`, "--peer", `nothing=${nothing}`],
    ], folder);
    assert.equal(code, 0, stderr);

    const { rows, models } = await readReport<SweepReport>(folder);
    assert.equal(rows.length, 14);
    const told = (name: string, count: number): string | null => {
      const row = rows.find((other) => other.allocator === name && other.count === count);
      assert(row !== undefined);
      assert.equal(row.repeats, row.error === null ? 1 : 0);
      assert.equal(row.live_rss_bytes === null, row.error !== null);
      // One that crashes at its first block may do so before it can say that it is loaded.
      if (name !== "crashes") assert.equal(row.loaded, name !== "nothing");
      if (row.error !== null) assert(stdout.includes(row.error));
      return row.error;
    };
    for (const count of [1000, 10_000]) {
      assert.equal(told("system", count), null);
      assert.match(told("crashes", count) ?? "", /^crashed with SIG(ILL|TRAP)/);
      assert.match(told("overlaps", count) ?? "", /^block 0 of \d+ does not hold what was written/);
      assert.match(told("nothing", count) ?? "", /^not loaded: malloc came from \//);
    }
    for (const name of ["crashes-later", "runs-out", "odd"]) assert.equal(told(name, 1000), null);
    assert.match(told("crashes-later", 10_000) ?? "", /^crashed with SIG(ILL|TRAP)/);
    assert.equal(told("runs-out", 10_000), "out of memory at block 4999 of 10000");
    assert.equal(told("odd", 10_000), "out of memory at block 4999 of 10000");
    assert.deepEqual(models.map((model) => model.allocator), ["system"]);
  }));

const longSweep = [
  ...["--allocators", "system,hakmem", "--counts", "1k,1M", "--repeat", "1000"],
  ...["--json", "r.json", "--csv", "r.csv"],
];

async function checkInterrupted(folder: string, { code, stdout }: Outcome): Promise<void> {
  const report = await readReport<SweepReport>(folder);
  assert.equal(code, 130);
  assert.equal(report.interrupted, true);
  assert.equal(report.rows.length, 4);
  for (const row of report.rows) {
    assert.equal(row.error, null);
    assert(row.repeats >= 1 && row.repeats < 1000);
    assert.equal(row.samples.length, row.repeats);
  }
  assert.match(stdout, /INTERRUPTED[^]*1k blocks of 16 B/);
  assert.deepEqual(namesIn(folder), ["r.csv", "r.json"]);
}

Deno.test("Ctrl-C ends a sweep with status 130, and what was measured is shown and written", () =>
  inFolder(async (folder) => {
    const command = verbCommand("sweep", longSweep, folder);
    const outcome = await interruptOnce(
      command,
      "Round 2 of",
      (pid) => Deno.kill(pid, "SIGINT"),
    );
    await checkInterrupted(folder, outcome);
  }));

Deno.test("Ctrl-C from a terminal reaches the measuring process too, which is no crash", () =>
  inFolder(async (folder) => {
    // A session of its own gives the sweep and its children a process group to signal, as a terminal does.
    const command = verbCommand("sweep", longSweep, folder, { under: "setsid" });
    const outcome = await interruptOnce(
      command,
      "Round 2 of",
      (pid) => Deno.kill(-pid, "SIGINT"),
    );
    await checkInterrupted(folder, outcome);
  }));

for (const pattern of ["sequential", "random"]) {
  Deno.test(`a million blocks of 16 B, ${pattern}: less memory than the system's malloc, given back`, () =>
    inFolder(async (folder) => {
      const { code, stderr } = await sweep([
        ...["--allocators", "system,hakmem", "--sizes", "16", "--counts", "1M", "--repeat", "1"],
        ...["--pattern", pattern, "--json", "r.json"],
      ], folder);
      assert.equal(code, 0, stderr);
      const { rows } = await readReport<SweepReport>(folder);
      const above = (name: string, key: "live_rss_bytes" | "after_flush_rss_bytes"): number => {
        const row = rows.find((other) => other.allocator === name);
        assert.equal(row?.pattern, pattern);
        return figure(row?.[key]) - figure(row?.base_rss_bytes);
      };
      const [ours, theirs] = [above("hakmem", "live_rss_bytes"), above("system", "live_rss_bytes")];
      assert(ours >= 16e6 && ours < theirs, `live: hakmem ${ours}, system ${theirs}`);
      const left = above("hakmem", "after_flush_rss_bytes");
      assert(left <= 2 ** 20, `after the flush ${left} bytes above the base remain`);
    }));
}
