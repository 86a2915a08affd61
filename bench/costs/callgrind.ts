/**
 * Callgrind: how it is run, and what its file says of the calls into an allocator.
 *
 * The format is that of valgrind's manual, "Callgrind Format Specification", without compressed names.
 *
 * @module
 */
import { basename } from "node:path";
import { RunError } from "../../cli/errors.ts";

/** The arguments before those of the program. */
export function callgrindArguments(outFile: string): string[] {
  return [
    "--quiet",
    "--tool=callgrind",
    `--callgrind-out-file=${outFile}`,
    "--compress-strings=no",
    "--compress-pos=no",
  ];
}

/** The version of the valgrind that is installed, as in "3.19.0". */
export async function valgrindVersion(): Promise<string> {
  try {
    const { success, stdout } = await new Deno.Command("valgrind", {
      args: ["--version"],
      stdout: "piped",
      stderr: "null",
    }).output();
    const version = /^valgrind-(\S+)/.exec(new TextDecoder().decode(stdout))?.[1];
    if (success && version !== undefined) return version;
    throw new RunError(
      "valgrind --version does not answer with a version: instructions need a valgrind that works; mend it, or leave them out by --only counts",
    );
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RunError(
      "valgrind is not installed: instructions need it; install it (Debian: apt-get install valgrind), or leave them out by --only counts",
    );
  }
}

/** The functions of an allocator that a program calls, by the names that the C library has for them, too. */
const family =
  /^(__libc_|__)?(malloc|free|calloc|realloc|aligned_alloc|memalign|posix_memalign|cfree)(@.*)?$/;

/**
 * The instructions of all calls that a program makes into an allocator: from the entry of `malloc` or `free`
 * to its return, with all that they call themselves.
 *
 * @param text What callgrind wrote.
 * @param program The real path of the calling program.
 * @param object The real path of the allocator's object. Of the C library only malloc and its family count.
 */
export function instructionsOfCalls(text: string, program: string, object: string): number {
  const ofAllocatorOnly = !/^(libc[.-]|ld-musl)/.test(basename(object));
  let total = 0;
  let caller = "";
  let callee: string | null = null;
  let name = "";
  let costFollows = false;
  for (const line of text.split("\n")) {
    if (costFollows) {
      costFollows = false;
      // Valgrind knows no object for code in a section of another name than .text, as tcmalloc's malloc.
      const meant = family.test(name) || ofAllocatorOnly && callee === object;
      if (caller === program && meant) total += Number(/(\d+)\s*$/.exec(line)?.[1]);
      callee = null;
    } else if (line.startsWith("ob=")) caller = line.slice("ob=".length);
    else if (line.startsWith("cob=")) callee = line.slice("cob=".length);
    else if (line.startsWith("cfn=")) name = line.slice("cfn=".length);
    else if (line.startsWith("calls=")) costFollows = true;
  }
  if (Number.isSafeInteger(total)) return total;
  throw new RunError("callgrind wrote what cannot be read: a call has no cost behind it");
}
