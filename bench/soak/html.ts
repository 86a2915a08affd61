/**
 * A soak as one HTML file: charts over time, the table, the lives, hakmem's goals.
 *
 * @module
 */
import { formatSeconds } from "../harness/format.ts";
import { escape, markOrder, renderError, renderFigure, renderPage } from "../harness/page.ts";
import { drawCharts } from "./charts.ts";
import { columns, isBest, reading } from "./columns.ts";
import type { Goal, Row, SoakReport } from "./schema.ts";
import { intervalText, signedPercent } from "./summary.ts";

/** Renders the report. */
export async function renderHtml(report: SoakReport): Promise<string> {
  const { rows, workload, threads, epoch_seconds: epoch, rounds, resumed } = report;
  const allocators = markOrder(rows);
  const charts = await drawCharts(rows, allocators);
  const measured = rows.some(({ figures, error }) => figures !== null || error !== null);
  const sections = !measured ? [] : [`<section>
<h2>${escape(workload)}</h2>
<div class="charts">${charts.map(renderFigure).join("\n")}</div>
${rowTable(rows)}
${lifeTable(rows)}
${goalTable(report.goals)}
</section>`];
  return renderPage({
    verb: "soak",
    head: report,
    lead:
      `Memory, time and latency of each allocator over a long run, in processes that took turns: ${rounds} rounds
of epochs of ${epoch} s, ${threads} ${threads === 1 ? "thread" : "threads"} each.${
        resumed.length === 0 ? "" : ` Resumed ${escape(resumed.join(", "))}.`
      }`,
    allocators,
    sections,
    reading: `${
      escape(reading.join(" "))
    } Bold is the best. In the charts each process has a line of its own, at
whose end is its mark; where there are more epochs than room, points are medians of neighbours.`,
    objects: rows.map((row) => [
      row.allocator,
      `${row.version ?? "version unknown"}, ${row.path ?? "path unknown"}${callsText(row)}`,
    ]),
  });
}

function callsText({ system_calls: counted, system_calls_error: error }: Row): string {
  if (counted === null) return error === null ? "" : `, system calls not counted: ${error}`;
  const calls = Object.entries(counted.calls).toSorted(([, a], [, b]) => b - a);
  return `, system calls in ${counted.operations.toExponential(1)} operations: ${
    calls.map(([name, count]) => `${name} ${count}`).join(", ") || "none"
  }`;
}

function rowTable(rows: readonly Row[]): string {
  const width = columns.length;
  const lines = rows.map((row) => {
    const name = `<th scope="row">${escape(row.allocator)}</th>`;
    const error = row.error === null ? "" : renderError(row.error);
    const wide = (first: string, content: string): string =>
      `<tr>${first}<td class="text" colspan="${width}">${content}</td></tr>`;
    if (row.figures === null) return wide(name, error || "no epoch counts");
    const cells = columns.map((column) => {
      const text = column.text(row);
      if (text === null) return "<td>–</td>";
      return isBest(column, row, rows) ? `<td><b>${text}</b></td>` : `<td>${text}</td>`;
    });
    const after = error === ""
      ? ""
      : wide("<td></td>", `${error} (after ${row.epochs.length} epochs)`);
    return `<tr>${name}${cells.join("")}</tr>${after}`;
  });
  const heads = ["allocator", ...columns.map(({ head }) => head)];
  return `<div class="scroll"><table>
<thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead>
<tbody>${lines.join("\n")}</tbody>
</table></div>`;
}

function lifeTable(rows: readonly Row[]): string {
  if (rows.every(({ lives }) => lives.length <= 1)) return "";
  const lines = rows.flatMap(({ allocator, lives }) =>
    lives.map((life) => {
      const cells = [
        life.life,
        life.epochs,
        formatSeconds(life.duration_seconds),
        signedPercent(life.drift),
        intervalText(life),
      ];
      return `<tr><th scope="row">${escape(allocator)}</th>${
        cells.map((cell) => `<td>${cell}</td>`).join("")
      }</tr>`;
    })
  );
  const heads = ["allocator", "life", "epochs", "at work", "drift", "95 % interval"];
  return `<h3>Lives: a soak that is resumed has new processes</h3>
<div class="scroll"><table class="narrow">
<thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead>
<tbody>${lines.join("\n")}</tbody>
</table></div>`;
}

function goalTable(goals: readonly Goal[]): string {
  if (goals.length === 0) return "";
  const lines = goals.map(({ asked, reached, met }) =>
    `<tr><th scope="row">${escape(asked)}</th><td class="text">${escape(reached)}</td><td>${
      met ? "met" : renderError("missed")
    }</td></tr>`
  );
  return `<h3>hakmem's goals</h3>
<div class="scroll"><table class="narrow"><tbody>${lines.join("\n")}</tbody></table></div>`;
}
