/**
 * What the HTML reports share: one file that needs no other, reads on a phone as on a wide screen, light
 * or dark, and holds no script.
 *
 * @module
 */
import { ourselves } from "./allocators.ts";
import { type Chart, markOf } from "./chart.ts";
import { formatBytes } from "./format.ts";
import type { ReportHead } from "./report.ts";

/** A page of a report: everything but its head is HTML already. */
export interface Page {
  /** The verb that measured. */
  verb: string;
  /** The head of the report. */
  head: ReportHead;
  /** What stands first: what the page shows. */
  lead: string;
  /** All that are shown, in the order of their marks. */
  allocators: readonly string[];
  /** The parts of the page, with nothing among them where nothing was measured. */
  sections: readonly string[];
  /** How to read the figures. */
  reading: string;
  /** What each allocator's object was. */
  objects: readonly (readonly [name: string, text: string])[];
}

/** Renders a page. */
export function renderPage(page: Page): string {
  const { verb, head } = page;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>hakmem ${verb}, ${escape(head.started)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>hakmem ${verb}</h1>
${
    head.interrupted
      ? '<p class="warning">Interrupted: only what was measured until then is shown.</p>'
      : ""
  }
<p>${page.lead}</p>
${legend(page.allocators)}
${page.sections.join("\n") || "<p>Nothing was measured.</p>"}
${about(page)}
</main>
</body>
</html>
`;
}

/** The names of all allocators, each once, our own first: the order of their marks. */
export function markOrder(rows: readonly { allocator: string }[]): string[] {
  return [...new Set(rows.map((row) => row.allocator))].sort((a, b) =>
    Number(b === ourselves) - Number(a === ourselves) || a.localeCompare(b)
  );
}

/** A chart with its caption. */
export function renderFigure({ title, note, svg }: Chart): string {
  return `<figure><figcaption><b>${escape(title)}</b>${
    note === "" ? "" : `<br><small>${escape(note)}</small>`
  }</figcaption>${svg}</figure>`;
}

/** What went wrong, where figures would be. */
export function renderError(error: string): string {
  return `<span class="error">${escape(error)}</span>`;
}

/** Text as HTML shows it. */
export function escape(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
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

function about({ head, reading, objects }: Page): string {
  const { machine } = head;
  const facts = [
    ["processor", `${machine.cpu}, ${machine.cores} cores`],
    ["memory", formatBytes(machine.memory_bytes)],
    ["system", `${machine.kernel}, ${machine.libc}, transparent huge pages: ${machine.thp}`],
    ["command", `./hak ${head.command.join(" ")}`],
    ["seed", String(head.seed)],
    ["commit", head.commit],
    ["started", head.started],
    ...objects,
  ] as const;
  return `<section>
<h2>How to read this</h2>
<p>${reading}</p>
<h2>Where and how</h2>
<dl>${
    facts.map(([name, text]) => `<dt>${escape(name)}</dt><dd>${escape(text)}</dd>`).join("\n")
  }</dl>
</section>`;
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
