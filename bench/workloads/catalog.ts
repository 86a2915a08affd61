/**
 * Which rows there are: what `hak-bench --list` says, and which of it is asked for.
 *
 * @module
 */
import { RunError, UsageError } from "../../cli/errors.ts";
import { threadsText } from "../comparison/run.ts";
import type { Subject } from "../comparison/schema.ts";
import { callerEnvironment } from "../harness/driver.ts";
import { formatBytes } from "../harness/format.ts";

/** A row of a workload, as the native program lists it. */
export interface ListedRow {
  /** Its name on the command line. */
  id: string;
  /** The same for people. */
  label: string;
  /** Whether it runs with a number of threads that can be chosen. */
  threads: boolean;
  /** What one operation is. */
  operation: string;
  /** Whether it belongs to the quick selection. */
  quick: boolean;
  /** The memory that a run may need at most, for each of its threads. */
  peak_bytes: number;
}

/** A workload: a kind of use, in one or more rows. */
export interface Workload {
  /** Its name on the command line. */
  name: string;
  /** What it does, in one line. */
  summary: string;
  /** Its rows, in the order of the report. */
  rows: ListedRow[];
}

/** A row to be measured. */
export interface Place extends Subject {
  /** Whether the native program is told the number of threads. */
  threaded: boolean;
  /** The memory that a run may need at most. */
  peakBytes: number;
}

/** What is wanted of the catalogue. */
export interface Selection {
  /** Workloads and rows; empty for all. */
  words: readonly string[];
  /** Whether only rows of the quick selection are meant, unless a row is named itself. */
  quick: boolean;
  /** The numbers of threads for the rows that take one. */
  threads: readonly number[];
}

/** Asks the native program which workloads it has. */
export async function readCatalog(program: string): Promise<Workload[]> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: ["--list"],
    clearEnv: true,
    env: callerEnvironment(),
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) {
    const said = decoder.decode(stderr).trim() || decoder.decode(stdout).trim();
    throw new RunError(`${program} --list ended with status ${code}: ${said}`);
  }
  const { workloads }: { workloads: Workload[] } = JSON.parse(decoder.decode(stdout));
  return workloads;
}

/** The rows that are wanted, in the order of the catalogue, each once for every number of threads. */
export function selectRows(catalog: readonly Workload[], selection: Selection): Place[] {
  const { words, quick, threads } = selection;
  const known = new Set(catalog.flatMap(({ name, rows }) => [name, ...rows.map(({ id }) => id)]));
  const unknown = words.find((word) => !known.has(word));
  if (unknown !== undefined) {
    throw new UsageError(
      `unknown workload '${unknown}': valid are ${
        catalog.map(({ name }) => name).join(", ")
      }, or a row of one, as in '${
        catalog[0]?.rows[0]?.id
      }' (the table names them), or programs; see ./hak bench --help`,
    );
  }
  return catalog.flatMap(({ name, rows }) =>
    rows
      .filter((row) =>
        words.includes(row.id) ||
        (words.length === 0 || words.includes(name)) && (row.quick || !quick)
      )
      .flatMap((row) =>
        (row.threads ? threads : [1]).map((count): Place => ({
          workload: name,
          row: row.id,
          label: row.label,
          threads: count,
          operation: row.operation,
          threaded: row.threads,
          peakBytes: row.peak_bytes * count,
        }))
      )
  );
}

/** The rows that fit into memory. Says of every other one that it is left out. */
export function thoseThatFit(
  places: readonly Place[],
  availableBytes: number,
  say: (line: string) => void,
): Place[] {
  const fit = places.filter(({ row, threads, peakBytes }) => {
    if (peakBytes <= availableBytes) return true;
    say(
      `Left out: ${row}${threadsText({ threads })} needs ${formatBytes(peakBytes)} of memory, ${
        formatBytes(availableBytes)
      } are available`,
    );
    return false;
  });
  if (fit.length > 0 || places.length === 0) return fit;
  throw new RunError(
    `too little memory for any of the rows: ${
      formatBytes(availableBytes)
    } are available; choose other workloads or free some`,
  );
}
