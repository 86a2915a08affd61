/**
 * How the samples of one figure lie: the middle, the ends, and how far from the middle they are.
 *
 * @module
 */
// Medians and median absolute deviations as a tested library has them.
import { median, medianAbsoluteDeviation } from "simple-statistics";

/** How far the samples of a row lie apart. */
export interface Spread {
  /** The middle one, or the mean of the middle two. */
  median: number;
  /** The least. */
  min: number;
  /** The greatest. */
  max: number;
  /** The median absolute deviation from the median. */
  mad: number;
}

/** Every figure of `T`, or null where there is none. */
export type Nullable<T> = { [Key in keyof T]: T[Key] | null };

/** The spread of at least one value. */
export function spreadOf(values: number[]): Spread {
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    mad: medianAbsoluteDeviation(values),
  };
}

/** The spread of each figure over the samples that have it. */
export function spreadsOf<Name extends string>(
  names: readonly Name[],
  samples: readonly Readonly<Record<Name, number | null>>[],
): Partial<Record<Name, Spread>> {
  const spread: Partial<Record<Name, Spread>> = {};
  for (const name of names) {
    const values = samples.flatMap((sample) => sample[name] ?? []);
    if (values.length > 0) spread[name] = spreadOf(values);
  }
  return spread;
}
