/**
 * The command line of `./hak sweep`. Whatever is wrong ends in a `UsageError` of one line that says what
 * was wrong, what is valid and how to go on.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { UsageError } from "../../cli/errors.ts";
import { callerPath } from "../../cli/paths.ts";
import { formatCount } from "./format.ts";
import type { Pattern } from "./schema.ts";

/** What to measure and where to write it. Paths are as the caller typed them; "-" is standard output. */
export interface SweepOptions {
  /** Bytes of a block, ascending. */
  sizes: number[];
  /** Numbers of blocks, ascending. */
  counts: number[];
  /** Names in the order given; null for all that are found. */
  allocators: string[] | null;
  /** Objects named by `--peer`, by name. */
  peers: Map<string, string>;
  /** Samples a row. */
  repeat: number;
  /** The order of freeing. */
  pattern: Pattern;
  /** What shuffles the orders. */
  seed: number;
  /** Where to write the result as JSON. */
  json: string | null;
  /** Where to write the rows as CSV. */
  csv: string | null;
  /** Where to write the HTML report. */
  html: string | null;
}

/** The names that `--allocators` knows without a `--peer`. */
export const knownAllocators: readonly string[] = [
  "system",
  "hakmem",
  "mimalloc",
  "jemalloc",
  "tcmalloc",
];

const limits = { size: 2 ** 30, count: 1e9, repeat: 1000, seed: 2 ** 32 - 1 };
const defaultCounts = [1e3, 1e4, 1e5, 1e6, 1e7];
const quickCounts = [1e3, 1e5, 1e6];
/** The scales at which the ancestors' own battle was fought. */
const battleCounts = [1e5, 5e5, 1e6, 2e6, 5e6];

const optionTypes = {
  sizes: "string",
  counts: "string",
  allocators: "string",
  peer: "string",
  repeat: "string",
  pattern: "string",
  seed: "string",
  json: "string",
  csv: "string",
  html: "string",
  quick: "boolean",
  battle: "boolean",
} as const;
type OptionName = keyof typeof optionTypes;
const optionNames = Object.keys(optionTypes) as OptionName[];

/** The text of `./hak sweep --help`. */
export const usageText = `hak sweep [OPTION…]

Measures, for each allocator, size and number of blocks: resident memory while the blocks live,
after they are freed, after a flush and after an idle second, and CPU time a block to allocate and
to free. Every measurement is a process of its own. docs/MEASURING.md says what each figure means.

What to measure:
  --sizes LIST        bytes of a block, 1 to ${limits.size}, comma-separated (default 16)
  --counts LIST       numbers of blocks, 1 to 1000M, as in 500, 10k, 2.5M
                      (default 1k,10k,100k,1M,10M)
  --allocators LIST   of ${knownAllocators.join(", ")} and names given by --peer
                      (default: system, hakmem and every peer that is installed)
  --peer NAME=PATH    measure the shared object PATH under NAME, too; may be repeated
  --pattern ORDER     order of freeing: sequential, as allocated (default), or random, shuffled
  --repeat N          samples a row, 1 to ${limits.repeat} (default 5); one more round warms up
  --seed N            shuffles the order of measuring and of freeing, 0 to ${limits.seed}
                      (default: a new one, printed)
  --quick             1k, 100k and 1M blocks, 2 samples a row; under 45 s
  --battle            the ancestors' scales: 100k, 500k, 1M, 2M, 5M blocks of 16 B

What to write (besides the table on standard output):
  --json FILE         everything, every sample included
  --csv FILE          one line a row
  --html FILE         a report with charts, one file that needs no other
                      Each FILE may be -, once, for standard output; the table then goes to
                      standard error. Files appear whole, when measuring has ended.

Ctrl-C ends early: what was measured is shown and written, marked as interrupted.

Exit status: 0 measured; 1 if system or hakmem failed, or every allocator did (a peer that fails is
shown in the table and fails nothing else), or a file could not be written; 2 wrong usage;
130 ended by Ctrl-C.

Examples:
  ./hak sweep --quick
  ./hak sweep --sizes 16,64,256 --counts 1k,1M --pattern random --html report.html
  ./hak sweep --peer other=/opt/lib/libother.so --allocators system,hakmem --json - > result.json`;

/** Reads the command line; `--help` has been dealt with. */
export function parseOptions(args: readonly string[]): SweepOptions {
  const given = readTokens(args);
  const one = (name: OptionName): string | null => given.get(name)?.[0] ?? null;
  const quick = given.has("quick");
  const battle = given.has("battle");
  if (quick && battle) {
    throw new UsageError(
      "--quick and --battle each choose the counts: give one of them (for a short battle: --battle --repeat 2)",
    );
  }
  const sizes = one("sizes");
  const counts = one("counts");
  const allocators = one("allocators");
  const repeat = one("repeat");
  const seed = one("seed");
  const options: SweepOptions = {
    sizes: sizes === null ? [16] : parseNumbers("--sizes", sizes, parseSize),
    counts: counts === null
      ? (quick ? quickCounts : battle ? battleCounts : defaultCounts)
      : parseNumbers("--counts", counts, parseCount),
    allocators: allocators === null ? null : splitList("--allocators", allocators),
    peers: parsePeers(given.get("peer") ?? []),
    repeat: repeat === null ? (quick ? 2 : 5) : parseWhole("--repeat", repeat, 1, limits.repeat),
    pattern: parsePattern(one("pattern") ?? "sequential"),
    seed: seed === null ? newSeed() : parseWhole("--seed", seed, 0, limits.seed),
    json: one("json"),
    csv: one("csv"),
    html: one("html"),
  };
  checkNames(options);
  checkOutputs(options);
  return options;
}

function readTokens(args: readonly string[]): Map<OptionName, string[]> {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(optionNames.map((name) => [name, { type: optionTypes[name] }])),
    allowPositionals: true,
    // Its own messages neither list what is valid nor keep to one line.
    strict: false,
    tokens: true,
  });
  const given = new Map<OptionName, string[]>();
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      throw new UsageError(
        `unexpected argument '${token.value}': sweep takes options only (${listOptions()}); see ./hak sweep --help`,
      );
    }
    const name = optionNames.find((known) => known === token.name);
    if (name === undefined || token.rawName !== `--${name}`) {
      throw new UsageError(
        `unknown option ${token.rawName}: valid are ${listOptions()}; see ./hak sweep --help`,
      );
    }
    if (optionTypes[name] === "boolean") {
      if (token.value !== undefined) {
        throw new UsageError(
          `--${name} takes no value, but was given '${token.value}': leave it out`,
        );
      }
    } else if (
      token.value === undefined || token.value === "" ||
      (!token.inlineValue && token.value.startsWith("--"))
    ) {
      throw new UsageError(`--${name} needs a value, as in '--${name} ${examples[name]}'`);
    }
    const values = given.get(name) ?? [];
    if (values.length > 0 && name !== "peer") {
      throw new UsageError(`--${name} is given twice: give it once${listHint(name)}`);
    }
    given.set(name, [...values, token.value ?? ""]);
  }
  return given;
}

const examples: Record<OptionName, string> = {
  sizes: "16,64",
  counts: "1k,1M",
  allocators: "system,hakmem",
  peer: "name=/path/to/lib.so",
  repeat: "5",
  pattern: "random",
  seed: "7",
  json: "result.json",
  csv: "result.csv",
  html: "report.html",
  quick: "",
  battle: "",
};

function listHint(name: OptionName): string {
  return ["sizes", "counts", "allocators"].includes(name)
    ? `, with a comma-separated list, as in '--${name} ${examples[name]}'`
    : "";
}

function listOptions(): string {
  return [...optionNames, "help"].map((name) => `--${name}`).join(", ");
}

function splitList(option: string, text: string): string[] {
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

function parseNumbers(option: string, text: string, parse: (item: string) => number): number[] {
  const numbers = splitList(option, text).map(parse).sort((a, b) => a - b);
  const twice = numbers.find((number, index) => numbers.indexOf(number) !== index);
  if (twice !== undefined) {
    throw new UsageError(`${option} names ${twice} twice in '${text}': give each number once`);
  }
  return numbers;
}

function parseSize(text: string): number {
  const size = /^\d+$/.test(text) ? Number(text) : NaN;
  if (size >= 1 && size <= limits.size) return size;
  throw new UsageError(
    `'${text}' is no size: --sizes takes whole bytes from 1 to ${limits.size}, as in '--sizes 16,64'`,
  );
}

function parseCount(text: string): number {
  const parts = /^(\d+(?:\.\d+)?)([kKmM]?)$/.exec(text);
  const scale = { "": 1, k: 1e3, m: 1e6 }[(parts?.[2] ?? "").toLowerCase()];
  // Rounded to a thousandth first, as 1.1 × 1e6 is not exactly 1,100,000 in binary.
  const count = Math.round(Number(parts?.[1]) * (scale ?? NaN) * 1e3) / 1e3;
  if (Number.isInteger(count) && count >= 1 && count <= limits.count) return count;
  throw new UsageError(
    `'${text}' is no number of blocks: --counts takes 1 to ${
      formatCount(limits.count)
    }, with k for thousands and M for millions, as in '--counts 1k,2.5M'`,
  );
}

function parseWhole(option: string, text: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(
    `'${text}' does not fit ${option}: give a whole number from ${least} to ${most}`,
  );
}

function parsePattern(text: string): Pattern {
  if (text === "sequential" || text === "random") return text;
  throw new UsageError(
    `'${text}' is no pattern: --pattern takes sequential (freed as allocated) or random (freed in shuffled order)`,
  );
}

function parsePeers(specs: readonly string[]): Map<string, string> {
  const peers = new Map<string, string>();
  for (const spec of specs) {
    const [, name, path] = /^([^=]*)=(.*)$/s.exec(spec) ?? [];
    if (name === undefined || path === undefined || path === "") {
      throw new UsageError(
        `'${spec}' is no peer: --peer takes NAME=PATH, as in '--peer ${examples.peer}'`,
      );
    }
    if (!/^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$/.test(name)) {
      throw new UsageError(
        `'${name}' is no name for a peer: take 1 to 32 letters, digits or . _ + -, as in '--peer ${examples.peer}'`,
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
    peers.set(name, path);
  }
  return peers;
}

function checkNames({ allocators, peers }: SweepOptions): void {
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

function checkOutputs(options: SweepOptions): void {
  const seen = new Map<string, string>();
  for (const name of ["json", "csv", "html"] as const) {
    const path = options[name];
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
