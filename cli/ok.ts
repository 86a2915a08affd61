/**
 * `hak ok`: every check there is, in the order of what is quickest to tell.
 *
 * @module
 */
import { join, relative } from "node:path";
import { zigPath } from "./build.ts";
import { runChild, writeOut } from "./child.ts";
import { RunError, UsageError } from "./errors.ts";
import { root } from "./paths.ts";
import { run as test } from "./test.ts";
import { filesBelow } from "./walk.ts";

/** One line for the list of commands. */
export const summary: string = "Run every check: format, lint, types, docs, tests";

/** What `--help` prints. */
export const usage: string = `hak ok

Runs deno fmt --check, deno lint, deno check, deno doc --lint, zig fmt --check and the tests, and stops at
the first that fails.`;

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const [extra] = args;
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${JSON.stringify(extra)}: it takes none`);
  }
  await check("deno fmt", Deno.execPath(), ["fmt", "--check"], "deno fmt mends it");
  await check("deno lint", Deno.execPath(), ["lint"], "deno lint --fix mends some of it");
  await check("deno check", Deno.execPath(), ["check"], "mend the types named above");
  await check(
    "deno doc --lint",
    Deno.execPath(),
    ["doc", "--lint", "mod.ts"],
    "write what it misses",
  );
  const zigFiles: string[] = [];
  for await (const path of filesBelow(join(root, "zig"))) {
    if (/\.(zig|zon)$/.test(path)) zigFiles.push(relative(root, path));
  }
  await check("zig fmt", await zigPath(), ["fmt", "--check", ...zigFiles], "zig fmt zig mends it");
  return await test([]);
}

/** Runs one check and shows what it says if it fails. */
async function check(
  name: string,
  program: string,
  args: string[],
  remedy: string,
): Promise<void> {
  const said: Uint8Array[] = [];
  const keep = (piece: Uint8Array): void => void said.push(piece);
  const status = await runChild({ program, args, cwd: root, onStdout: keep, onStderr: keep });
  if (status.success) {
    console.error(`hak ok: ${name}: ok`);
    return;
  }
  for (const piece of said) writeOut(Deno.stderr, piece);
  throw new RunError(`${name} failed: ${remedy}, then run hak ok again`);
}
