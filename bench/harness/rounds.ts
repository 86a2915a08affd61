/**
 * Measuring in rounds: each takes every cell (what is measured) once under every allocator, one
 * allocator after the other, so that a drift of the machine touches all of them alike.
 *
 * @module
 */
// A seeded Fisher–Yates shuffle that is somebody's tested code.
import { shuffle } from "simple-statistics";
import type { Outcome } from "./driver.ts";
import type { Progress } from "./progress.ts";

/** One measurement to be made. */
export interface RoundStep {
  /** The round: -1 is the warm-up, whose figures are dropped. */
  round: number;
  /** Which cell, by its place in the list. */
  cell: number;
  /** Which allocator, by its place in the list. */
  allocator: number;
}

/** A sequence of numbers in [0, 1) that depends on nothing but its seed (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * All measurements in the order in which they are made: a warm-up round and `repeats` more. Each round
 * shuffles the cells and the allocators; within a round every cell keeps the same order of allocators
 * (A B A B).
 */
export function planRounds(
  cellCount: number,
  allocatorCount: number,
  repeats: number,
  seed: number,
): RoundStep[] {
  const random = randomSource(seed);
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  return upTo(repeats + 1).map((index) => index - 1).flatMap((round) => {
    const turn = shuffle(upTo(allocatorCount), random);
    return shuffle(upTo(cellCount), random).flatMap((cell) =>
      turn.map((allocator) => ({ round, cell, allocator }))
    );
  });
}

/** Where the samples of one cell under one allocator are gathered. */
export interface Gathered<Sample> {
  /** One a round, the warm-up left out. */
  samples: Sample[];
  /** Why there are no more of them; null if nothing went wrong. */
  error: string | null;
}

/** How the steps of a run are made. */
export interface Work<Step extends { round: number }, Sample> {
  /** All steps in their order. */
  steps: readonly Step[];
  /** Where a step's sample goes; undefined for a step that is not to be made. */
  gathered(step: Step): Gathered<Sample> | undefined;
  /** What the display says of a step. */
  name(step: Step): string;
  /** About how many seconds a step takes that was never made before. */
  likelySeconds(step: Step): number;
  /** How many of a step's seconds it only waits. */
  pauseSeconds?(step: Step): number;
  /** Makes a step. */
  measure(step: Step): Promise<Outcome<Sample>>;
}

/** Makes every step. What failed once is not asked again: it would fail, or differ without a reason, again. */
export async function measureRounds<Step extends { round: number }, Sample>(
  work: Work<Step, Sample>,
  repeats: number,
  progress: Progress,
): Promise<"complete" | "interrupted"> {
  const clock = new Clock(work);
  let round: number | null = null;
  for (const [index, step] of work.steps.entries()) {
    if (step.round !== round) {
      round = step.round;
      progress.round(
        round < 0 ? "Warm-up round" : `Round ${round + 1} of ${repeats}`,
        clock.secondsLeft(index),
      );
    }
    const gathered = work.gathered(step);
    if (gathered === undefined || gathered.error !== null) continue;
    progress.step(work.name(step), clock.shareDone(index), clock.secondsLeft(index));
    const started = performance.now();
    const outcome = await work.measure(step);
    if (outcome.kind === "interrupted") return "interrupted";
    clock.took(step, (performance.now() - started) / 1000);
    if (outcome.kind === "failed") {
      gathered.error = outcome.error;
    } else if (step.round >= 0) {
      gathered.samples.push(outcome.value);
    }
  }
  return "complete";
}

/** Tells how long the rest takes, from what steps like it took before, else from a rough reckoning. */
class Clock<Step extends { round: number }, Sample> {
  readonly #work: Work<Step, Sample>;
  /** Seconds that a step into the same place last took, without its pause. */
  readonly #known = new Map<Gathered<Sample>, number>();

  constructor(work: Work<Step, Sample>) {
    this.#work = work;
  }

  took(step: Step, seconds: number): void {
    const gathered = this.#work.gathered(step);
    if (gathered !== undefined) this.#known.set(gathered, seconds - this.#pause(step));
  }

  secondsLeft(index: number): number {
    return this.#total(this.#work.steps.slice(index));
  }

  shareDone(index: number): number {
    const done = this.#total(this.#work.steps.slice(0, index));
    const left = this.secondsLeft(index);
    return left === 0 ? 1 : done / (done + left);
  }

  #total(steps: readonly Step[]): number {
    return steps.reduce((total, step) => {
      const gathered = this.#work.gathered(step);
      if (gathered === undefined || gathered.error !== null) return total;
      const seconds = this.#known.get(gathered) ?? this.#work.likelySeconds(step);
      return total + seconds + this.#pause(step);
    }, 0);
  }

  #pause(step: Step): number {
    return this.#work.pauseSeconds?.(step) ?? 0;
  }
}
