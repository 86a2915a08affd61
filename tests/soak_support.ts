/**
 * What the tests of the soak share: running `soak` as a user does, and epochs that were not measured.
 *
 * @module
 */
import type { Epoch, Row, SoakReport } from "../bench/soak/schema.ts";
import { figuresOf, goalsOf, livesOf } from "../bench/soak/summary.ts";
import { type Outcome, runVerb, syntheticHead } from "./verb_support.ts";

/** Runs `soak` to its end. */
export function soak(args: readonly string[], folder: string): Promise<Outcome> {
  return runVerb("soak", args, folder);
}

/** Epochs of one life, the first of which is the warm-up, with everything else plausible. */
export function syntheticEpochs(
  life: number,
  found: readonly { time: number; rss: number }[],
): Epoch[] {
  return found.map(({ time, rss }, index) => ({
    life,
    round: index,
    warm_up: index === 0,
    active_seconds: index + 1,
    elapsed_seconds: 100 * life + 2 * index + 1,
    operations: 1e6,
    cpu_ns: 1e6 * time,
    wall_ns: 1e6 * time,
    time_ns: time,
    rss_bytes: rss,
    minor_faults: 0,
    major_faults: 0,
    latency_samples: 4000,
    latency_p50_ns: time,
    latency_p99_ns: 3 * time,
    latency_p99_9_ns: 10 * time,
    latency_max_ns: 1000 * time,
  }));
}

/** A row of such epochs, with so many system calls of an operation. */
export function syntheticSoakRow(
  allocator: string,
  epochs: Epoch[],
  calls: number,
  error: string | null = null,
): Row {
  return {
    allocator,
    path: `/lib/${allocator}.so`,
    version: "1.0",
    loaded: true,
    error,
    base_rss_bytes: 5e5,
    after_rss_bytes: null,
    figures: figuresOf(epochs),
    lives: livesOf(epochs),
    system_calls: {
      epochs: 2,
      operations: 1e8,
      calls: calls === 0 ? {} : { madvise: 1e8 * calls },
      per_operation: calls,
    },
    system_calls_error: null,
    epochs,
  };
}

/** A report of these rows. */
export function syntheticSoak(rows: Row[]): SoakReport {
  return {
    schema: "hakmem.soak/1",
    command: ["soak"],
    ...syntheticHead,
    workload: "random-mixed",
    threads: 1,
    minutes: 60,
    epoch_seconds: 5,
    rounds: 131,
    resumed: [],
    rows,
    goals: goalsOf(rows),
  };
}
