/**
 * Soaks as a user runs them, of a few seconds: what one writes, a leak and system calls that were planted,
 * peers that fail, and a soak that was ended, by Ctrl-C or by a kill, and went on. No test here depends on
 * how fast anything is.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Row, SoakReport } from "../bench/soak/schema.ts";
import { digestOf, SoakState, type StateHead } from "../bench/soak/state.ts";
import { buildIfNeeded } from "../cli/build.ts";
import { binary } from "../cli/paths.ts";
import { soak } from "./soak_support.ts";
import {
  compile,
  figure,
  forwardingPeer,
  inFolder,
  interruptOnce,
  namesIn,
  readReport,
  verbCommand,
} from "./verb_support.ts";

function rowOf({ rows }: SoakReport, name: string): Row {
  const row = rows.find(({ allocator }) => allocator === name);
  assert(row !== undefined, name);
  return row;
}

/** Epochs of 20 ms: for two allocators 9 rounds and more. */
function briefly(minutes = 0.008): string[] {
  return ["--epoch", "20ms", "--minutes", String(minutes), "--json", "r.json"];
}

Deno.test("a soak writes what its schema says, in turn, and leaves no state", () =>
  inFolder(async (folder) => {
    const args = ["--allocators", "system,hakmem", "--seed", "7", ...briefly()];
    const files = ["--csv", "r.csv", "--html", "r.html"];
    const { code, stdout, stderr } = await soak([...args, ...files], folder);
    assert.equal(code, 0, stderr);
    assert.deepEqual(namesIn(folder), ["r.csv", "r.html", "r.json"]);
    assert.match(stderr, /Seed 7[^]*State: hak-soak\.state[^]*Rounds 1–10 of/);
    const report = await readReport<SoakReport>(folder);
    assert.deepEqual(Object.keys(report), [
      ...["schema", "command", "seed", "started", "interrupted", "commit", "machine"],
      ...["workload", "threads", "minutes", "epoch_seconds", "rounds", "resumed", "rows", "goals"],
    ]);
    assert.equal(report.schema, "hakmem.soak/1");
    assert(report.rounds >= 7);
    assert.equal(report.goals.length, 3);
    for (const row of report.rows) checkRow(row, report.rounds);
    // In each round one after the other.
    const order = report.rows.flatMap(({ allocator, epochs }) =>
      epochs.map(({ round, elapsed_seconds: at }) => ({ allocator, round, at }))
    ).sort((a, b) => a.at - b.at);
    assert.deepEqual(
      order.map(({ round }) => round),
      order.map(({ round }) => round).toSorted((a, b) => a - b),
    );
    assert.match(stdout, /hakmem's goals/);
  }));

function checkRow(row: Row, rounds: number): void {
  assert.equal(row.error, null);
  assert.equal(row.loaded, true);
  assert.deepEqual(
    row.epochs.map(({ round }) => round),
    Array.from({ length: rounds }, (_, i) => i),
  );
  assert.deepEqual(row.epochs.map(({ warm_up: warm }) => warm), row.epochs.map((_, i) => i === 0));
  assert.deepEqual(row.lives.map(({ life, epochs }) => [life, epochs]), [[0, rounds - 1]]);
  const base = figure(row.base_rss_bytes);
  assert(figure(row.after_rss_bytes) > base / 2);
  assert(figure(row.system_calls?.operations) > 0);
  let active = 0;
  for (const epoch of row.epochs) {
    assert(epoch.operations > 0 && epoch.rss_bytes >= base / 2);
    // As long as it was told to work, or longer.
    assert(epoch.wall_ns >= 19e6);
    assert(epoch.active_seconds > active);
    active = epoch.active_seconds;
    const { latency_p50_ns: p50, latency_p99_ns: p99, latency_p99_9_ns: p99_9 } = epoch;
    assert(p50 <= p99 && p99 <= p99_9 && p99_9 <= epoch.latency_max_ns);
    // One in 256.
    const expected = epoch.operations / 256;
    assert(Math.abs(epoch.latency_samples - expected) < 0.25 * expected + 20);
  }
}

Deno.test("a planted leak is found as drift, and no leak as none", () =>
  inFolder(async (folder) => {
    const leak = `if (served % 500 == 0) {
      const lost: [*]volatile u8 = @ptrCast(__libc_malloc(4096).?);
      lost[0] = 1;
      lost[4095] = 1;
    }`;
    const leaky = await compile(folder, "leaky", forwardingPeer(leak));
    const tidy = await compile(folder, "tidy", forwardingPeer(""));
    const { code, stdout, stderr } = await soak([
      ...["--allocators", "leaky,tidy", "--peer", `leaky=${leaky}`, "--peer", `tidy=${tidy}`],
      ...briefly(0.02),
    ], folder);
    assert.equal(code, 0, stderr);
    const report = await readReport<SoakReport>(folder);
    const [bad] = rowOf(report, "leaky").lives;
    const [good] = rowOf(report, "tidy").lives;
    assert(figure(bad?.low) > 0.1, stdout);
    assert(figure(bad?.low) <= figure(bad?.drift) && figure(bad?.drift) <= figure(bad?.high));
    assert(Math.abs(figure(good?.drift)) < 0.05, stdout);
    // What a step leaks, from its own counts.
    const { epochs } = rowOf(report, "leaky");
    const [first, last] = [epochs[1], epochs.at(-1)];
    const steps = epochs.slice(2).reduce((sum, { operations }) => sum + operations, 0);
    const grown = figure(last?.rss_bytes) - figure(first?.rss_bytes);
    assert(Math.abs(grown / (4096 * steps / 500) - 1) < 0.1, `${grown} bytes in ${steps} steps`);
  }));

/** An allocator that asks the system for nothing once it runs: lists of a thread's own, of rounded sizes. */
const silentPeer = `
  const std = @import("std");
  var memory: [1 << 26]u8 align(4096) = undefined;
  var used: usize = 0;
  threadlocal var lists: [80]?*Header = @splat(null);
  const Header = extern struct { next: ?*Header, class: usize };
  export fn malloc(size: usize) ?*anyopaque {
      const class = (size + 15) / 16;
      if (class >= lists.len) return null;
      const header = lists[class] orelse fresh: {
          const at = @atomicRmw(usize, &used, .Add, 16 + 16 * class, .monotonic);
          if (at + 16 + 16 * class > memory.len) return null;
          const header: *Header = @ptrCast(@alignCast(&memory[at]));
          header.* = .{ .next = null, .class = class };
          break :fresh header;
      };
      lists[class] = header.next;
      return @ptrFromInt(@intFromPtr(header) + 16);
  }
  export fn free(block: ?*anyopaque) void {
      const address = @intFromPtr(block) -% @intFromPtr(&memory);
      // libc's own blocks are not ours.
      if (address >= memory.len) return;
      const header: *Header = @ptrCast(@alignCast(&memory[address - 16]));
      header.next = lists[header.class];
      lists[header.class] = header;
  }
`;

Deno.test("system calls of an operation are counted for any allocator, and the driver's own are not", () =>
  inFolder(async (folder) => {
    const talking = await compile(
      folder,
      "talking",
      "extern fn getppid() i32;" + forwardingPeer("if (served % 1000 == 0) _ = getppid();"),
    );
    const silent = await compile(folder, "silent", silentPeer);
    const peers = ["--peer", `talking=${talking}`, "--peer", `silent=${silent}`];
    const alone = ["--allocators", "talking,silent", ...peers, ...briefly(0.02)];
    const { code, stderr } = await soak(alone, folder);
    assert.equal(code, 0, stderr);
    const report = await readReport<SoakReport>(folder);
    const counted = rowOf(report, "talking").system_calls;
    const share = figure(counted?.calls.getppid) / figure(counted?.operations);
    assert(Math.abs(share * 1000 - 1) < 0.02, `${share}`);
    // All calls, each once: libc's malloc has few of its own.
    assert(Math.abs(figure(counted?.per_operation) * 1000 - 1) < 0.1);
    assert(figure(counted?.epochs) >= 2);
    assert.deepEqual(rowOf(report, "silent").system_calls?.calls, {});

    // Threads wait for each other at the ends of an epoch, which is not the allocator's doing.
    const threads = ["--allocators", "silent", "--peer", `silent=${silent}`, "--threads", "3"];
    const several = await soak([...threads, ...briefly()], folder);
    assert.equal(several.code, 0, several.stderr);
    assert.deepEqual(rowOf(await readReport<SoakReport>(folder), "silent").system_calls?.calls, {});
  }));

for (const workload of ["larson", "xthread", "medium"]) {
  Deno.test(`${workload} soaks too`, () =>
    inFolder(async (folder) => {
      const args = ["--workload", workload, "--allocators", "system,hakmem", ...briefly()];
      const { code, stderr } = await soak(args, folder);
      assert.equal(code, 0, stderr);
      const report = await readReport<SoakReport>(folder);
      assert.equal(report.threads, workload === "medium" ? 1 : 2);
      for (const row of report.rows) {
        checkRow(row, report.rounds);
        const started = row.system_calls?.calls.clone3 ?? row.system_calls?.calls.clone ?? 0;
        assert.equal(started > 0, workload === "larson");
      }
    }));
}

Deno.test("peers that fail are shown as failed with what they did until then, and fail nothing else", () =>
  inFolder(async (folder) => {
    const dies = await compile(folder, "dies", forwardingPeer("if (served == 3_000) @trap();"));
    const nothing = await compile(folder, "nothing", "export fn nothing() void {}\n");
    const overlaps = `
      var memory: [1 << 16]u8 align(16) = undefined;
      export fn malloc(_: usize) ?*anyopaque { return &memory; }
      export fn free(_: ?*anyopaque) void {}
    `;
    const peers = { dies, nothing, overlaps: await compile(folder, "overlaps", overlaps) };
    const args = Object.entries(peers).flatMap(([name, path]) => ["--peer", `${name}=${path}`]);
    const { code, stdout, stderr } = await soak(
      ["--allocators", "system", ...args, ...briefly(0.02)],
      folder,
    );
    assert.equal(code, 0, stderr);
    const report = await readReport<SoakReport>(folder);
    checkRounds(rowOf(report, "system"), report.rounds);
    const errors: [name: string, says: RegExp][] = [
      ["dies", /^crashed with SIG(ILL|TRAP)/],
      ["nothing", /^not loaded: malloc came from \//],
      ["overlaps", /^row random-mixed-ends: block \d+ does not hold what was written/],
    ];
    for (const [name, says] of errors) {
      const row = rowOf(report, name);
      assert.match(row.error ?? "", says);
      assert.equal(row.figures, null);
      assert(stdout.includes(row.error ?? "?"));
    }
  }));

function checkRounds(row: Row, rounds: number): void {
  assert.deepEqual(
    row.epochs.map(({ round }) => round),
    Array.from({ length: rounds }, (_, i) => i),
  );
}

/** Some 70 rounds of two allocators. */
const long = ["--allocators", "system,hakmem", "--epoch", "20ms", "--minutes", "0.05"];

/** No other soak has it. */
const seed = 3_141_592_653;

/** The drivers of a soak with that seed that are still there. */
function driversLeft(): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const line = Deno.readTextFileSync(`/proc/${name}/cmdline`);
      if (line.includes("hak-soak-driver") && line.includes(`--seed=${seed}`)) found.push(name);
    } catch (error) {
      // It ended between the two.
      assert(error instanceof Error);
    }
  }
  return found;
}

async function untilNoneLeft(): Promise<void> {
  for (let waits = 0; driversLeft().length > 0; waits++) {
    assert(waits < 1000, `still there: ${driversLeft()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Ends a soak within its second ten rounds, and goes on with it. */
async function checkResumed(
  folder: string,
  signal: "SIGINT" | "SIGKILL",
  status: number,
): Promise<void> {
  const command = verbCommand(
    "soak",
    [...long, "--json", "r.json", "--seed", String(seed)],
    folder,
  );
  const ended = await interruptOnce(command, "Rounds 11–20", (pid) => Deno.kill(pid, signal));
  assert.equal(ended.code, status, ended.stderr);
  if (signal === "SIGINT") {
    assert.match(ended.stderr, /To go on: \.\/hak soak --resume hak-soak\.state/);
    assert.match(ended.stdout, /INTERRUPTED/);
    const report = await readReport<SoakReport>(folder);
    assert.equal(report.interrupted, true);
    for (const row of report.rows) assert(row.error === null && row.epochs.length >= 10);
  }
  assert(namesIn(folder).includes("hak-soak.state"));
  // Who asks them is gone, which ends their input: they end too, after their epoch.
  await untilNoneLeft();

  const { code, stdout, stderr } = await soak(["--resume", "hak-soak.state"], folder);
  assert.equal(code, 0, stderr);
  assert.deepEqual(namesIn(folder), ["r.json"]);
  assert.match(stdout, /Lives: a soak that is resumed has new processes/);
  const report = await readReport<SoakReport>(folder);
  assert.equal(report.interrupted, false);
  assert.equal(report.resumed.length, 1);
  assert.equal(report.seed, seed);
  assert.deepEqual(report.command, ["soak", ...long, "--json", "r.json", "--seed", String(seed)]);
  for (const row of report.rows) {
    checkRounds(row, report.rounds);
    const [first, second] = row.lives;
    assert.deepEqual([first?.life, second?.life], [0, 1]);
    // Each of the two dropped its first epoch.
    assert.equal(row.epochs.filter(({ warm_up: warm }) => warm).length, 2);
    assert.equal(figure(first?.epochs) + figure(second?.epochs), report.rounds - 2);
    const elapsed = row.epochs.map(({ elapsed_seconds: at }) => at);
    assert.deepEqual(elapsed, elapsed.toSorted((a, b) => a - b));
    const begins = row.epochs.findIndex(({ life }) => life === 1);
    assert(
      figure(row.epochs[begins]?.active_seconds) < figure(row.epochs[begins - 1]?.active_seconds),
    );
    assert(figure(row.system_calls?.epochs) >= 3);
  }
}

Deno.test("Ctrl-C shows and writes what was measured, and --resume does the rest", () =>
  inFolder((folder) => checkResumed(folder, "SIGINT", 130)));

Deno.test("a soak that was killed goes on from its state, and its processes are gone", () =>
  inFolder((folder) => checkResumed(folder, "SIGKILL", 137)));

Deno.test("a tracer that is killed, however early, takes the traced process along", async () => {
  await buildIfNeeded();
  for (let trial = 0; trial < 60; trial++) {
    const tracer = new Deno.Command(binary("hak-soak-driver"), {
      args: ["random-mixed", "--epoch-ms=20", `--seed=${seed}`, "--trace"],
      // Its end would end the traced process in any case.
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await new Promise((resolve) => setTimeout(resolve, trial % 20 / 4));
    tracer.kill("SIGKILL");
    await tracer.status;
    await untilNoneLeft();
    await tracer.stdin.close().catch((error) => assert(error instanceof Error));
  }
});

Deno.test("--resume refuses an allocator that is not what it was", () =>
  inFolder(async (folder) => {
    const peer = await compile(folder, "peer", forwardingPeer(""));
    const args = ["--allocators", "peer,system", "--peer", `peer=${peer}`, ...long.slice(2)];
    const ended = await interruptOnce(
      verbCommand("soak", args, folder),
      "Rounds 1–10",
      (pid) => Deno.kill(pid, "SIGINT"),
    );
    assert.equal(ended.code, 130, ended.stderr);
    await compile(folder, "peer", forwardingPeer("served += 1;"));
    const { code, stderr } = await soak(["--resume", "hak-soak.state"], folder);
    assert.equal(code, 1);
    assert.match(stderr, /cannot go on: \S+libpeer\.so is not what it was when the soak began/);
    assert(namesIn(folder).includes("hak-soak.state"));
    const again = await soak(args, folder);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /hak-soak\.state is there already/);
  }));

Deno.test("a state file loses no more than a line that was not finished, and belongs to one soak", () =>
  inFolder(async (folder) => {
    const path = join(folder, "state");
    const head: StateHead = {
      schema: "hakmem.soak-state/1",
      command: ["soak"],
      started: "2026-11-21T10:00:00Z",
      plan: { workload: "larson", threads: 2, minutes: 1, epochSeconds: 1, seed: 1, rounds: 9 },
      allocators: [{ name: "system", preload: null, env: {} }],
      outputs: { json: null, csv: null, html: null },
      files: [{ path: "/lib/a.so", sha256: "00" }],
      machine: "a processor",
    };
    const state = await SoakState.create(path, head);
    state.append({ kind: "life", life: 0, started: head.started });
    state.append({ kind: "base", allocator: 0, life: 0, rss_bytes: 5 });
    await assert.rejects(() => SoakState.open(path), /belongs to a soak that is running/);
    state.close();

    await Deno.writeTextFile(path, '{"kind":"base","alloc', { append: true });
    const opened = await SoakState.open(path);
    assert.deepEqual(opened.head, head);
    assert.deepEqual(opened.entries.map(({ kind }) => kind), ["life", "base"]);
    opened.append({ kind: "after", allocator: 0, rss_bytes: 6 });
    opened.close();
    const again = await SoakState.open(path);
    assert.deepEqual(again.entries.map(({ kind }) => kind), ["life", "base", "after"]);
    again.close();

    await Deno.writeTextFile(path, '{"kind":"unheard of"}\n', { append: true });
    await assert.rejects(() => SoakState.open(path), /is no state file of a soak/);
    const empty = join(folder, "empty");
    await Deno.writeTextFile(empty, "");
    // SHA-256 of nothing, as every table has it.
    assert.match(await digestOf(empty), /^e3b0c44298fc1c149afbf4c8996fb924/);
  }));
