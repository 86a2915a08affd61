/**
 * A sweep as text: what was measured where, one table grouped by size and number of blocks, and the cost
 * models.
 *
 * @module
 */
import type { HorizontalTableRow } from "cli-table3";
import { headline, newTable, type Paint, painter, tableText } from "../harness/text_table.ts";
import { columns, isBest } from "./columns.ts";
import { formatBytes, formatCount, formatFigure, formatPercent } from "../harness/format.ts";
import type { Row, SweepReport } from "./schema.ts";
import { groupRows } from "./summary.ts";

const width = columns.length + 1;

/** Renders a report for a terminal or, without colour, for a file. */
export function renderTable(report: SweepReport, colour: boolean): string {
  const paint = painter(colour);
  const parts = [
    headline(report),
    rowTable(report, paint),
    explanation(report),
    modelTable(report, paint),
  ];
  return parts.filter((part) => part !== "").join("\n\n") + "\n";
}

function rowTable(report: SweepReport, paint: Paint): string {
  const table = newTable(width);
  for (const [count, group] of groupRows(report.rows)) {
    const { size, pattern } = group[0];
    const title = `${formatCount(count)} blocks of ${size} B = ${
      formatBytes(size * count)
    }, freed ${pattern === "random" ? "in random order" : "as allocated"}`;
    if (table.length > 0) table.push([{ content: "", colSpan: width }]);
    table.push([{ content: paint("bold", title), colSpan: width }]);
    table.push(
      ["allocator", ...columns.map((column) => column.head)].map((head) => paint("dim", head)),
    );
    for (const row of group) table.push(...rowLines(row, group, paint));
  }
  return table.length === 0 ? "Nothing was measured." : tableText(table);
}

/** The row's figures, if it has any, and what went wrong, if anything did. */
function rowLines(row: Row, group: readonly Row[], paint: Paint): HorizontalTableRow[] {
  const error = row.error === null ? null : paint("red", row.error);
  if (row.repeats === 0) {
    return [[row.allocator, { content: error, colSpan: width - 1, hAlign: "left" }]];
  }
  const cells = columns.map((column) => {
    const figure = column.of(row);
    if (figure === null) return "-";
    const text = column.format(figure.value);
    const value = isBest(column, row, group) ? paint("bold", text) : text;
    return figure.deviation === null ? value : `${value} ±${column.format(figure.deviation)}`;
  });
  const lines: HorizontalTableRow[] = [[row.allocator, ...cells]];
  if (error !== null) {
    lines.push(["", {
      content: `${error} (after ${row.repeats} samples)`,
      colSpan: width - 1,
      hAlign: "left",
    }]);
  }
  return lines;
}

function explanation(report: SweepReport): string {
  if (report.rows.length === 0) return "";
  const loaded = new Map(
    report.rows.filter((row) => row.loaded).map((row) => [row.allocator, row]),
  );
  const objects = [...loaded.values()].map((row) =>
    `${row.allocator}: version ${row.version ?? "unknown"}, ${row.path}`
  );
  return [
    "RSS in MiB above the base: the process before its first block, pointer array included. Medians ± median",
    "absolute deviation. B/block and % of data: live RSS beyond the blocks themselves. alloc includes writing",
    "the block; times are CPU time. freed: right after the last free; flushed: after asking the allocator to",
    "give memory back; idle: one second after the last free, unasked.",
    ...objects.sort(),
  ].join("\n");
}

function modelTable(report: SweepReport, paint: Paint): string {
  if (report.models.length === 0) return "";
  const table = newTable(5);
  table.push(
    [{ content: paint("bold", "Cost model: overhead = F + V · N"), colSpan: 5 }],
    ["size", "allocator", "F, KiB", "V, B/block", "largest error"].map((name) =>
      paint("dim", name)
    ),
  );
  for (const model of report.models) {
    table.push([
      `${model.size} B`,
      model.allocator,
      formatFigure(model.fixed_bytes / 1024),
      formatFigure(model.per_block_bytes),
      formatPercent(model.max_relative_error),
    ]);
  }
  return tableText(table);
}
