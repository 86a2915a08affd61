/**
 * Which process works when.
 *
 * @module
 */
import { shuffle } from "simple-statistics";
import { UsageError } from "../../cli/errors.ts";
import { randomSource } from "../harness/rounds.ts";
import type { SoakOptions } from "./options.ts";

/** The system calls are counted in one of so many rounds. */
const tracedStep = 10;

/** A warm-up, and what an interval needs. */
const roundsLeast = 7;

/**
 * Whether the traced processes have an epoch of their own in a round: in the first of a life, which warms them
 * up and is dropped, in the second, and then in every tenth.
 *
 * @param age The number of rounds before it in the same life.
 */
export function isTraced(age: number): boolean {
  return age === 0 || age % tracedStep === 1;
}

/** Epochs of each allocator in the first so many rounds, those of its traced process included. */
export function epochsIn(rounds: number): number {
  return rounds + Math.min(rounds, 1) + Math.ceil(Math.max(0, rounds - 1) / tracedStep);
}

/** As many rounds as the minutes have room for. */
export function planRounds(
  { minutes, epochSeconds }: Pick<SoakOptions, "minutes" | "epochSeconds">,
  allocators: number,
): number {
  const room = Math.floor(60 * minutes / epochSeconds / allocators + 1e-9);
  let rounds = Math.max(0, Math.floor(room * tracedStep / (tracedStep + 1)) - 2);
  while (epochsIn(rounds + 1) <= room) rounds += 1;
  if (rounds >= roundsLeast) return rounds;
  const needed = epochsIn(roundsLeast) * allocators * epochSeconds / 60;
  throw new UsageError(
    `too short: ${allocators} allocators need ${roundsLeast} rounds of ${epochSeconds} s each, and 2 to count system calls, which is ${
      Math.ceil(100 * needed) / 100
    } minutes: give more --minutes, a shorter --epoch or fewer --allocators`,
  );
}

/** The order of the allocators in a round, by their places in the list. */
export function orderOf(round: number, allocators: number, seed: number): number[] {
  const places = Array.from({ length: allocators }, (_, index) => index);
  return shuffle(places, randomSource(seed + 0x9e3779b9 * (round + 1)));
}
