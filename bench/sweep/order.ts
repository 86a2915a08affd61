/**
 * In which order a sweep measures: rounds over all cells (a size and a count), in each cell one
 * allocator after the other, so that a drift of the machine touches all of them alike.
 *
 * @module
 */
// A seeded Fisher–Yates shuffle that is somebody's tested code.
import { shuffle } from "simple-statistics";

/** One measurement to be made. */
export interface Step {
  /** The round: -1 is the warm-up, whose figures are dropped. */
  round: number;
  /** Bytes of a block. */
  size: number;
  /** Number of blocks. */
  count: number;
  /** Which allocator, by its place in the list. */
  allocator: number;
  /** Whether the idle second is taken. */
  idle: boolean;
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
 * All measurements in the order in which they are made. Each round shuffles the cells and the
 * allocators; within a round every cell keeps the same order of allocators (A B A B). The idle second is
 * taken in the first round that counts.
 */
export function planSteps(
  sizes: readonly number[],
  counts: readonly number[],
  allocatorCount: number,
  repeats: number,
  seed: number,
): Step[] {
  const random = randomSource(seed);
  const cells = sizes.flatMap((size) => counts.map((count) => ({ size, count })));
  const allocators = Array.from({ length: allocatorCount }, (_, index) => index);
  return Array.from({ length: repeats + 1 }, (_, index) => index - 1).flatMap((round) => {
    const turn = shuffle(allocators, random);
    return shuffle(cells, random).flatMap(({ size, count }) =>
      turn.map((allocator) => ({ round, size, count, allocator, idle: round === 0 }))
    );
  });
}
