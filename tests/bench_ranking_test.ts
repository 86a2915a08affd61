/**
 * The arithmetic of a comparison: medians, ranks, ratios and means, which rows are chosen, and what the
 * native program's line becomes.
 */
import assert from "node:assert/strict";
import { rankRows, summarizeRows } from "../bench/comparison/ranking.ts";
import { runComparison } from "../bench/comparison/run.ts";
import type { Row, Sample } from "../bench/comparison/schema.ts";
import type { Outcome } from "../bench/harness/driver.ts";
import { selectRows, thoseThatFit, type Workload } from "../bench/workloads/catalog.ts";
import { readSample } from "../bench/workloads/measure.ts";
import { rowsOf, sample, subject } from "./bench_support.ts";

function near(actual: number | null | undefined, expected: number): void {
  assert(
    typeof actual === "number" && Math.abs(actual / expected - 1) < 1e-12,
    `${actual}, not ${expected}`,
  );
}

function rowOf(rows: readonly Row[], allocator: string): Row {
  const row = rows.find((other) => other.allocator === allocator);
  assert(row !== undefined);
  return row;
}

Deno.test("allocators are ranked by median time, each beside the best of the others", () => {
  const rows = rowsOf(subject("batch-1"), {
    slow: { times: [40, 41, 39], rss: 5000 },
    // The mean is the greatest of all, the median the least.
    hakmem: { times: [10, 900, 9], rss: 7000 },
    second: { times: [20, 20, 20], rss: 6000 },
  });
  assert.deepEqual(rows.map(({ allocator, rank }) => [allocator, rank]), [
    ["hakmem", 1],
    ["second", 2],
    ["slow", 3],
  ]);
  const [first, second, slow] = rows;
  assert.deepEqual(first?.spread.time_ns, { median: 10, min: 9, max: 900, mad: 1 });
  assert.deepEqual([first?.best_other, first?.ratio], ["second", 0.5]);
  assert.deepEqual([second?.best_other, second?.ratio], ["hakmem", 2]);
  assert.deepEqual([slow?.best_other, slow?.ratio], ["hakmem", 4]);
  assert.deepEqual(rows.map((row) => row.rss_above_best_bytes), [2000, 1000, -1000]);
});

Deno.test("what failed or counted its costs has no rank and is nobody's best", () => {
  const rows = rowsOf(subject("batch-1"), {
    broken: { times: [1], rss: 1, error: "crashed" },
    never: { times: [], error: "not loaded" },
    counting: { times: [2, 2], rss: 1, costs: { atomics: 8, locks: 2 } },
    hakmem: { times: [10] },
    other: { times: [20] },
  });
  assert.deepEqual(rows.map(({ allocator, rank, ratio }) => [allocator, rank, ratio]), [
    ["hakmem", 1, 0.5],
    ["other", 2, 2],
    ["broken", null, null],
    ["never", null, null],
    ["counting", null, null],
  ]);
  assert.equal(rowOf(rows, "hakmem").rss_above_best_bytes, 0);
  assert.deepEqual(rowOf(rows, "counting").costs_per_1000, { atomics: 2, locks: 0.5 });
  assert.equal(rowOf(rows, "broken").time_ns, 1);
  assert.equal(rowOf(rows, "never").time_ns, null);
});

Deno.test("subjects keep their order, and the same row with other threads is another", () => {
  const rows = [
    ...rowsOf(subject("larson", 4), { a: { times: [2] }, b: { times: [1] } }),
    ...rowsOf(subject("larson", 2), { a: { times: [1] }, b: { times: [2] } }),
  ];
  assert.deepEqual(
    rankRows(rows).map(({ threads, allocator }) => `${threads} ${allocator}`),
    ["4 b", "4 a", "2 a", "2 b"],
  );
});

Deno.test("the summary has geometric means, and the rows in which hakmem is behind", () => {
  const rows = [
    ...rowsOf(subject("one-1"), {
      hakmem: { times: [10], rss: 500_000 },
      x: { times: [20], rss: 500_000 },
      y: { times: [40], rss: 434_464 },
    }),
    ...rowsOf(subject("two-1", 2), {
      hakmem: { times: [32], rss: 500_000 },
      x: { times: [4], rss: 434_463 },
      y: { times: [], error: "crashed" },
    }),
    // At the limits, not above them.
    ...rowsOf(subject("three-1"), { hakmem: { times: [105] }, x: { times: [100] } }),
    ...rowsOf(subject("four-1"), { hakmem: { times: [5] }, x: { times: [], error: "crashed" } }),
  ];
  const summary = summarizeRows(rows);
  assert(summary !== null);
  assert.equal(summary.rows, 3);
  near(summary.ratio_to_best, (0.5 * 8 * 1.05) ** (1 / 3));
  assert.deepEqual(summary.peers.map(({ allocator, rows }) => [allocator, rows]), [
    ["x", 3],
    ["y", 1],
  ]);
  near(summary.peers[0]?.ratio, (0.5 * 8 * 1.05) ** (1 / 3));
  near(summary.peers[1]?.ratio, 0.25);
  assert.deepEqual(summary.slower, [
    { workload: "two", row: "two-1", threads: 2, best_other: "x", by: 8 },
  ]);
  assert.deepEqual(summary.larger, [
    { workload: "two", row: "two-1", threads: 2, best_other: "x", by: 65_537 },
  ]);
});

Deno.test("without hakmem, or without another, there is nothing to summarize", () => {
  assert.equal(
    summarizeRows(rowsOf(subject("one-1"), { x: { times: [1] }, y: { times: [2] } })),
    null,
  );
  assert.equal(summarizeRows(rowsOf(subject("one-1"), { hakmem: { times: [1] } })), null);
  assert.equal(summarizeRows([]), null);
});

Deno.test("a comparison goes A B A B, drops the warm-up, and asks what failed no more", async () => {
  const allocators = ["a", "b", "c"].map((name) => ({ name, preload: null, env: {} }));
  const identity = {
    path: "/lib",
    loaded: true,
    version: "1",
    libc: null,
    release: "none",
    error: null,
  };
  const told: string[] = [];
  const rounds: string[] = [];
  const { rows, interrupted } = await runComparison({
    subjects: [subject("one-1"), subject("two-1")],
    contenders: allocators.map((allocator) => ({
      allocator,
      identity: { ...identity, error: allocator.name === "c" ? "not loaded" : null },
    })),
    repeat: 3,
    seed: 5,
    likelySeconds: 1,
    measure: ({ allocator, subject: { row }, round }): Promise<Outcome<Sample>> => {
      told.push(`${round} ${row} ${allocator.name}`);
      return Promise.resolve(
        row === "two-1" && allocator.name === "b" && round === 1
          ? { kind: "failed", error: "crashed" }
          : { kind: "value", value: sample(round, round < 0 ? 1e9 : 10 + round, 1, null) },
      );
    },
  }, {
    round: (name) => rounds.push(name),
    step: (_what, done, left) => assert(done >= 0 && done <= 1 && left >= 0),
    end: () => {},
  });
  assert.equal(interrupted, false);
  assert.deepEqual(rounds, ["Warm-up round", "Round 1 of 3", "Round 2 of 3", "Round 3 of 3"]);
  // Four rounds of two rows under a and b, less the last of the one that failed in its third.
  assert.equal(told.length, 15);
  for (const round of [-1, 0, 1]) {
    const turn = told.filter((text) => text.startsWith(`${round} `)).map((text) => text.slice(-1));
    assert.equal(turn.length, 4);
    assert.deepEqual(turn.slice(0, 2), turn.slice(2));
    assert.notEqual(turn[0], turn[1]);
  }
  assert.deepEqual(
    rows.map(({ row, allocator, repeats, time_ns: time, error }) =>
      `${row} ${allocator}: ${repeats} × ${time}, ${error}`
    ).sort(),
    [
      "one-1 a: 3 × 11, null",
      "one-1 b: 3 × 11, null",
      "one-1 c: 0 × null, not loaded",
      "two-1 a: 3 × 11, null",
      "two-1 b: 1 × 10, crashed",
      "two-1 c: 0 × null, not loaded",
    ],
  );
});

Deno.test("a comparison that is interrupted keeps the rows that it has", async () => {
  const contenders = ["a", "b"].map((name) => ({
    allocator: { name, preload: null, env: {} },
    identity: { path: "/", loaded: true, version: null, libc: null, release: "none", error: null },
  }));
  let left = 3;
  const { rows, interrupted } = await runComparison({
    subjects: [subject("one-1")],
    contenders,
    repeat: 5,
    seed: 1,
    likelySeconds: 1,
    measure: ({ round }): Promise<Outcome<Sample>> =>
      Promise.resolve(
        left-- > 0 ? { kind: "value", value: sample(round, 1, 1, null) } : { kind: "interrupted" },
      ),
  }, { round: () => {}, step: () => {}, end: () => {} });
  assert.equal(interrupted, true);
  assert.deepEqual(rows.map(({ repeats, error }) => [repeats, error]), [[1, null]]);
});

const catalog: Workload[] = [
  {
    name: "tight",
    summary: "",
    rows: [
      row("tight-16", { quick: true }),
      row("tight-64", { peak_bytes: 5000 }),
    ],
  },
  { name: "larson", summary: "", rows: [row("larson", { threads: true, quick: true })] },
];

function row(
  id: string,
  traits: Partial<Workload["rows"][number]>,
): Workload["rows"][number] {
  return {
    ...{ id, label: id, threads: false, operation: "pair", quick: false, peak_bytes: 1000 },
    ...traits,
  };
}

Deno.test("rows are chosen by workload, by name and by --quick, with each number of threads", () => {
  const chosen = (words: string[], quick: boolean): string[] =>
    selectRows(catalog, { words, quick, threads: [2, 4] }).map(({ row, threads }) =>
      `${row} ${threads}`
    );
  const [sixteen, sixtyFour, two, four] = ["tight-16 1", "tight-64 1", "larson 2", "larson 4"];
  assert.deepEqual(chosen([], false), [sixteen, sixtyFour, two, four]);
  assert.deepEqual(chosen([], true), [sixteen, two, four]);
  assert.deepEqual(chosen(["larson", "tight"], false), [sixteen, sixtyFour, two, four]);
  assert.deepEqual(chosen(["tight"], true), [sixteen]);
  // A row that is named is meant, quick or not, and once.
  assert.deepEqual(chosen(["tight-64", "tight-64"], true), [sixtyFour]);
  assert.throws(() => chosen(["tight", "tigt"], false), {
    name: "UsageError",
    message:
      /^unknown workload 'tigt': valid are tight, larson, or a row of one, as in 'tight-16' /,
  });
});

Deno.test("rows that do not fit into memory are left out with a line, threads counted", () => {
  const places = selectRows(catalog, { words: [], quick: false, threads: [2, 4] });
  const said: string[] = [];
  const fit = thoseThatFit(places, 3000, (line) => said.push(line));
  assert.deepEqual(fit.map(({ row, threads }) => `${row} ${threads}`), ["tight-16 1", "larson 2"]);
  assert.deepEqual(said, [
    "Left out: tight-64 needs 4.88 KiB of memory, 2.93 KiB are available",
    "Left out: larson, 4 threads needs 3.91 KiB of memory, 2.93 KiB are available",
  ]);
  assert.throws(() => thoseThatFit(places, 10, () => {}), {
    name: "RunError",
    message: /^too little memory for any of the rows: 10 B are available/,
  });
});

const line = {
  operations: 200,
  cpu_ns: 4000,
  wall_ns: 3000,
  base_rss_bytes: 1000,
  live_rss_bytes: 5000,
  after_rss_bytes: 2500,
  minor_faults: 3,
  major_faults: 1,
  costs: null,
};

Deno.test("a line's figures: CPU time of one thread, wall time of several, RSS above base", () => {
  const one = readSample(line, { threaded: false }, 4);
  assert.deepEqual(one, {
    repeat: 4,
    operations: 200,
    time_ns: 20,
    cpu_ns: 20,
    wall_ns: 15,
    rss_bytes: 4000,
    left_bytes: 1500,
    base_rss_bytes: 1000,
    live_rss_bytes: 5000,
    after_rss_bytes: 2500,
    minor_faults: 3,
    major_faults: 1,
    costs: null,
  });
  assert.equal(readSample(line, { threaded: true }, 0).time_ns, 15);
  const counted = { ...line, costs: { atomics: 7 } };
  assert.deepEqual(readSample(counted, { threaded: true }, 0).costs, { atomics: 7 });
  assert.throws(() => readSample({ ...line, cpu_ns: "4000" }, { threaded: true }, 0), TypeError);
});
