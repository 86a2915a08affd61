/**
 * Runs a sweep: identifies every allocator, then measures round by round and collects the samples.
 *
 * @module
 */
import type { Allocator } from "../harness/allocators.ts";
import type { Driver, Identity } from "../harness/driver.ts";
import { formatCount } from "../harness/format.ts";
import { flushNames, measureBlocks } from "./measure.ts";
import type { SweepOptions } from "./options.ts";
import { planSteps, type Step } from "./order.ts";
import type { Progress } from "../harness/progress.ts";
import type { Measured } from "../harness/report.ts";
import { type Gathered, measureRounds } from "../harness/rounds.ts";
import type { Row, Sample } from "./schema.ts";
import { sortRows, summarize } from "./summary.ts";

/** What a sweep found. */
export interface SweepResult extends Measured {
  /** Sorted; of an interrupted sweep, those that have a sample or an error. */
  rows: Row[];
}

interface Cell extends Gathered<Sample> {
  allocator: Allocator;
  identity: Identity;
  size: number;
  count: number;
}

/** Measures everything that the options ask for. */
export async function runSweep(
  options: SweepOptions,
  allocators: readonly Allocator[],
  driver: Driver,
  progress: Progress,
): Promise<SweepResult> {
  const identities = await driver.identifyAll(allocators);
  const libc = identities.find((identity) => identity.libc !== null)?.libc ?? null;
  const cells = new Map<string, Cell>();
  for (const [index, identity] of identities.entries()) {
    const allocator = allocators[index];
    if (allocator === undefined) continue;
    for (const size of options.sizes) {
      for (const count of options.counts) {
        const cell = { allocator, identity, size, count, samples: [], error: identity.error };
        cells.set(cellKey({ allocator: index, size, count }), cell);
      }
    }
  }
  const interrupted = identities.length < allocators.length ||
    await measureAll(options, allocators, cells, driver, progress) === "interrupted";
  const told = [...cells.values()].filter((cell) => cell.samples.length > 0 || cell.error !== null);
  return { rows: sortRows(told.map((cell) => toRow(cell, options))), interrupted, libc };
}

function measureAll(
  options: SweepOptions,
  allocators: readonly Allocator[],
  cells: ReadonlyMap<string, Cell>,
  driver: Driver,
  progress: Progress,
): Promise<"complete" | "interrupted"> {
  const { sizes, counts, repeat, seed, pattern } = options;
  const cellOf = (step: Step): Cell | undefined => cells.get(cellKey(step));
  return measureRounds<Step, Sample>(
    {
      steps: planSteps(sizes, counts, allocators.length, repeat, seed),
      gathered: cellOf,
      name: (step) =>
        `${allocators[step.allocator]?.name}, ${formatCount(step.count)} × ${step.size} B`,
      likelySeconds: ({ size, count }) => 0.03 + count * (5e-8 + size * 1e-9),
      pauseSeconds: ({ idle }) => idle ? 1 : 0,
      measure: (step) => {
        const cell = cellOf(step);
        if (cell === undefined) throw new Error("A step without a cell is not made");
        return measureBlocks(driver, cell.allocator, cell.identity, { ...step, pattern, seed });
      },
    },
    repeat,
    progress,
  );
}

function toRow(cell: Cell, options: SweepOptions): Row {
  const { allocator, identity, size, count, samples, error } = cell;
  const { spread, ...medians } = summarize(samples, size, count);
  return {
    allocator: allocator.name,
    path: identity.path,
    version: identity.version,
    loaded: identity.loaded,
    error,
    size,
    count,
    pattern: options.pattern,
    repeats: samples.length,
    ...medians,
    flush: flushNames[identity.release] ?? null,
    spread,
    samples,
  };
}

function cellKey({ allocator, size, count }: Pick<Step, "allocator" | "size" | "count">): string {
  return `${allocator} ${size} ${count}`;
}
