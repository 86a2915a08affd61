/**
 * The command line of the verbs that measure. Whatever is wrong ends in a `UsageError` of one line that
 * says what was wrong, what is valid and how to go on.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/errors.ts";
import { callerPath } from "../../cli/paths.ts";
import { type AllocatorChoice, knownAllocators, type Peer } from "./allocators.ts";

/** An option as the caller may give it. */
export interface OptionShape {
  /** A value that is valid; null for an option that takes none. */
  example: string | null;
  /** Whether the value is a comma-separated list. */
  list?: true;
  /** Whether it may be given more than once. */
  often?: true;
}

/** Where to write the result. Paths are as the caller typed them; "-" is standard output. */
export interface Outputs {
  /** Where to write the result as JSON. */
  json: string | null;
  /** Where to write the rows as CSV. */
  csv: string | null;
  /** Where to write the HTML report. */
  html: string | null;
}

/** What every verb that measures is told. */
export interface CommonOptions extends AllocatorChoice, Outputs {
  /** Samples a row. */
  repeat: number;
  /** What shuffles the orders. */
  seed: number;
}

/** The options of {@linkcode CommonOptions}. */
export const commonOptions = {
  allocators: { example: "system,hakmem", list: true },
  peer: { example: "name=/path/to/lib.so", often: true },
  repeat: { example: "5" },
  seed: { example: "7" },
  json: { example: "result.json" },
  csv: { example: "result.csv" },
  html: { example: "report.html" },
  quick: { example: null },
} as const satisfies Record<string, OptionShape>;

/** The name of an option in {@linkcode commonOptions}. */
export type CommonName = keyof typeof commonOptions;

/** The limits that the help texts tell. */
export const commonLimits = { repeat: 1000, seed: 2 ** 32 - 1 };

/** The help on `--allocators` and `--peer`. */
export const allocatorHelp = `  --allocators LIST   of ${
  knownAllocators.join(", ")
} and names given by --peer
                      (default: system, hakmem and every peer that is installed)
  --peer NAME=PATH[,VARIABLE=VALUE]…
                      measure the shared object PATH under NAME, too, with these variables in
                      its environment only; may be repeated, also for the same PATH, as in
                      --peer small=lib.so,MIMALLOC_ALLOW_THP=0`;

/** The help on what is written where, on Ctrl-C and on the exit status. */
export const outputHelp = `What to write (besides the table on standard output):
  --json FILE         everything, every sample included
  --csv FILE          one line a row
  --html FILE         a report with charts, one file that needs no other
                      Each FILE may be -, once, for standard output; the table then goes to
                      standard error. Files appear whole, when measuring has ended.

Ctrl-C ends early: what was measured is shown and written, marked as interrupted (CSV has no
place for a mark).

Exit status: 0 measured; 1 if system or hakmem failed, or every allocator did (a peer that fails is
shown in the table and fails nothing else), or a file could not be written; 2 wrong usage;
130 ended by Ctrl-C.`;

/** What was typed: the values of each option, and the words that belong to none. */
export interface Typed<Name extends string> {
  /** The values by option; an option without a value has an empty one. */
  given: ReadonlyMap<Name, readonly string[]>;
  /** The other words, in their order. */
  words: string[];
}

/** Reads the command line of a verb; `--help` has been dealt with. */
export function readArguments<Name extends string>(
  verb: string,
  shapes: Readonly<Record<Name, OptionShape>>,
  args: readonly string[],
): Typed<Name> {
  const names = Object.keys(shapes) as Name[];
  const listed = [...names, "help"].map((name) => `--${name}`).join(", ");
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      names.map((name) => [name, { type: shapes[name].example === null ? "boolean" : "string" }]),
    ),
    allowPositionals: true,
    // Its own messages neither list what is valid nor keep to one line.
    strict: false,
    tokens: true,
  });
  const given = new Map<Name, string[]>();
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      words.push(token.value);
      continue;
    }
    const name = names.find((known) => known === token.name);
    if (name === undefined || token.rawName !== `--${name}`) {
      throw new UsageError(
        `unknown option ${token.rawName}: valid are ${listed}; see ./hak ${verb} --help`,
      );
    }
    const { example, list, often } = shapes[name];
    if (example === null) {
      if (token.value !== undefined) {
        throw new UsageError(
          `--${name} takes no value, but was given '${token.value}': leave it out`,
        );
      }
    } else if (
      token.value === undefined || token.value === "" ||
      (!token.inlineValue && token.value.startsWith("--"))
    ) {
      throw new UsageError(`--${name} needs a value, as in '--${name} ${example}'`);
    }
    const values = given.get(name) ?? [];
    if (values.length > 0 && !often) {
      const hint = list ? `, with a comma-separated list, as in '--${name} ${example}'` : "";
      throw new UsageError(`--${name} is given twice: give it once${hint}`);
    }
    given.set(name, [...values, token.value ?? ""]);
  }
  return { given, words };
}

/** Refuses words for a verb that takes options only. */
export function refuseWords<Name extends string>(
  verb: string,
  shapes: Readonly<Record<Name, OptionShape>>,
  words: readonly string[],
): void {
  const [word] = words;
  if (word === undefined) return;
  const listed = [...Object.keys(shapes), "help"].map((name) => `--${name}`).join(", ");
  throw new UsageError(
    `unexpected argument '${word}': ${verb} takes options only (${listed}); see ./hak ${verb} --help`,
  );
}

/** Reads the options that all verbs have. */
export function parseCommon<Name extends string>(
  given: Typed<Name | CommonName>["given"],
  repeatByDefault: number,
): CommonOptions {
  const one = (name: CommonName): string | null => given.get(name)?.[0] ?? null;
  const [allocators, repeat, seed] = [one("allocators"), one("repeat"), one("seed")];
  const options: CommonOptions = {
    allocators: allocators === null ? null : splitList("--allocators", allocators),
    peers: parsePeers(given.get("peer") ?? []),
    repeat: repeat === null
      ? repeatByDefault
      : parseWhole("--repeat", repeat, 1, commonLimits.repeat),
    seed: seed === null ? newSeed() : parseWhole("--seed", seed, 0, commonLimits.seed),
    json: one("json"),
    csv: one("csv"),
    html: one("html"),
  };
  checkNames(options);
  checkTargets(options);
  return options;
}

/** Splits a comma-separated list whose items must differ. */
export function splitList(option: string, text: string): string[] {
  const items = text.split(",").map((item) => item.trim());
  if (items.includes("")) {
    throw new UsageError(
      `${option} has an empty item in '${text}': separate items by single commas`,
    );
  }
  const twice = items.find((item, index) => items.indexOf(item) !== index);
  if (twice !== undefined) {
    throw new UsageError(`${option} names '${twice}' twice: give each item once`);
  }
  return items;
}

/** Reads a list of numbers that must differ, and sorts them. */
export function parseNumbers(
  option: string,
  text: string,
  parse: (item: string) => number,
): number[] {
  const numbers = splitList(option, text).map(parse).sort((a, b) => a - b);
  const twice = numbers.find((number, index) => numbers.indexOf(number) !== index);
  if (twice !== undefined) {
    throw new UsageError(`${option} names ${twice} twice in '${text}': give each number once`);
  }
  return numbers;
}

/** Reads a whole number within bounds. */
export function parseWhole(option: string, text: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(
    `'${text}' does not fit ${option}: give a whole number from ${least} to ${most}`,
  );
}

function parsePeers(specs: readonly string[]): Map<string, Peer> {
  const peers = new Map<string, Peer>();
  const { example } = commonOptions.peer;
  for (const spec of specs) {
    const [, name, rest] = /^([^=]*)=(.*)$/s.exec(spec) ?? [];
    // A path may hold commas and equals signs; what reads as ",VARIABLE=" ends it.
    const [path, ...settings] = rest?.split(/,(?=[A-Za-z_]\w*=)/) ?? [];
    if (name === undefined || path === undefined || path === "") {
      throw new UsageError(
        `'${spec}' is no peer: --peer takes NAME=PATH, as in '--peer ${example}'`,
      );
    }
    if (!/^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$/.test(name)) {
      throw new UsageError(
        `'${name}' is no name for a peer: take 1 to 32 letters, digits or . _ + -, as in '--peer ${example}'`,
      );
    }
    if (name === "system" || name === "hakmem") {
      throw new UsageError(
        `--peer cannot take the name '${name}', which is not a peer's: choose another, as in '--peer ${name}-other=${path}'`,
      );
    }
    if (peers.has(name)) {
      throw new UsageError(`--peer names '${name}' twice: give each peer a name of its own`);
    }
    peers.set(name, { path, env: variables(name, settings) });
  }
  return peers;
}

function variables(peer: string, settings: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const setting of settings) {
    const at = setting.indexOf("=");
    const variable = setting.slice(0, at);
    if (variable === "LD_PRELOAD") {
      throw new UsageError(
        `--peer ${peer} cannot set LD_PRELOAD, which its path already is: leave it out`,
      );
    }
    if (Object.hasOwn(env, variable)) {
      throw new UsageError(`--peer ${peer} sets ${variable} twice: give each variable once`);
    }
    env[variable] = setting.slice(at + 1);
  }
  return env;
}

function checkNames({ allocators, peers }: AllocatorChoice): void {
  const valid = [...new Set([...knownAllocators, ...peers.keys()])];
  const unknown = allocators?.find((name) => !valid.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(
      `unknown allocator '${unknown}': valid are ${
        valid.join(", ")
      }; for another one add '--peer ${unknown}=/path/to/lib.so'`,
    );
  }
}

function checkTargets(outputs: Outputs): void {
  const seen = new Map<string, string>();
  for (const name of ["json", "csv", "html"] as const) {
    const path = outputs[name];
    if (path === null) continue;
    const target = path === "-" ? path : callerPath(path);
    const other = seen.get(target);
    if (other !== undefined) {
      const place = path === "-" ? "standard output" : `'${path}'`;
      throw new UsageError(
        `--${other} and --${name} cannot both go to ${place}: give each its own file`,
      );
    }
    seen.set(target, name);
  }
}

function newSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
