/**
 * The command line of `./hak soak`.
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
  type Outputs,
  parseCommon,
  parseWhole,
  readArguments,
  refuseWords,
} from "../harness/command_line.ts";
import type { ProcessWork } from "./state.ts";

/** A workload of the native driver. */
export interface SoakWorkload {
  /** What it does, in one line. */
  summary: string;
  /** The number of threads where none is asked for. */
  threads: number;
  /** The most that it takes. */
  threadsMost: number;
}

/** The workloads, by name; `zig/bench/soak_driver.zig` has the same. */
export const workloads: Readonly<Record<string, SoakWorkload>> = {
  "random-mixed": {
    summary: "blocks of 16–1024 B replaced in 400 slots at random",
    threads: 1,
    threadsMost: 256,
  },
  "larson": {
    summary: "blocks of 8–1000 B replaced by threads that come and go",
    threads: 2,
    threadsMost: 256,
  },
  "xthread": {
    summary: "blocks of 16–1024 B exchanged by threads, freed by any",
    threads: 2,
    threadsMost: 256,
  },
  "medium": {
    summary: "blocks of 1–100 KiB replaced in 64 slots at random",
    threads: 1,
    threadsMost: 1,
  },
};

/** What a soak does; a resumed one does the same. */
export interface SoakOptions extends CommonOptions, ProcessWork {}

/** A soak that is to begin, or one that goes on. */
export type SoakRequest =
  | { kind: "begin"; options: SoakOptions; state: string }
  | { kind: "resume"; state: string; outputs: Outputs };

/** The limits that the help text tells. */
const limits = { minutes: 7 * 24 * 60, epochSeconds: 600 };
const defaults = {
  workload: "random-mixed",
  minutes: 60,
  epochSeconds: 5,
  state: "hak-soak.state",
};

const { allocators, peer, seed, json, csv, html } = commonOptions;
const shapes = {
  minutes: { example: "60" },
  workload: { example: "larson" },
  threads: { example: "2" },
  epoch: { example: "5s" },
  allocators,
  peer,
  seed,
  json,
  csv,
  html,
  state: { example: defaults.state },
  resume: { example: defaults.state },
} as const satisfies Record<string, OptionShape>;

const workloadHelp = Object.entries(workloads).map(([name, { summary }]) =>
  `                        ${name.padEnd(12)} ${summary}`
).join("\n");

/** The text of `./hak soak --help`. */
export const usageText = `hak soak [OPTION…]
hak soak --resume FILE [--json FILE] [--csv FILE] [--html FILE]

Lets each allocator work in a process that lives as long as the soak, in turn, an epoch at a time,
the others asleep; and tells by epoch how much memory it has, how fast it is, and how long single
operations take: whether it grows, slows down or stalls over hours. docs/MEASURING.md says what each
figure means.

What to measure:
  --minutes N         what all allocators share, above 0 and up to ${limits.minutes} (default ${defaults.minutes})
  --workload NAME     (default ${defaults.workload})
${workloadHelp}
  --threads N         of each process, 1 to 256; medium has one
                      (default: 1; larson and xthread 2)
  --epoch TIME        how long an allocator works at a time, as in 5s or 250ms, 10ms to ${limits.epochSeconds}s
                      (default ${defaults.epochSeconds}s)
${allocatorHelp}
  --seed N            what the workload draws from, and what shuffles the order within each round,
                      0 to ${commonLimits.seed} (default: a new one, printed)

What to write (besides the table on standard output):
  --json FILE         everything, every epoch included
  --csv FILE          one line an epoch
  --html FILE         a report with charts over time, one file that needs no other
                      Each FILE may be -, once, for standard output; the table then goes to
                      standard error. Files appear whole, when the soak has ended.

Ending early and going on:
  --state FILE        where each epoch is written as it ends (default ${defaults.state}); removed when
                      the soak is complete and its result is written
  --resume FILE       go on with the soak of this state file: its allocators, options and seed, and
                      what is left of its minutes; --json, --csv and --html replace those that it
                      began with
  Ctrl-C shows and writes what was measured, marked as interrupted, and leaves the state file; so
  does a kill, which shows nothing. A process cannot be continued: --resume starts new ones, which
  are another life. Drift is reckoned in each life apart, the first epoch of each is dropped, and
  what ran when the soak ended is run again. It refuses where an allocator's file, the driver, the
  processor or the kernel is not what it was.

Exit status: 0 measured; 1 if system or hakmem failed, or every allocator did (a peer that fails is
shown in the table and fails nothing else), or a file could not be written; 2 wrong usage;
130 ended by Ctrl-C.

Examples:
  ./hak soak --html soak.html
  ./hak soak --minutes 2 --epoch 500ms --allocators system,hakmem --workload larson
  ./hak soak --resume hak-soak.state --html soak.html`;

/** Reads the command line; `--help` has been dealt with. */
export function parseRequest(args: readonly string[]): SoakRequest {
  const { given, words } = readArguments("soak", shapes, args);
  refuseWords("soak", shapes, words);
  const one = (name: keyof typeof shapes): string | null => given.get(name)?.[0] ?? null;
  const common = parseCommon(given, 1);
  const resume = one("resume");
  if (resume !== null) {
    const other = [...given.keys()].find((name) =>
      !["resume", "json", "csv", "html"].includes(name)
    );
    if (other !== undefined) {
      throw new UsageError(
        `--resume goes on with what ${resume} says, so --${other} has no place beside it: leave it out (only --json, --csv and --html may be given)`,
      );
    }
    return { kind: "resume", state: resume, outputs: common };
  }
  const workload = one("workload") ?? defaults.workload;
  const known = Object.hasOwn(workloads, workload) ? workloads[workload] : undefined;
  if (known === undefined) {
    throw new UsageError(
      `unknown workload '${workload}': --workload takes ${Object.keys(workloads).join(", ")}`,
    );
  }
  const [minutes, threads, epoch] = [one("minutes"), one("threads"), one("epoch")];
  if (threads !== null && known.threadsMost === 1) {
    throw new UsageError(`${workload} has one thread: leave out --threads`);
  }
  return {
    kind: "begin",
    state: one("state") ?? defaults.state,
    options: {
      ...common,
      workload,
      threads: threads === null
        ? known.threads
        : parseWhole("--threads", threads, 1, known.threadsMost),
      minutes: minutes === null ? defaults.minutes : parseMinutes(minutes),
      epochSeconds: epoch === null ? defaults.epochSeconds : parseEpoch(epoch),
    },
  };
}

function parseMinutes(text: string): number {
  const minutes = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (minutes > 0 && minutes <= limits.minutes) return minutes;
  throw new UsageError(
    `'${text}' does not fit --minutes: give a number above 0 and up to ${limits.minutes}, as in '--minutes 60'`,
  );
}

function parseEpoch(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s)$/.exec(text) ?? [];
  const milliseconds = Math.round(Number(number) * (unit === "s" ? 1000 : 1));
  if (milliseconds >= 10 && milliseconds <= 1000 * limits.epochSeconds) return milliseconds / 1000;
  throw new UsageError(
    `'${text}' does not fit --epoch: give a time from 10ms to ${limits.epochSeconds}s with its unit, as in '--epoch 5s' or '--epoch 250ms'`,
  );
}
