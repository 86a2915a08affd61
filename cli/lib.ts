/**
 * `hak lib`: where a built object lies, for scripts.
 *
 * @module
 */
import { buildIfNeeded } from "./build.ts";
import { UsageError } from "./errors.ts";
import { ffiLibrary, preloadLibrary } from "./paths.ts";

/** One line for the list of commands. */
export const summary: string = "Print the path of a built object: preload or ffi";

/** What `--help` prints. */
export const usage: string = `hak lib preload|ffi

Builds what has changed and prints the absolute path of one object, and nothing else, on standard output:
  preload   for LD_PRELOAD: the malloc family and hak_*
  ffi       for dlopen: hak_* only

Example: LD_PRELOAD=$(./hak lib preload) ls`;

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const [name, extra] = args;
  if (name === undefined) throw new UsageError("which object? Try hak lib preload, or hak lib ffi");
  if (name !== "preload" && name !== "ffi") {
    throw new UsageError(`unknown object ${JSON.stringify(name)}: it is preload or ffi`);
  }
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${JSON.stringify(extra)}: one object at a time`);
  }
  await buildIfNeeded();
  console.log(name === "preload" ? preloadLibrary : ffiLibrary);
  return 0;
}
