/**
 * The rows of a sweep as CSV: one line a row, named as in the JSON, each figure followed by the least
 * and the greatest of its samples.
 *
 * @module
 */
import { figureNames, type Row, type SweepReport } from "./schema.ts";

const labels = [
  "allocator",
  "path",
  "version",
  "loaded",
  "error",
  "size",
  "count",
  "pattern",
  "repeats",
  "flush",
] as const satisfies readonly (keyof Row)[];

/** Writes the rows as RFC 4180 says, with a line of names; what is absent is an empty field. */
export function renderCsv(report: SweepReport): string {
  const names = figureNames.flatMap((name) => [name, `${name}_min`, `${name}_max`]);
  const lines = report.rows.map((row) => [
    ...labels.map((name) => row[name]),
    ...figureNames.flatMap((name) => [row[name], row.spread[name]?.min, row.spread[name]?.max]),
  ]);
  return [[...labels, ...names], ...lines]
    .map((fields) => fields.map(quote).join(",") + "\r\n")
    .join("");
}

function quote(value: string | number | boolean | null | undefined): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
