/**
 * A soak as CSV: one line an epoch, named as in the JSON.
 *
 * @module
 */
import { renderFields } from "../harness/csv.ts";
import type { Epoch, SoakReport } from "./schema.ts";

const labels = ["allocator", "path", "version", "workload", "threads", "error"] as const;
const figures = [
  "life",
  "round",
  "warm_up",
  "elapsed_seconds",
  "active_seconds",
  "operations",
  "time_ns",
  "cpu_ns",
  "wall_ns",
  "rss_bytes",
  "minor_faults",
  "major_faults",
  "latency_samples",
  "latency_p50_ns",
  "latency_p99_ns",
  "latency_p99_9_ns",
  "latency_max_ns",
] as const satisfies readonly (keyof Epoch)[];

/** Writes a line of names and a line an epoch; an allocator that has none gets one line for its error. */
export function renderCsv({ workload, threads, rows }: SoakReport): string {
  const lines = rows.flatMap((row) => {
    const own = { ...row, workload, threads };
    const head = labels.map((name) => own[name]);
    return row.epochs.length === 0
      ? [[...head, ...figures.map(() => null)]]
      : row.epochs.map((epoch) => [...head, ...figures.map((name) => epoch[name])]);
  });
  return renderFields([[...labels, ...figures], ...lines]);
}
