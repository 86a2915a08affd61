/**
 * What the documentation shows of the binding runs: the examples in its comments and in examples/, and what a
 * registry asks of a package.
 */
import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "../cli/paths.ts";
import { filesBelow } from "../cli/walk.ts";

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

async function deno(...args: string[]): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The settings of the checkout without the one that no example can meet. */
async function exampleConfig(folder: string): Promise<string> {
  const settings = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
    name: string;
    compilerOptions: Record<string, unknown>;
  };
  const path = join(folder, "deno.json");
  // Deno imports all that a documented file exports into each of its examples, used or not.
  const compilerOptions = { ...settings.compilerOptions, noUnusedLocals: false };
  const imports = { [settings.name]: pathToFileURL(join(root, "mod.ts")).href };
  await Deno.writeTextFile(path, JSON.stringify({ compilerOptions, imports }));
  return path;
}

Deno.test("ffi docs: every example in the comments of the binding is typed right, and runs", async () => {
  const files = [join(root, "mod.ts")];
  for await (const path of filesBelow(join(root, "ffi"))) files.push(path);
  let examples = 0;
  for (const file of files) {
    examples += (await Deno.readTextFile(file)).match(/^ *\* ```ts$/gm)?.length ?? 0;
  }
  assert(examples >= 18, `there are ${examples} examples`);

  const folder = await Deno.makeTempDir({ prefix: "hak-docs-" });
  try {
    const config = await exampleConfig(folder);
    const { code, stdout, stderr } = await deno(
      "test",
      "--doc",
      "--no-lock",
      "--allow-ffi",
      "--allow-env=HAKMEM_LIB",
      "--sanitize-resources",
      `--config=${config}`,
      ...files,
    );
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, new RegExp(`^ok \\| ${examples} passed \\| 0 failed`, "m"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** A method as `deno doc --json` describes it. */
interface Method {
  name: string;
  jsDoc?: { tags?: { kind: string }[] };
}

/** The methods of the one class that has the method `malloc`, wherever it stands in a description. */
function methodsIn(described: unknown): Method[] {
  if (typeof described !== "object" || described === null) return [];
  if ("methods" in described && Array.isArray(described.methods)) {
    const methods = described.methods as Method[];
    if (methods.some(({ name }) => name === "malloc")) return methods;
  }
  return Object.values(described).flatMap(methodsIn);
}

Deno.test("ffi docs: every method of Hakmem that does something has an example", async () => {
  const methods = methodsIn(JSON.parse((await deno("doc", "--json", "mod.ts")).stdout));
  assert(methods.length >= 17);
  const without = methods
    .filter(({ jsDoc }) => !jsDoc?.tags?.some(({ kind }) => kind === "example"))
    .map(({ name }) => name);
  assert.deepEqual(without, ["closed", "[Symbol.dispose]"]);
});

Deno.test("ffi docs: examples/memory_comes_back.ts runs with --allow-ffi alone", async () => {
  const { code, stdout, stderr } = await deno(
    "run",
    "--no-prompt",
    "--allow-ffi",
    "examples/memory_comes_back.ts",
  );
  assert.equal(code, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  assert.deepEqual(
    lines.slice(1).map((line) => line.slice(0, 12).trim()),
    ["at the start", "allocated", "freed", "flushed"],
  );
  const [, allocated = [], , flushed = []] = lines.slice(1).map((line) =>
    [...line.matchAll(/([\d.]+) MiB/g)].map(([, number]) => Number(number))
  );
  const [inSlabs = 0] = allocated;
  const [inSlabsAfter = Infinity, , mappedAfter = Infinity] = flushed;
  // A million blocks of 16 bytes are 15.26 MiB.
  assert(inSlabs > 15.26 && inSlabs < 20);
  assert(inSlabsAfter < 1);
  assert(mappedAfter < inSlabs);
});

Deno.test("ffi docs: everything that mod.ts exports is documented", async () => {
  const { code, stderr } = await deno("doc", "--lint", "mod.ts");
  assert.equal(code, 0, stderr);
});

Deno.test("ffi docs: the package can be published, and holds the binding and no more", async () => {
  const { code, stderr } = await deno("publish", "--dry-run", "--allow-dirty");
  assert.equal(code, 0, stderr);
  const packed = [...stderr.matchAll(/^ +(file:\S+) \(/gm)].map(([, url]) =>
    relative(root, new URL(url ?? "").pathname)
  );
  const modules = packed.filter((path) => path.endsWith(".ts"));
  assert(modules.includes("mod.ts") && modules.includes("ffi/hakmem.ts"));
  assert.deepEqual(modules.filter((path) => path !== "mod.ts" && !path.startsWith("ffi/")), []);
});
