/**
 * In which order a sweep measures: in rounds over all cells, each a size and a count.
 *
 * @module
 */
import { planRounds } from "../harness/rounds.ts";

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

/** All measurements in their order. The idle second is taken in the first round that counts. */
export function planSteps(
  sizes: readonly number[],
  counts: readonly number[],
  allocatorCount: number,
  repeats: number,
  seed: number,
): Step[] {
  const cells = sizes.flatMap((size) => counts.map((count) => ({ size, count })));
  return planRounds(cells.length, allocatorCount, repeats, seed).flatMap(
    ({ round, cell, allocator }) => {
      const place = cells[cell];
      return place === undefined ? [] : [{ round, ...place, allocator, idle: round === 0 }];
    },
  );
}
