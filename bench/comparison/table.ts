/**
 * A comparison as text: what was measured where, a block for each workload with its rows by rank, and how
 * hakmem does over all of them.
 *
 * @module
 */
import type { HorizontalTableRow, Table } from "cli-table3";
import { ourselves } from "../harness/allocators.ts";
import { formatBytes, formatFigure } from "../harness/format.ts";
import { headline, newTable, type Paint, painter, tableText } from "../harness/text_table.ts";
import { columns, isBest, reading } from "./columns.ts";
import { groupBySubject, largerLimitBytes, slowerLimit } from "./ranking.ts";
import { threadsText } from "./run.ts";
import type { Behind, ComparisonReport, Row, Summary } from "./schema.ts";

const width = columns.length + 1;
/** Where long lines are broken, so that a terminal of a hundred columns need not. */
const textWidth = 92;

/** Renders a report for a terminal or, without colour, for a file. */
export function renderTable(report: ComparisonReport, colour: boolean): string {
  const paint = painter(colour);
  const blocks = Map.groupBy(report.rows, (row) => row.workload);
  const parts = [
    headline(report),
    ...[...blocks].map(([workload, rows]) => workloadBlock(workload, rows, paint)),
    ...blocks.size === 0 ? ["Nothing was measured."] : [reading.join("\n"), objects(report.rows)],
    ...report.summary === null ? [] : [summaryText(report.summary, paint)],
  ];
  return parts.join("\n\n") + "\n";
}

function workloadBlock(workload: string, rows: readonly Row[], paint: Paint): string {
  const table = newTable(width);
  const blank: HorizontalTableRow = [{ content: "", colSpan: width }];
  for (const group of groupBySubject(rows)) {
    const [{ row, label, operation }] = group;
    const title = `${label}${threadsText(group[0])}`;
    const name = row === label ? "" : paint("dim", `  ${row}`);
    table.push(
      blank,
      [{ content: `${title}${name}`, colSpan: width }],
      [`a ${operation}`, ...columns.map((column) => column.head)].map((head) => paint("dim", head)),
    );
    for (const each of group) pushRow(table, each, group, paint);
  }
  return `${paint("bold", workload)}${tableText(table)}`;
}

/** The row's figures, if it has any, what went wrong, if anything did, and what it counted. */
function pushRow(table: Table, row: Row, group: readonly Row[], paint: Paint): void {
  const wide = (content: string): HorizontalTableRow => [
    { content, colSpan: width, hAlign: "left" },
  ];
  const name = `${row.rank ?? "-"} ${row.allocator}`.padEnd(14);
  if (row.repeats > 0) {
    const cells = columns.map((column) => {
      const value = column.value(row);
      if (value === null) return "-";
      const text = column.format(row, value);
      const behind = column.head === "× best other" && row.allocator === ourselves &&
        value > slowerLimit;
      return behind ? paint("red", text) : isBest(column, row, group) ? paint("bold", text) : text;
    });
    table.push([name, ...cells]);
  }
  if (row.error !== null) {
    const after = row.repeats === 0 ? "" : ` (after ${row.repeats} samples)`;
    const lines = wrap(`${name.trimEnd()}: ${row.error}${after}`);
    table.push(wide(lines.map((line) => paint("red", line)).join("\n")));
  }
  if (row.costs_per_1000 !== null) {
    const counts = Object.entries(row.costs_per_1000).map(([cost, count]) =>
      `${cost} ${formatFigure(count)}`
    );
    table.push(wide(wrap(`  of 1,000: ${counts.join(", ")}`).join("\n")));
  }
}

function objects(rows: readonly Row[]): string {
  const loaded = new Map(rows.filter((row) => row.loaded).map((row) => [row.allocator, row]));
  return [...loaded.values()]
    .map((row) => `${row.allocator}: version ${row.version ?? "unknown"}, ${row.path}`)
    .sort().join("\n");
}

function summaryText(summary: Summary, paint: Paint): string {
  const peers = summary.peers.map(({ allocator, ratio, rows }) =>
    `${allocator} ${ratio.toFixed(3)}${rows === summary.rows ? "" : ` (${rows} rows)`}`
  );
  return [
    paint("bold", `hakmem over ${summary.rows} ${summary.rows === 1 ? "row" : "rows"}`),
    ...wrap(
      `geometric mean of its time, as a multiple of the best other's of each row: ${
        summary.ratio_to_best.toFixed(3)
      }; of every single other's: ${peers.join(", ")}`,
    ),
    ...behindText(
      `above ${slowerLimit} × the best other's time`,
      summary.slower,
      ({ by, best_other: best }) => `${by.toFixed(2)} × ${best}`,
    ),
    ...behindText(
      `RSS above the best other's by more than ${formatBytes(largerLimitBytes)}`,
      summary.larger,
      ({ by, best_other: best }) => `${formatBytes(by)} more than ${best}`,
    ),
  ].join("\n");
}

function behindText(
  what: string,
  rows: readonly Behind[],
  say: (behind: Behind) => string,
): string[] {
  if (rows.length === 0) return [`${what}: no row`];
  return [
    `${what}: ${rows.length} ${rows.length === 1 ? "row" : "rows"}`,
    ...rows.map((row) => `  ${row.row}${threadsText(row)}: ${say(row)}`),
  ];
}

/** Breaks a line at blanks; what is longer than a line is cut within. */
function wrap(text: string): string[] {
  const indent = /^ */.exec(text)?.[0] ?? "";
  const lines: string[] = [];
  let line = "";
  for (const word of text.trim().split(/\s+/)) {
    for (let rest = word; rest !== "";) {
      const piece = rest.slice(0, textWidth);
      rest = rest.slice(piece.length);
      if (line !== "" && line.length + 1 + piece.length > textWidth) {
        lines.push(indent + line);
        line = "";
      }
      line = line === "" ? piece : `${line} ${piece}`;
    }
  }
  return [...lines, indent + line];
}
