/**
 * A soak as text: what was measured where, a table, what each process did where there were several, and how
 * hakmem stands to its goals.
 *
 * @module
 */
import type { HorizontalTableRow } from "cli-table3";
import { formatSeconds } from "../harness/format.ts";
import { headline, newTable, type Paint, painter, tableText } from "../harness/text_table.ts";
import { columns, isBest, reading } from "./columns.ts";
import type { Row, SoakReport } from "./schema.ts";
import { intervalText, signedPercent } from "./summary.ts";

/** Renders a report for a terminal or, without colour, for a file. */
export function renderTable(report: SoakReport, colour: boolean): string {
  const paint = painter(colour);
  const { workload, threads, rounds, epoch_seconds: epoch, resumed } = report;
  const parts = [
    headline(report),
    `${workload}, ${threads} ${
      threads === 1 ? "thread" : "threads"
    }, ${rounds} rounds of epochs of ${epoch} s${
      resumed.length === 0 ? "" : `, resumed ${resumed.join(", ")}`
    }`,
    rowTable(report.rows, paint),
    ...(report.rows.some(({ figures }) => figures !== null) ? [reading.join("\n")] : []),
    lifeTable(report.rows, paint),
    notes(report.rows).join("\n"),
    goalTable(report, paint),
  ];
  return parts.filter((part) => part !== "").join("\n\n") + "\n";
}

function rowTable(rows: readonly Row[], paint: Paint): string {
  if (!rows.some(({ figures, error }) => figures !== null || error !== null)) {
    return "Nothing was measured.";
  }
  const width = columns.length + 1;
  const table = newTable(width);
  table.push(["allocator", ...columns.map(({ head }) => head)].map((head) => paint("dim", head)));
  for (const row of rows) table.push(...rowLines(row, rows, paint, width));
  return tableText(table);
}

function rowLines(
  row: Row,
  rows: readonly Row[],
  paint: Paint,
  width: number,
): HorizontalTableRow[] {
  const wide = (content: string): HorizontalTableRow[number] => ({
    content,
    colSpan: width - 1,
    hAlign: "left",
  });
  const error = row.error === null ? null : paint("red", row.error);
  if (row.figures === null) return [[row.allocator, wide(error ?? "no epoch counts")]];
  const cells = columns.map((column) => {
    const text = column.text(row);
    if (text === null) return "-";
    return isBest(column, row, rows) ? paint("bold", text) : text;
  });
  const lines: HorizontalTableRow[] = [[row.allocator, ...cells]];
  if (error !== null) lines.push(["", wide(`${error} (after ${row.epochs.length} epochs)`)]);
  return lines;
}

/** Each process, where an allocator had several. */
function lifeTable(rows: readonly Row[], paint: Paint): string {
  if (rows.every(({ lives }) => lives.length <= 1)) return "";
  const table = newTable(6);
  table.push(
    [{ content: paint("bold", "Lives: a soak that is resumed has new processes"), colSpan: 6 }],
    ["allocator", "life", "epochs", "at work", "drift", "95 % interval"].map((head) =>
      paint("dim", head)
    ),
  );
  for (const { allocator, lives } of rows) {
    for (const life of lives) {
      table.push([
        allocator,
        life.life,
        life.epochs,
        formatSeconds(life.duration_seconds),
        signedPercent(life.drift),
        intervalText(life),
      ]);
    }
  }
  return tableText(table);
}

/** What cannot be told in a column: which system calls there were, why there are none, and the objects. */
export function notes(rows: readonly Row[]): string[] {
  const calls = rows.flatMap(({ allocator, system_calls: counted, system_calls_error: error }) => {
    if (counted === null) return error === null ? [] : [`${allocator}: not counted: ${error}`];
    const found = Object.entries(counted.calls).toSorted(([, a], [, b]) => b - a);
    if (found.length === 0) return [];
    return [`${allocator}: ${found.map(([name, count]) => `${name} ${count}`).join(", ")}`];
  });
  const objects = rows.flatMap(({ allocator, loaded, version, path }) =>
    loaded ? [`${allocator}: version ${version ?? "unknown"}, ${path}`] : []
  );
  return [
    ...(calls.length === 0 ? [] : ["System calls of the epochs that were counted:", ...calls]),
    ...objects.sort(),
  ];
}

function goalTable({ goals }: SoakReport, paint: Paint): string {
  if (goals.length === 0) return "";
  const table = newTable(3, 3);
  table.push([{ content: paint("bold", "hakmem's goals"), colSpan: 3 }]);
  for (const { asked, reached, met } of goals) {
    table.push([asked, reached, met ? "met" : paint("red", "missed")]);
  }
  return tableText(table);
}
