/**
 * The command line of `sweep`: what is valid means what it should, and whatever is not ends in one line
 * and exit status 2, with nothing written.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseOptions, type SweepOptions } from "../bench/sweep/options.ts";
import { sweep } from "./sweep_support.ts";
import { inFolder } from "./verb_support.ts";

function parse(...args: string[]): SweepOptions {
  return parseOptions(args);
}

Deno.test("sweep without options measures the default counts of 16-byte blocks", () => {
  const { seed, ...options } = parse();
  assert.deepEqual(options, {
    sizes: [16],
    counts: [1e3, 1e4, 1e5, 1e6, 1e7],
    allocators: null,
    peers: new Map(),
    repeat: 5,
    pattern: "sequential",
    json: null,
    csv: null,
    html: null,
  });
  assert(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32);
});

Deno.test("--quick and --battle choose counts and repeats, which other options override", () => {
  assert.deepEqual(parse("--quick").counts, [1e3, 1e5, 1e6]);
  assert.equal(parse("--quick").repeat, 2);
  assert.deepEqual(parse("--battle").counts, [1e5, 5e5, 1e6, 2e6, 5e6]);
  assert.deepEqual(parse("--battle").sizes, [16]);
  assert.equal(parse("--battle", "--repeat", "2").repeat, 2);
  assert.deepEqual(parse("--quick", "--counts", "10k").counts, [1e4]);
});

Deno.test("lists are read with their suffixes and sorted", () => {
  assert.deepEqual(parse("--counts", "1M,10k, 500,2.5k,1.1M").counts, [500, 2500, 1e4, 1e6, 1.1e6]);
  assert.deepEqual(parse("--counts=1K,1000M").counts, [1000, 1e9]);
  assert.deepEqual(parse("--sizes", "64,8").sizes, [8, 64]);
  assert.deepEqual(parse("--allocators", "mimalloc,system").allocators, ["mimalloc", "system"]);
  const { peers, allocators } = parse(
    ...["--peer", "a=/x=y.so", "--peer=b=z.so", "--allocators", "b,system"],
  );
  assert.deepEqual([...peers], [
    ["a", { path: "/x=y.so", env: {} }],
    ["b", { path: "z.so", env: {} }],
  ]);
  assert.deepEqual(allocators, ["b", "system"]);
});

/** Arguments, and what the one line must say: what was wrong and what is valid. */
const badInput: [args: string[], says: RegExp][] = [
  [["--bogus"], /unknown option --bogus: .*--sizes.*--battle.*--help/],
  [["-q"], /unknown option -q: .*--quick/],
  [["extra"], /'extra'.*options/],
  [["--sizes", "0"], /'0' is no size: .*1 to 1073741824/],
  [["--sizes", "1e3"], /'1e3' is no size/],
  [["--sizes", "16,x"], /'x' is no size/],
  [["--sizes", "1073741825"], /1 to 1073741824/],
  [["--sizes", "16,,64"], /empty item.*single commas/],
  [["--sizes", "16,16"], /'16' twice/],
  [["--sizes"], /--sizes needs a value, as in/],
  [["--sizes", "--quick"], /--sizes needs a value/],
  [["--counts", "0"], /'0' is no number of blocks: .*1 to 1000M/],
  [["--counts", "1.5"], /'1\.5' is no number/],
  [["--counts", "10x"], /'10x' is no number/],
  [["--counts", "1k,1000"], /1000 twice/],
  [["--allocators", "nomalloc"], /'nomalloc': .*system, hakmem, mimalloc.*--peer nomalloc=/],
  [["--allocators", "system,system"], /'system' twice/],
  [["--repeat", "0"], /'0' does not fit --repeat: .*1 to 1000/],
  [["--repeat", "-1"], /'-1' does not fit --repeat/],
  [["--repeat", "2", "--repeat", "3"], /--repeat is given twice/],
  [["--pattern", "zigzag"], /'zigzag'.*sequential.*random/],
  [["--seed", "4294967296"], /--seed: .*0 to 4294967295/],
  [["--quick", "--battle"], /--quick and --battle/],
  [["--quick=yes"], /--quick takes no value/],
  [["--peer", "name"], /'name' is no peer: .*NAME=PATH/],
  [["--peer", "a b=x.so"], /'a b' is no name/],
  [["--peer", "system=x.so"], /'system'.*choose another/],
  [["--peer", "a=x.so", "--peer", "a=x.so"], /'a' twice/],
  [["--peer", "a=missing.so"], /missing\.so does not exist.*--peer a=/],
  [["--peer", "a=text.so"], /text\.so is no ELF shared object/],
  [["--peer", "a=/bin/sh"], /\/bin\/sh is a program/],
  [["--peer", "a=."], /is no file/],
  [["--json", "missing/result.json"], /--json missing\/result\.json: its folder does not exist/],
  [["--csv", "."], /--csv \.: it is a directory/],
  [["--json", "-", "--csv", "-"], /--json and --csv.*standard output/],
  [["--json", "same", "--html", "./same"], /--json and --html.*own file/],
  [
    ["--sizes", "1024", "--counts", "1000M"],
    /1000M blocks of 1024 bytes: .*largest count .* is \d/,
  ],
  [["--sizes", "1073741824", "--counts", "1M"], /1M blocks of 1073741824 bytes: .*available/],
];

for (const [args, says] of badInput) {
  Deno.test(`sweep ${args.join(" ")} is refused in one line`, () =>
    inFolder(async (folder) => {
      await Deno.writeTextFile(join(folder, "text.so"), "no library\n".repeat(20));
      // An output that is fine must not be there afterwards, either.
      const output = args.some((arg) => arg.startsWith("--html")) ? [] : ["--html", "report.html"];
      const { code, stdout, stderr } = await sweep([...output, ...args], folder);
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^hak sweep: [^\n]+\n$/);
      assert.match(stderr, says);
      assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["text.so"]);
    }));
}

Deno.test("sweep --help tells every option, and that is all it does", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await sweep(["--help"], folder);
    assert.equal(code, 0);
    assert.equal(stderr, "");
    for (
      const option of [
        ...["sizes", "counts", "allocators", "peer", "pattern", "repeat", "seed"],
        ...["quick", "battle", "json", "csv", "html"],
      ]
    ) {
      assert.match(stdout, new RegExp(`^  --${option} `, "m"));
    }
    assert(stdout.split("\n").every((line) => line.length <= 100));
  }));
