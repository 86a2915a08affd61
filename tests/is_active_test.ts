/**
 * What `hak_is_active` says: to C programs, and to Deno, with each of the objects and beside another malloc.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ffiLibrary, preloadLibrary } from "../cli/paths.ts";
import { libraryPaths } from "../bench/harness/allocators.ts";
import { outputOf, runScript } from "./ffi_support.ts";
import { missing, workDirectory } from "./programs/preload.ts";
import { isThere } from "./native_support.ts";
import { testUnless } from "./skip.ts";

const [jemalloc] = (await libraryPaths(["libjemalloc.so.2"])).filter(isThere);
const noJemalloc = jemalloc === undefined ? "libjemalloc.so.2 is not installed" : null;

/** What the C program prints: to a process with this preload, about the object at this path if any. */
async function answer(preload: string, ...args: string[]): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "hakmem-is-active-" });
  try {
    const path = join(folder, "is_active");
    const source = join(workDirectory, "is_active.c");
    // The program has an entry for malloc of its own then, which dlsym finds before the preloaded object's.
    const fixed = ["-fno-pie", "-no-pie"];
    const compiled = await new Deno.Command("gcc", {
      args: ["-std=gnu11", "-Wall", "-Wextra", "-Werror", ...fixed, "-o", path, source, "-ldl"],
    }).output();
    assert.equal(new TextDecoder().decode(compiled.stderr), "");
    const env = preload === "" ? {} : { LD_PRELOAD: preload };
    const { stdout } = await new Deno.Command(path, { args, env }).output();
    return new TextDecoder().decode(stdout).trimEnd();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

testUnless("hak_is_active: in a C program at a fixed address", missing("gcc"), async () => {
  assert.equal(await answer(""), "absent");
  assert.equal(await answer("", ffiLibrary), "0");
  assert.equal(await answer(ffiLibrary), "0");
  assert.equal(await answer(preloadLibrary), "1");
  assert.equal(await answer(preloadLibrary, preloadLibrary), "1");
});

testUnless(
  "hak_is_active: libhakmem.so answers for the preloaded object",
  missing("gcc"),
  async () => {
    assert.equal(await answer(preloadLibrary, ffiLibrary), "1");
  },
);

testUnless(
  "hak_is_active: the first of two mallocs is the process's",
  noJemalloc ?? missing("gcc"),
  async () => {
    assert.equal(await answer(`${jemalloc}:${preloadLibrary}`), "0");
    assert.equal(await answer(`${jemalloc}:${preloadLibrary}`, ffiLibrary), "0");
    assert.equal(await answer(`${preloadLibrary}:${jemalloc}`), "1");
  },
);

testUnless("hak_is_active: from Deno", missing(), async () => {
  const script = `
    using hak = Hakmem.open({ path: ${JSON.stringify(ffiLibrary)} });
    console.log(hak.isActive());
  `;
  assert.equal(outputOf(await runScript(script)), "false");
  const preloaded = await runScript(script, { env: { LD_PRELOAD: preloadLibrary } });
  assert.equal(outputOf(preloaded), "true");
});
