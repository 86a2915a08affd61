/**
 * What every report begins with, and how a run of measuring begins and ends.
 *
 * @module
 */
import { root } from "../../cli/paths.ts";
import { type Allocator, missingPeers, ourselves } from "./allocators.ts";
import type { CommonOptions } from "./command_line.ts";
import { interruptedStatus } from "./interrupt.ts";
import { commitOf, describeMachine, type Machine } from "./machine.ts";
import { type Progress, startProgress } from "./progress.ts";

/** What every report says of its making. */
export interface ReportHead {
  /** The verb and its arguments as given. */
  command: string[];
  /** What the orders were shuffled by. */
  seed: number;
  /** When measuring began, UTC. */
  started: string;
  /** Whether Ctrl-C ended it before all was measured. */
  interrupted: boolean;
  /** The checkout's commit; "unknown" outside of git. */
  commit: string;
  /** Where it was measured. */
  machine: Machine;
}

/** What a run of measuring tells of itself. */
export interface Measured {
  /** Whether Ctrl-C ended it early. */
  interrupted: boolean;
  /** The C library's version, from the first process that told it. */
  libc: string | null;
}

/**
 * Says what is going to be measured, measures, and puts the head of the report together.
 *
 * @param command The verb and its arguments.
 * @param measure Does the work, with a temporary folder of its own that is removed afterwards.
 */
export async function takeReport<Result extends Measured>(
  command: string[],
  options: CommonOptions,
  allocators: readonly Allocator[],
  measure: (folder: string, progress: Progress) => Promise<Result>,
): Promise<{ head: ReportHead; result: Result }> {
  const missing = options.allocators === null ? missingPeers(allocators) : [];
  if (missing.length > 0) console.error(`Not installed, so not measured: ${missing.join(", ")}`);
  const names = allocators.map(({ name }) => name).join(", ");
  console.error(`Seed ${options.seed}${names === "" ? "" : `; ${names}`}`);
  const commit = await commitOf(root);
  const started = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const folder = await Deno.makeTempDir({ prefix: `hakmem-${command[0]}-` });
  const progress = startProgress();
  try {
    const result = await measure(folder, progress);
    const head: ReportHead = {
      command,
      seed: options.seed,
      started,
      interrupted: result.interrupted,
      commit,
      machine: describeMachine(result.libc),
    };
    return { head, result };
  } finally {
    progress.end();
    await Deno.remove(folder, { recursive: true });
  }
}

/** The exit status that a report stands for. */
export function exitStatus(
  { interrupted }: ReportHead,
  rows: readonly { allocator: string; error: string | null }[],
): number {
  if (interrupted) return interruptedStatus;
  const failed = (row: { error: string | null }): boolean => row.error !== null;
  const ours = rows.filter(({ allocator }) => allocator === "system" || allocator === ourselves);
  return ours.some(failed) || rows.every(failed) ? 1 : 0;
}
