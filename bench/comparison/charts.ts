/**
 * The charts of a comparison: time and memory, a line for each row of a workload.
 *
 * @module
 */
import { type Chart, drawChart, markScales, padded, plot, ticks } from "../harness/chart.ts";
import { groupBySubject } from "./ranking.ts";
import { threadsText } from "./run.ts";
import type { Row } from "./schema.ts";

interface Point {
  allocator: string;
  row: string;
  value: number;
  min: number;
  max: number;
}

const mebi = 2 ** 20;

/** The charts for the rows of one workload. `allocators` are all that are shown, in the order of their marks. */
export async function drawCharts(
  rows: readonly Row[],
  allocators: readonly string[],
): Promise<Chart[]> {
  const groups = groupBySubject(rows);
  const subjects = [
    {
      title: "Time, as a multiple of the best",
      note: "of those that are ranked in the row",
      points: groups.flatMap((group) => {
        const best = Math.min(
          ...group.flatMap(({ rank, time_ns: time }) => rank === null || time === null ? [] : time),
        );
        return group.flatMap((row) => pointOf(row, "time_ns", best));
      }),
    },
    {
      title: "RSS, MiB",
      note: "where most is live",
      points: rows.flatMap((row) => pointOf(row, "rss_bytes", mebi)),
    },
  ];
  const charts: Chart[] = [];
  for (const { title, note, points } of subjects) {
    if (points.length === 0) continue;
    charts.push({ title, note, svg: await draw(points, allocators) });
  }
  return charts;
}

/** A log axis has no place for what is not above zero, nor for rows without a best. */
function pointOf(row: Row, figure: "time_ns" | "rss_bytes", unit: number): Point[] {
  const spread = row.spread[figure];
  if (spread === undefined || spread.median <= 0 || !Number.isFinite(unit)) return [];
  return [{
    allocator: row.allocator,
    row: `${row.row}${threadsText(row)}`,
    value: spread.median / unit,
    min: Math.max(spread.min, spread.median / 2) / unit,
    max: spread.max / unit,
  }];
}

async function draw(points: readonly Point[], allocators: readonly string[]): Promise<string> {
  const { colour, shape } = markScales(allocators);
  const values = points.flatMap(({ min, max }) => [min, max]);
  const x = {
    type: "quantitative",
    scale: { type: "log", domain: padded(values, 1.15) },
    axis: { title: null, values: ticks(values), format: "~r" },
  } as const;
  const y = {
    field: "row",
    type: "nominal",
    sort: null,
    axis: { title: null, labelLimit: 0 },
  } as const;
  return await drawChart({
    width: plot.width,
    height: { step: 24 },
    data: { values: [...points] },
    layer: [
      {
        mark: { type: "rule", strokeWidth: 1, opacity: 0.7 },
        encoding: { x: { ...x, field: "min" }, x2: { field: "max" }, y, color: colour },
      },
      {
        mark: { type: "point", filled: true, size: 60, opacity: 1 },
        encoding: { x: { ...x, field: "value" }, y, color: colour, shape },
      },
    ],
  });
}
