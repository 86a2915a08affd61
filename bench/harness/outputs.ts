/**
 * Where a result goes: files that are checked before hours of measuring and written whole at its end, and
 * the table.
 *
 * @module
 */
import { RunError, UsageError } from "../../cli/errors.ts";
import { callerPath } from "../../cli/paths.ts";
import type { Outputs } from "./command_line.ts";
import { whyNotWritable, writeWhole } from "./files.ts";

const kinds = ["json", "csv", "html"] as const;

/** Refuses a file that could not be written at the end. */
export function checkOutputs(outputs: Outputs): void {
  for (const name of kinds) {
    const path = outputs[name];
    if (path === null || path === "-") continue;
    const fault = whyNotWritable(callerPath(path));
    if (fault !== null) {
      throw new UsageError(
        `cannot write --${name} ${path}: ${fault}; name a file in a folder that exists and may be written to, or - for standard output`,
      );
    }
  }
}

/** How a report is put into words. */
export interface Rendering {
  /** As JSON. */
  json(): string;
  /** As CSV. */
  csv(): string;
  /** As an HTML page, by a verb that has one. */
  html?(): Promise<string>;
  /** As text for a terminal. */
  table(colour: boolean): string;
}

/** Writes the files, then shows the table, then complains of what could not be written. */
export async function writeReport(outputs: Outputs, rendering: Rendering): Promise<void> {
  const failures: string[] = [];
  let onOutput: string | null = null;
  for (const name of kinds) {
    const path = outputs[name];
    if (path === null) continue;
    const content = await rendering[name]?.();
    if (content === undefined) throw new Error(`A verb without ${name} has no option for it`);
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
  await print(screen, rendering.table(screen.isTerminal() && !Deno.noColor));
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
