/**
 * What a sweep's result is turned into: the table, the CSV and the HTML report, from figures that were
 * not measured.
 */
import assert from "node:assert/strict";
import { renderCsv } from "../bench/sweep/csv.ts";
import { formatBytes, formatCount, formatFigure, formatSeconds } from "../bench/harness/format.ts";
import { renderHtml } from "../bench/sweep/html.ts";
import { renderTable } from "../bench/sweep/table.ts";
import type { SweepReport } from "../bench/sweep/schema.ts";
import { syntheticReport, syntheticRow, syntheticSample } from "./sweep_support.ts";

const hostile = `<b>"a", & 'b'\n`;

function report(): SweepReport {
  const rows = [16, 64].flatMap((size) =>
    [1e3, 1e6].flatMap((count) => [
      syntheticRow("hakmem", size, count, [
        syntheticSample(0, size, count, 8192, 0.1),
        syntheticSample(1, size, count, 8192, 0.1),
      ]),
      syntheticRow("lean", size, count, [syntheticSample(0, size, count, -count, 0)]),
      syntheticRow("dead", size, count, [], hostile),
      syntheticRow("dying", size, count, [syntheticSample(0, size, count, 8192, 1)], "crashed"),
    ])
  );
  return syntheticReport(rows);
}

Deno.test("the table shows each row once, in groups, and what failed as such", () => {
  const text = renderTable(report(), false);
  assert.equal(text.match(/blocks of 16 B/g)?.length, 2);
  assert.equal(text.match(/^hakmem {2,}\d/gm)?.length, 4);
  assert.equal(text.match(/crashed \(after 1 samples\)/g)?.length, 4);
  assert.match(text, /^16 B +hakmem +8\.00 +0\.10\d? +\S+ %$/m);
  assert.doesNotMatch(text, /undefined|NaN|null/);
  assert(!text.includes("\x1b"));
  assert(renderTable(report(), true).includes("\x1b[1m"));
});

Deno.test("an interrupted sweep says so, also where nothing was measured", async () => {
  const empty = { ...syntheticReport([]), interrupted: true };
  assert.match(renderTable(empty, false), /INTERRUPTED[^]*Nothing was measured/);
  assert.match(await renderHtml(empty), /Interrupted[^]*Nothing was measured/);
  assert.doesNotMatch(renderTable(report(), false), /INTERRUPTED/);
});

Deno.test("the CSV has a line of names and a line a row, with what is special quoted", () => {
  const rows = report().rows.length;
  const text = renderCsv(report());
  // Line breaks within quotes belong to a field.
  const lines = text.replace(/"(?:[^"]|"")*"/g, "quoted").split("\r\n");
  assert.equal(lines.length, rows + 2);
  assert.equal(lines.at(-1), "");
  const names = lines[0]?.split(",") ?? [];
  assert.equal(new Set(names).size, names.length);
  for (const line of lines.slice(0, -1)) assert.equal(line.split(",").length, names.length);
  assert(text.includes(`"<b>""a"", & 'b'\n"`));
});

Deno.test("the HTML report is one file: charts within, nothing fetched, nothing run", async () => {
  const html = await renderHtml(report());
  assert.match(html, /^<!doctype html>/);
  assert.match(html, /<meta name="viewport" content="width=device-width, initial-scale=1">/);
  assert.match(html, /prefers-color-scheme: dark/);
  // Six charts a size, each taking the width it is given.
  const charts = html.match(/<figure>/g)?.length;
  assert.equal(charts, 12);
  assert.equal(html.match(/<svg xmlns="[^"]*" role="img" viewBox="[\d. ]+">/g)?.length, charts);
  assert.doesNotMatch(html, /<script|<link|<img|src=|href=|@import|url\(/);
  assert(!html.includes(hostile) && html.includes("&lt;b&gt;&quot;a&quot;, &amp; 'b'"));
  assert.doesNotMatch(html, /undefined|NaN/);
});

Deno.test("the HTML report can draw a single count and a single allocator", async () => {
  const rows = [syntheticRow("system", 16, 1000, [syntheticSample(0, 16, 1000, 4096, 1)])];
  const html = await renderHtml(syntheticReport(rows));
  assert.equal(html.match(/<figure>/g)?.length, 6);
  assert.doesNotMatch(html, /NaN|Infinity|Cost model/);
});

Deno.test("numbers are written as people read them", () => {
  assert.deepEqual([999, 1000, 2500, 1e6, 1.1e6, 1e9].map(formatCount), [
    ...["999", "1k", "2.5k", "1M", "1.1M", "1000M"],
  ]);
  assert.deepEqual([0, 1023, 1024, 15.3 * 2 ** 20, -2048].map(formatBytes), [
    ...["0 B", "1023 B", "1.00 KiB", "15.3 MiB", "-2.00 KiB"],
  ]);
  assert.deepEqual([0, 0.0123, 0.123, 12.34, 1234.5, -0.0001].map(formatFigure), [
    ...["0", "0.012", "0.12", "12.3", "1235", "0"],
  ]);
  assert.deepEqual([0.4, 59.4, 125, -3].map(formatSeconds), [
    ...["0 s", "59 s", "2 min 05 s", "0 s"],
  ]);
});
