/**
 * The shape of a sweep's result, `hakmem.sweep/1`: what `--json` writes and what the table, the CSV and
 * the HTML report are made from. Names end in their unit; sizes are bytes, times are nanoseconds of CPU
 * time a block.
 *
 * @module
 */
import type { ReportHead } from "../harness/report.ts";
import type { Nullable, Spread } from "../harness/spread.ts";

/** The order in which blocks are freed: as they were allocated, or shuffled. */
export type Pattern = "sequential" | "random";

/** The figures of one measuring process, or of a row: the medians of its samples. */
export interface Figures {
  /** RSS before the first block, with the driver's own pointer array in it. */
  base_rss_bytes: number;
  /** RSS with every block allocated and written. */
  live_rss_bytes: number;
  /** Live RSS less base less the blocks themselves; negative where blocks fit into what base holds. */
  overhead_bytes: number;
  /** The same divided by the number of blocks. */
  overhead_per_block_bytes: number;
  /** RSS right after the last free. */
  after_free_rss_bytes: number;
  /** RSS after the allocator was asked to give back what it can. */
  after_flush_rss_bytes: number;
  /** RSS one idle second after the last free, before any flush; null where it was not taken. */
  after_idle_rss_bytes: number | null;
  /** CPU time to allocate a block and write it whole. */
  alloc_ns: number;
  /** CPU time to free a block. */
  free_ns: number;
}

/** The names of all figures, in the order in which they are written. */
export const figureNames = [
  "base_rss_bytes",
  "live_rss_bytes",
  "overhead_bytes",
  "overhead_per_block_bytes",
  "after_free_rss_bytes",
  "after_flush_rss_bytes",
  "after_idle_rss_bytes",
  "alloc_ns",
  "free_ns",
] as const satisfies readonly (keyof Figures)[];

/** One measuring process. */
export interface Sample extends Figures {
  /** Which round it belongs to, from 0; the warm-up round is not among them. */
  repeat: number;
}

/** What was found for one allocator at one size and count. The figures are null without a sample. */
export interface Row extends Nullable<Figures> {
  /** Its name on the command line. */
  allocator: string;
  /** The object that `malloc` really came from, as the measuring process saw it; null if it never told. */
  path: string | null;
  /** The allocator's own version, where it can be asked. */
  version: string | null;
  /** Whether the measuring process found `malloc` to come from the object that was meant. */
  loaded: boolean;
  /** Why there are no samples, or fewer than asked for; null if nothing went wrong. */
  error: string | null;
  /** Bytes of a block. */
  size: number;
  /** Number of blocks. */
  count: number;
  /** The order of freeing. */
  pattern: Pattern;
  /** Number of samples. */
  repeats: number;
  /** The function that the flush calls; null where the allocator has none. */
  flush: string | null;
  /** Spread of each figure; empty without a sample. */
  spread: Partial<Record<keyof Figures, Spread>>;
  /** What each process measured. */
  samples: Sample[];
}

/** The cost model `overhead = fixed + per_block · count` of one allocator at one size. */
export interface Model {
  /** The allocator's name. */
  allocator: string;
  /** Bytes of a block. */
  size: number;
  /** F: what the allocator costs once, without the base of the process. */
  fixed_bytes: number;
  /** V: what each block costs beyond its own bytes. */
  per_block_bytes: number;
  /** The worst miss of the model over the counts measured, as a share of the overhead there. */
  max_relative_error: number;
}

/** A whole sweep. */
export interface SweepReport extends ReportHead {
  /** The name of this shape. A change that breaks readers gets another number. */
  schema: "hakmem.sweep/1";
  /** By size, count and overhead. */
  rows: Row[];
  /** One for each allocator and size with at least two counts. */
  models: Model[];
}
