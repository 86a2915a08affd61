/**
 * Costs as `./hak costs` counts them: the reading of callgrind's file, the instructions of the fast paths,
 * and that only the object made for counting counts. What the counts may be is bounded by
 * `zig/tests/costs.zig`.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { instructionsOfCalls } from "../bench/costs/callgrind.ts";
import { renderCsv } from "../bench/costs/csv.ts";
import type { CostReport } from "../bench/costs/schema.ts";
import { renderTable } from "../bench/costs/table.ts";
import { countingLibrary, ffiLibrary, preloadLibrary, root } from "../cli/paths.ts";
import { testUnless } from "./skip.ts";
import { syntheticHead } from "./verb_support.ts";

/**
 * What `malloc` and `free` of a block at hand take on x86-64, the return included: docs/DESIGN.md, "One
 * allocation" and "One free".
 */
const fastPaths = { malloc: 17 + 1, free: 22 + 1 };

async function costs(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", join(root, "cli.ts"), "costs", ...args],
    cwd: root,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

async function report(args: readonly string[]): Promise<CostReport> {
  const { code, stdout, stderr } = await costs([...args, "--json", "-"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

function whyNoCallgrind(): string | null {
  if (Deno.build.arch !== "x86_64") return "the instructions are those of x86-64";
  const found = (Deno.env.get("PATH") ?? "").split(":").some((folder) => {
    try {
      return Deno.statSync(join(folder, "valgrind")).isFile;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        return false;
      }
      throw error;
    }
  });
  return found ? null : "valgrind is not installed";
}

testUnless(
  "a pair takes the instructions of the two fast paths, in every run alike",
  whyNoCallgrind(),
  async () => {
    const args = ["tight", "--only", "instructions", "--allocators", "system,hakmem"];
    const [one, other] = [
      await report([...args, "--scale", "0.002"]),
      await report([...args, "--scale", "0.004"]),
    ];
    const figures = (of: CostReport, name: string): [string, number | null][] =>
      of.instructions.filter(({ allocator }) => allocator === name)
        .map(({ row, per_operation }) => [row, per_operation]);
    const pair = fastPaths.malloc + fastPaths.free;
    const expected = ["tight-16", "tight-64", "tight-256"].map((row) => [row, pair]);
    assert.deepEqual(figures(one, "hakmem"), expected);
    assert.deepEqual(figures(other, "hakmem"), expected);
    for (const [row, figure] of figures(one, "system")) {
      assert((figure ?? 0) > 20, `${row}: no malloc takes ${figure} instructions a pair`);
    }
  },
);

Deno.test("counts: nothing for pairs from the magazine, and per thread as much work whatever their number", async () => {
  const { counts, instructions, valgrind } = await report(
    ["tight-64", "xthread-small", "--only", "counts", "--threads", "1,3", "--scale", "0.002"],
  );
  assert.deepEqual(
    [instructions.length, valgrind, counts.map(({ row, threads }) => `${row} ${threads}`)],
    [0, null, ["tight-64 1", "xthread-small 1", "xthread-small 3"]],
  );
  const [tight, alone, three] = counts;
  assert(tight !== undefined && alone !== undefined && three !== undefined);
  for (const name of ["shared_writes", "atomics", "locks", "bitmap_words", "system_calls"]) {
    assert.equal(tight.counts[name], 0, name);
  }
  // The magazine's top at each half of a pair.
  assert.equal(tight.per_1000.stores_unordered, 2000);
  assert.equal(three.operations, 3 * alone.operations);
});

Deno.test("counts are exported by the object made for counting, and by no other", async () => {
  // Builds what is looked at.
  await report(["tight-64", "--only", "counts", "--scale", "0.0001"]);
  const mentions = async (path: string): Promise<boolean> =>
    new TextDecoder("latin1").decode(await Deno.readFile(path)).includes("hak_cost_");
  assert.deepEqual(
    await Promise.all([countingLibrary, preloadLibrary, ffiLibrary].map(mentions)),
    [true, false, false],
  );
});

Deno.test("bad input to costs gets one line that says what is valid", async () => {
  const cases: [args: string[], env: Record<string, string>, code: number, line: RegExp][] = [
    [["--only", "time"], {}, 2, /'time' does not fit --only: give instructions or counts/],
    [["--scale", "0"], {}, 2, /'0' does not fit --scale: give a number above 0 and up to 10/],
    [["--threads", "0"], {}, 2, /'0' does not fit --threads: give a whole number from 1 to 256/],
    [["--repeat", "3"], {}, 2, /unknown option --repeat: valid are --allocators, .*--only, --help/],
    [["--only", "counts", "tihgt"], {}, 2, /unknown workload 'tihgt': valid are tight, batch/],
    [
      ["tight", "--allocators", "system"],
      { PATH: "/nowhere" },
      1,
      /valgrind is not installed: instructions need it; install it .* or leave them out by --only counts/,
    ],
  ];
  for (const [args, env, code, line] of cases) {
    const outcome = await costs(args, env);
    assert.equal(outcome.code, code, outcome.stderr);
    assert.match(outcome.stderr, line);
    assert.equal(outcome.stdout, "");
  }
});

const callgrindText = `# callgrind format
events: Ir

ob=/usr/bin/hak-bench
fl=tight.zig
fn=repeatPairs
48 12
cob=/lib/liballoc.so
cfi=???
cfn=mi_malloc
calls=2 0
16 100
cob=???
cfn=free
calls=2 0
16 30
cob=/lib/libc.so.6
cfn=memset
calls=1 0
16 7
cfn=helper
calls=1 0
16 5

ob=/lib/liballoc.so
fn=mi_malloc
0 80
cfn=malloc
calls=1 0
0 20
cob=/lib/libc.so.6
cfn=__libc_malloc@@GLIBC_2.2.5
calls=1 0
0 3
`;

Deno.test("of callgrind's file count the calls from the program into the allocator, whole", () => {
  const of = (text: string, object: string): number =>
    instructionsOfCalls(text, "/usr/bin/hak-bench", object);
  assert.equal(of(callgrindText, "/lib/liballoc.so"), 100 + 30);
  // Of the C library only malloc and its family: memset is none.
  assert.equal(of(callgrindText, "/lib/libc.so.6"), 30);
  assert.throws(
    () => of(callgrindText.replace("16 30", "?"), "/lib/liballoc.so"),
    /cannot be read/,
  );
});

const subject = { workload: "w", row: "w-1", label: "W", operation: "pair", threads: 1 };
const synthetic: CostReport = {
  schema: "hakmem.costs/1",
  command: ["costs"],
  ...syntheticHead,
  valgrind: "3.19.0",
  instructions: [
    {
      ...{ ...subject, allocator: "hakmem", path: "/h.so", version: "1", error: null },
      ...{ operations: [10, 30], instructions: [900, 1700], per_operation: 40 },
    },
    {
      ...{ ...subject, allocator: "other", path: null, version: null, error: "not loaded" },
      ...{ operations: [], instructions: [], per_operation: null },
    },
  ],
  counts: [
    {
      ...{ ...subject, allocator: "hakmem", error: null, operations: 2000 },
      ...{ counts: { locks: 5 }, per_1000: { locks: 2.5 } },
    },
  ],
};

Deno.test("the table and the CSV show every figure and every error", () => {
  const table = renderTable(synthetic, false);
  assert.match(table, /row +operation +hakmem +other\nw-1 +pair +40\.0 +-\n/);
  assert.match(table, /row +operation +threads +shared lines .*\nw-1 +pair +1 +- +- +2\.50 /);
  assert.match(table, /w-1, other, threads 1: not loaded/);
  assert.deepEqual(renderCsv(synthetic).trimEnd().split(/\r?\n/), [
    "workload,row,operation,threads,allocator,figure,per_operations,value,error",
    "w,w-1,pair,1,hakmem,instructions,1,40,",
    "w,w-1,pair,1,other,instructions,1,,not loaded",
    "w,w-1,pair,1,hakmem,locks,1000,2.5,",
  ]);
});
