/**
 * `./hak sweep`: measures allocators side by side, over sizes and numbers of blocks.
 *
 * @module
 */
import { type Allocator, resolveAllocators } from "../bench/harness/allocators.ts";
import { Driver } from "../bench/harness/driver.ts";
import { formatBytes, formatCount } from "../bench/harness/format.ts";
import { Interrupt } from "../bench/harness/interrupt.ts";
import { availableMemoryBytes } from "../bench/harness/machine.ts";
import { checkOutputs, writeReport } from "../bench/harness/outputs.ts";
import { exitStatus, takeReport } from "../bench/harness/report.ts";
import { renderCsv } from "../bench/sweep/csv.ts";
import { neededBytes } from "../bench/sweep/measure.ts";
import { parseOptions, type SweepOptions, usageText } from "../bench/sweep/options.ts";
import { runSweep } from "../bench/sweep/run.ts";
import type { SweepReport } from "../bench/sweep/schema.ts";
import { fitModels } from "../bench/sweep/summary.ts";
import { renderTable } from "../bench/sweep/table.ts";
import { buildIfNeeded } from "./build.ts";
import { UsageError } from "./errors.ts";
import { binary } from "./paths.ts";

/** What the list of commands says of this verb. */
export const summary: string =
  "Measure allocators side by side: memory and time over the number of blocks";

/** The help text. */
export const usage: string = usageText;

/** Runs the verb and returns its exit status. */
export async function run(args: string[]): Promise<number> {
  const options = parseOptions(args);
  const allocators = await resolveAllocators(options);
  checkOutputs(options);
  checkMemory(options);
  await buildIfNeeded();

  using interrupt = new Interrupt();
  const report = await measure(options, allocators, args, interrupt.signal);
  await writeReport(options, {
    json: () => JSON.stringify(report, null, 2) + "\n",
    csv: () => renderCsv(report),
    // Only this needs the chart library, which takes its time to load.
    html: async () => (await import("../bench/sweep/html.ts")).renderHtml(report),
    table: (colour) => renderTable(report, colour),
  });
  return exitStatus(report, report.rows);
}

async function measure(
  options: SweepOptions,
  allocators: readonly Allocator[],
  args: readonly string[],
  stop: AbortSignal,
): Promise<SweepReport> {
  const command = ["sweep", ...args];
  const { head, result } = await takeReport(command, options, allocators, (folder, progress) => {
    const driver = new Driver(binary("hak-sweep-driver"), folder, stop);
    return runSweep(options, allocators, driver, progress);
  });
  const { rows } = result;
  return { schema: "hakmem.sweep/1", ...head, rows, models: fitModels(rows) };
}

function checkMemory({ sizes, counts }: SweepOptions): void {
  const available = availableMemoryBytes();
  for (const size of sizes) {
    for (const count of counts) {
      const needed = neededBytes(size, count);
      if (needed <= available) continue;
      const fixed = neededBytes(size, 0);
      const most = Math.floor((available - fixed) / ((needed - fixed) / count));
      const advice = most < 1
        ? "not even one block of this size fits: choose a smaller --sizes"
        : `the largest count for this size here is ${
          roundDown(most)
        }: choose smaller --counts or --sizes`;
      throw new UsageError(
        `too little memory for ${formatCount(count)} blocks of ${size} bytes: it needs ${
          formatBytes(needed)
        }, ${formatBytes(available)} are available; ${advice}`,
      );
    }
  }
}

/** The largest count of two digits that is not above `count`, as one would type it. */
function roundDown(count: number): string {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(count)) - 1);
  return formatCount(Math.floor(count / step) * step);
}
