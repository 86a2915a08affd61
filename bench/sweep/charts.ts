/**
 * The charts of a sweep, each one SVG: memory and time over the number of blocks, on log axes.
 *
 * Colours are CSS variables and `currentColor`, so that one drawing suits a light and a dark page. A chart
 * is about as wide as a phone; pages lay several side by side where there is room.
 *
 * @module
 */
// Vega and Vega-Lite draw without a browser, and give log axes that begin at the data.
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Figures, Row } from "./schema.ts";
import { aboveBase } from "./summary.ts";

/** A chart with its caption. */
export interface Chart {
  /** What is shown, and in which unit. */
  title: string;
  /** What a reader should know of it besides; may be empty. */
  note: string;
  /** The drawing, scaling with its container. */
  svg: string;
}

/** How an allocator is drawn, everywhere the same. */
export interface Mark {
  /** A CSS colour. */
  colour: string;
  /** An SVG path within -1 … 1. */
  shape: string;
}

const shapes = [
  "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z",
  "M-.85,-.85H.85V.85H-.85Z",
  "M0,-1.15L1.05,.8H-1.05Z",
  "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
  "M0,1.15L1.05,-.8H-1.05Z",
  "M-1.1,-.4H-.4V-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1Z",
];

/** Number of colours that a page must define, as `--series-0`, `--series-1`, … */
export const seriesColours = 8;

/** The mark of the allocator at a place in the list of all that are shown. */
export function markOf(index: number): Mark {
  return {
    colour: `var(--series-${index % seriesColours})`,
    shape: shapes[index % shapes.length] ?? "circle",
  };
}

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
const plot = { width: 300, height: 210 };

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
  const marks = allocators.map((_, index) => markOf(index));
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
  const colour = {
    field: "allocator",
    type: "nominal",
    scale: { domain: [...allocators], range: marks.map((mark) => mark.colour) },
    legend: null,
  } as const;
  const shape = {
    field: "allocator",
    type: "nominal",
    scale: { domain: [...allocators], range: marks.map((mark) => mark.shape) },
    legend: null,
  } as const;
  const spec: TopLevelSpec = {
    ...plot,
    background: "transparent",
    padding: 4,
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
    config: {
      font: "system-ui, sans-serif",
      view: { stroke: null },
      axis: {
        labelColor: "currentColor",
        labelFontSize: 12,
        titleColor: "currentColor",
        titleFontSize: 12,
        titleFontWeight: "normal",
        gridColor: "currentColor",
        gridOpacity: 0.15,
        domainColor: "currentColor",
        domainOpacity: 0.5,
        tickColor: "currentColor",
        tickOpacity: 0.5,
      },
    },
  };
  const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
  // Without a size of its own the drawing takes its container's width and keeps its proportions.
  return svg.replace(
    /^<svg[^>]*?( viewBox="[^"]*")>/,
    '<svg xmlns="http://www.w3.org/2000/svg" role="img"$1>',
  );
}

/** From the least to the greatest with some room around; twice and half of a single value. */
function padded(values: readonly number[], factor: number): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low / 2, high * 2] : [low / factor, high * factor];
}

/** Round numbers within the values: powers of ten, with their doubles and fives where those are few. */
function ticks(values: readonly number[]): number[] {
  const [low, high] = padded(values, 1.15);
  const decades = Math.log10(high / low);
  const steps = decades > 2.5 ? [1] : decades > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const step of steps) {
      // Through text, as 3 × 0.1 is not 0.3 in binary.
      const tick = Number((step * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found;
}
