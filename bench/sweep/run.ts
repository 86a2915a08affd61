/**
 * Runs a sweep: identifies every allocator, then measures round by round and collects the samples.
 *
 * @module
 */
import type { Allocator } from "./allocators.ts";
import { formatCount } from "./format.ts";
import { flushNames, type Identity, type Measurer } from "./measure.ts";
import type { SweepOptions } from "./options.ts";
import { planSteps, type Step } from "./order.ts";
import type { Progress } from "./progress.ts";
import type { Row, Sample } from "./schema.ts";
import { sortRows, summarize } from "./summary.ts";

/** What a sweep found. */
export interface SweepResult {
  /** Sorted; of an interrupted sweep, those that have a sample or an error. */
  rows: Row[];
  /** Whether Ctrl-C ended it early. */
  interrupted: boolean;
  /** The C library's version, from the first process that told it. */
  libc: string | null;
}

interface Cell {
  allocator: Allocator;
  identity: Identity;
  size: number;
  count: number;
  samples: Sample[];
  error: string | null;
}

/** Measures everything that the options ask for. */
export async function runSweep(
  options: SweepOptions,
  allocators: readonly Allocator[],
  measurer: Measurer,
  progress: Progress,
): Promise<SweepResult> {
  const identities: Identity[] = [];
  for (const allocator of allocators) {
    const outcome = await measurer.identify(allocator);
    if (outcome.kind !== "value") break;
    identities.push(outcome.value);
  }
  const libc = identities.find((identity) => identity.libc !== null)?.libc ?? null;
  const cells = new Map<string, Cell>();
  for (const [index, identity] of identities.entries()) {
    const allocator = allocators[index];
    if (allocator === undefined) continue;
    for (const size of options.sizes) {
      for (const count of options.counts) {
        const cell = { allocator, identity, size, count, samples: [], error: identity.error };
        cells.set(cellKey({ allocator: index, size, count }), cell);
      }
    }
  }
  const interrupted = identities.length < allocators.length ||
    await measureAll(options, allocators.length, cells, measurer, progress) === "interrupted";
  const told = [...cells.values()].filter((cell) => cell.samples.length > 0 || cell.error !== null);
  return { rows: sortRows(told.map((cell) => toRow(cell, options))), interrupted, libc };
}

async function measureAll(
  options: SweepOptions,
  allocatorCount: number,
  cells: ReadonlyMap<string, Cell>,
  measurer: Measurer,
  progress: Progress,
): Promise<"complete" | "interrupted"> {
  const { sizes, counts, repeat, seed, pattern } = options;
  const steps = planSteps(sizes, counts, allocatorCount, repeat, seed);
  const clock = new Clock(steps, (step) => cells.get(cellKey(step))?.error === null);
  let round: number | null = null;
  for (const [index, step] of steps.entries()) {
    const cell = cells.get(cellKey(step));
    if (step.round !== round) {
      round = step.round;
      progress.round(
        round < 0 ? "Warm-up round" : `Round ${round + 1} of ${repeat}`,
        clock.secondsLeft(index),
      );
    }
    // What failed once is not asked again: it would fail, or differ without a reason, again.
    if (cell === undefined || cell.error !== null) continue;
    progress.step(
      `${cell.allocator.name}, ${formatCount(step.count)} × ${step.size} B`,
      clock.shareDone(index),
      clock.secondsLeft(index),
    );
    const started = performance.now();
    const outcome = await measurer.measure(cell.allocator, cell.identity, {
      ...step,
      pattern,
      seed,
    });
    if (outcome.kind === "interrupted") return "interrupted";
    clock.took(step, (performance.now() - started) / 1000);
    if (outcome.kind === "failed") {
      cell.error = outcome.error;
    } else if (step.round >= 0) {
      cell.samples.push(outcome.value);
    }
  }
  return "complete";
}

function toRow(cell: Cell, options: SweepOptions): Row {
  const { allocator, identity, size, count, samples, error } = cell;
  const { spread, ...medians } = summarize(samples, size, count);
  return {
    allocator: allocator.name,
    path: identity.path,
    version: identity.version,
    loaded: identity.loaded,
    error,
    size,
    count,
    pattern: options.pattern,
    repeats: samples.length,
    ...medians,
    flush: flushNames[identity.release] ?? null,
    spread,
    samples,
  };
}

function cellKey({ allocator, size, count }: Pick<Step, "allocator" | "size" | "count">): string {
  return `${allocator} ${size} ${count}`;
}

/** Tells how long the rest takes, from what steps like it took before, else from a rough reckoning. */
class Clock {
  readonly #steps: readonly Step[];
  readonly #isMeasured: (step: Step) => boolean;
  /** Seconds that a cell last took, without the idle second. */
  readonly #known = new Map<string, number>();

  /** `isMeasured` tells of a step whether it will be, or was, run: a cell that failed is left out. */
  constructor(steps: readonly Step[], isMeasured: (step: Step) => boolean) {
    this.#steps = steps;
    this.#isMeasured = isMeasured;
  }

  took(step: Step, seconds: number): void {
    this.#known.set(cellKey(step), seconds - (step.idle ? 1 : 0));
  }

  secondsLeft(index: number): number {
    return this.#total(this.#steps.slice(index));
  }

  shareDone(index: number): number {
    const done = this.#total(this.#steps.slice(0, index));
    return done / (done + this.secondsLeft(index));
  }

  #total(steps: readonly Step[]): number {
    return steps.filter(this.#isMeasured).reduce((total, step) => {
      const likely = 0.03 + step.count * (5e-8 + step.size * 1e-9);
      return total + (this.#known.get(cellKey(step)) ?? likely) + (step.idle ? 1 : 0);
    }, 0);
  }
}
