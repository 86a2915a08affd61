/**
 * Running the native test programs against each door of the allocator, with the process's own malloc as
 * control.
 *
 * @module
 */
import { join } from "node:path";
import { binary, ffiLibrary, preloadLibrary, zigOut } from "../cli/paths.ts";

/** An allocator as a test program meets it. */
export interface Door {
  /** How the names of the tests call it. */
  name: string;
  /** The object to preload; none is preloaded without it. */
  preload?: string;
  /** Arguments that choose the door. */
  args: string[];
  /** Variables set for the program. */
  env?: Record<string, string>;
}

/** What libc brings along: what fails here is a mistake of the test, or of libc. */
export const libc: Door = { name: "libc", args: [] };

/** hakmem as the process's malloc. */
export const preload: Door = { name: "preload", preload: preloadLibrary, args: [] };

/** The same with its assertions compiled in. */
export const checked: Door = {
  name: "preload with assertions",
  preload: join(zigOut, "test", "libhakmem_preload_checked.so"),
  args: [],
};

/** hakmem with every block guarded, and with its assertions. */
export const guarded: Door = {
  ...checked,
  name: "preload with HAKMEM_CHECK=1",
  env: { HAKMEM_CHECK: "1" },
};

/** hakmem opened beside libc's malloc. */
export const hak: Door = { name: "hak_*", args: ["--hak", ffiLibrary] };

/** The files that a build must have made for this door and program, and has not. */
export function missingFiles(program: string, doors: Door[]): string[] {
  const needed = doors.flatMap((door) => [door.preload ?? [], door.args.slice(1)].flat());
  return [binary(program), ...needed].filter((path) => !isThere(path));
}

/** Whether there is a file. */
export function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** What a program printed and how it ended. */
export interface Ended {
  /** The exit status, or 128 and the signal's number. */
  code: number;
  /** Standard output and, after it, standard error, without the last line break. */
  text: string;
  /** The command for a shell that does the same again. */
  command: string;
}

/** Runs a native program, under a limit of its address space in KiB if one is given. */
export async function runNative(
  program: string,
  door: Door,
  args: string[],
  addressSpaceKib?: number,
): Promise<Ended> {
  const words = [binary(program), ...args, ...door.args];
  const limit = addressSpaceKib === undefined ? "" : `ulimit -v ${addressSpaceKib} && `;
  // The shell sets the limit and the preload for the program alone, and gives way to it.
  const variables = Object.entries({
    ...door.env,
    ...(door.preload === undefined ? {} : { LD_PRELOAD: door.preload }),
  }).map(([name, value]) => `${name}=${quoted(value)} `).join("");
  const command = `${limit}${variables}exec ${words.map(quoted).join(" ")}`;
  const { LD_PRELOAD: _, ...env } = Deno.env.toObject();
  const output = await new Deno.Command("sh", {
    args: ["-c", command],
    clearEnv: true,
    env,
    stdin: "null",
    // Each program limits itself; this is for the case that it cannot.
    signal: AbortSignal.timeout(180_000),
  }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(output.stdout) + decoder.decode(output.stderr);
  return { code: output.code, text: text.trimEnd(), command: `(${command})` };
}

function quoted(word: string): string {
  return /^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
