/**
 * A sweep as one HTML file: charts, tables, cost models, machine.
 *
 * @module
 */
import {
  formatBytes,
  formatCount,
  formatFigure,
  formatMib,
  formatPercent,
} from "../harness/format.ts";
import { escape, markOrder, renderError, renderFigure, renderPage } from "../harness/page.ts";
import { drawCharts } from "./charts.ts";
import { columns, isBest } from "./columns.ts";
import type { Model, Row, SweepReport } from "./schema.ts";
import { groupRows } from "./summary.ts";

/** Renders the report. */
export async function renderHtml(report: SweepReport): Promise<string> {
  const allocators = markOrder(report.rows);
  const sections: string[] = [];
  for (const rows of Map.groupBy(report.rows, (row) => row.size).values()) {
    sections.push(await renderSize(rows, allocators, report.models));
  }
  const objects = [...new Map(report.rows.map((row) => [row.allocator, row])).values()].map((row) =>
    [
      row.allocator,
      `${row.version ?? "version unknown"}, ${row.path ?? "path unknown"}, flushed by ${
        row.flush ?? "nothing"
      }`,
    ] as const
  );
  return renderPage({
    verb: "sweep",
    head: report,
    lead: `Memory and CPU time that each allocator takes to hold N blocks of one size, freed in ${
      report.rows[0]?.pattern === "random" ? "random order" : "the order of allocation"
    }. Lower is better everywhere.`,
    allocators,
    sections,
    reading:
      `RSS is in MiB. <b>base</b> is the process before its first block, the driver's own pointer array
included; every other memory figure is what lies above it. <b>live</b>: all blocks allocated and written.
<b>freed</b>: right after the last free. <b>flushed</b>: after asking the allocator to give memory back.
<b>idle</b>: one second after the last free, unasked. Times are CPU time; allocating includes writing the
block whole. Figures are medians, ± the median absolute deviation; bold is the best of its group. In the
charts a thin upright line spans all samples; a log axis has no place for what is not above zero.`,
    objects,
  });
}

async function renderSize(
  rows: readonly Row[],
  allocators: readonly string[],
  models: readonly Model[],
): Promise<string> {
  const size = rows[0]?.size ?? 0;
  const charts = await drawCharts(rows, allocators);
  return `<section>
<h2>Blocks of ${size} B</h2>
<div class="charts">${charts.map(renderFigure).join("\n")}</div>
${rowTable(rows)}
${modelTable(models.filter((model) => model.size === size))}
</section>`;
}

function rowTable(rows: readonly Row[]): string {
  const width = columns.length + 2;
  const heads = ["allocator", "base", ...columns.map((column) => column.head)];
  const bodies = groupRows(rows).map(([count, group]) =>
    `<tbody><tr><th colspan="${width}" scope="rowgroup">${formatCount(count)} blocks, ${
      formatBytes(count * group[0].size)
    }</th></tr>\n${group.map((row) => rowLines(row, group, width)).join("\n")}</tbody>`
  );
  return `<div class="scroll"><table>
<thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead>
${bodies.join("\n")}
</table></div>`;
}

/** The row's figures, if it has any, and what went wrong, if anything did. */
function rowLines(row: Row, group: readonly Row[], width: number): string {
  const name = `<th scope="row">${escape(row.allocator)}</th>`;
  const error = row.error === null ? null : renderError(row.error);
  if (row.repeats === 0) {
    return `<tr>${name}<td class="text" colspan="${width - 1}">${error}</td></tr>`;
  }
  const cells = columns.map((column) => {
    const figure = column.of(row);
    if (figure === null) return "<td>–</td>";
    const text = column.format(figure.value);
    const value = isBest(column, row, group) ? `<b>${text}</b>` : text;
    return figure.deviation === null
      ? `<td>${value}</td>`
      : `<td>${value} <small>±${column.format(figure.deviation)}</small></td>`;
  });
  const base = `<td>${formatMib(row.base_rss_bytes ?? 0)}</td>`;
  const line = `<tr>${name}${base}${cells.join("")}</tr>`;
  return error === null
    ? line
    : `${line}\n<tr><td></td><td class="text" colspan="${
      width - 1
    }">${error} (after ${row.repeats} samples)</td></tr>`;
}

function modelTable(models: readonly Model[]): string {
  if (models.length === 0) return "";
  const lines = models.map((model) =>
    `<tr><th scope="row">${escape(model.allocator)}</th><td>${
      formatFigure(model.fixed_bytes / 1024)
    }</td><td>${formatFigure(model.per_block_bytes)}</td><td>${
      formatPercent(model.max_relative_error)
    }</td></tr>`
  );
  return `<h3>Cost model: overhead = F + V · N</h3>
<div class="scroll"><table class="narrow">
<thead><tr><th scope="col">allocator</th><th scope="col">F, KiB</th><th scope="col">V, B/block</th><th scope="col">largest error</th></tr></thead>
<tbody>${lines.join("\n")}</tbody>
</table></div>`;
}
