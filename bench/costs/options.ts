/**
 * The command line of `./hak costs`.
 *
 * @module
 */
import { UsageError } from "../../cli/errors.ts";
import {
  allocatorHelp,
  commonLimits,
  type CommonOptions,
  commonOptions,
  type OptionShape,
  parseCommon,
  parseNumbers,
  parseWhole,
  readArguments,
} from "../harness/command_line.ts";

/** The parts of a report. */
export const parts = ["instructions", "counts"] as const;

/** A part of a report. */
export type Part = typeof parts[number];

/** What to count and where to write it. */
export interface CostOptions extends CommonOptions {
  /** Workloads and rows; empty for all. */
  words: string[];
  /** Whether only rows of the quick selection are meant. */
  quick: boolean;
  /** The parts that are wanted. */
  parts: readonly Part[];
  /** The numbers of threads for the counts of rows that take one, ascending. */
  threads: number[];
  /** How much of a workload each thread does. */
  scale: number;
}

/** The limits that the help text tells. */
export const limits = { threads: 256, scale: 10 };
const defaultThreads = [1, 2, 4, 8, 16, 32, 64];
const defaultScale = 0.02;

const { allocators, peer, seed, json, csv, quick } = commonOptions;
const shapes = {
  allocators,
  peer,
  seed,
  json,
  csv,
  quick,
  threads: { example: "1,8,64", list: true },
  scale: { example: "0.1" },
  only: { example: "counts" },
} as const satisfies Record<string, OptionShape>;

/** The text of `./hak costs --help`. */
export const usageText = `hak costs [WORKLOAD…] [OPTION…]

Counts what an operation costs, in figures that a noisy machine cannot blur: instructions inside each
allocator, by valgrind --tool=callgrind, which must be installed; and for hakmem, by a build of it that
counts, cache lines that several threads write, atomics, locks, bitmap words, refills, flushes and
system calls of 1,000 operations, for several numbers of threads. docs/SCALING.md says what each
figure means, and which of them repeat exactly.

  WORKLOAD            a workload or a single row of one, as for hak bench (default: all)

What to count:
${allocatorHelp}
  --threads LIST      numbers of threads, 1 to ${limits.threads}, for the counts of the workloads with threads
                      (default ${
  defaultThreads.join(",")
}); instructions are always those of one thread
  --scale F           multiplies the number of operations of each thread, above 0 and up to ${limits.scale}
                      (default ${defaultScale}); instructions are the difference of a run and one twice as long
  --seed N            what the workloads draw from, 0 to ${commonLimits.seed} (default 1)
  --quick             only a row or two of each workload
  --only PART         ${parts.join(" or ")}

What to write (besides the tables on standard output):
  --json FILE         everything
  --csv FILE          one line a figure
                      Each FILE may be -, once, for standard output; the tables then go to
                      standard error. Files appear whole, when counting has ended.

Ctrl-C ends early: what was counted is shown and written, marked as interrupted (CSV has no
place for a mark).

Exit status: 0 counted; 1 if system or hakmem failed, or every allocator did, or valgrind is not
installed, or a file could not be written; 2 wrong usage; 130 ended by Ctrl-C.

Examples:
  ./hak costs tight batch --only instructions
  ./hak costs larson prodcons xthread --only counts --threads 1,8,64 --json costs.json`;

/** Reads the command line; `--help` has been dealt with. */
export function parseOptions(args: readonly string[]): CostOptions {
  const { given, words } = readArguments("costs", shapes, args);
  const [only, threads, scale] = [given.get("only"), given.get("threads"), given.get("scale")]
    .map((values) => values?.[0]);
  const common = parseCommon(given, 1);
  return {
    ...common,
    // A figure that repeats is of use only if the workload does.
    seed: given.has("seed") ? common.seed : 1,
    words,
    quick: given.has("quick"),
    parts: only === undefined ? parts : [parsePart(only)],
    threads: threads === undefined
      ? defaultThreads
      : parseNumbers("--threads", threads, (item) =>
        parseWhole("--threads", item, 1, limits.threads)),
    scale: scale === undefined ? defaultScale : parseScale(scale),
  };
}

function parsePart(text: string): Part {
  const part = parts.find((each) => each === text);
  if (part !== undefined) return part;
  throw new UsageError(`'${text}' does not fit --only: give ${parts.join(" or ")}`);
}

function parseScale(text: string): number {
  const scale = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (scale > 0 && scale <= limits.scale) return scale;
  throw new UsageError(
    `'${text}' does not fit --scale: give a number above 0 and up to ${limits.scale}, as in '--scale 0.1'`,
  );
}
