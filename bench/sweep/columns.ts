/**
 * The columns that the text table and the HTML report share: what of a row they show, and how.
 *
 * @module
 */
import { formatFigure, formatMib, formatNs, formatPercent } from "../harness/format.ts";
import type { Spread } from "../harness/spread.ts";
import type { Figures, Row } from "./schema.ts";
import { aboveBase } from "./summary.ts";

/** One column of figures. */
export interface Column {
  /** What stands above it. */
  head: string;
  /** How its numbers are written. */
  format(value: number): string;
  /** A row's value, with its spread where the column shows one; null where there is no figure. */
  of(row: Row): { value: number; deviation: number | null } | null;
}

/** All columns, from left to right. Lower is better in every one. */
export const columns: readonly Column[] = [
  { head: "live RSS", format: formatMib, of: memory("live_rss_bytes", true) },
  { head: "B/block", format: formatFigure, of: plain((row) => row.overhead_per_block_bytes) },
  {
    head: "% of data",
    format: formatPercent,
    of: plain((row) =>
      row.overhead_bytes === null ? null : row.overhead_bytes / (row.size * row.count)
    ),
  },
  { head: "alloc ns", format: formatNs, of: time("alloc_ns") },
  { head: "free ns", format: formatNs, of: time("free_ns") },
  { head: "freed", format: formatMib, of: memory("after_free_rss_bytes", false) },
  { head: "flushed", format: formatMib, of: memory("after_flush_rss_bytes", false) },
  { head: "idle", format: formatMib, of: memory("after_idle_rss_bytes", false) },
];

/** Whether a row's figure is the least of its group, where the group's figures differ as written. */
export function isBest(column: Column, row: Row, group: readonly Row[]): boolean {
  const own = column.of(row)?.value;
  const all = group.flatMap((other) => column.of(other)?.value ?? []);
  return own !== undefined && own <= Math.min(...all) &&
    all.some((other) => column.format(other) !== column.format(own));
}

/** Memory above the base. */
function memory(figure: keyof Figures, spreadShown: boolean): Column["of"] {
  return (row) => {
    const spread = aboveBase(row, figure);
    return spread && {
      value: spread.median,
      deviation: spreadShown ? deviation(row, spread) : null,
    };
  };
}

function time(figure: "alloc_ns" | "free_ns"): Column["of"] {
  return (row) => {
    const spread = row.spread[figure];
    return spread === undefined
      ? null
      : { value: spread.median, deviation: deviation(row, spread) };
  };
}

/** One sample has no spread to show. */
function deviation(row: Row, spread: Spread): number | null {
  return row.repeats > 1 ? spread.mad : null;
}

function plain(figure: (row: Row) => number | null): Column["of"] {
  return (row) => {
    const value = figure(row);
    return value === null ? null : { value, deviation: null };
  };
}
