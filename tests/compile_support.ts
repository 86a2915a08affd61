/**
 * Compiling the C programs of the tests.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename, join, resolve } from "node:path";
import { findProgram, missing, workDirectory } from "./programs/preload.ts";

/** Zig, which compiles the C programs here as it does the library. */
function zigCompiler(): string | null {
  return Deno.env.get("ZIG") ?? findProgram("zig");
}

/** Why C programs cannot be compiled here; null when they can. */
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
