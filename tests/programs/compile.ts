/**
 * Compiles the C programs of the work directory, and runs them with an object of hakmem's.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename, join, resolve } from "node:path";
import { preloadLibrary } from "../../cli/paths.ts";
import { checked } from "../native_support.ts";
import { findProgram, missing, workDirectory } from "./preload.ts";

/** The object, and the same with its assertions on. */
export const preloadLibraries: readonly string[] = [preloadLibrary, checked.preload ?? ""];

/** Zig, which compiles the C programs here as it does the library. */
function zigCompiler(): string | null {
  return Deno.env.get("ZIG") ?? findProgram("zig");
}

/** Why a test that compiles cannot run here; `null` when it can. */
export function missingCompiler(): string | null {
  return missing() ?? (zigCompiler() === null ? "zig not on PATH" : null);
}

/** Compiles C sources, by default of the work directory, and removes the result after its use. */
export async function withCompiled(
  sources: string[],
  options: string[],
  use: (path: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "hakmem-compiled-" });
  try {
    const output = join(directory, basename(sources[0] ?? "", ".c"));
    const { success, stderr } = await new Deno.Command(zigCompiler() ?? "zig", {
      args: [
        ...["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", ...options],
        ...["-o", output, ...sources.map((source) => resolve(workDirectory, source))],
      ],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    await use(output);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** How a program came to its end. */
export interface Ended {
  /** The exit status, or 128 and the signal's number. */
  readonly code: number;
  /** Its standard output. */
  readonly stdout: string;
  /** Its standard error. */
  readonly stderr: string;
}

/** Runs a program with `LD_PRELOAD`, whichever way it ends; one that hangs is killed. */
export async function runPreloaded(
  executable: string,
  args: readonly string[],
  preload: string,
): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(executable, {
    args: [...args],
    env: { LD_PRELOAD: preload },
    stdin: "null",
    signal: AbortSignal.timeout(150_000),
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a program with each object in `LD_PRELOAD`; fails unless it ends well and prints this line. */
export async function assertPrints(
  executable: string,
  args: readonly string[],
  line: string,
): Promise<void> {
  for (const library of preloadLibraries) {
    const { code, stdout, stderr } = await runPreloaded(executable, args, library);
    assert.equal(stdout, `${line}\n`, `${library}: ${stderr}`);
    assert.equal(code, 0, `${library}: ${stderr}`);
  }
}
