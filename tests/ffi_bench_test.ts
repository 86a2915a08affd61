/**
 * The benchmarks of the binding run, and `hak bench-ffi` passes on what it is given and what comes of it. No
 * time is looked at.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { root } from "../cli/paths.ts";

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

async function deno(env: Record<string, string>, ...args: string[]): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    stdin: "null",
    env: { NO_COLOR: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

function benchFfi(env: Record<string, string>, ...args: string[]): Promise<Ended> {
  return deno(env, "run", "-A", join(root, "cli.ts"), "bench-ffi", ...args);
}

/** What `deno bench --json` writes, as far as it is looked at. */
interface Report {
  benches: { name: string; group: string; results: { ok?: { avg: number } }[] }[];
}

Deno.test("ffi bench: bench-ffi --json writes one result for each row, and nothing else", async () => {
  const { code, stdout, stderr } = await benchFfi({}, "--json", "--filter", "/: (16 B|1 MiB)$/");
  assert.equal(code, 0, stderr);
  const { benches } = JSON.parse(stdout) as Report;
  const one = ["hakmem malloc, free", "libc malloc, free", "hakmem calloc, free"]
    .concat("libc calloc, free", "new Uint8Array");
  const many = ["hakmem malloc all, free all", "hakmem mallocBatch, freeBatch"]
    .concat("libc malloc all, free all", "new Uint8Array, all kept");
  assert.deepEqual(
    benches.map(({ group, name }) => `${group}: ${name}`).sort(),
    [
      ...one.map((row) => `one block of 16 B: ${row}: 16 B`),
      ...one.map((row) => `one block of 1 MiB: ${row}: 1 MiB`),
      ...many.map((row) => `4096 blocks of 16 B: ${row}: 16 B`),
    ].sort(),
  );
  for (const { name, results } of benches) {
    assert((results[0]?.ok?.avg ?? 0) > 0, `${name} has a result`);
  }
});

Deno.test("ffi bench: plain deno bench finds the benchmarks, and only those", async () => {
  const { code, stdout, stderr } = await deno({}, "bench", "-A", "--filter", "no such row");
  assert.equal(code, 0, stderr);
  assert.deepEqual(stdout.match(/^file:.*$/gm), [import.meta.resolve("../bench/ffi_bench.ts")]);
});

Deno.test("ffi bench: bench-ffi says in one line why the library does not open", async () => {
  const env = { HAKMEM_LIB: "/nowhere/libhakmem.so" };
  for (const args of [[], ["--json"]]) {
    const { code, stdout, stderr } = await benchFfi(env, ...args);
    assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
    assert.match(
      stderr,
      /^hak bench-ffi: Cannot open .*\(HAKMEM_LIB\): there is no such file.*\n$/,
    );
  }
});

Deno.test("ffi bench: bench-ffi refuses what it does not know, in one line", async () => {
  for (const wrong of [["--jsno"], ["64"], ["--filter"], ["--json=5"]]) {
    const { code, stdout, stderr } = await benchFfi({}, ...wrong);
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    assert.equal(
      stderr,
      `hak bench-ffi: "${wrong[0]}": the options are --json and --filter TEXT\n`,
    );
  }
});
