/**
 * What a soak's result is turned into: the table, the CSV and the HTML report, from figures that were not
 * measured; and its command line.
 */
import assert from "node:assert/strict";
import { renderCsv } from "../bench/soak/csv.ts";
import { renderHtml } from "../bench/soak/html.ts";
import { parseRequest, usageText } from "../bench/soak/options.ts";
import type { SoakReport } from "../bench/soak/schema.ts";
import { renderTable } from "../bench/soak/table.ts";
import { soak, syntheticEpochs, syntheticSoak, syntheticSoakRow } from "./soak_support.ts";
import { inFolder, namesIn } from "./verb_support.ts";

const hostile = `<b>"a", & 'b'\n`;

function report(): SoakReport {
  const epochs = (life: number, rss: number, growth: number) =>
    syntheticEpochs(
      life,
      Array.from(
        { length: 300 },
        (_, index) => ({ time: 10 + index % 3, rss: rss + growth * index }),
      ),
    );
  return {
    ...syntheticSoak([
      syntheticSoakRow("hakmem", [...epochs(0, 2e6, 0), ...epochs(1, 2.1e6, 0).slice(0, 40)], 0),
      syntheticSoakRow("leaky", epochs(0, 3e6, 1e4), 1e-6),
      syntheticSoakRow("dying", epochs(0, 4e6, 0).slice(0, 3), 0, "crashed"),
      { ...syntheticSoakRow("dead", [], 0, hostile), loaded: false, system_calls: null },
    ]),
    resumed: ["2026-11-21T11:00:00Z"],
  };
}

Deno.test("the table shows each row once, the lives, the system calls, and what failed as such", () => {
  const text = renderTable(report(), false);
  assert.match(text, /^random-mixed, 1 thread, 131 rounds of epochs of 5 s, resumed 2026/m);
  assert.match(text, /^hakmem +1\.91 +0 % +0 % … 0 % +11\.0 ns/m);
  assert.match(text, /^leaky +4\.29 +\+66\.\d %/m);
  assert.match(text, /crashed \(after 3 epochs\)/);
  assert.match(text, /^dying .*too few epochs/m);
  assert.match(text, /^hakmem +1 +39 /m);
  assert.match(text, /^leaky: madvise 100$/m);
  assert.match(text, /hakmem's goals[^]*met/);
  assert.doesNotMatch(text, /undefined|NaN|null/);
  assert(!text.includes("\x1b"));
  assert(renderTable(report(), true).includes("\x1b[1m"));
});

Deno.test("the HTML has the charts, one line for each process, and nothing hostile", async () => {
  const html = await renderHtml(report());
  assert.equal(html.match(/<svg xmlns/g)?.length, 6);
  assert(html.includes("&lt;b&gt;") && !html.includes(hostile));
  assert.match(html, /Lives: a soak that is resumed/);
  assert.doesNotMatch(html, /undefined|NaN|<script/);
  const empty = { ...syntheticSoak([]), interrupted: true };
  assert.match(await renderHtml(empty), /Interrupted[^]*Nothing was measured/);
  assert.match(renderTable(empty, false), /INTERRUPTED[^]*Nothing was measured/);
});

Deno.test("the CSV has a line of names and a line an epoch; who has none has a line for the error", () => {
  const { rows } = report();
  const text = renderCsv(report());
  const lines = text.replace(/"(?:[^"]|"")*"/g, "quoted").split("\r\n");
  const epochs = rows.reduce((sum, row) => sum + Math.max(1, row.epochs.length), 0);
  assert.equal(lines.length, epochs + 2);
  const names = lines[0]?.split(",") ?? [];
  assert.equal(new Set(names).size, names.length);
  for (const line of lines.slice(0, -1)) assert.equal(line.split(",").length, names.length);
});

Deno.test("options: defaults, units, and what --resume takes", () => {
  const begin = parseRequest([]);
  assert(begin.kind === "begin");
  const { workload, threads, minutes, epochSeconds } = begin.options;
  assert.deepEqual([workload, threads, minutes, epochSeconds], ["random-mixed", 1, 60, 5]);
  assert.equal(begin.state, "hak-soak.state");
  const other = parseRequest(["--workload", "larson", "--epoch", "250ms", "--minutes", "0.5"]);
  assert(other.kind === "begin");
  assert.deepEqual([other.options.threads, other.options.epochSeconds], [2, 0.25]);
  const resume = parseRequest(["--resume", "s", "--html", "s.html"]);
  assert(resume.kind === "resume");
  assert.deepEqual([resume.state, resume.outputs.html], ["s", "s.html"]);
  for (const said of ["--state", "--resume", "cannot be continued", "another life"]) {
    assert(usageText.includes(said), said);
  }
  for (const line of usageText.split("\n")) assert(line.length <= 100, line);
});

/** Arguments, and what the one line must say: what was wrong and what is valid. */
const badInput: [args: string[], says: RegExp][] = [
  [["--bogus"], /unknown option --bogus: valid are --minutes, .*--resume, --help/],
  [["extra"], /unexpected argument 'extra'/],
  [["--minutes", "0"], /'0' does not fit --minutes: give a number above 0 and up to 10080/],
  [["--minutes", "an hour"], /'an hour' does not fit --minutes/],
  [["--epoch", "5"], /'5' does not fit --epoch: give a time .* with its unit/],
  [["--epoch", "1ms"], /'1ms' does not fit --epoch/],
  [["--workload", "tight"], /unknown workload 'tight': --workload takes random-mixed, larson/],
  [["--workload", "toString"], /unknown workload 'toString'/],
  [["--workload", "medium", "--threads", "2"], /medium has one thread: leave out --threads/],
  [["--threads", "0"], /'0' does not fit --threads: give a whole number from 1 to 256/],
  [["--minutes", "0.01", "--allocators", "system"], /too short: 1 allocators? need.* --minutes/],
  [["--resume", "x", "--minutes", "5"], /--resume goes on with what x says, so --minutes/],
  [["--resume", "absent"], /there is no absent: name a state file/],
  [["--resume", "other.json"], /other\.json is no state file of a soak/],
  [["--resume", "."], /cannot use \. as a state file/],
  [["--state", "other.json"], /other\.json is there already.*--resume other\.json/],
  [["--json", "nowhere/r.json"], /cannot write --json nowhere\/r\.json/],
];

Deno.test("bad input gets one line that says what is valid, and leaves nothing behind", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/other.json`, '{"schema":"hakmem.sweep/1"}\n');
    await Promise.all(badInput.map(async ([args, says]) => {
      const { code, stdout, stderr } = await soak(args, folder);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^hak soak: .*\n$/);
      assert.match(stderr, says);
      assert.equal(stdout, "");
    }));
    assert.deepEqual(namesIn(folder), ["other.json"]);
  }));
