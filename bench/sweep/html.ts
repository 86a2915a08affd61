/**
 * A sweep as one HTML file that needs no other: charts, table, cost models, machine. It reads on a phone
 * as on a wide screen, light or dark, and holds no script.
 *
 * @module
 */
import { columns, isBest } from "./columns.ts";
import { drawCharts, markOf } from "./charts.ts";
import { formatBytes, formatCount, formatFigure, formatMib, formatPercent } from "./format.ts";
import type { Model, Row, SweepReport } from "./schema.ts";
import { groupRows } from "./summary.ts";

/** Renders the report. */
export async function renderHtml(report: SweepReport): Promise<string> {
  const allocators = [...new Set(report.rows.map((row) => row.allocator))].sort(ourselvesFirst);
  const sections: string[] = [];
  for (const rows of Map.groupBy(report.rows, (row) => row.size).values()) {
    sections.push(await renderSize(rows, allocators, report.models));
  }
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>hakmem sweep, ${escape(report.started)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>hakmem sweep</h1>
${
    report.interrupted
      ? '<p class="warning">Interrupted: only what was measured until then is shown.</p>'
      : ""
  }
<p>Memory and CPU time that each allocator takes to hold N blocks of one size, freed in ${
    report.rows[0]?.pattern === "random" ? "random order" : "the order of allocation"
  }. Lower is better everywhere.</p>
${legend(allocators)}
${sections.join("\n") || "<p>Nothing was measured.</p>"}
${about(report)}
</main>
</body>
</html>
`;
}

async function renderSize(
  rows: readonly Row[],
  allocators: readonly string[],
  models: readonly Model[],
): Promise<string> {
  const size = rows[0]?.size ?? 0;
  const charts = await drawCharts(rows, allocators);
  const figures = charts.map(({ title, note, svg }) =>
    `<figure><figcaption><b>${escape(title)}</b>${
      note === "" ? "" : `<br><small>${escape(note)}</small>`
    }</figcaption>${svg}</figure>`
  );
  return `<section>
<h2>Blocks of ${size} B</h2>
<div class="charts">${figures.join("\n")}</div>
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
  const error = row.error === null ? null : `<span class="error">${escape(row.error)}</span>`;
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

function legend(allocators: readonly string[]): string {
  const keys = allocators.map((name, index) => {
    const { colour, shape } = markOf(index);
    return `<li><svg viewBox="-1.5 -1.5 3 3" aria-hidden="true"><path d="${shape}" fill="${colour}"/></svg>${
      escape(name)
    }</li>`;
  });
  return `<ul class="legend">${keys.join("")}</ul>`;
}

function about(report: SweepReport): string {
  const { machine } = report;
  const objects = [...new Map(report.rows.map((row) => [row.allocator, row])).values()].map((row) =>
    [
      row.allocator,
      `${row.version ?? "version unknown"}, ${row.path ?? "path unknown"}, flushed by ${
        row.flush ?? "nothing"
      }`,
    ] as const
  );
  const facts = [
    ["processor", `${machine.cpu}, ${machine.cores} cores`],
    ["memory", formatBytes(machine.memory_bytes)],
    ["system", `${machine.kernel}, ${machine.libc}, transparent huge pages: ${machine.thp}`],
    ["command", `./hak ${report.command.join(" ")}`],
    ["seed", String(report.seed)],
    ["commit", report.commit],
    ["started", report.started],
    ...objects,
  ] as const;
  return `<section>
<h2>How to read this</h2>
<p>RSS is in MiB. <b>base</b> is the process before its first block, the driver's own pointer array
included; every other memory figure is what lies above it. <b>live</b>: all blocks allocated and written.
<b>freed</b>: right after the last free. <b>flushed</b>: after asking the allocator to give memory back.
<b>idle</b>: one second after the last free, unasked. Times are CPU time; allocating includes writing the
block whole. Figures are medians, ± the median absolute deviation; bold is the best of its group. In the
charts a thin upright line spans all samples; a log axis has no place for what is not above zero.</p>
<h2>Where and how</h2>
<dl>${
    facts.map(([name, text]) => `<dt>${escape(name)}</dt><dd>${escape(text)}</dd>`).join("\n")
  }</dl>
</section>`;
}

function ourselvesFirst(a: string, b: string): number {
  return Number(b === "hakmem") - Number(a === "hakmem") || a.localeCompare(b);
}

function escape(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}

/** Series colours are told apart with the common colour blindnesses; the first is hakmem's where it takes part. */
const style = `
:root { color-scheme: light dark; --text: #1d2330; --page: #fff; --line: #d7dbe3; --faint: #5b6475;
  --series-0: #c8102e; --series-1: #0b62a8; --series-2: #a86500; --series-3: #00795c; --series-4: #8a3ea8;
  --series-5: #4d5666; --series-6: #7a5230; --series-7: #b8527f; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8f0; --page: #14171e; --line: #343b49; --faint: #a0a9ba;
  --series-0: #ff6b7d; --series-1: #5fb4f5; --series-2: #f0b429; --series-3: #3fd0a4; --series-4: #d08bf0;
  --series-5: #b4bccb; --series-6: #d2a679; --series-7: #f79ac0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1280px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
small, dt { color: var(--faint); }
.warning, .error { color: var(--series-0); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 1rem 0; padding: 0; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.legend svg { width: .9rem; height: .9rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1.5rem; }
figure { margin: 0; max-width: 560px; }
figcaption { line-height: 1.3; margin-bottom: .25rem; }
figure svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.narrow { width: auto; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; }
th[scope="row"] { position: sticky; left: 0; background: var(--page); }
th { font-weight: normal; }
thead th { color: var(--faint); }
tbody th[colspan] { font-weight: bold; padding-top: 1rem; }
td.text { text-align: left; white-space: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dd { margin: 0; }
`;
