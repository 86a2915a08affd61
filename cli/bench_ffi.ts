/**
 * `hak bench-ffi`: what a block costs from Deno, by `deno bench` on `bench/ffi_bench.ts`.
 *
 * @module
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Hakmem, HakmemError } from "../mod.ts";
import { buildIfNeeded } from "./build.ts";
import { runChild, writeOut } from "./child.ts";
import { RunError, UsageError } from "./errors.ts";
import { root } from "./paths.ts";

/** One line for the list of commands. */
export const summary: string = "Compare the binding's malloc with libc's and with new Uint8Array";

/** What `--help` prints. */
export const usage: string = `hak bench-ffi [--json] [--filter TEXT]

Builds what has changed, then times a malloc and free through the binding, through Deno.dlopen on libc,
and new Uint8Array, for blocks of 16 bytes to 1 MiB and for thousands of blocks at once.
  --json          only JSON on standard output, as deno bench writes it, times in nanoseconds
  --filter TEXT   only the rows whose names contain this text, such as "64 B"

bench/ffi_bench.ts says how to read the rows. The exit status is that of deno bench.`;

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const options = parse(args);
  await buildIfNeeded();
  checkLibrary();
  const status = await runChild({
    program: Deno.execPath(),
    args: [
      "bench",
      "-A",
      `--config=${join(root, "deno.json")}`,
      ...(options.json ? ["--json"] : []),
      ...(options.filter === undefined ? [] : [`--filter=${options.filter}`]),
      join(root, "bench", "ffi_bench.ts"),
    ],
    cwd: root,
    env: Deno.stdout.isTerminal() && !Deno.noColor ? { FORCE_COLOR: "1" } : {},
    onStdout: (piece) => writeOut(Deno.stdout, piece),
  });
  return status.code;
}

/** Opens the library once: `deno bench --json` would not say why it cannot be opened. */
function checkLibrary(): void {
  try {
    Hakmem.open().close();
  } catch (error) {
    if (!(error instanceof HakmemError)) throw error;
    throw new RunError(error.message);
  }
}

function parse(args: string[]): { json: boolean; filter?: string } {
  try {
    const { values } = parseArgs({
      args,
      options: { json: { type: "boolean", default: false }, filter: { type: "string" } },
    });
    return values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const given = args.map((arg) => JSON.stringify(arg)).join(" ");
    throw new UsageError(`${given}: the options are --json and --filter TEXT`);
  }
}
