/**
 * Which of the real programs are wanted and installed, and their inputs.
 *
 * @module
 */
import { join } from "node:path";
import { RunError, UsageError } from "../../cli/errors.ts";
import { findProgram } from "../../cli/paths.ts";
import { type Program, programs } from "./programs.ts";

/** Where a person gets what is missing, where that is not its name (Debian). */
const packages: Readonly<Record<string, string>> = {
  node: "nodejs",
  "redis-benchmark": "redis-tools",
  "redis-cli": "redis-tools",
  xz: "xz-utils",
};

/** What `hak bench programs` works with. */
export interface ProgramPlan {
  /** The path of hyperfine. */
  hyperfine: string;
  /** The programs to be measured. */
  programs: Program[];
}

/** Finds hyperfine and the programs that are wanted. Says of each that is not installed that it is left out. */
export function planOf(
  words: readonly string[],
  say: (line: string) => void,
  find: (name: string) => string | null = findProgram,
): ProgramPlan {
  const unknown = words.find((word) => !programs.some(({ row }) => row === word));
  if (unknown !== undefined) {
    throw new UsageError(
      `unknown program '${unknown}': valid are ${
        programs.map(({ row }) => row).join(", ")
      }; see ./hak bench --help`,
    );
  }
  const hyperfine = find("hyperfine");
  if (hyperfine === null) {
    throw new RunError(
      "hyperfine is not on PATH, which times the programs: install it (Debian: apt-get install hyperfine)",
    );
  }
  const wanted = programs.filter(({ row }) => words.length === 0 || words.includes(row));
  const found = wanted.filter(({ row, needs }) => {
    const absent = needs.filter((name) => name !== "deno" && find(name) === null);
    if (absent.length === 0) return true;
    const names = [...new Set(absent.map((name) => packages[name] ?? name))];
    say(`Left out: ${row}, as ${absent.join(", ")} is not on PATH (Debian: ${names.join(", ")})`);
    return false;
  });
  if (found.length > 0) return { hyperfine, programs: found };
  throw new RunError("none of the programs is installed: install one of those named above");
}

/** The path of a program that was found. */
export async function executable(name: string): Promise<string> {
  // The one that runs this, which need not be on PATH.
  if (name === "deno") return Deno.execPath();
  const path = findProgram(name);
  if (path === null) throw new RunError(`${name} was on PATH and is gone: put it back`);
  if (name !== "python3") return path;
  // What is on PATH may be a script that looks for the interpreter.
  const { success, stdout } = await new Deno.Command(path, {
    args: ["-c", "import sys; print(sys.executable)"],
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new RunError(`${path} does not start: mend or remove it`);
  return new TextDecoder().decode(stdout).trim();
}

/**
 * Makes the inputs of each program, in a folder of its own named as its row.
 *
 * @returns Whether all were made; false if Ctrl-C came meanwhile.
 */
export async function prepareInputs(
  folder: string,
  wanted: readonly Program[],
  stop: AbortSignal,
): Promise<boolean> {
  for (const program of wanted) {
    const own = join(folder, program.row);
    await Deno.mkdir(own);
    try {
      await program.prepare(own);
    } catch (error) {
      // Ctrl-C reaches the tools that make the inputs, too.
      if (!stop.aborted) throw error;
    }
    if (stop.aborted) return false;
  }
  return true;
}
