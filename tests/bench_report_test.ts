/**
 * What a comparison is turned into: the table, the CSV and the HTML report, from figures that were not
 * measured.
 */
import assert from "node:assert/strict";
import { renderCsv } from "../bench/comparison/csv.ts";
import { renderHtml } from "../bench/comparison/html.ts";
import type { ComparisonReport } from "../bench/comparison/schema.ts";
import { renderTable } from "../bench/comparison/table.ts";
import { formatDuration } from "../bench/harness/format.ts";
import { reportOf, rowsOf, subject } from "./bench_support.ts";

const hostile = `<b>"a", & 'b'\n` + "and so on ".repeat(20);

function report(): ComparisonReport {
  return reportOf([
    ...rowsOf(subject("batch-10000-64-random"), {
      hakmem: { times: [9, 9.4, 9.2], rss: 700_000 },
      mimalloc: { times: [7.4, 7.5, 7.6], rss: 650_000 },
      dead: { times: [], error: hostile },
      dying: { times: [8], error: "crashed with SIGSEGV" },
      "counting-build": {
        times: [10, 10],
        costs: Object.fromEntries(Array.from({ length: 14 }, (_, i) => [`name_of_cost_${i}`, i])),
      },
    }),
    ...rowsOf(subject("vm-64m-pages"), {
      hakmem: { times: [22e6, 23e6], rss: 2 ** 26 },
      mimalloc: { times: [12e4, 13e4], rss: 2 ** 25 },
    }),
    ...rowsOf(subject("larson-1", 4), { hakmem: { times: [5] }, mimalloc: { times: [6] } }),
  ]);
}

Deno.test("the table has each row by rank in at most a hundred columns, and what failed", () => {
  const text = renderTable(report(), false);
  for (const line of text.split("\n")) assert(line.length <= 100, `${line.length}: ${line}`);
  assert.doesNotMatch(text, /undefined|NaN|null/);
  assert(!text.includes("\x1b"));
  assert.match(
    text,
    /^label of batch-10000-64-random {2}batch-10000-64-random\na pair +time +× best other +CPU +RSS +left +faults\n1 mimalloc +7\.50 ns ±1\.3% +0\.82 +7\.50 ns +635 KiB +317 KiB +10\n2 hakmem +9\.20 ns ±2\.2% +1\.23 /m,
  );
  assert.match(text, /^- dying +8\.00 ns .*\n- dying: crashed with SIGSEGV \(after 1 samples\)$/m);
  assert.match(text, /^- dead: <b>"a", & 'b' and so on /m);
  assert.match(text, /^ {2}of 1,000: name_of_cost_0 0, name_of_cost_1 0\.25,/m);
  assert.match(text, /^label of larson-1, 4 threads {2}larson-1$/m);
  assert.match(text, /^2 hakmem +22\.5 ms ±2\.2% +180\.00 /m);
  assert(renderTable(report(), true).includes("\x1b[1m"));
});

Deno.test("the table ends with how hakmem does over all rows", () => {
  const text = renderTable(report(), false);
  const end = text.slice(text.indexOf("hakmem over 3 rows"));
  assert.match(
    end,
    /best other's of each row: 5\.688; of every\s+single other's: mimalloc 5\.688\n/,
  );
  assert.match(
    end,
    /above 1\.05 × the best other's time: 2 rows\n {2}batch-10000-64-random: 1\.23 × mimalloc\n {2}vm-64m-pages: 180\.00 × mimalloc\n/,
  );
  assert.match(
    end,
    /RSS above the best other's by more than 64\.0 KiB: 1 row\n {2}vm-64m-pages: 32\.0 MiB more than mimalloc\n$/,
  );
  const alone = reportOf(rowsOf(subject("one-1"), { system: { times: [1] } }));
  assert.doesNotMatch(renderTable(alone, false), /hakmem over/);
});

Deno.test("an interrupted comparison says so, also where nothing was measured", async () => {
  const empty = { ...reportOf([]), interrupted: true };
  assert.match(renderTable(empty, false), /INTERRUPTED[^]*Nothing was measured/);
  assert.match(await renderHtml(empty), /Interrupted[^]*Nothing was measured/);
  assert.doesNotMatch(renderTable(report(), false), /INTERRUPTED/);
});

Deno.test("the CSV has a line of names and a line a row, with what is special quoted", () => {
  const text = renderCsv(report());
  // Line breaks within quotes belong to a field.
  const lines = text.replace(/"(?:[^"]|"")*"/g, "quoted").split("\r\n");
  assert.equal(lines.length, report().rows.length + 2);
  assert.equal(lines.at(-1), "");
  const names = lines[0]?.split(",") ?? [];
  assert.equal(new Set(names).size, names.length);
  for (const line of lines.slice(0, -1)) assert.equal(line.split(",").length, names.length);
  assert.deepEqual(
    names.filter((name) => name.startsWith("time") || name.startsWith("name_of_cost_1_")),
    ["time_ns", "time_ns_min", "time_ns_max", "name_of_cost_1_per_1000"],
  );
  assert(text.includes(`"<b>""a"", & 'b'\nand so on `));
});

Deno.test("the HTML report is one file: charts within, nothing fetched, nothing run", async () => {
  const html = await renderHtml(report());
  assert.match(html, /^<!doctype html>/);
  // Two charts a workload.
  const charts = html.match(/<figure>/g)?.length;
  assert.equal(charts, 6);
  assert.equal(html.match(/<svg xmlns="[^"]*" role="img" viewBox="[\d. ]+">/g)?.length, charts);
  assert.doesNotMatch(html, /<script|<link|<img|src=|href=|@import|url\(/);
  assert(!html.includes(hostile) && html.includes("&lt;b&gt;&quot;a&quot;, &amp; 'b'"));
  assert.match(html, /<li>vm-64m-pages: 180\.00 × mimalloc<\/li>/);
  assert.match(html, /<b>7\.50 ns ±1\.3%<\/b>/);
  assert.match(html, /<td>9\.20 ns ±2\.2%<\/td>/);
  assert.doesNotMatch(html, /undefined|NaN|Infinity/);
});

Deno.test("a time is written in the unit that suits it", () => {
  assert.deepEqual([0, 7.407, 999.4, 999.6, 21_345, 28.6e6, 1.25e9, 7e11].map(formatDuration), [
    ...["0.00 ns", "7.41 ns", "999 ns", "1.00 µs", "21.3 µs", "28.6 ms", "1.25 s", "700 s"],
  ]);
});
