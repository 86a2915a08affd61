/**
 * The rows of a sweep as CSV: one line a row, named as in the JSON, each figure followed by the least
 * and the greatest of its samples.
 *
 * @module
 */
import { renderFields } from "../harness/csv.ts";
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

/** Writes a line of names and a line a row. */
export function renderCsv(report: SweepReport): string {
  const names = figureNames.flatMap((name) => [name, `${name}_min`, `${name}_max`]);
  const lines = report.rows.map((row) => [
    ...labels.map((name) => row[name]),
    ...figureNames.flatMap((name) => [row[name], row.spread[name]?.min, row.spread[name]?.max]),
  ]);
  return renderFields([[...labels, ...names], ...lines]);
}
