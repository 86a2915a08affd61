/**
 * `hak fuzz`: plays random programs against the allocator until the time is over or one finds something.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { formatCount, formatSeconds } from "../bench/harness/format.ts";
import { buildIfNeeded } from "./build.ts";
import { Exit, UsageError } from "./errors.ts";
import {
  commandOf,
  defaults,
  play,
  type Played,
  type Program,
  shorten,
  type Target,
  targets,
} from "./fuzz_program.ts";

/** One line for the list of commands. */
export const summary: string = "Play random programs against the allocator and check every step";

/** What `--help` prints. */
export const usage: string = `hak fuzz [--minutes N | --rounds N] [--seed S] [--target TARGET] …
hak fuzz --target TARGET --replay SEED:ROUND [--only ACTIONS]

Builds what has changed, then plays one program after another, a process each: random calls of the malloc
family and hak_* over sizes from 0 to 4 MiB, threads that take turns or race, forks, and system calls that
fail. Every block is filled, checked and kept from overlapping another, and what the allocator says of itself
is compared with what is live. What is found is one line with the command that plays the same again; if the
threads take turns, the program is then shortened and listed.
  --minutes N       how long (default 1)
  --rounds N        how many programs, instead of a time
  --seed S          from 0 to 2^64-1, decides all programs (default random, and printed)
  --target TARGET   zig: an allocator inside the fuzzer, whose system calls are refused one by one;
                    preload, hak: the two built objects; checked: preload with assertions;
                    libc: the control (default zig, preload and hak in turn)
  --threads N       threads at most, 1 to 16 (default ${defaults.threads})
  --actions N       actions of a program, 1 to 262144 (default ${defaults.actions})
  --canary NAME     plant a bug in the target zig, to see it found; zig/src/platform/canary.zig names them
  --replay S:R      play the program of this seed and round, up to ${replaysOfRace()} times if its threads race
  --only ACTIONS    leave out all other actions, as 0-17,33

The exit status is 1 if something was found, 0 if not, and 130 after Ctrl-C, which also says what was run.`;

/** How often a program whose threads race is played until it finds what it found before. */
function replaysOfRace(): number {
  return 50;
}

const trialsMax = 600;

interface Options {
  minutes: number;
  rounds: number | null;
  seed: bigint;
  replay: number | null;
  chosen: Target[];
  program: Pick<Program, "threads" | "actions" | "only" | "canary">;
}

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const options = parse(args);
  await buildIfNeeded({ tests: true });
  using stop = new Stop();
  const campaign = new Campaign(options, stop);
  try {
    return await (options.replay === null ? campaign.explore() : campaign.replay(options.replay));
  } catch (error) {
    if (!(error instanceof Exit) || error.status !== 130) throw error;
    campaign.report("stopped");
    return 130;
  }
}

/** Notes Ctrl-C between two programs; during one, `runChild` does. */
class Stop implements Disposable {
  #wanted = false;
  readonly #listener = (): void => {
    this.#wanted = true;
  };

  constructor() {
    Deno.addSignalListener("SIGINT", this.#listener);
  }

  check(): void {
    if (this.#wanted) throw new Exit(130);
  }

  [Symbol.dispose](): void {
    Deno.removeSignalListener("SIGINT", this.#listener);
  }
}

/** The programs of one call of the command. */
class Campaign {
  readonly #options: Options;
  readonly #stop: Stop;
  readonly #started = performance.now();
  readonly #played = new Map<Target, number>();
  readonly #line = new Line();

  constructor(options: Options, stop: Stop) {
    this.#options = options;
    this.#stop = stop;
  }

  /** Plays until the time or the rounds are over, or something is found. */
  async explore(): Promise<number> {
    const { seed, rounds, minutes, chosen, program } = this.#options;
    console.log(`seed ${seed}: ${chosen.join(", ")}`);
    const limitSeconds = rounds === null ? minutes * 60 : Infinity;
    for (let round = 0; round < (rounds ?? Infinity); round++) {
      if (this.#seconds() >= limitSeconds) break;
      const target = chosen[round % chosen.length] ?? "zig";
      const one: Program = { target, seed, round, ...program };
      const left = rounds === null
        ? `${formatSeconds(limitSeconds - this.#seconds())} left`
        : `${rounds - round} programs left`;
      this.#line.show(`program ${round + 1} (${target}), ${left}`);
      const played = await this.#play(one);
      if (played.found !== null) return await this.#tell(one, played);
    }
    this.report("nothing found");
    return 0;
  }

  /** Plays one program again. */
  async replay(round: number): Promise<number> {
    const { seed, chosen, program } = this.#options;
    const one: Program = { target: chosen[0] ?? "zig", seed, round, ...program };
    for (let times = 1;; times++) {
      this.#line.show(`playing it again, time ${times}`);
      const played = await this.#play(one);
      if (played.found !== null) return await this.#tell(one, played);
      if (!played.races || times === replaysOfRace()) break;
    }
    this.report("nothing found");
    return 0;
  }

  /** The figures of what was run. */
  report(outcome: string): void {
    this.#line.clear();
    const programs = [...this.#played.values()].reduce((sum, count) => sum + count, 0);
    const actions = programs * this.#options.program.actions;
    const parts = [...this.#played].map(([target, count]) => `${target} ${formatCount(count)}`);
    console.log(
      `${outcome}: ${formatCount(programs)} ${programs === 1 ? "program" : "programs"} of ${
        formatCount(this.#options.program.actions)
      } actions (${parts.join(", ") || "none"}), ${formatCount(actions)} actions in ${
        formatSeconds(this.#seconds())
      }, seed ${this.#options.seed}`,
    );
  }

  async #play(program: Program): Promise<Played> {
    this.#stop.check();
    const played = await play(program);
    this.#played.set(program.target, (this.#played.get(program.target) ?? 0) + 1);
    return played;
  }

  async #tell(program: Program, played: Played): Promise<number> {
    this.#line.clear();
    const { target, seed, round } = program;
    console.log(
      `found: target ${target}, seed ${seed}, round ${round}: ${played.found}; replay: ${
        commandOf(program)
      }`,
    );
    if (played.races) {
      console.log(
        `its threads race (${played.plan}): it may take several replays, and is not shortened`,
      );
    } else if (played.action !== null && !/\bhung\b/.test(played.found ?? "")) {
      await this.#shorten(program, played.action);
    }
    this.report("found");
    return 1;
  }

  async #shorten(program: Program, last: number): Promise<void> {
    const shortened = await shorten(program, last, trialsMax, (left, trials) => {
      this.#stop.check();
      this.#line.show(`shortening: ${left} actions left, ${trials} programs tried`);
    });
    this.#line.clear();
    const { printed, found } = await play(shortened.program, true);
    console.log(
      `shortened from ${last + 1} to ${shortened.left} actions: ${commandOf(shortened.program)}`,
    );
    for (const line of printed) console.log(`  ${line}`);
    console.log(`  ${found ?? "found only sometimes: its addresses differ from run to run"}`);
  }

  #seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }
}

/** How far it has got, on standard error: a line that rewrites itself on a terminal, else one now and then. */
class Line {
  readonly #everyMs = 10_000;
  #shownAt = -Infinity;

  show(text: string): void {
    if (Deno.stderr.isTerminal()) {
      // A line that wraps could not be erased.
      this.#write(`\r\x1b[2K${text.slice(0, Deno.consoleSize().columns - 1)}`);
    } else if (performance.now() - this.#shownAt >= this.#everyMs) {
      this.#shownAt = performance.now();
      this.#write(`${text}\n`);
    }
  }

  clear(): void {
    if (Deno.stderr.isTerminal()) this.#write("\r\x1b[2K");
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}

function parse(args: string[]): Options {
  const { values } = parseWords(args);
  const { minutes, rounds, seed, target, threads, actions, canary, replay, only } = values;
  if (minutes !== undefined && rounds !== undefined) {
    throw new UsageError("--minutes and --rounds exclude each other: choose one");
  }
  if (target !== undefined && !isTarget(target)) {
    throw new UsageError(`--target takes one of ${targets.join(", ")}, not ${quoted(target)}`);
  }
  if (replay !== undefined && target === undefined) {
    throw new UsageError("--replay needs the --target that it was found in");
  }
  if (replay !== undefined && (minutes ?? rounds ?? seed) !== undefined) {
    throw new UsageError("--replay names one program: leave out --minutes, --rounds and --seed");
  }
  if (only !== undefined && replay === undefined) {
    throw new UsageError(
      "--only leaves out actions of one program: name it by --replay SEED:ROUND",
    );
  }
  if (only !== undefined && !/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(only)) {
    throw new UsageError(`--only takes numbers of actions as 0-17,33, not ${quoted(only)}`);
  }
  if (canary !== undefined && target !== undefined && target !== "zig") {
    throw new UsageError(`--canary needs --target zig, not ${target}`);
  }
  const [, replaySeed, replayRound] = /^(\d+):(\d+)$/.exec(replay ?? "") ?? [];
  if (replay !== undefined && replaySeed === undefined) {
    throw new UsageError(`--replay takes SEED:ROUND as they were printed, not ${quoted(replay)}`);
  }
  return {
    minutes: numberOf("minutes", minutes, 1 / 60, 100_000, 1),
    rounds: rounds === undefined ? null : wholeOf("rounds", rounds, 1, 1_000_000_000, 1),
    seed: seedOf(replaySeed ?? seed),
    replay: replayRound === undefined
      ? null
      : wholeOf("replay", replayRound, 0, Number.MAX_SAFE_INTEGER, 0),
    chosen: canary !== undefined
      ? ["zig"]
      : target === undefined
      ? ["zig", "preload", "hak"]
      : [target],
    program: {
      threads: wholeOf("threads", threads, 1, 16, defaults.threads),
      actions: wholeOf("actions", actions, 1, 262_144, defaults.actions),
      ...(only === undefined ? {} : { only }),
      ...(canary === undefined ? {} : { canary }),
    },
  };
}

const names = [
  "minutes",
  "rounds",
  "seed",
  "target",
  "threads",
  "actions",
  "canary",
  "replay",
  "only",
] as const;

function parseWords(args: string[]): { values: { [name in typeof names[number]]?: string } } {
  try {
    return parseArgs({
      args,
      options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const given = args.map(quoted).join(" ");
    const known = names.map((name) => `--${name}`).join(", ");
    throw new UsageError(`${given}: the options are ${known}, each with a value`);
  }
}

function seedOf(text: string | undefined): bigint {
  if (text === undefined) return BigInt(crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
  if (!/^\d+$/.test(text) || BigInt(text) >= 1n << 64n) {
    throw new UsageError(`--seed takes a number from 0 to 2^64-1, not ${quoted(text)}`);
  }
  return BigInt(text);
}

function wholeOf(
  name: string,
  text: string | undefined,
  least: number,
  most: number,
  without: number,
): number {
  const value = numberOf(name, text, least, most, without);
  if (Number.isInteger(value)) return value;
  throw new UsageError(`--${name} takes a whole number, not ${quoted(text ?? "")}`);
}

function numberOf(
  name: string,
  text: string | undefined,
  least: number,
  most: number,
  without: number,
): number {
  if (text === undefined) return without;
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  const from = least < 1 ? "above 0" : `from ${least}`;
  throw new UsageError(`--${name} takes a number ${from} to ${most}, not ${quoted(text)}`);
}

function isTarget(text: string): text is Target {
  return (targets as readonly string[]).includes(text);
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
