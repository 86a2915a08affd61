/**
 * The rows of a comparison as CSV: one line a row, named as in the JSON, each figure followed by the
 * least and the greatest of its samples, then the costs, if any object counted them.
 *
 * @module
 */
import { renderFields } from "../harness/csv.ts";
import { type ComparisonReport, figureNames, type Row } from "./schema.ts";

const labels = [
  "workload",
  "row",
  "label",
  "threads",
  "operation",
  "allocator",
  "path",
  "version",
  "loaded",
  "error",
  "repeats",
  "rank",
  "best_other",
  "ratio",
  "rss_above_best_bytes",
] as const satisfies readonly (keyof Row)[];

/** Writes a line of names and a line a row. */
export function renderCsv({ rows }: ComparisonReport): string {
  const costs = [...new Set(rows.flatMap((row) => Object.keys(row.costs_per_1000 ?? {})))];
  const names = [
    ...labels,
    ...figureNames.flatMap((name) => [name, `${name}_min`, `${name}_max`]),
    ...costs.map((name) => `${name}_per_1000`),
  ];
  const lines = rows.map((row) => [
    ...labels.map((name) => row[name]),
    ...figureNames.flatMap((name) => [row[name], row.spread[name]?.min, row.spread[name]?.max]),
    ...costs.map((name) => row.costs_per_1000?.[name]),
  ]);
  return renderFields([names, ...lines]);
}
