/**
 * From what happened in a soak to rows and goals.
 *
 * @module
 */
// Quantiles, medians and deviations as a tested library has them.
import { coefficientOfVariation, median, quantile } from "simple-statistics";
import type { Identity } from "../harness/driver.ts";
import { ourselves } from "../harness/allocators.ts";
import { formatPercent } from "../harness/format.ts";
import type { Epoch, Goal, Life, Row, RowFigures, SystemCalls } from "./schema.ts";
import type { Entry, StateHead } from "./state.ts";
import { theilSen } from "./statistics.ts";

/** What hakmem is to reach. */
export const limits = { drift: 0.005, systemCalls: 1e-7 };

/** The rows of all allocators, by median RSS; those without figures last. */
export function rowsOf(
  { allocators }: Pick<StateHead, "allocators">,
  entries: readonly Entry[],
  identities: readonly Identity[],
): Row[] {
  const rows = allocators.map(({ name }, index): Row => {
    const own = entries.filter((entry) => entry.kind !== "life" && entry.allocator === index);
    const epochs = own.flatMap((entry) => entry.kind === "epoch" ? [entry.epoch] : []);
    const errorOf = (traced: boolean): string | null =>
      own.flatMap((entry) => entry.kind === "error" && entry.traced === traced ? [entry.error] : [])
        .at(0) ?? null;
    const identity = identities[index];
    return {
      allocator: name,
      path: identity?.path ?? null,
      version: identity?.version ?? null,
      loaded: identity?.loaded ?? false,
      error: errorOf(false),
      base_rss_bytes: own.flatMap((entry) =>
        entry.kind === "base" ? [entry.rss_bytes] : []
      ).at(0) ??
        null,
      after_rss_bytes:
        own.flatMap((entry) => entry.kind === "after" ? [entry.rss_bytes] : []).at(-1) ?? null,
      figures: figuresOf(epochs),
      lives: livesOf(epochs),
      system_calls: systemCallsOf(own),
      system_calls_error: errorOf(true),
      epochs,
    };
  });
  return rows.sort((a, b) =>
    (a.figures?.rss_bytes ?? Infinity) - (b.figures?.rss_bytes ?? Infinity) ||
    a.allocator.localeCompare(b.allocator)
  );
}

/** The figures over all epochs that count; null without one. */
export function figuresOf(epochs: readonly Epoch[]): RowFigures | null {
  const counted = epochs.filter((epoch) => !epoch.warm_up);
  if (counted.length === 0) return null;
  const all = (figure: keyof Epoch & `${string}_${"ns" | "bytes"}`): number[] =>
    counted.map((epoch) => epoch[figure]);
  const [rss, times, tails] = [all("rss_bytes"), all("time_ns"), all("latency_p99_9_ns")];
  return {
    rss_bytes: median(rss),
    rss_min_bytes: Math.min(...rss),
    rss_max_bytes: Math.max(...rss),
    time_ns: median(times),
    time_p99_ns: quantile(times, 0.99),
    time_p99_9_ns: quantile(times, 0.999),
    // One epoch does not vary.
    throughput_cv: times.length === 1 ? 0 : coefficientOfVariation(times.map((time) => 1e9 / time)),
    latency_p50_ns: median(all("latency_p50_ns")),
    latency_p99_ns: median(all("latency_p99_ns")),
    latency_p99_9_ns: median(tails),
    latency_p99_9_worst_ns: Math.max(...tails),
  };
}

/** Each process by itself: another one's memory says nothing of how this one's grows. */
export function livesOf(epochs: readonly Epoch[]): Life[] {
  const counted = epochs.filter((epoch) => !epoch.warm_up);
  return [...Map.groupBy(counted, ({ life }) => life)].map(([life, own]) => {
    const rss = median(own.map((epoch) => epoch.rss_bytes));
    const duration = (own.at(-1)?.active_seconds ?? 0) - (own[0]?.active_seconds ?? 0);
    const points = own.map((epoch) => ({ x: epoch.active_seconds, y: epoch.rss_bytes }));
    const { slope, low, high } = points.length < 2
      ? { slope: 0, low: null, high: null }
      : theilSen(points);
    const share = (each: number): number => each * duration / rss;
    return {
      life,
      epochs: own.length,
      duration_seconds: duration,
      rss_bytes: rss,
      drift: share(slope),
      low: low === null ? null : share(low),
      high: high === null ? null : share(high),
    };
  });
}

/** The longest of a row's lives; null without one. */
export function longestLife({ lives }: Pick<Row, "lives">): Life | null {
  return lives.reduce<Life | null>(
    (longest, life) => longest === null || life.epochs > longest.epochs ? life : longest,
    null,
  );
}

function systemCallsOf(entries: readonly Entry[]): SystemCalls | null {
  const counted = entries.flatMap((entry) =>
    entry.kind === "traced" && !entry.warm_up ? [entry] : []
  );
  if (counted.length === 0) return null;
  const calls: Record<string, number> = {};
  let operations = 0;
  let sum = 0;
  for (const entry of counted) {
    operations += entry.operations;
    for (const [name, count] of Object.entries(entry.calls)) {
      calls[name] = (calls[name] ?? 0) + count;
      sum += count;
    }
  }
  return { epochs: counted.length, operations, calls, per_operation: sum / operations };
}

/** How hakmem stands to its goals; none without epochs of it. */
export function goalsOf(rows: readonly Row[]): Goal[] {
  const own = rows.find(({ allocator }) => allocator === ourselves);
  if (own === undefined || own.figures === null) return [];
  const { throughput_cv: variation } = own.figures;
  const peers = rows.flatMap(({ allocator, figures }) =>
    allocator === ourselves || figures === null ? [] : [{ allocator, figures }]
  );
  const [steadiest] = peers.toSorted((a, b) => a.figures.throughput_cv - b.figures.throughput_cv);
  const goals: Goal[] = [{
    asked: `the interval of the drift within ± ${formatPercent(limits.drift)}`,
    reached: own.lives.map(intervalText).join("; "),
    met: own.lives.every(({ low, high }) =>
      low !== null && high !== null && low >= -limits.drift && high <= limits.drift
    ),
  }];
  if (steadiest !== undefined) {
    goals.push({
      asked: "throughput varies less than every peer's",
      reached: `${formatPercent(variation)}, ${steadiest.allocator} ${
        formatPercent(steadiest.figures.throughput_cv)
      }`,
      met: variation < steadiest.figures.throughput_cv,
    });
  }
  if (own.system_calls !== null) {
    const { per_operation: each, operations } = own.system_calls;
    goals.push({
      asked: `at most ${limits.systemCalls.toExponential(0)} system calls an operation`,
      reached: `${formatRate(each)} in ${operations.toExponential(1)} operations`,
      met: each <= limits.systemCalls,
    });
  }
  return goals;
}

/** A drift's interval in words. */
export function intervalText({ low, high }: Pick<Life, "low" | "high">): string {
  return low === null || high === null
    ? "too few epochs"
    : `${signedPercent(low)} … ${signedPercent(high)}`;
}

/** A share as percent with its sign; a nought has none. */
export function signedPercent(share: number): string {
  const text = formatPercent(share);
  return share > 0 && !text.startsWith("0 ") ? `+${text}` : text;
}

/** A number of events an operation. */
export function formatRate(rate: number): string {
  return rate === 0 ? "0" : rate.toExponential(1);
}
