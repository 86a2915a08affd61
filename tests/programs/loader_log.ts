/**
 * Reads what glibc's loader says under `LD_DEBUG=libs,bindings`: which libraries each program of a process
 * tree got, and to which of them each call of the malloc family was bound. A wrong `LD_PRELOAD` path only
 * warns and leaves libc's malloc in place, so that a test which merely sets the variable proves nothing.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename, join } from "node:path";

/** The loader's options that make it write what {@linkcode readLoaderLog} reads. */
export const loaderDebug = "libs,bindings";

/** One program image: a process that called `exec` twice after its start has three. */
export interface Image {
  /** The image's `argv[0]`. */
  readonly program: string;
  /** The libraries initialised before the program's own code ran. */
  readonly libraries: ReadonlySet<string>;
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

const mallocFamily: ReadonlySet<string> = new Set([
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
    let libraries = new Set<string>();
    for (const line of text.split("\n")) {
      const found = linePattern.exec(line)?.groups;
      if (found === undefined) continue;
      if (found.init !== undefined) libraries.add(found.init);
      if (found.start !== undefined) images.push({ program: found.start, libraries });
      // What follows belongs to the running program, up to the next image of the same process.
      if (found.run !== undefined) libraries = new Set();
      const { from, to, symbol } = found;
      if (from === undefined || to === undefined || symbol === undefined) continue;
      if (mallocFamily.has(symbol)) bindings.set(`${from}\n${to}\n${symbol}`, { from, to, symbol });
    }
  }
  return { images, bindings: [...bindings.values()] };
}

/** What a run must do, and may do, besides. */
export interface PreloadExpectation {
  /** Programs, by base name, that must be among the images. */
  readonly programs?: readonly string[];
  /** Other libraries, by base name, that must have been loaded at some program's start. */
  readonly libraries?: readonly string[];
  /** Other objects that legitimately get the family, being preloaded too: a part of their path. */
  readonly beside?: string;
}

/**
 * Fails unless every program image had the library from its start, and every reference to the malloc family
 * was resolved to it.
 */
export function assertPreloaded(
  log: LoaderLog,
  library: string,
  expectation: PreloadExpectation = {},
): void {
  assertStarted(log, expectation);
  const without = log.images.filter((image) => !image.libraries.has(library));
  assert.deepEqual(
    without.map((image) => image.program),
    [],
    `these programs ran without ${library}`,
  );
  const { beside } = expectation;
  const resolved = new Set(
    log.bindings
      .filter(({ to }) => to === library || beside !== undefined && to.includes(beside))
      .map(({ from, symbol }) => `${symbol} ${from}`),
  );
  assert.ok(
    log.bindings.some(({ to }) => to === library),
    `nothing bound malloc to ${library}`,
  );
  const elsewhere = log.bindings.filter(({ from, to, symbol }) => {
    // A program at a fixed address that takes malloc's address lends its own entry to everybody, and that
    // entry leads on to where the program's own reference was resolved.
    if (to === library || resolved.has(`${symbol} ${to}`)) return false;
    return beside === undefined || !`${from} ${to}`.includes(beside);
  });
  assert.deepEqual(elsewhere, [], `parts of the malloc family were not bound to ${library}`);
}

/** Fails if the library got into any program image: the control of {@linkcode assertPreloaded}. */
export function assertNotPreloaded(
  log: LoaderLog,
  library: string,
  expectation: PreloadExpectation = {},
): void {
  assertStarted(log, expectation);
  const withIt = log.images.filter((image) => image.libraries.has(library));
  assert.deepEqual(withIt.map((image) => image.program), [], `these programs loaded ${library}`);
}

/** Fails unless the loader started at least one program, and all that is expected. */
function assertStarted(
  log: LoaderLog,
  { programs = [], libraries = [] }: PreloadExpectation,
): void {
  const started = new Set(log.images.map((image) => basename(image.program)));
  assert.ok(started.size > 0, "the loader reported no program: is libc another than glibc?");
  for (const program of programs) {
    assert.ok(started.has(program), `${program} was not started, only ${[...started].join(", ")}`);
  }
  const loaded = new Set(
    log.images.flatMap((image) => [...image.libraries]).map((path) => basename(path)),
  );
  for (const library of libraries) {
    assert.ok(loaded.has(library), `${library} was not loaded, only ${[...loaded].join(", ")}`);
  }
}
