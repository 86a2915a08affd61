/**
 * The charts of a sweep, each one SVG: memory and time over the number of blocks, on log axes.
 *
 * @module
 */
import { type Chart, drawChart, markScales, padded, plot, ticks } from "../harness/chart.ts";
import type { Figures, Row } from "./schema.ts";
import { aboveBase } from "./summary.ts";

/** One point of a line, with the least and the greatest of its samples. */
interface Point {
  allocator: string;
  count: number;
  value: number;
  min: number;
  max: number;
}

/** What is drawn: a title, and a row's value with its extremes, or null where there is nothing to draw. */
interface Subject {
  title: string;
  note: string;
  /** Draws the blocks' own bytes as a line of their own. */
  dataLine?: (count: number) => number;
  value(row: Row): Omit<Point, "allocator" | "count"> | null;
}

const mebi = 2 ** 20;

/** The charts for the rows of one size. `allocators` are all that are shown, in the order of their marks. */
export async function drawCharts(
  rows: readonly Row[],
  allocators: readonly string[],
): Promise<Chart[]> {
  const size = rows[0]?.size ?? 0;
  const subjects: Subject[] = [
    {
      title: "Live RSS above base, MiB",
      note: "dashed: the blocks themselves",
      dataLine: (count) => count * size / mebi,
      value: (row) => summary(row, "live_rss_bytes", 1 / mebi),
    },
    {
      title: "Overhead, % of data",
      note: "live RSS beyond the blocks themselves",
      value: (row) => summary(row, "overhead_bytes", 100 / (row.size * row.count)),
    },
    {
      title: "RSS above base after the last free, MiB",
      note: "nothing asked for, no time passed",
      value: (row) => summary(row, "after_free_rss_bytes", 1 / mebi),
    },
    {
      title: "RSS above base after a flush, MiB",
      note: "the allocator was asked to give memory back",
      value: (row) => summary(row, "after_flush_rss_bytes", 1 / mebi),
    },
    {
      title: "Allocate and write, ns a block",
      note: "CPU time",
      value: (row) => summary(row, "alloc_ns", 1),
    },
    {
      title: "Free, ns a block",
      note: "CPU time",
      value: (row) => summary(row, "free_ns", 1),
    },
  ];
  const charts: Chart[] = [];
  for (const subject of subjects) {
    const points = rows.flatMap((row): Point[] => {
      const value = subject.value(row);
      return value === null || value.value <= 0
        ? []
        : [{ allocator: row.allocator, count: row.count, ...value }];
    });
    if (points.length === 0) continue;
    const { title, note } = subject;
    charts.push({ title, note, svg: await draw(subject, points, allocators) });
  }
  return charts;
}

/** A figure's median and extremes over the samples, in the unit of a chart; memory is what lies above base. */
function summary(
  row: Row,
  figure: keyof Figures,
  factor: number,
): Omit<Point, "allocator" | "count"> | null {
  const spread = figure.endsWith("_rss_bytes") ? aboveBase(row, figure) : row.spread[figure];
  if (spread === null || spread === undefined) return null;
  return { value: spread.median * factor, min: spread.min * factor, max: spread.max * factor };
}

async function draw(
  subject: Subject,
  points: readonly Point[],
  allocators: readonly string[],
): Promise<string> {
  const { dataLine } = subject;
  const counts = [...new Set(points.map((point) => point.count))].sort((a, b) => a - b);
  const data = dataLine === undefined
    ? []
    : counts.map((count) => ({ count, value: dataLine(count) }));
  // A spread that reaches down to zero has no place on a log axis either.
  const low = Math.min(...points.map((point) => point.value));
  const bars = points.map((point) => ({ ...point, min: Math.max(point.min, low / 2) }));
  const values = [...bars.flatMap((bar) => [bar.min, bar.max]), ...data.map((line) => line.value)];
  const x = {
    field: "count",
    type: "quantitative",
    scale: { type: "log", domain: padded(counts, 1.25) },
    axis: { title: "blocks", values: counts, format: "~s", labelOverlap: "greedy" },
  } as const;
  const y = {
    type: "quantitative",
    scale: { type: "log", domain: padded(values, 1.15) },
    // Axes of one width let the charts of a column line up.
    axis: { title: null, values: ticks(values), format: "~r", minExtent: 40 },
  } as const;
  const { colour, shape } = markScales(allocators);
  return await drawChart({
    ...plot,
    layer: [
      {
        data: { values: data },
        mark: { type: "line", stroke: "currentColor", strokeDash: [4, 4], opacity: 0.7 },
        encoding: { x, y: { ...y, field: "value" } },
      },
      {
        data: { values: bars },
        mark: { type: "rule", strokeWidth: 1, opacity: 0.7 },
        encoding: { x, y: { ...y, field: "min" }, y2: { field: "max" }, color: colour },
      },
      {
        data: { values: [...points] },
        mark: { type: "line", strokeWidth: 1.75 },
        encoding: { x, y: { ...y, field: "value" }, color: colour },
      },
      {
        data: { values: [...points] },
        mark: { type: "point", filled: true, size: 60, opacity: 1 },
        encoding: { x, y: { ...y, field: "value" }, color: colour, shape },
      },
    ],
  });
}
