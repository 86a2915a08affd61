/**
 * The command line of `bench`: what is valid means what it should, and whatever is not ends in one line
 * and exit status 2, with nothing written.
 */
import assert from "node:assert/strict";
import { buildIfNeeded } from "../cli/build.ts";
import { type BenchOptions, parseOptions } from "../bench/workloads/options.ts";
import { bench } from "./bench_support.ts";
import { inFolder, namesIn } from "./verb_support.ts";

function parse(...args: string[]): BenchOptions {
  return parseOptions(args);
}

const cores = navigator.hardwareConcurrency;

Deno.test("bench without options measures every row seven times", () => {
  const { seed, ...options } = parse();
  assert.deepEqual(options, {
    programs: false,
    words: [],
    quick: false,
    threads: [cores, 2 * cores],
    scale: 1,
    allocators: null,
    peers: new Map(),
    repeat: 7,
    json: null,
    csv: null,
    html: null,
  });
  assert(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32);
});

Deno.test("words name workloads or, after programs, programs; --quick has other defaults", () => {
  const { words, threads, scale } = parse(
    ...["tight", "--threads", "4,1,2", "larson", "--scale", "0.25"],
  );
  assert.deepEqual({ words, threads, scale }, {
    words: ["tight", "larson"],
    threads: [1, 2, 4],
    scale: 0.25,
  });
  const quick = parse("--quick");
  assert.deepEqual([quick.repeat, quick.threads], [2, [cores]]);
  assert.equal(parse("--quick", "--repeat", "4").repeat, 4);
  const programs = parse("programs", "git", "--repeat=2");
  assert.deepEqual([programs.programs, programs.words, programs.repeat], [true, ["git"], 2]);
});

Deno.test("a peer's variables follow its path, which may hold commas and equals signs", () => {
  const { peers } = parse(
    ...["--peer", "plain=/a,b=c,d/x=y.so"],
    ...["--peer", "small=lib.so,MIMALLOC_ALLOW_THP=0,MALLOC_CONF=a:1,b:2,EMPTY="],
    ...["--peer", "large=lib.so"],
  );
  assert.deepEqual([...peers], [
    // What reads as a variable ends a path.
    ["plain", { path: "/a", env: { b: "c,d/x=y.so" } }],
    [
      "small",
      { path: "lib.so", env: { MIMALLOC_ALLOW_THP: "0", MALLOC_CONF: "a:1,b:2", EMPTY: "" } },
    ],
    ["large", { path: "lib.so", env: {} }],
  ]);
  assert.deepEqual(parse("--peer", "p=/a,b/x=y.so").peers.get("p"), {
    path: "/a,b/x=y.so",
    env: {},
  });
});

/** Arguments, and what the one line must say: what was wrong and what is valid. */
const badInput: [args: string[], says: RegExp][] = [
  [["--bogus"], /unknown option --bogus: .*--threads.*--scale.*--help/],
  [["--sizes", "16"], /unknown option --sizes/],
  [["tigt"], /unknown workload 'tigt': valid are tight, batch, .*'tight-16'.*programs.*--help/],
  [["tight", "larson-3"], /unknown workload 'larson-3'/],
  [["programs", "pyton"], /unknown program 'pyton': valid are python3, node, .*xz/],
  [["programs", "--threads", "2"], /--threads is of no use with programs/],
  [["programs", "--scale", "2"], /--scale is of no use with programs/],
  [["--threads", "0"], /'0' does not fit --threads: .*1 to 256/],
  [["--threads", "2,2"], /'2' twice/],
  [["--threads", "2,02"], /2 twice/],
  [["--scale", "0"], /'0' does not fit --scale: .*above 0 and up to 1000/],
  [["--scale", "1e3"], /'1e3' does not fit --scale/],
  [["--repeat", "1001"], /'1001' does not fit --repeat: .*1 to 1000/],
  [["--allocators", "nomalloc"], /'nomalloc': .*--peer nomalloc=/],
  [["--peer", "a=x.so,LD_PRELOAD=y.so"], /--peer a cannot set LD_PRELOAD/],
  [["--peer", "a=x.so,V=1,V=2"], /--peer a sets V twice/],
  [["--peer", "a=missing.so,V=1"], /missing\.so does not exist/],
  [["--json", "missing/result.json"], /--json missing\/result\.json: its folder does not exist/],
  [["--json", "-", "--csv", "-"], /--json and --csv.*standard output/],
];

for (const [args, says] of badInput) {
  Deno.test(`bench ${args.join(" ")} is refused in one line`, () =>
    inFolder(async (folder) => {
      // The rows are known only to what is built.
      await buildIfNeeded();
      const { code, stdout, stderr } = await bench(["--html", "report.html", ...args], folder);
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^hak bench: [^\n]+\n$/);
      assert.match(stderr, says);
      assert.deepEqual(namesIn(folder), []);
    }));
}

Deno.test("bench --help tells every option, and that is all it does", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await bench(["--help"], folder);
    assert.equal(code, 0);
    assert.equal(stderr, "");
    for (
      const option of [
        ...["allocators", "peer", "threads", "repeat", "seed", "quick", "scale"],
        ...["json", "csv", "html"],
      ]
    ) {
      assert.match(stdout, new RegExp(`^  --${option} `, "m"));
    }
    assert.match(stdout, /MIMALLOC_ALLOW_THP=0/);
    assert(stdout.split("\n").every((line) => line.length <= 100));
  }));
