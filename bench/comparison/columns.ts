/**
 * The columns that the text table and the HTML report share: what of a row they show, and how.
 *
 * @module
 */
import { formatBytes, formatDuration, formatFigure } from "../harness/format.ts";
import type { Figures, Row } from "./schema.ts";

/** One column of figures, of which less is better. */
export interface Column {
  /** What stands above it. */
  head: string;
  /** A row's value; null where there is none. */
  value(row: Row): number | null;
  /** The value in words. */
  format(row: Row, value: number): string;
}

/** All columns, from left to right. */
export const columns: readonly Column[] = [
  { head: "time", value: (row) => row.time_ns, format: withDeviation("time_ns") },
  { head: "× best other", value: (row) => row.ratio, format: (_, value) => value.toFixed(2) },
  { head: "CPU", value: (row) => row.cpu_ns, format: (_, value) => formatDuration(value) },
  { head: "RSS", value: (row) => row.rss_bytes, format: (_, value) => formatBytes(value) },
  { head: "left", value: (row) => row.left_bytes, format: (_, value) => formatBytes(value) },
  {
    head: "faults",
    value: ({ minor_faults: minor, major_faults: major }) =>
      minor === null || major === null ? null : minor + major,
    format: (_, value) => value < 100_000 ? value.toFixed(0) : `${formatFigure(value / 1000)}k`,
  },
];

/** Whether a row's figure is the least of its group, where the group's figures differ as written. */
export function isBest(column: Column, row: Row, group: readonly Row[]): boolean {
  const own = row.rank === null ? null : column.value(row);
  if (own === null) return false;
  const all = group.flatMap((other) => other.rank === null ? [] : column.value(other) ?? []);
  return own <= Math.min(...all) &&
    all.some((other) => column.format(row, other) !== column.format(row, own));
}

function withDeviation(figure: keyof Figures): Column["format"] {
  return (row, value) => {
    const mad = row.spread[figure]?.mad;
    const text = formatDuration(value);
    // One sample has no spread to show; where all are alike, nought says so.
    return row.repeats < 2 || mad === undefined || value === 0
      ? text
      : `${text} ±${(100 * mad / value).toFixed(100 * mad < 9.95 * value ? 1 : 0)}%`;
  };
}

/** How the figures are to be read, for text and HTML alike. */
export const reading: readonly string[] = [
  "Medians, ± the median absolute deviation, best first. time: of one operation; CPU time where there",
  "is one thread, wall time where there are more and of a program. CPU: of all threads. × best other:",
  "time as a multiple of the fastest of the other allocators'. RSS: where most is live, above that",
  "before the first block; of a program, its peak. left: the same after all is freed. faults: page",
  "faults.",
];
