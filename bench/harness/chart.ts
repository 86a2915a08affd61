/**
 * Drawing charts, each one SVG.
 *
 * Colours are CSS variables and `currentColor`, so that one drawing suits a light and a dark page. A chart
 * is about as wide as a phone; pages lay several side by side where there is room.
 *
 * @module
 */
// Vega and Vega-Lite draw without a browser, and give log axes that begin at the data.
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

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

/** How wide the drawn part of a chart is, and how high unless its content says. */
export const plot = { width: 300, height: 210 };

/** Draws a chart. What it says of background, padding and looks is the same everywhere. */
export async function drawChart(spec: TopLevelSpec): Promise<string> {
  const styled: TopLevelSpec = {
    ...spec,
    background: "transparent",
    padding: 4,
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
  const svg = await new View(parse(compile(styled).spec), { renderer: "none" }).toSVG();
  // Without a size of its own the drawing takes its container's width and keeps its proportions.
  return svg.replace(
    /^<svg[^>]*?( viewBox="[^"]*")>/,
    '<svg xmlns="http://www.w3.org/2000/svg" role="img"$1>',
  );
}

/** How the allocators are told apart: the same colours and shapes in every chart. */
export function markScales(allocators: readonly string[]): {
  colour: { field: "allocator"; type: "nominal"; scale: Scale; legend: null };
  shape: { field: "allocator"; type: "nominal"; scale: Scale; legend: null };
} {
  const marks = allocators.map((_, index) => markOf(index));
  const scaled = (
    range: string[],
  ): { field: "allocator"; type: "nominal"; scale: Scale; legend: null } => ({
    field: "allocator",
    type: "nominal",
    scale: { domain: [...allocators], range },
    legend: null,
  });
  return {
    colour: scaled(marks.map((mark) => mark.colour)),
    shape: scaled(marks.map((mark) => mark.shape)),
  };
}

interface Scale {
  domain: string[];
  range: string[];
}

/** From the least to the greatest with some room around; twice and half of a single value. */
export function padded(values: readonly number[], factor: number): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low / 2, high * 2] : [low / factor, high * factor];
}

/** Round numbers within the values: powers of ten, with their doubles and fives where those are few. */
export function ticks(values: readonly number[]): number[] {
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
