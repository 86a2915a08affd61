/**
 * `./hak costs`: counts what an operation costs, in figures that do not depend on the machine's mood.
 *
 * @module
 */
import { valgrindVersion } from "../bench/costs/callgrind.ts";
import { renderCsv } from "../bench/costs/csv.ts";
import { type CostOptions, parseOptions, type Part, usageText } from "../bench/costs/options.ts";
import { countCosts } from "../bench/costs/run.ts";
import type { CostReport } from "../bench/costs/schema.ts";
import { renderTable } from "../bench/costs/table.ts";
import { resolveAllocators } from "../bench/harness/allocators.ts";
import { Interrupt } from "../bench/harness/interrupt.ts";
import { availableMemoryBytes } from "../bench/harness/machine.ts";
import { checkOutputs, writeReport } from "../bench/harness/outputs.ts";
import { exitStatus, takeReport } from "../bench/harness/report.ts";
import {
  type Place,
  readCatalog,
  selectRows,
  thoseThatFit,
  type Workload,
} from "../bench/workloads/catalog.ts";
import { buildIfNeeded } from "./build.ts";
import { binary } from "./paths.ts";

/** What the list of commands says of this verb. */
export const summary: string =
  "Count what an operation costs: instructions, shared cache lines, locks, system calls";

/** The help text. */
export const usage: string = usageText;

/** Runs the verb and returns its exit status. */
export async function run(args: string[]): Promise<number> {
  const options = parseOptions(args);
  const wanted = (part: Part): boolean => options.parts.includes(part);
  const allocators = wanted("instructions") ? await resolveAllocators(options) : [];
  checkOutputs(options);
  const valgrind = wanted("instructions") ? await valgrindVersion() : null;
  await buildIfNeeded({ tests: true });
  const catalog = await readCatalog(binary("hak-bench"));

  using interrupt = new Interrupt();
  const { head, result } = await takeReport(
    ["costs", ...args],
    // Peers that are not installed matter only where they would be run.
    wanted("instructions") ? options : { ...options, allocators: [] },
    allocators,
    (folder, progress) =>
      countCosts(
        {
          options,
          allocators,
          instructionPlaces: wanted("instructions") ? placesOf(catalog, options, [1]) : [],
          countPlaces: wanted("counts") ? placesOf(catalog, options, options.threads) : [],
        },
        folder,
        progress,
        interrupt.signal,
      ),
  );
  const { instructions, counts } = result;
  const report: CostReport = { schema: "hakmem.costs/1", ...head, valgrind, instructions, counts };
  await writeReport(options, {
    json: () => JSON.stringify(report, null, 2) + "\n",
    csv: () => renderCsv(report),
    table: (colour) => renderTable(report, colour),
  });
  return exitStatus(report, [...instructions, ...counts]);
}

function placesOf(
  catalog: readonly Workload[],
  { words, quick }: CostOptions,
  threads: readonly number[],
): Place[] {
  const places = selectRows(catalog, { words, quick, threads });
  return thoseThatFit(places, availableMemoryBytes(), (line) => console.error(line));
}
