/**
 * From samples to rows: medians, who is ahead of whom, and how hakmem does over all rows.
 *
 * @module
 */
// exp(mean(log)), which does not overflow as a product of hundreds of ratios may.
import { logAverage, median } from "simple-statistics";
import { ourselves } from "../harness/allocators.ts";
import { spreadsOf } from "../harness/spread.ts";
import {
  type Behind,
  type Costs,
  figureNames,
  type Figures,
  type Row,
  type Sample,
  type Subject,
  type Summary,
} from "./schema.ts";

/** The most that a row may take of the best other's time before the summary names it. */
export const slowerLimit = 1.05;

/** The most RSS above the least other's before the summary names it. */
export const largerLimitBytes = 64 * 1024;

/** The medians of samples. */
export function summarizeSamples(
  samples: readonly Sample[],
): Pick<Row, keyof Figures | "costs_per_1000" | "spread"> {
  const spread = spreadsOf(figureNames, samples);
  const middle = (name: keyof Figures): number | null => spread[name]?.median ?? null;
  return {
    time_ns: middle("time_ns"),
    cpu_ns: middle("cpu_ns"),
    wall_ns: middle("wall_ns"),
    rss_bytes: middle("rss_bytes"),
    left_bytes: middle("left_bytes"),
    base_rss_bytes: middle("base_rss_bytes"),
    live_rss_bytes: middle("live_rss_bytes"),
    after_rss_bytes: middle("after_rss_bytes"),
    minor_faults: middle("minor_faults"),
    major_faults: middle("major_faults"),
    costs_per_1000: costsPer1000(samples),
    spread,
  };
}

function costsPer1000(samples: readonly Sample[]): Costs | null {
  const counted = samples.flatMap(({ costs, operations }) =>
    costs === null ? [] : [{ costs, operations }]
  );
  const [first] = counted;
  if (first === undefined) return null;
  return Object.fromEntries(
    Object.keys(first.costs).map((name) => [
      name,
      median(counted.map(({ costs, operations }) => 1000 * (costs[name] ?? 0) / operations)),
    ]),
  );
}

/** What a row is before it is compared with the others of its group. */
export type Unranked = Omit<Row, "rank" | "best_other" | "ratio" | "rss_above_best_bytes">;

/** Compares the allocators of each subject. Subjects keep their order; within one it is that of the ranks. */
export function rankRows(rows: readonly Unranked[]): Row[] {
  return [...Map.groupBy(rows, subjectKey).values()].flatMap((group) => {
    const ranked = group.filter(isRanked).toSorted((a, b) => a.time_ns - b.time_ns);
    const others = group.filter((row) => !ranked.some((known) => known === row));
    return [
      ...ranked.map((row, index) => compare(row, index + 1, ranked)),
      ...others.map((row) => ({
        ...row,
        rank: null,
        best_other: null,
        ratio: null,
        rss_above_best_bytes: null,
      })),
    ];
  });
}

type Ranked = Unranked & { time_ns: number; rss_bytes: number };

/** Whether a row can be compared: it did not fail, and counting did not slow it. */
function isRanked(row: Unranked): row is Ranked {
  return row.error === null && row.time_ns !== null && row.rss_bytes !== null &&
    row.costs_per_1000 === null;
}

function compare(row: Ranked, rank: number, ranked: readonly Ranked[]): Row {
  const others = ranked.filter((other) => other !== row);
  const [best] = others;
  return {
    ...row,
    rank,
    best_other: best?.allocator ?? null,
    ratio: best === undefined ? null : row.time_ns / best.time_ns,
    rss_above_best_bytes: best === undefined
      ? null
      : row.rss_bytes - Math.min(...others.map((other) => other.rss_bytes)),
  };
}

/** Rows of one subject together, in the order in which they come. */
export function groupBySubject(rows: readonly Row[]): [Row, ...Row[]][] {
  return [...Map.groupBy(rows, subjectKey).values()].flatMap(([first, ...rest]) =>
    first === undefined ? [] : [[first, ...rest]]
  );
}

/** What tells one subject from another. */
export function subjectKey({ workload, row, threads }: Subject): string {
  return `${workload} ${row} ${threads}`;
}

/** How hakmem does over all rows; null where it was not compared with anyone. */
export function summarizeRows(rows: readonly Row[]): Summary | null {
  const compared = rows.filter((row) => row.allocator === ourselves).flatMap((row) =>
    row.ratio === null || row.best_other === null ? [] : [{
      ...row,
      ratio: row.ratio,
      best_other: row.best_other,
    }]
  );
  if (compared.length === 0) return null;
  const bySubject = Map.groupBy(rows.filter((row) => row.rank !== null), subjectKey);
  const peerRatios = new Map<string, number[]>();
  const larger: Behind[] = [];
  for (const own of compared) {
    const others = (bySubject.get(subjectKey(own)) ?? []).filter((row) =>
      row.allocator !== ourselves
    );
    for (const { allocator, time_ns: time } of others) {
      const ratios = peerRatios.get(allocator) ?? [];
      ratios.push((own.time_ns ?? NaN) / (time ?? NaN));
      peerRatios.set(allocator, ratios);
    }
    const above = own.rss_above_best_bytes;
    const [least] = others.toSorted((a, b) => (a.rss_bytes ?? 0) - (b.rss_bytes ?? 0));
    if (above !== null && above > largerLimitBytes && least !== undefined) {
      larger.push(behind(own, least.allocator, above));
    }
  }
  return {
    rows: compared.length,
    ratio_to_best: logAverage(compared.map(({ ratio }) => ratio)),
    peers: [...peerRatios].map(([allocator, ratios]) => ({
      allocator,
      rows: ratios.length,
      ratio: logAverage(ratios),
    })).sort((a, b) => b.ratio - a.ratio),
    slower: compared.filter(({ ratio }) => ratio > slowerLimit)
      .map((row) => behind(row, row.best_other, row.ratio)),
    larger,
  };
}

function behind({ workload, row, threads }: Subject, best: string, by: number): Behind {
  return { workload, row, threads, best_other: best, by };
}
