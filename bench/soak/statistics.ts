/**
 * Straight lines through what has outliers and steps.
 *
 * @module
 */
// The median as a tested library has it.
import { median } from "simple-statistics";

/** A point in time. */
export interface Point {
  /** When. */
  x: number;
  /** What was read. */
  y: number;
}

/** A slope and its 95 % interval; the ends are null for fewer than six points. */
export interface Slope {
  /** The median of the slopes between any two points. */
  slope: number;
  /** The lower end. */
  low: number | null;
  /** The upper end. */
  high: number | null;
}

/** The 97.5th percentile of the normal distribution. */
const z = 1.959963984540054;

/** Above this there are millions of pairs, for a slope that does not get better. */
const pointsMost = 1500;

/**
 * Theil's slope with Sen's interval (Sen, "Estimates of the regression coefficient based on Kendall's tau",
 * 1968; Hollander and Wolfe, "Nonparametric Statistical Methods", 9.3): the interval is cut from the sorted
 * slopes where the large-sample distribution of Kendall's S has 95 % between. Ties in `y` are not allowed for,
 * so that the interval is rather too wide than too narrow where RSS stands still. It presumes that what is off
 * the line in one epoch says nothing of the next.
 *
 * @param given At least two points, by ascending `x` without ties.
 */
export function theilSen(given: readonly Point[]): Slope {
  const points = thin(given, pointsMost);
  const count = points.length * (points.length - 1) / 2;
  const slopes = new Float64Array(count);
  let filled = 0;
  for (const [index, first] of points.entries()) {
    for (let other = index + 1; other < points.length; other++) {
      const second = points[other];
      if (second === undefined || !(second.x > first.x)) throw new RangeError("x must ascend");
      slopes[filled++] = (second.y - first.y) / (second.x - first.x);
    }
  }
  slopes.sort();
  const at = (rank: number): number => slopes[rank] ?? NaN;
  const slope = (at((count - 1) >> 1) + at(count >> 1)) / 2;
  const n = points.length;
  const spread = z * Math.sqrt(n * (n - 1) * (2 * n + 5) / 18);
  // The rank, from 1, of the lower end. Five points have no two slopes that far apart.
  const rank = Math.floor((count - spread) / 2);
  return rank < 1
    ? { slope, low: null, high: null }
    : { slope, low: at(rank - 1), high: at(count - rank) };
}

/** No more than so many points: neighbours are replaced by their medians. */
export function thin(points: readonly Point[], most: number): Point[] {
  const size = Math.ceil(points.length / most);
  if (size <= 1) return [...points];
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const group = points.slice(index * size, (index + 1) * size);
    return { x: median(group.map(({ x }) => x)), y: median(group.map(({ y }) => y)) };
  });
}
