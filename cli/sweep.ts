/**
 * `./hak sweep`: measures allocators side by side, over sizes and numbers of blocks.
 *
 * @module
 */
import { type Allocator, missingPeers, resolveAllocators } from "../bench/sweep/allocators.ts";
import { renderCsv } from "../bench/sweep/csv.ts";
import { whyNotWritable, writeWhole } from "../bench/sweep/files.ts";
import { formatBytes, formatCount } from "../bench/sweep/format.ts";
import { availableMemoryBytes, commitOf, describeMachine } from "../bench/sweep/machine.ts";
import { Measurer, neededBytes } from "../bench/sweep/measure.ts";
import { parseOptions, type SweepOptions, usageText } from "../bench/sweep/options.ts";
import { startProgress } from "../bench/sweep/progress.ts";
import { runSweep } from "../bench/sweep/run.ts";
import type { Row, SweepReport } from "../bench/sweep/schema.ts";
import { fitModels } from "../bench/sweep/summary.ts";
import { renderTable } from "../bench/sweep/table.ts";
import { buildIfNeeded } from "./build.ts";
import { RunError, UsageError } from "./errors.ts";
import { binary, callerPath, root } from "./paths.ts";

/** What the list of commands says of this verb. */
export const summary: string =
  "Measure allocators side by side: memory and time over the number of blocks";

/** The help text. */
export const usage: string = usageText;

/** The exit status that a shell gives to what Ctrl-C ended. */
const interruptedStatus = 130;

/** Runs the verb and returns its exit status. */
export async function run(args: string[]): Promise<number> {
  const options = parseOptions(args);
  const allocators = await resolveAllocators(options);
  checkOutputs(options);
  checkMemory(options);
  await buildIfNeeded();

  using interrupt = new Interrupt();
  const report = await measure(options, allocators, args, interrupt.signal);
  await write(report, options);
  return exitStatus(report);
}

/** Turns Ctrl-C into an abort signal until it is disposed of. */
class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  /** A terminal and `deno task` each send one Ctrl-C for one press: only a later one is a second wish. */
  readonly #secondWishMs = 1000;
  #pressedAt = 0;

  constructor() {
    Deno.addSignalListener("SIGINT", this.#onInterrupt);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    Deno.removeSignalListener("SIGINT", this.#onInterrupt);
  }

  readonly #onInterrupt = (): void => {
    if (!this.signal.aborted) {
      this.#pressedAt = performance.now();
      this.#controller.abort();
    } else if (performance.now() - this.#pressedAt > this.#secondWishMs) {
      // Writing what was measured takes a moment; whoever asks again wants out at once.
      Deno.exit(interruptedStatus);
    }
  };
}

async function measure(
  options: SweepOptions,
  allocators: readonly Allocator[],
  args: readonly string[],
  stop: AbortSignal,
): Promise<SweepReport> {
  const missing = options.allocators === null ? missingPeers(allocators) : [];
  if (missing.length > 0) console.error(`Not installed, so not measured: ${missing.join(", ")}`);
  console.error(`Seed ${options.seed}; ${allocators.map(({ name }) => name).join(", ")}`);
  const commit = await commitOf(root);
  const started = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const links = await Deno.makeTempDir({ prefix: "hakmem-sweep-" });
  const progress = startProgress();
  try {
    const measurer = new Measurer(binary("hak-sweep-driver"), links, stop);
    const { rows, interrupted, libc } = await runSweep(options, allocators, measurer, progress);
    return {
      schema: "hakmem.sweep/1",
      command: ["sweep", ...args],
      seed: options.seed,
      started,
      interrupted,
      commit,
      machine: describeMachine(libc),
      rows,
      models: fitModels(rows),
    };
  } finally {
    progress.end();
    await Deno.remove(links, { recursive: true });
  }
}

function checkOutputs(options: SweepOptions): void {
  for (const name of ["json", "csv", "html"] as const) {
    const path = options[name];
    if (path === null || path === "-") continue;
    const fault = whyNotWritable(callerPath(path));
    if (fault !== null) {
      throw new UsageError(
        `cannot write --${name} ${path}: ${fault}; name a file in a folder that exists and may be written to, or - for standard output`,
      );
    }
  }
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

/** Writes the files, then shows the table, then complains of what could not be written. */
async function write(report: SweepReport, options: SweepOptions): Promise<void> {
  const render = {
    json: () => JSON.stringify(report, null, 2) + "\n",
    csv: () => renderCsv(report),
    // Only this needs the chart library, which takes its time to load.
    html: async () => (await import("../bench/sweep/html.ts")).renderHtml(report),
  };
  const failures: string[] = [];
  let onOutput: string | null = null;
  for (const name of ["json", "csv", "html"] as const) {
    const path = options[name];
    if (path === null) continue;
    const content = await render[name]();
    if (path === "-") {
      onOutput = content;
      continue;
    }
    try {
      writeWhole(callerPath(path), content);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      failures.push(`cannot write --${name} ${path}: ${error.message}`);
    }
  }
  if (onOutput !== null) await print(Deno.stdout, onOutput);
  const screen = onOutput === null ? Deno.stdout : Deno.stderr;
  await print(screen, renderTable(report, screen.isTerminal() && !Deno.noColor));
  if (failures.length > 0) throw new RunError(failures.join("; "));
}

async function print(stream: typeof Deno.stdout | typeof Deno.stderr, text: string): Promise<void> {
  try {
    await new Blob([text]).stream().pipeTo(stream.writable, { preventClose: true });
  } catch (error) {
    // A reader that has seen enough, such as head, is no failure.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

function exitStatus(report: SweepReport): number {
  if (report.interrupted) return interruptedStatus;
  const failed = (row: Row): boolean => row.error !== null;
  const ours = report.rows.filter((row) =>
    row.allocator === "system" || row.allocator === "hakmem"
  );
  return ours.some(failed) || report.rows.every(failed) ? 1 : 0;
}
