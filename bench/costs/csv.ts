/**
 * Costs as CSV, one line a figure.
 *
 * @module
 */
import { type Field, renderFields } from "../harness/csv.ts";
import type { CostReport } from "./schema.ts";

const heads = [
  "workload",
  "row",
  "operation",
  "threads",
  "allocator",
  "figure",
  "per_operations",
  "value",
  "error",
];

/** All figures of a report. */
export function renderCsv({ instructions, counts }: CostReport): string {
  const lines: Field[][] = [heads];
  for (const row of instructions) {
    const { workload, row: id, operation, threads, allocator, per_operation, error } = row;
    lines.push([
      ...[workload, id, operation, threads, allocator, "instructions", 1],
      ...[per_operation, error],
    ]);
  }
  for (const { workload, row, operation, threads, allocator, per_1000, error } of counts) {
    const subject = [workload, row, operation, threads, allocator];
    if (error !== null) lines.push([...subject, null, 1000, null, error]);
    for (const [name, value] of Object.entries(per_1000)) {
      lines.push([...subject, name, 1000, value, null]);
    }
  }
  return renderFields(lines);
}
