/**
 * What a loader's log must say of a run with the library, and of one without. A wrong `LD_PRELOAD` path only
 * warns and leaves libc's malloc in place, so that a test which merely sets the variable proves nothing.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename } from "node:path";
import type { LoaderLog } from "../../cli/loader_log.ts";

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
