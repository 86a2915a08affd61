/**
 * What the tests of `bench` share: running it as a user does, and rows that were not measured.
 *
 * @module
 */
import { rankRows, summarizeRows, summarizeSamples } from "../bench/comparison/ranking.ts";
import type { ComparisonReport, Costs, Row, Sample, Subject } from "../bench/comparison/schema.ts";
import { type Outcome, runVerb, type Surroundings, syntheticHead } from "./verb_support.ts";

/** Runs `bench` to its end. */
export function bench(
  args: readonly string[],
  folder: string,
  surroundings?: Surroundings,
): Promise<Outcome> {
  return runVerb("bench", args, folder, surroundings);
}

/** A row of a workload. */
export function subject(row: string, threads: number | null = 1): Subject {
  const workload = row.slice(0, row.indexOf("-"));
  return { workload, row, label: `label of ${row}`, threads, operation: "pair" };
}

/** A sample of this time and RSS, with everything else plausible. */
export function sample(repeat: number, time: number, rss: number, costs: Costs | null): Sample {
  return {
    repeat,
    operations: 4000,
    time_ns: time,
    cpu_ns: time,
    wall_ns: time + 1,
    rss_bytes: rss,
    left_bytes: rss / 2,
    base_rss_bytes: 2_000_000,
    live_rss_bytes: 2_000_000 + rss,
    after_rss_bytes: 2_000_000 + rss / 2,
    minor_faults: 10,
    major_faults: 0,
    costs,
  };
}

/** What one allocator did in one row. */
export interface Found {
  /** Nanoseconds of each sample. */
  times: number[];
  /** RSS of every sample. */
  rss?: number;
  /** What went wrong. */
  error?: string;
  /** What it counted. */
  costs?: Costs;
}

/** Rows of one subject, ranked, from what each allocator did. */
export function rowsOf(what: Subject, found: Record<string, Found>): Row[] {
  return rankRows(
    Object.entries(found).map(([allocator, { times, rss = 1e6, error = null, costs = null }]) => {
      const samples = times.map((time, repeat) => sample(repeat, time, rss, costs));
      return {
        ...what,
        allocator,
        path: `/lib/${allocator}.so`,
        version: "1.0",
        loaded: true,
        error,
        repeats: samples.length,
        ...summarizeSamples(samples),
        samples,
      };
    }),
  );
}

/** A report of these rows. */
export function reportOf(rows: Row[]): ComparisonReport {
  return {
    schema: "hakmem.bench/1",
    command: ["bench"],
    ...syntheticHead,
    rows,
    summary: summarizeRows(rows),
  };
}
