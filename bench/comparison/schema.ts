/**
 * The shape of a comparison, `hakmem.bench/1`: what `hak bench` and `hak bench programs` write with
 * `--json`, and what their tables, CSV and HTML reports are made from. Names end in their unit; sizes are
 * bytes. Lower is better in every figure.
 *
 * @module
 */
import type { ReportHead } from "../harness/report.ts";
import type { Nullable, Spread } from "../harness/spread.ts";

/** What is measured: one row of the table, before any allocator takes part. */
export interface Subject {
  /** The workload that it belongs to; "programs" for the real programs. */
  workload: string;
  /** Its name on the command line. */
  row: string;
  /** The same for people. */
  label: string;
  /** Number of threads; null where the program decides. */
  threads: number | null;
  /** What one operation is: pair (a malloc and its free), block, thread, run … */
  operation: string;
}

/** The figures of one process, or of a row: the medians of its samples. */
export interface Figures {
  /**
   * What is ranked, an operation: CPU time where there is one thread, wall time where there are more and
   * of a program.
   */
  time_ns: number;
  /** CPU time of all threads, an operation. */
  cpu_ns: number;
  /** Wall time, an operation. */
  wall_ns: number;
  /** Live RSS less base; of a program, its peak RSS. */
  rss_bytes: number;
  /** RSS after all is freed, less base; null for a program. */
  left_bytes: number | null;
  /** RSS of the whole process before the first block; null for a program. */
  base_rss_bytes: number | null;
  /** RSS of the whole process where most is live; null for a program. */
  live_rss_bytes: number | null;
  /** RSS of the whole process after all is freed; null for a program. */
  after_rss_bytes: number | null;
  /** Page faults without I/O, in all: within the measured part, or of a whole program. */
  minor_faults: number;
  /** Page faults with I/O, in all. */
  major_faults: number;
}

/** The names of all figures, in the order in which they are written. */
export const figureNames = [
  "time_ns",
  "cpu_ns",
  "wall_ns",
  "rss_bytes",
  "left_bytes",
  "base_rss_bytes",
  "live_rss_bytes",
  "after_rss_bytes",
  "minor_faults",
  "major_faults",
] as const satisfies readonly (keyof Figures)[];

/** What the counting build counts, by name. */
export type Costs = Record<string, number>;

/** One process. */
export interface Sample extends Figures {
  /** Which round it belongs to, from 0; the warm-up round is not among them. */
  repeat: number;
  /** How many operations were timed. */
  operations: number;
  /** What the counting build counted in the measured part; null from any other object. */
  costs: Costs | null;
}

/** What was found for one allocator. The figures are null without a sample. */
export interface Row extends Subject, Nullable<Figures> {
  /** Its name on the command line. */
  allocator: string;
  /** The object that `malloc` really came from; null if it never told. */
  path: string | null;
  /** The allocator's own version, where it can be asked. */
  version: string | null;
  /** Whether that is the object that was meant. */
  loaded: boolean;
  /** Why there are no samples, or fewer than asked for; null if nothing went wrong. */
  error: string | null;
  /** Number of samples. */
  repeats: number;
  /** Its place by time, from 1; null if it failed, or counts its costs, which takes time. */
  rank: number | null;
  /** The fastest of the other allocators that are ranked; null if there is none. */
  best_other: string | null;
  /** Its time as a multiple of that one's. */
  ratio: number | null;
  /** Its `rss_bytes` less the least of the other allocators' that are ranked. */
  rss_above_best_bytes: number | null;
  /** Medians of the costs of 1,000 operations; null unless it counts them. */
  costs_per_1000: Costs | null;
  /** Spread of each figure; empty without a sample. */
  spread: Partial<Record<keyof Figures, Spread>>;
  /** What each process measured. */
  samples: Sample[];
}

/** A row in which hakmem is behind. */
export interface Behind extends Pick<Subject, "workload" | "row" | "threads"> {
  /** The best of the others. */
  best_other: string;
  /** hakmem's figure less, or as a multiple of, that one's: see where it stands. */
  by: number;
}

/** How hakmem does over all rows. */
export interface Summary {
  /** Number of rows in which hakmem and another are ranked. */
  rows: number;
  /** Geometric mean over them of hakmem's time as a multiple of the best other's. */
  ratio_to_best: number;
  /** The same against each of the others, over the rows in which it is ranked. */
  peers: { allocator: string; rows: number; ratio: number }[];
  /** Rows whose `ratio` is above 1.05; `by` is that ratio. */
  slower: Behind[];
  /** Rows whose `rss_above_best_bytes` is above 64 KiB; `by` is that many bytes. */
  larger: Behind[];
}

/** A whole comparison. */
export interface ComparisonReport extends ReportHead {
  /** The name of this shape. A change that breaks readers gets another number. */
  schema: "hakmem.bench/1";
  /** Workload by workload, in each row by rank. */
  rows: Row[];
  /** Null where hakmem did not take part, or alone. */
  summary: Summary | null;
}
