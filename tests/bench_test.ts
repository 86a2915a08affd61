/**
 * `bench` as a user runs it: what a small run writes, what becomes of peers that fail, and Ctrl-C. No test
 * here depends on a time.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ComparisonReport, figureNames, type Row } from "../bench/comparison/schema.ts";
import { Driver } from "../bench/harness/driver.ts";
import { bench } from "./bench_support.ts";
import {
  compile,
  figure,
  forwardingPeer,
  inFolder,
  interruptOnce,
  namesIn,
  type Outcome,
  readReport,
  verbCommand,
} from "./verb_support.ts";

Deno.test("a run writes what its schema says, and the rows add up", () =>
  inFolder(async (folder) => {
    const args = [
      ...["tight-16", "larson", "massfree", "--threads", "1,2", "--scale", "0.01", "--quick"],
      ...["--allocators", "system,hakmem", "--repeat", "2", "--seed", "7"],
      ...["--json", "r.json", "--csv", "r.csv", "--html", "r.html"],
    ];
    const { code, stdout, stderr } = await bench(args, folder);
    assert.equal(code, 0, stderr);
    assert.deepEqual(namesIn(folder), ["r.csv", "r.html", "r.json"]);
    assert.match(stderr, /Seed 7[^]*Warm-up round[^]*Round 1 of 2[^]*Round 2 of 2/);
    for (const line of stdout.split("\n").slice(1)) {
      // Paths of objects are as long as they are.
      assert(line.length <= 100 || line.includes("version"), line);
    }

    const report = await readReport<ComparisonReport>(folder);
    assert.deepEqual(Object.keys(report), [
      ...["schema", "command", "seed", "started", "interrupted", "commit", "machine"],
      ...["rows", "summary"],
    ]);
    assert.equal(report.schema, "hakmem.bench/1");
    assert.deepEqual(report.command, ["bench", ...args]);
    assert.equal(report.interrupted, false);
    const subjects = new Map(report.rows.map((row) => [`${row.row} ${row.threads}`, row]));
    assert.equal(report.rows.length, 2 * subjects.size);
    // One that is named itself, one with each number of threads, and the quick ones of a workload.
    for (const name of ["tight-16 1", "larson 1", "larson 2"]) assert(subjects.has(name), name);
    assert([...subjects.values()].some(({ workload }) => workload === "massfree"));
    for (const row of report.rows) checkRow(row, 2);
    assert.equal(report.summary?.rows, subjects.size);
    assert.deepEqual(report.summary?.peers.map(({ allocator, rows }) => [allocator, rows]), [
      ["system", subjects.size],
    ]);
  }));

function checkRow(row: Row, repeats: number): void {
  assert.equal(row.loaded, true);
  assert.equal(row.error, null);
  assert.equal(row.samples.length, repeats);
  assert.equal(row.costs_per_1000, null);
  assert(row.rank === 1 || row.rank === 2);
  assert.equal(row.best_other, row.allocator === "system" ? "hakmem" : "system");
  assert.match(row.path ?? "", row.allocator === "hakmem" ? /libhakmem_preload\.so$/ : /libc/);
  for (const [index, each] of row.samples.entries()) {
    assert.deepEqual(
      Object.keys(each).sort(),
      [...figureNames, "repeat", "operations", "costs"].sort(),
    );
    assert.equal(each.repeat, index);
    assert(figure(each.cpu_ns) > 0 && figure(each.wall_ns) > 0 && each.operations > 0);
    assert.equal(each.time_ns, row.workload === "larson" ? each.wall_ns : each.cpu_ns);
    const base = figure(each.base_rss_bytes);
    assert.equal(each.rss_bytes, figure(each.live_rss_bytes) - base);
    assert.equal(each.left_bytes, figure(each.after_rss_bytes) - base);
  }
}

Deno.test("--json - leaves only JSON on standard output, and the table on standard error", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await bench(
      ["tight-64", "--allocators", "system", "--repeat", "1", "--scale", "0.01", "--json", "-"],
      folder,
    );
    assert.equal(code, 0, stderr);
    const report: ComparisonReport = JSON.parse(stdout);
    assert.deepEqual(report.rows.map(({ row, rank, ratio }) => [row, rank, ratio]), [
      ["tight-64", 1, null],
    ]);
    assert.equal(report.summary, null);
    assert.match(stderr, /tight-64/);
    assert.deepEqual(namesIn(folder), []);
  }));

Deno.test("a peer that fails does so in its row, with its reason, and fails nothing else", () =>
  inFolder(async (folder) => {
    const later = await compile(folder, "later", forwardingPeer("if (served > 5000) @trap();"));
    const told = await compile(
      folder,
      "told",
      forwardingPeer('if (getenv("PEER_CRASHES") != null) @trap();'),
    );
    const nothing = await compile(folder, "nothing", "export fn nothing() void {}\n");
    const { code, stdout, stderr } = await bench([
      ...["tight-16", "vm-2m-pages", "--scale", "0.01", "--repeat", "1", "--json", "r.json"],
      ...["--allocators", "system", "--peer", `later=${later}`, "--peer", `nothing=${nothing}`],
      // One object twice: what the first is told, the second must not hear.
      ...["--peer", `crashes=${told},PEER_CRASHES=1`, "--peer", `well=${told}`],
    ], folder);
    assert.equal(code, 0, stderr);
    const { rows } = await readReport<ComparisonReport>(folder);
    assert.equal(rows.length, 10);
    const error = (allocator: string, name: string): string => {
      const row = rows.find((other) => other.allocator === allocator && other.row === name);
      assert(row !== undefined);
      assert.equal(row.repeats, row.error === null ? 1 : 0);
      assert.equal(row.rank === null, row.error !== null);
      return row.error ?? "";
    };
    for (const name of ["tight-16", "vm-2m-pages"]) {
      assert.equal(error("system", name), "");
      assert.equal(error("well", name), "");
      assert.match(error("crashes", name), /^crashed with SIG(ILL|TRAP)/);
      assert.match(error("nothing", name), /^not loaded: malloc came from \//);
    }
    assert.match(error("later", "tight-16"), /^crashed with SIG(ILL|TRAP)/);
    assert.equal(error("later", "vm-2m-pages"), "");
    assert.match(stdout, /^- later: crashed with SIG/m);
  }));

Deno.test("a process that does not end is killed, and said to have given no answer", () =>
  inFolder(async (folder) => {
    const program = join(folder, "hangs");
    await Deno.writeTextFile(program, "#!/bin/sh\necho begun >&2\nexec sleep 1000\n", {
      mode: 0o755,
    });
    const driver = new Driver(program, folder, new AbortController().signal);
    const outcome = await driver.run({ name: "system", preload: null, env: {} }, [], 1);
    assert.deepEqual(outcome, { kind: "failed", error: "no answer within 1 s: begun" });
  }));

Deno.test("at Ctrl-C the process that measures is killed, not waited for", () =>
  inFolder(async (folder) => {
    const program = join(folder, "slow");
    const script = `cd '${folder}'; touch begun; sleep 3; touch done`;
    await Deno.writeTextFile(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const links = join(folder, "links");
    await Deno.mkdir(links);
    const stop = new AbortController();
    const running = new Driver(program, links, stop.signal)
      .run({ name: "system", preload: null, env: {} }, [], 100);
    while (!namesIn(folder).includes("begun")) await new Promise((done) => setTimeout(done, 5));
    stop.abort();
    assert.deepEqual(await running, { kind: "interrupted" });
    assert.deepEqual(namesIn(folder), ["begun", "links", "slow"]);
  }));

Deno.test("the caller's own preload is measured with no one", () =>
  inFolder(async (folder) => {
    const other = await compile(folder, "other", forwardingPeer(""));
    const { code, stderr } = await bench(
      [
        "tight-16",
        "--allocators",
        "system",
        "--scale",
        "0.01",
        "--repeat",
        "1",
        "--json",
        "r.json",
      ],
      folder,
      { env: { LD_PRELOAD: other } },
    );
    assert.equal(code, 0, stderr);
    const { rows } = await readReport<ComparisonReport>(folder);
    assert.deepEqual(rows.map(({ loaded, error }) => [loaded, error]), [[true, null]]);
  }));

const longRun = [
  ...["tight", "--scale", "0.05", "--allocators", "system,hakmem", "--repeat", "1000"],
  ...["--json", "r.json", "--csv", "r.csv"],
];

async function checkInterrupted(folder: string, { code, stdout }: Outcome): Promise<void> {
  const report = await readReport<ComparisonReport>(folder);
  assert.equal(code, 130);
  assert.equal(report.interrupted, true);
  assert.equal(report.rows.length, 6);
  for (const row of report.rows) {
    assert.equal(row.error, null);
    assert(row.repeats >= 1 && row.repeats < 1000);
  }
  assert.match(stdout, /INTERRUPTED[^]*tight-16/);
  assert.deepEqual(namesIn(folder), ["r.csv", "r.json"]);
}

Deno.test("Ctrl-C ends a run with status 130, and what was measured is shown and written", () =>
  inFolder(async (folder) => {
    const command = verbCommand("bench", longRun, folder);
    await checkInterrupted(
      folder,
      await interruptOnce(command, "Round 2 of", (pid) => Deno.kill(pid, "SIGINT")),
    );
  }));

Deno.test("Ctrl-C from a terminal reaches the process that measures too, which is no crash", () =>
  inFolder(async (folder) => {
    const command = verbCommand("bench", longRun, folder, { under: "setsid" });
    await checkInterrupted(
      folder,
      await interruptOnce(command, "Round 2 of", (pid) => Deno.kill(-pid, "SIGINT")),
    );
  }));
