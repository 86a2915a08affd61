/**
 * The cost model of an allocator: `overhead = F + V·N`, F and V not negative.
 *
 * It is fitted by relative least squares, so that 1,000 blocks weigh as much as 10,000,000. RSS moves in
 * pages: where the overhead is less than a page, or negative because blocks fit into what the process
 * held before, errors are taken relative to a page.
 *
 * @module
 */

/** What was measured at one number of blocks. */
export interface Point {
  /** Number of blocks. */
  count: number;
  /** Bytes beyond the base and the blocks' own. */
  overheadBytes: number;
}

/** The fitted model. */
export interface Fit {
  /** F, bytes. */
  fixedBytes: number;
  /** V, bytes a block. */
  perBlockBytes: number;
  /** The largest |F + V·N − overhead|, as a share of the overhead but of at least a page. */
  maxRelativeError: number;
}

const pageBytes = 4096;

/** Fits the model; null with fewer than two different counts, where F and V cannot be told apart. */
export function fitModel(points: readonly Point[]): Fit | null {
  if (new Set(points.map((point) => point.count)).size < 2) return null;

  // Each point divided by its scale s turns relative errors into plain ones: F·(1/s) + V·(N/s) = y/s.
  const scaled = points.map(({ count, overheadBytes }) => {
    const scale = Math.max(Math.abs(overheadBytes), pageBytes);
    return { one: 1 / scale, count: count / scale, overhead: overheadBytes / scale };
  });
  const sum = (term: (point: typeof scaled[number]) => number): number =>
    scaled.reduce((total, point) => total + term(point), 0);
  const oneOne = sum((p) => p.one * p.one);
  const oneCount = sum((p) => p.one * p.count);
  const countCount = sum((p) => p.count * p.count);
  const oneOverhead = sum((p) => p.one * p.overhead);
  const countOverhead = sum((p) => p.count * p.overhead);

  // With two unknowns the optimum is the free one if that is not negative, else the best on an edge.
  const determinant = oneOne * countCount - oneCount * oneCount;
  const free = {
    fixed: (oneOverhead * countCount - countOverhead * oneCount) / determinant,
    perBlock: (countOverhead * oneOne - oneOverhead * oneCount) / determinant,
  };
  const edges = [
    { fixed: Math.max(0, oneOverhead / oneOne), perBlock: 0 },
    { fixed: 0, perBlock: Math.max(0, countOverhead / countCount) },
  ];
  const squares = ({ fixed, perBlock }: typeof free): number =>
    sum((p) => (fixed * p.one + perBlock * p.count - p.overhead) ** 2);
  const best = free.fixed >= 0 && free.perBlock >= 0
    ? free
    : edges.reduce((a, b) => squares(b) < squares(a) ? b : a);

  const errors = scaled.map((p) =>
    Math.abs(best.fixed * p.one + best.perBlock * p.count - p.overhead)
  );
  return {
    fixedBytes: best.fixed,
    perBlockBytes: best.perBlock,
    maxRelativeError: Math.max(...errors),
  };
}
