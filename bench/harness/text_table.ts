/**
 * Tables of text without lines, and the head of a report above them.
 *
 * @module
 */
import { styleText } from "node:util";
// Column widths, spanning cells and colour codes that take no room: a table library's own work.
import Table from "cli-table3";
import { formatBytes } from "./format.ts";
import type { ReportHead } from "./report.ts";

const plainLines = {
  "top": "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  "bottom": "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  "left": "",
  "left-mid": "",
  "mid": "",
  "mid-mid": "",
  "right": "",
  "right-mid": "",
  "middle": "  ",
};

/** How to paint: bold for heads and the best of a column, red for what failed; or not at all. */
export type Paint = (style: "bold" | "red" | "dim", text: string) => string;

/** Paints for a terminal, or leaves text as it is. */
export function painter(colour: boolean): Paint {
  return (style, text) => colour ? styleText(style, text, { validateStream: false }) : text;
}

/** A table whose first columns are aligned to the left and the others to the right. */
export function newTable(width: number, leftColumns: number = 1): Table.Table {
  return new Table({
    chars: plainLines,
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [], compact: true },
    colAligns: Array.from({ length: width }, (_, index) => index < leftColumns ? "left" : "right"),
  });
}

/** A table as text, without blanks at the ends of its lines. */
export function tableText(table: Table.Table): string {
  return table.toString().split("\n").map((line) => line.trimEnd()).join("\n");
}

/** What was measured where. */
export function headline(report: ReportHead): string {
  const { machine } = report;
  return [
    `${machine.cpu}, ${machine.cores} cores, ${
      formatBytes(machine.memory_bytes)
    }, ${machine.kernel}, ${machine.libc}, huge pages: ${machine.thp}`,
    `seed ${report.seed}, commit ${report.commit.slice(0, 12)}, ${report.started}`,
    ...(report.interrupted ? ["INTERRUPTED: only what was measured until then is shown"] : []),
  ].join("\n");
}
