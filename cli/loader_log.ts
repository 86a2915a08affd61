/**
 * Reads what glibc's loader says under `LD_DEBUG=libs,bindings`: which libraries each program of a process
 * tree got, and to which of them each call of the malloc family was bound.
 *
 * @module
 */
import { basename, join } from "node:path";

/** The loader's options that make it write what {@linkcode readLoaderLog} reads. */
export const loaderDebug = "libs,bindings";

/** One program image: a process that called `exec` twice after its start has three. */
export interface Image {
  /** The process that it ran in. */
  readonly pid: number;
  /** The image's `argv[0]`. */
  readonly program: string;
  /** The libraries initialised before the program's own code ran. */
  readonly libraries: ReadonlySet<string>;
  /** The object that libc's own calls of `malloc` go to; null if the loader did not say. */
  readonly malloc: string | null;
}

/** One symbol of the malloc family, as the loader resolved it. */
export interface Binding {
  /** The object that refers to the symbol. */
  readonly from: string;
  /** The object whose definition it got. */
  readonly to: string;
  /** The symbol's name. */
  readonly symbol: string;
}

/** What the loader did in every process of a tree. */
export interface LoaderLog {
  /** The program images, in no particular order. */
  readonly images: Image[];
  /** Every binding of the malloc family. */
  readonly bindings: Binding[];
}

/** The names of malloc and its family. */
export const mallocFamily: ReadonlySet<string> = new Set([
  "malloc",
  "calloc",
  "realloc",
  "reallocarray",
  "free",
  "posix_memalign",
  "aligned_alloc",
  "memalign",
  "valloc",
  "pvalloc",
  "malloc_usable_size",
]);

/** What else belongs to a malloc, and speaks of no block. */
const mallocAsides: ReadonlySet<string> = new Set([
  "malloc_trim",
  "mallinfo",
  "mallinfo2",
  "mallopt",
  "malloc_stats",
  "malloc_info",
]);

// Namespace 0 is the program's: an audit library lives in another, with a libc and a malloc of its own.
const linePattern =
  /\tcalling init: (?<init>.+)|\tinitialize program: (?<start>.+)|\ttransferring control: (?<run>.+)|\tbinding file (?<from>.+) \[0\] to (?<to>.+) \[0\]: \w+ symbol `(?<symbol>\w+)'/;

/** Reads every log file of a directory: the loader writes one a process id. */
export async function readLoaderLog(directory: string): Promise<LoaderLog> {
  const images: Image[] = [];
  const bindings = new Map<string, Binding>();
  for await (const file of Deno.readDir(directory)) {
    const text = await Deno.readTextFile(join(directory, file.name));
    const pid = Number(file.name.slice(file.name.lastIndexOf(".") + 1));
    let libraries = new Set<string>();
    let malloc: string | null = null;
    for (const line of text.split("\n")) {
      const found = linePattern.exec(line)?.groups;
      if (found === undefined) continue;
      if (found.init !== undefined) libraries.add(found.init);
      if (found.start !== undefined) {
        images.push({ pid, program: found.start, libraries, malloc });
      }
      // What follows belongs to the running program, up to the next image of the same process.
      if (found.run !== undefined) {
        libraries = new Set();
        malloc = null;
      }
      const { from, to, symbol } = found;
      if (from === undefined || to === undefined || symbol === undefined) continue;
      // The loader resolves libc's own reference at the start of every program.
      if (symbol === "malloc" && basename(from) === "libc.so.6") malloc = to;
      if (mallocFamily.has(symbol) || mallocAsides.has(symbol)) {
        bindings.set(`${from}\n${to}\n${symbol}`, { from, to, symbol });
      }
    }
  }
  return { images, bindings: [...bindings.values()] };
}
