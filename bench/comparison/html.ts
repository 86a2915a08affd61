/**
 * A comparison as one HTML file: how hakmem does over all rows, then charts and a table for each workload.
 *
 * @module
 */
import { formatBytes } from "../harness/format.ts";
import { escape, markOrder, renderError, renderFigure, renderPage } from "../harness/page.ts";
import { drawCharts } from "./charts.ts";
import { columns, isBest, reading } from "./columns.ts";
import { groupBySubject, largerLimitBytes, slowerLimit } from "./ranking.ts";
import { threadsText } from "./run.ts";
import type { Behind, ComparisonReport, Row, Summary } from "./schema.ts";

/** Renders the report. */
export async function renderHtml(report: ComparisonReport): Promise<string> {
  const { rows, summary } = report;
  const allocators = markOrder(rows);
  const sections = summary === null ? [] : [summarySection(summary)];
  for (const [workload, own] of Map.groupBy(rows, (row) => row.workload)) {
    const charts = await drawCharts(own, allocators);
    sections.push(`<section>
<h2>${escape(workload)}</h2>
<div class="charts">${charts.map(renderFigure).join("\n")}</div>
${rowTable(own)}
</section>`);
  }
  const objects = [...new Map(rows.map((row) => [row.allocator, row])).values()].map((row) =>
    [
      row.allocator,
      `${row.version ?? "version unknown"}, ${row.path ?? "path unknown"}`,
    ] as const
  );
  return await renderPage({
    verb: "bench",
    head: report,
    lead: "Time and memory of each allocator in each row, best first. Lower is better everywhere.",
    allocators,
    sections,
    reading: `${escape(reading.join(" "))} Bold is the best of its row. In the charts a thin line
spans all samples; a log axis has no place for what is not above zero.`,
    objects,
  });
}

function rowTable(rows: readonly Row[]): string {
  const width = columns.length + 1;
  const heads = ["allocator", ...columns.map((column) => column.head)];
  const bodies = groupBySubject(rows).map((group) => {
    const [{ row, label, operation }] = group;
    const title = `${label}${threadsText(group[0])}, a ${operation}`;
    return `<tbody><tr><th colspan="${width}" scope="rowgroup">${escape(title)} <small>${
      escape(row)
    }</small></th></tr>\n${group.map((each) => rowLines(each, group, width)).join("\n")}</tbody>`;
  });
  return `<div class="scroll"><table>
<thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead>
${bodies.join("\n")}
</table></div>`;
}

/** The row's figures, if it has any, what went wrong, if anything did, and what it counted. */
function rowLines(row: Row, group: readonly Row[], width: number): string {
  const name = `<th scope="row">${row.rank ?? "–"} ${escape(row.allocator)}</th>`;
  const cells = columns.map((column) => {
    const value = column.value(row);
    if (value === null) return "<td>–</td>";
    const text = column.format(row, value);
    return isBest(column, row, group) ? `<td><b>${text}</b></td>` : `<td>${text}</td>`;
  });
  const lines = row.repeats === 0 ? [] : [`<tr>${name}${cells.join("")}</tr>`];
  const wide = (first: string, content: string): string =>
    `<tr>${first}<td class="text" colspan="${width - 1}">${content}</td></tr>`;
  if (row.error !== null) {
    const after = row.repeats === 0 ? "" : ` (after ${row.repeats} samples)`;
    lines.push(wide(row.repeats === 0 ? name : "<td></td>", renderError(row.error) + after));
  }
  if (row.costs_per_1000 !== null) {
    const counts = Object.entries(row.costs_per_1000).map(([cost, count]) =>
      `${cost} ${count.toFixed(1)}`
    );
    lines.push(wide("<td></td>", `of 1,000: ${escape(counts.join(", "))}`));
  }
  return lines.join("\n");
}

function summarySection(summary: Summary): string {
  const peers = summary.peers.map(({ allocator, rows, ratio }) =>
    `<tr><th scope="row">${escape(allocator)}</th><td>${rows}</td><td>${ratio.toFixed(3)}</td></tr>`
  );
  return `<section>
<h2>hakmem over ${summary.rows} rows</h2>
<p>Geometric mean of its time as a multiple of the others':</p>
<div class="scroll"><table class="narrow">
<thead><tr><th scope="col">against</th><th scope="col">rows</th><th scope="col">×</th></tr></thead>
<tbody><tr><th scope="row">the best other of each row</th><td>${summary.rows}</td><td>${
    summary.ratio_to_best.toFixed(3)
  }</td></tr>
${peers.join("\n")}</tbody>
</table></div>
${
    behindList(
      `Above ${slowerLimit} × the best other's time`,
      summary.slower,
      ({ by, best_other: best }) => `${by.toFixed(2)} × ${best}`,
    )
  }
${
    behindList(
      `RSS above the best other's by more than ${formatBytes(largerLimitBytes)}`,
      summary.larger,
      ({ by, best_other: best }) => `${formatBytes(by)} more than ${best}`,
    )
  }
</section>`;
}

function behindList(
  what: string,
  rows: readonly Behind[],
  say: (behind: Behind) => string,
): string {
  if (rows.length === 0) return `<p>${what}: no row.</p>`;
  const items = rows.map((row) =>
    `<li>${escape(`${row.row}${threadsText(row)}: ${say(row)}`)}</li>`
  );
  return `<p>${what}:</p>\n<ul>${items.join("\n")}</ul>`;
}
