/**
 * The command line of `./hak bench`, with real programs and without.
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
  outputHelp,
  parseCommon,
  parseNumbers,
  parseWhole,
  readArguments,
} from "../harness/command_line.ts";

/** What to measure and where to write it. */
export interface BenchOptions extends CommonOptions {
  /** Whether real programs are measured, no workloads. */
  programs: boolean;
  /** Workloads and rows, or programs; empty for all. */
  words: string[];
  /** Whether it may be quick at the cost of rows and samples. */
  quick: boolean;
  /** The numbers of threads for the rows that take one, ascending. */
  threads: number[];
  /** By how much the number of operations of a run is multiplied. */
  scale: number;
}

/** The native program takes no more. */
const limits = { threads: 256, scale: 1000 };

const shapes = {
  ...commonOptions,
  threads: { example: "2,4", list: true },
  scale: { example: "0.5" },
} as const satisfies Record<string, OptionShape>;

/** The text of `./hak bench --help`. */
export const usageText = `hak bench [WORKLOAD…] [OPTION…]
hak bench programs [PROGRAM…] [OPTION…]

Measures allocators side by side: time, resident memory and page faults of workloads, row by row,
with each allocator preloaded in turn. The table has the allocators of each row by rank, and each
one's time as a multiple of the best other's; at its end, how hakmem does over all rows.
docs/MEASURING.md says what each figure means.

  WORKLOAD            a workload or a single row of one (default: all; the table names them)
  programs            real programs instead: python3, node, deno, redis-server, sqlite3, g++, git
                      and xz, those that are installed, run by hyperfine, which must be installed

What to measure:
${allocatorHelp}
  --threads LIST      numbers of threads, 1 to ${limits.threads}, for the workloads with threads
                      (default: as many as there are processors, and twice as many)
  --repeat N          samples a row, 1 to ${commonLimits.repeat} (default 7); one more round warms up
  --seed N            shuffles the order of measuring, and is what the workloads draw from,
                      0 to ${commonLimits.seed} (default: a new one, printed)
  --quick             a row or two of each workload, one number of threads, 2 samples a row
  --scale F           multiplies the number of operations of a run, above 0 and up to ${limits.scale}
                      (default 1); programs take none

${outputHelp}

Examples:
  ./hak bench --quick
  ./hak bench batch tight --repeat 11 --html report.html
  ./hak bench --peer mimalloc-small-pages=/usr/lib/libmimalloc.so,MIMALLOC_ALLOW_THP=0 growth
  ./hak bench programs git xz --allocators system,hakmem --json - > result.json`;

/** Reads the command line; `--help` has been dealt with. */
export function parseOptions(args: readonly string[]): BenchOptions {
  const { given, words } = readArguments("bench", shapes, args);
  const programs = words[0] === "programs";
  const quick = given.has("quick");
  const threads = given.get("threads")?.[0];
  const scale = given.get("scale")?.[0];
  for (const name of ["threads", "scale"] as const) {
    if (programs && given.has(name)) {
      throw new UsageError(`--${name} is of no use with programs: leave it out`);
    }
  }
  const cores = navigator.hardwareConcurrency;
  return {
    programs,
    words: programs ? words.slice(1) : words,
    quick,
    threads: threads === undefined
      ? (quick ? [cores] : [cores, 2 * cores])
      : parseNumbers("--threads", threads, (item) =>
        parseWhole("--threads", item, 1, limits.threads)),
    scale: scale === undefined ? 1 : parseScale(scale),
    ...parseCommon(given, quick ? 2 : 7),
  };
}

function parseScale(text: string): number {
  const scale = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (scale > 0 && scale <= limits.scale) return scale;
  throw new UsageError(
    `'${text}' does not fit --scale: give a number above 0 and up to ${limits.scale}, as in '--scale 0.5'`,
  );
}
