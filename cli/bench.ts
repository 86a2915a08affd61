/**
 * `./hak bench`: measures allocators side by side on workloads, or under real programs.
 *
 * @module
 */
import { join } from "node:path";
import { renderCsv } from "../bench/comparison/csv.ts";
import { summarizeRows } from "../bench/comparison/ranking.ts";
import { type Contender, runComparison } from "../bench/comparison/run.ts";
import type { ComparisonReport, Row } from "../bench/comparison/schema.ts";
import { renderTable } from "../bench/comparison/table.ts";
import { type Allocator, resolveAllocators } from "../bench/harness/allocators.ts";
import { Driver } from "../bench/harness/driver.ts";
import { Interrupt } from "../bench/harness/interrupt.ts";
import { availableMemoryBytes } from "../bench/harness/machine.ts";
import { checkOutputs, writeReport } from "../bench/harness/outputs.ts";
import type { Progress } from "../bench/harness/progress.ts";
import { exitStatus, type Measured, takeReport } from "../bench/harness/report.ts";
import { ProgramRunner } from "../bench/programs/runner.ts";
import { planOf, prepareInputs } from "../bench/programs/selection.ts";
import { readCatalog, selectRows, thoseThatFit } from "../bench/workloads/catalog.ts";
import { measureRow } from "../bench/workloads/measure.ts";
import { type BenchOptions, parseOptions, usageText } from "../bench/workloads/options.ts";
import { buildIfNeeded } from "./build.ts";
import { binary } from "./paths.ts";

/** What the list of commands says of this verb. */
export const summary: string =
  "Measure allocators side by side: time and memory of workloads and of real programs";

/** The help text. */
export const usage: string = usageText;

/** Measures what is wanted, with a folder for what lives as long as that. */
type Measure = (folder: string, progress: Progress) => Promise<Measured & { rows: Row[] }>;

/** Runs the verb and returns its exit status. */
export async function run(args: string[]): Promise<number> {
  const options = parseOptions(args);
  const allocators = await resolveAllocators(options);
  checkOutputs(options);

  using interrupt = new Interrupt();
  const plan = options.programs ? planPrograms : planWorkloads;
  const measure = await plan(options, allocators, interrupt.signal);
  const { head, result } = await takeReport(["bench", ...args], options, allocators, measure);
  const { rows } = result;
  const report: ComparisonReport = {
    schema: "hakmem.bench/1",
    ...head,
    rows,
    summary: summarizeRows(rows),
  };
  await writeReport(options, {
    json: () => JSON.stringify(report, null, 2) + "\n",
    csv: () => renderCsv(report),
    // Only this needs the chart library, which takes its time to load.
    html: async () => (await import("../bench/comparison/html.ts")).renderHtml(report),
    table: (colour) => renderTable(report, colour),
  });
  return exitStatus(report, rows);
}

async function planWorkloads(
  options: BenchOptions,
  allocators: readonly Allocator[],
  stop: AbortSignal,
): Promise<Measure> {
  await buildIfNeeded();
  const program = binary("hak-bench");
  const wanted = selectRows(await readCatalog(program), options);
  const subjects = thoseThatFit(wanted, availableMemoryBytes(), (line) => console.error(line));
  return async (folder, progress) => {
    const driver = new Driver(program, folder, stop);
    return await compareAll(allocators, driver, (contenders) =>
      runComparison({
        ...options,
        subjects,
        contenders,
        likelySeconds: 0.6 * options.scale + 0.1,
        measure: (trial) => measureRow(driver, trial, options),
      }, progress));
  };
}

async function planPrograms(
  options: BenchOptions,
  allocators: readonly Allocator[],
  stop: AbortSignal,
): Promise<Measure> {
  const { hyperfine, programs } = planOf(options.words, (line) => console.error(line));
  await buildIfNeeded();
  return async (folder, progress) => {
    const [links, inputs, scratch] = [
      join(folder, "links"),
      join(folder, "in"),
      join(folder, "run"),
    ];
    for (const each of [links, inputs, scratch]) await Deno.mkdir(each);
    const driver = new Driver(binary("hak-bench"), links, stop);
    return await compareAll(allocators, driver, async (contenders) => {
      if (!await prepareInputs(inputs, programs, stop)) return { rows: [], interrupted: true };
      const meter = binary("hak-program-meter");
      const runner = new ProgramRunner({ hyperfine, meter, inputs, scratch }, stop);
      return await runComparison({
        ...options,
        subjects: programs,
        contenders,
        likelySeconds: 3,
        measure: (trial) => runner.measure(trial),
      }, progress);
    });
  };
}

/** Identifies the allocators, then compares them. */
async function compareAll(
  allocators: readonly Allocator[],
  driver: Driver,
  compare: (contenders: Contender[]) => Promise<{ rows: Row[]; interrupted: boolean }>,
): Promise<Measured & { rows: Row[] }> {
  const identities = await driver.identifyAll(allocators);
  const libc = identities.find((identity) => identity.libc !== null)?.libc ?? null;
  const contenders = identities.flatMap((identity, index): Contender[] => {
    const allocator = allocators[index];
    return allocator === undefined ? [] : [{ allocator, identity }];
  });
  if (contenders.length < allocators.length) return { rows: [], interrupted: true, libc };
  return { ...await compare(contenders), libc };
}
