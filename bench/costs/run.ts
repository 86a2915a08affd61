/**
 * Counts, row by row: instructions under every allocator, and what the build that counts says of itself.
 *
 * @module
 */
import { join } from "node:path";
import { binary, countingLibrary } from "../../cli/paths.ts";
import { type Allocator, ourselves } from "../harness/allocators.ts";
import { Driver, type Identity, type Outcome, realPath, whole } from "../harness/driver.ts";
import type { Progress } from "../harness/progress.ts";
import type { Measured } from "../harness/report.ts";
import type { Place } from "../workloads/catalog.ts";
import { callgrindArguments, instructionsOfCalls } from "./callgrind.ts";
import { type CostOptions, limits } from "./options.ts";
import type { CountRow, Counts, InstructionRow } from "./schema.ts";

/** What is to be counted. */
export interface CostWork {
  /** The options. */
  options: CostOptions;
  /** The allocators whose instructions are counted. */
  allocators: readonly Allocator[];
  /** The rows whose instructions are counted, with one thread. */
  instructionPlaces: readonly Place[];
  /** The rows that are counted, with every number of threads. */
  countPlaces: readonly Place[];
}

/** What was counted. */
export interface Counted extends Measured {
  /** Instructions. */
  instructions: InstructionRow[];
  /** Counts. */
  counts: CountRow[];
}

/** A hundred times what a run of a second takes, or a callgrind run of thirty. */
const limitSeconds = 600;

/** Counts all of it, or as much as there is before Ctrl-C. */
export async function countCosts(
  work: CostWork,
  folder: string,
  progress: Progress,
  stop: AbortSignal,
): Promise<Counted> {
  const links = join(folder, "links");
  await Deno.mkdir(links);
  const driver = new Driver(binary("hak-bench"), links, stop);
  const result: Counted = { instructions: [], counts: [], interrupted: true, libc: null };
  const steps = new Steps(
    work.instructionPlaces.length * work.allocators.length + work.countPlaces.length,
    progress,
  );
  const identities = await driver.identifyAll(work.allocators);
  result.libc = identities.find(({ libc }) => libc !== null)?.libc ?? null;
  const callgrind = new Callgrind(
    work.options,
    new Driver("valgrind", links, stop),
    join(folder, "callgrind.out"),
  );
  for (const place of work.instructionPlaces) {
    for (const [index, allocator] of work.allocators.entries()) {
      const identity = identities[index];
      if (identity === undefined) return result;
      steps.next(`instructions of ${place.row}, ${allocator.name}`);
      const row = await callgrind.measure(place, allocator, identity);
      if (row === null) return result;
      result.instructions.push(row);
    }
  }
  const counter: Allocator = { name: ourselves, preload: countingLibrary, env: {} };
  const identity = await driver.identify(counter);
  if (identity.kind !== "value") return result;
  result.libc ??= identity.value.libc;
  for (const place of work.countPlaces) {
    steps.next(`counts of ${place.row}, ${place.threads} threads`);
    const row = await countRow(driver, counter, identity.value, place, work.options);
    if (row === null) return result;
    result.counts.push(row);
  }
  return { ...result, interrupted: false };
}

/** Tells how far the work has got, as if every step took the same time. */
class Steps {
  readonly #count: number;
  readonly #progress: Progress;
  readonly #started = performance.now();
  #done = 0;

  constructor(count: number, progress: Progress) {
    this.#count = count;
    this.#progress = progress;
    progress.round("Counting", count);
  }

  next(what: string): void {
    const each = this.#done === 0 ? 1 : (performance.now() - this.#started) / 1000 / this.#done;
    this.#progress.step(what, this.#done / this.#count, (this.#count - this.#done) * each);
    this.#done += 1;
  }
}

/** What one run under callgrind did. */
interface CountedRun {
  /** Operations. */
  operations: number;
  /** Instructions of all calls into the allocator. */
  instructions: number;
}

/** Runs rows under callgrind. */
class Callgrind {
  readonly #options: CostOptions;
  readonly #driver: Driver;
  readonly #outFile: string;

  constructor(options: CostOptions, driver: Driver, outFile: string) {
    this.#options = options;
    this.#driver = driver;
    this.#outFile = outFile;
  }

  /** The instructions of a row; null after Ctrl-C. */
  async measure(
    place: Place,
    allocator: Allocator,
    identity: Identity,
  ): Promise<InstructionRow | null> {
    const row: InstructionRow = {
      ...head(place, 1, allocator.name),
      path: identity.path,
      version: identity.version,
      operations: [],
      instructions: [],
      per_operation: null,
      error: identity.error,
    };
    if (row.error !== null || identity.path === null) return row;
    // A row of few operations does as many of them at both scales, once they are rounded.
    for (let scale = this.#options.scale; scale <= limits.scale; scale *= 4) {
      const runs: CountedRun[] = [];
      for (const each of [scale, 2 * scale]) {
        const outcome = await this.#run(place, allocator, identity, identity.path, each);
        if (outcome.kind === "interrupted") return null;
        if (outcome.kind === "failed") return { ...row, error: outcome.error };
        runs.push(outcome.value);
      }
      row.operations = runs.map(({ operations }) => operations);
      row.instructions = runs.map(({ instructions }) => instructions);
      const more = difference(row.operations);
      if (more > 0) return { ...row, per_operation: difference(row.instructions) / more };
    }
    return { ...row, error: "it does as many operations at any scale" };
  }

  async #run(
    place: Place,
    allocator: Allocator,
    identity: Identity,
    object: string,
    scale: number,
  ): Promise<Outcome<CountedRun>> {
    const program = binary("hak-bench");
    const answer = await this.#driver.measure(allocator, identity, [
      ...callgrindArguments(this.#outFile),
      program,
      ...rowArguments(place, 1, this.#options.seed, scale),
    ], limitSeconds);
    if (answer.kind !== "value") return answer;
    const text = await Deno.readTextFile(this.#outFile);
    await Deno.remove(this.#outFile);
    return {
      kind: "value",
      value: {
        operations: whole(answer.value.operations),
        instructions: instructionsOfCalls(text, realPath(program), object),
      },
    };
  }
}

async function countRow(
  driver: Driver,
  allocator: Allocator,
  identity: Identity,
  place: Place,
  { scale, seed }: CostOptions,
): Promise<CountRow | null> {
  const threads = place.threads ?? 1;
  const row: CountRow = {
    ...head(place, threads, allocator.name),
    operations: 0,
    counts: {},
    per_1000: {},
    error: identity.error,
  };
  if (row.error !== null) return row;
  // The workload divides its operations among the threads: so each does as many however many there are.
  const args = rowArguments(place, threads, seed, scale * threads);
  const answer = await driver.measure(allocator, identity, args, limitSeconds);
  if (answer.kind === "interrupted") return null;
  if (answer.kind === "failed") return { ...row, error: answer.error };
  const { operations, costs } = answer.value;
  if (typeof costs !== "object" || costs === null) {
    return { ...row, error: `${realPath(allocator.preload ?? "")} does not count` };
  }
  const counts = mapValues({ ...costs }, whole);
  const done = whole(operations);
  return { ...row, operations: done, counts, per_1000: mapValues(counts, (n) => 1000 * n / done) };
}

function head(place: Place, threads: number, allocator: string): Omit<CountRow, CountFigures> {
  const { workload, row, label, operation } = place;
  return { workload, row, label, operation, threads, allocator };
}

type CountFigures = "operations" | "counts" | "per_1000" | "error";

function rowArguments(place: Place, threads: number, seed: number, scale: number): string[] {
  return [
    place.row,
    ...(place.threaded ? [`--threads=${threads}`] : []),
    `--seed=${seed}`,
    `--scale=${scale}`,
  ];
}

function difference([first = 0, second = 0]: readonly number[]): number {
  return second - first;
}

function mapValues<From>(record: Record<string, From>, map: (value: From) => number): Counts {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}
