/**
 * The command line of `./hak sweep`.
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
  readArguments,
  refuseWords,
} from "../harness/command_line.ts";
import { formatCount } from "../harness/format.ts";
import type { Pattern } from "./schema.ts";

/** What to measure and where to write it. */
export interface SweepOptions extends CommonOptions {
  /** Bytes of a block, ascending. */
  sizes: number[];
  /** Numbers of blocks, ascending. */
  counts: number[];
  /** The order of freeing. */
  pattern: Pattern;
}

const limits = { size: 2 ** 30, count: 1e9 };
const defaultCounts = [1e3, 1e4, 1e5, 1e6, 1e7];
const quickCounts = [1e3, 1e5, 1e6];
/** The scales at which the ancestors' own battle was fought. */
const battleCounts = [1e5, 5e5, 1e6, 2e6, 5e6];

const shapes = {
  sizes: { example: "16,64", list: true },
  counts: { example: "1k,1M", list: true },
  ...commonOptions,
  pattern: { example: "random" },
  battle: { example: null },
} as const satisfies Record<string, OptionShape>;

/** The text of `./hak sweep --help`. */
export const usageText = `hak sweep [OPTION…]

Measures, for each allocator, size and number of blocks: resident memory while the blocks live,
after they are freed, after a flush and after an idle second, and CPU time a block to allocate and
to free. Every measurement is a process of its own. docs/MEASURING.md says what each figure means.

What to measure:
  --sizes LIST        bytes of a block, 1 to ${limits.size}, comma-separated (default 16)
  --counts LIST       numbers of blocks, 1 to 1000M, as in 500, 10k, 2.5M
                      (default 1k,10k,100k,1M,10M)
${allocatorHelp}
  --pattern ORDER     order of freeing: sequential, as allocated (default), or random, shuffled
  --repeat N          samples a row, 1 to ${commonLimits.repeat} (default 5); one more round warms up
  --seed N            shuffles the order of measuring and of freeing, 0 to ${commonLimits.seed}
                      (default: a new one, printed)
  --quick             1k, 100k and 1M blocks, 2 samples a row; under 45 s
  --battle            the ancestors' scales: 100k, 500k, 1M, 2M, 5M blocks of 16 B

${outputHelp}

Examples:
  ./hak sweep --quick
  ./hak sweep --sizes 16,64,256 --counts 1k,1M --pattern random --html report.html
  ./hak sweep --peer other=/opt/lib/libother.so --allocators system,hakmem --json - > result.json`;

/** Reads the command line; `--help` has been dealt with. */
export function parseOptions(args: readonly string[]): SweepOptions {
  const { given, words } = readArguments("sweep", shapes, args);
  refuseWords("sweep", shapes, words);
  const one = (name: keyof typeof shapes): string | null => given.get(name)?.[0] ?? null;
  const quick = given.has("quick");
  const battle = given.has("battle");
  if (quick && battle) {
    throw new UsageError(
      "--quick and --battle each choose the counts: give one of them (for a short battle: --battle --repeat 2)",
    );
  }
  const sizes = one("sizes");
  const counts = one("counts");
  return {
    sizes: sizes === null ? [16] : parseNumbers("--sizes", sizes, parseSize),
    counts: counts === null
      ? (quick ? quickCounts : battle ? battleCounts : defaultCounts)
      : parseNumbers("--counts", counts, parseCount),
    pattern: parsePattern(one("pattern") ?? "sequential"),
    ...parseCommon(given, quick ? 2 : 5),
  };
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

function parsePattern(text: string): Pattern {
  if (text === "sequential" || text === "random") return text;
  throw new UsageError(
    `'${text}' is no pattern: --pattern takes sequential (freed as allocated) or random (freed in shuffled order)`,
  );
}
