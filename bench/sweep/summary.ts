/**
 * From samples to rows and models: medians, spreads and fits.
 *
 * @module
 */
import { type Nullable, type Spread, spreadOf, spreadsOf } from "../harness/spread.ts";
import { fitModel } from "./model.ts";
import { figureNames, type Figures, type Model, type Row, type Sample } from "./schema.ts";

/**
 * The medians of samples. The overhead is reckoned from the medians of base and live RSS, so that a row
 * adds up like a sample does: the median of the overheads may come from another sample than theirs.
 */
export function summarize(
  samples: readonly Sample[],
  size: number,
  count: number,
): Nullable<Figures> & Pick<Row, "spread"> {
  const spread = spreadsOf(figureNames, samples);
  const middle = (name: keyof Figures): number | null => spread[name]?.median ?? null;
  const [base, live] = [middle("base_rss_bytes"), middle("live_rss_bytes")];
  const overhead = base === null || live === null ? null : live - base - size * count;
  return {
    base_rss_bytes: base,
    live_rss_bytes: live,
    overhead_bytes: overhead,
    overhead_per_block_bytes: overhead === null ? null : overhead / count,
    after_free_rss_bytes: middle("after_free_rss_bytes"),
    after_flush_rss_bytes: middle("after_flush_rss_bytes"),
    after_idle_rss_bytes: middle("after_idle_rss_bytes"),
    alloc_ns: middle("alloc_ns"),
    free_ns: middle("free_ns"),
    spread,
  };
}

/**
 * How much of a memory figure lies above the base of the same process, over the samples. The idle figure
 * comes from one sample only, whose base need not be the row's.
 */
export function aboveBase(row: Row, figure: keyof Figures): Spread | null {
  const differences = row.samples.flatMap((sample) => {
    const value = sample[figure];
    return value === null ? [] : [value - sample.base_rss_bytes];
  });
  return differences.length === 0 ? null : spreadOf(differences);
}

/** Sorts rows by size, count and overhead, rows without figures last. */
export function sortRows(rows: readonly Row[]): Row[] {
  return rows.toSorted((a, b) =>
    a.size - b.size || a.count - b.count ||
    (a.overhead_bytes ?? Infinity) - (b.overhead_bytes ?? Infinity) ||
    a.allocator.localeCompare(b.allocator)
  );
}

/** Rows of one size and count together, by count; the first size's groups come first. */
export function groupRows(rows: readonly Row[]): [count: number, group: [Row, ...Row[]]][] {
  const groups: [number, [Row, ...Row[]]][] = [];
  for (const row of rows) {
    const last = groups.at(-1);
    if (last !== undefined && last[0] === row.count && last[1][0].size === row.size) {
      last[1].push(row);
    } else {
      groups.push([row.count, [row]]);
    }
  }
  return groups;
}

/** The cost model of each allocator at each size, from the rows without an error. */
export function fitModels(rows: readonly Row[]): Model[] {
  const groups = Map.groupBy(rows, (row) => `${row.size} ${row.allocator}`);
  const models: Model[] = [];
  for (const group of groups.values()) {
    const points = group.flatMap((row) =>
      row.error === null && row.overhead_bytes !== null
        ? [{ count: row.count, overheadBytes: row.overhead_bytes }]
        : []
    );
    const fit = fitModel(points);
    const first = group[0];
    if (fit === null || first === undefined) continue;
    models.push({
      allocator: first.allocator,
      size: first.size,
      fixed_bytes: fit.fixedBytes,
      per_block_bytes: fit.perBlockBytes,
      max_relative_error: fit.maxRelativeError,
    });
  }
  return models.sort((a, b) => a.size - b.size || a.allocator.localeCompare(b.allocator));
}
