/**
 * The columns that the text table and the HTML report share: what of a row they show, and how.
 *
 * @module
 */
import { formatDuration, formatMib, formatPercent } from "../harness/format.ts";
import type { Row } from "./schema.ts";
import { formatRate, intervalText, longestLife, signedPercent } from "./summary.ts";

/** One column of figures. */
export interface Column {
  /** What stands above it. */
  head: string;
  /** What is compared, of which less is better; null where there is nothing, or nothing to compare. */
  value(row: Row): number | null;
  /** What is shown; null where there is nothing. */
  text(row: Row): string | null;
}

/** All columns, from left to right. */
export const columns: readonly Column[] = [
  figure("RSS", "rss_bytes", formatMib),
  {
    head: "drift",
    value: (row) => {
      const drift = longestLife(row)?.drift;
      return drift === undefined ? null : Math.abs(drift);
    },
    text: (row) => {
      const life = longestLife(row);
      return life === null ? null : signedPercent(life.drift);
    },
  },
  {
    head: "95 % interval",
    value: () => null,
    text: (row) => {
      const life = longestLife(row);
      return life === null ? null : intervalText(life);
    },
  },
  figure("time", "time_ns", formatDuration),
  figure("CV", "throughput_cv", formatPercent),
  figure("p99", "time_p99_ns", formatDuration),
  figure("p99.9", "time_p99_9_ns", formatDuration),
  figure("one: p50", "latency_p50_ns", formatDuration),
  figure("p99", "latency_p99_ns", formatDuration),
  figure("p99.9", "latency_p99_9_ns", formatDuration),
  figure("worst", "latency_p99_9_worst_ns", formatDuration),
  {
    head: "system calls",
    value: (row) => row.system_calls?.per_operation ?? null,
    text: (row) => row.system_calls === null ? null : formatRate(row.system_calls.per_operation),
  },
];

/** Whether a row's figure is the least, where the figures differ as written. */
export function isBest(column: Column, row: Row, rows: readonly Row[]): boolean {
  const own = column.value(row);
  if (own === null) return false;
  return rows.every((other) => (column.value(other) ?? Infinity) >= own) &&
    rows.some((other) => column.value(other) !== null && column.text(other) !== column.text(row));
}

function figure(
  head: string,
  name: keyof NonNullable<Row["figures"]>,
  format: (value: number) => string,
): Column {
  const value = (row: Row): number | null => row.figures?.[name] ?? null;
  return {
    head,
    value,
    text: (row) => {
      const own = value(row);
      return own === null ? null : format(own);
    },
  };
}

/** How the figures are to be read, for text and HTML alike. */
export const reading: readonly string[] = [
  "RSS: of the whole process, in MiB, the median over its epochs. drift: how much of it came or went from the",
  "first epoch to the last, by the median of the slopes between any two (Theil–Sen), and Sen's 95 % interval.",
  "time: of one operation, the median over the epochs, CPU time with one thread and wall time with more; CV:",
  "standard deviation of the epochs' throughput over its mean; p99, p99.9: what 99 % and 99.9 % of the",
  "epochs did not exceed. one: single operations, timed one in 256: the median over the epochs of each epoch's",
  "p50, p99 and p99.9; worst: the worst epoch's p99.9. system calls: of one operation, counted in a",
  "process of its own. The first epoch of each process is in no figure.",
];
