/**
 * What the tests of the sweep share: running `sweep` as a user does, and a report that was not measured.
 *
 * @module
 */
import type { Row, Sample, SweepReport } from "../bench/sweep/schema.ts";
import { fitModels, summarize } from "../bench/sweep/summary.ts";
import { type Outcome, runVerb, syntheticHead } from "./verb_support.ts";

/** Runs `sweep` to its end. */
export function sweep(args: readonly string[], folder: string): Promise<Outcome> {
  return runVerb("sweep", args, folder);
}

/** A sample whose overhead is `fixed + perBlock · count`, with everything else plausible. */
export function syntheticSample(
  repeat: number,
  size: number,
  count: number,
  fixed: number,
  perBlock: number,
): Sample {
  const base = 2_000_000 + 8 * count + 4096 * repeat;
  const overhead = fixed + perBlock * count;
  const live = base + size * count + overhead;
  return {
    repeat,
    base_rss_bytes: base,
    live_rss_bytes: live,
    overhead_bytes: overhead,
    overhead_per_block_bytes: overhead / count,
    after_free_rss_bytes: live,
    after_flush_rss_bytes: base + fixed,
    after_idle_rss_bytes: repeat === 0 ? live : null,
    alloc_ns: 10 + repeat,
    free_ns: 5 + repeat,
  };
}

/** A row of such samples. */
export function syntheticRow(
  allocator: string,
  size: number,
  count: number,
  samples: Sample[],
  error: string | null = null,
): Row {
  return {
    allocator,
    path: `/lib/${allocator}.so`,
    version: "1.0",
    loaded: true,
    error,
    size,
    count,
    pattern: "sequential",
    repeats: samples.length,
    flush: "malloc_trim",
    samples,
    ...summarize(samples, size, count),
  };
}

/** A report of these rows. */
export function syntheticReport(rows: Row[]): SweepReport {
  return {
    schema: "hakmem.sweep/1",
    command: ["sweep"],
    ...syntheticHead,
    rows,
    models: fitModels(rows),
  };
}
