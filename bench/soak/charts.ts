/**
 * The charts of a soak, each one SVG: figures over the time that it ran, and the drifts side by side.
 *
 * @module
 */
import { median } from "simple-statistics";
import { type Chart, drawChart, markScales, padded, plot, ticks } from "../harness/chart.ts";
import type { Epoch, Row } from "./schema.ts";
import { limits, longestLife } from "./summary.ts";
import { thin } from "./statistics.ts";

/** A figure over time. */
interface Subject {
  title: string;
  note: string;
  scale: "log" | "linear";
  /** What is drawn of an epoch, given the median RSS of its life. */
  value(epoch: Epoch, rss: number): number;
}

interface Point {
  allocator: string;
  /** The process that it is of: no line joins two. */
  life: string;
  minutes: number;
  value: number;
}

const mebi = 2 ** 20;
/** More points than the chart has room for tell no more. */
const pointsMost = 200;

const subjects: readonly Subject[] = [
  { title: "RSS, MiB", note: "", scale: "log", value: ({ rss_bytes: rss }) => rss / mebi },
  {
    title: "RSS beyond the median of its process, %",
    note: "a line that stays at 0 does not drift",
    scale: "linear",
    value: ({ rss_bytes: rss }, middle) => 100 * (rss / middle - 1),
  },
  {
    title: "Time of an operation, ns",
    note: "CPU time with one thread, wall time with more",
    scale: "log",
    value: ({ time_ns: time }) => time,
  },
  {
    title: "p99 of single operations, ns",
    note: "",
    scale: "log",
    value: ({ latency_p99_ns: time }) => time,
  },
  {
    title: "p99.9 of single operations, ns",
    note: "",
    scale: "log",
    value: ({ latency_p99_9_ns: time }) => time,
  },
];

/** All charts. `allocators` are all that are shown, in the order of their marks. */
export async function drawCharts(
  rows: readonly Row[],
  allocators: readonly string[],
): Promise<Chart[]> {
  const charts: Chart[] = [];
  for (const subject of subjects) {
    const points = rows.flatMap((row) => pointsOf(row, subject));
    if (points.length === 0) continue;
    const { title, note } = subject;
    charts.push({ title, note, svg: await drawLines(points, allocators, subject.scale) });
  }
  if (charts.length > 0) {
    charts.push({
      title: "Drift over the soak, % of RSS, with its 95 % interval",
      note: `dashed: ± ${100 * limits.drift} %`,
      svg: await drawDrifts(rows, allocators),
    });
  }
  return charts;
}

function pointsOf({ allocator, epochs }: Row, { value, scale }: Subject): Point[] {
  const counted = epochs.filter((epoch) => !epoch.warm_up);
  return [...Map.groupBy(counted, ({ life }) => life)].flatMap(([life, own]) => {
    const middle = median(own.map(({ rss_bytes: rss }) => rss));
    const points = own.map((epoch) => ({ x: epoch.elapsed_seconds / 60, y: value(epoch, middle) }));
    return thin(points, pointsMost)
      // A log axis has no place for what is not above zero.
      .filter(({ y }) => scale === "linear" || y > 0)
      .map(({ x, y }) => ({ allocator, life: `${allocator} ${life}`, minutes: x, value: y }));
  });
}

async function drawLines(
  points: readonly Point[],
  allocators: readonly string[],
  scale: "log" | "linear",
): Promise<string> {
  const { colour, shape } = markScales(allocators);
  const values = points.map(({ value }) => value);
  const x = {
    field: "minutes",
    type: "quantitative",
    scale: { zero: false, nice: false },
    axis: { title: "minutes", tickCount: 6 },
  } as const;
  const y = scale === "log"
    ? {
      field: "value",
      type: "quantitative",
      scale: { type: "log", domain: padded(values, 1.15) },
      axis: { title: null, values: ticks(values), format: "~r", minExtent: 40 },
    } as const
    : {
      field: "value",
      type: "quantitative",
      scale: { zero: true },
      axis: { title: null, tickCount: 6, minExtent: 40 },
    } as const;
  // The last point of each line bears its mark; one on every point would hide the lines.
  const ends = [...Map.groupBy(points, ({ life }) => life).values()].flatMap((line) =>
    line.at(-1) ?? []
  );
  return await drawChart({
    ...plot,
    layer: [
      {
        data: { values: [...points] },
        mark: { type: "line", strokeWidth: 1.5 },
        encoding: { x, y, color: colour, detail: { field: "life", type: "nominal" } },
      },
      {
        data: { values: ends },
        mark: { type: "point", filled: true, size: 60, opacity: 1 },
        encoding: { x, y, color: colour, shape },
      },
    ],
  });
}

async function drawDrifts(rows: readonly Row[], allocators: readonly string[]): Promise<string> {
  const { colour, shape } = markScales(allocators);
  const drifts = rows.flatMap((row) => {
    const life = longestLife(row);
    if (life === null) return [];
    const { drift, low, high } = life;
    return [{
      allocator: row.allocator,
      value: 100 * drift,
      low: 100 * (low ?? drift),
      high: 100 * (high ?? drift),
    }];
  });
  const x = {
    type: "quantitative",
    scale: { zero: true },
    axis: { title: null, tickCount: 6 },
  } as const;
  const y = { field: "allocator", type: "nominal", sort: null, axis: { title: null } } as const;
  return await drawChart({
    width: plot.width,
    height: { step: 24 },
    layer: [
      {
        data: { values: [{ value: -100 * limits.drift }, { value: 100 * limits.drift }] },
        mark: { type: "rule", stroke: "currentColor", strokeDash: [4, 4], opacity: 0.7 },
        encoding: { x: { ...x, field: "value" } },
      },
      {
        data: { values: drifts },
        mark: { type: "rule", strokeWidth: 2 },
        encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, y, color: colour },
      },
      {
        data: { values: drifts },
        mark: { type: "point", filled: true, size: 60, opacity: 1 },
        encoding: { x: { ...x, field: "value" }, y, color: colour, shape },
      },
    ],
  });
}
