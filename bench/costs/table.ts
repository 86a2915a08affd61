/**
 * Costs as text: instructions with a column for each allocator, and counts with a line for each number of
 * threads.
 *
 * @module
 */
import type { HorizontalTableRow } from "cli-table3";
import { formatFigure } from "../harness/format.ts";
import { headline, newTable, type Paint, painter, tableText } from "../harness/text_table.ts";
import type { CostReport, CountRow, InstructionRow } from "./schema.ts";

/** The counts that the table shows, of those that the JSON has. */
const columns: readonly (readonly [name: string, heading: string])[] = [
  ["shared_writes", "shared lines"],
  ["atomics", "atomics"],
  ["locks", "locks"],
  ["lock_waits", "waits"],
  ["bitmap_words", "bitmap words"],
  ["refills", "refills"],
  ["refilled_blocks", "of blocks"],
  ["flushes", "flushes"],
  ["flushed_blocks", "of blocks"],
  ["cold_hits", "cold hits"],
  ["system_calls", "system calls"],
];

/** Renders a report for a terminal or, without colour, for a file. */
export function renderTable(report: CostReport, colour: boolean): string {
  const paint = painter(colour);
  const { instructions, counts, valgrind } = report;
  const blocks = [
    headline(report),
    ...instructions.length === 0 ? [] : [
      `Instructions of one operation inside the allocator, one thread, by callgrind of valgrind ${valgrind}`,
      instructionTable(instructions, paint),
    ],
    ...counts.length === 0 ? [] : [
      "Counts of 1,000 operations, by the build of hakmem that counts",
      countTable(counts, paint),
    ],
    ...instructions.length + counts.length === 0 ? ["Nothing was counted."] : [],
    ...errors([...instructions, ...counts]).map((line) => paint("red", line)),
  ];
  return blocks.join("\n\n") + "\n";
}

function instructionTable(rows: readonly InstructionRow[], paint: Paint): string {
  const allocators = [...new Set(rows.map(({ allocator }) => allocator))];
  const table = newTable(2 + allocators.length, 2);
  table.push(["row", "operation", ...allocators].map((head) => paint("dim", head)));
  for (const group of Map.groupBy(rows, ({ row }) => row).values()) {
    const [first] = group;
    if (first === undefined) continue;
    const figures = allocators.map((name) =>
      group.find(({ allocator }) => allocator === name)?.per_operation ?? null
    );
    const least = Math.min(...figures.flatMap((figure) => figure === null ? [] : [figure]));
    table.push([
      first.row,
      first.operation,
      ...figures.map((figure) => {
        if (figure === null) return "-";
        const text = formatFigure(figure);
        return figure === least ? paint("bold", text) : text;
      }),
    ]);
  }
  return tableText(table);
}

function countTable(rows: readonly CountRow[], paint: Paint): string {
  const table = newTable(3 + columns.length, 2);
  table.push(
    ["row", "operation", "threads", ...columns.map(([, heading]) => heading)]
      .map((head) => paint("dim", head)),
  );
  for (const row of rows) {
    const line: HorizontalTableRow = [
      row.row,
      row.operation,
      row.threads,
      ...columns.map(([name]) => {
        const count = row.per_1000[name];
        return count === undefined ? "-" : formatFigure(count);
      }),
    ];
    table.push(line);
  }
  return tableText(table);
}

function errors(
  rows: readonly { row: string; threads: number; allocator: string; error: string | null }[],
): string[] {
  return rows.flatMap(({ row, threads, allocator, error }) =>
    error === null ? [] : [`${row}, ${allocator}, threads ${threads}: ${error}`]
  );
}
