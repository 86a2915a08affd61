/**
 * The shape of a soak's result, `hakmem.soak/1`: what `--json` writes and what the table, the CSV and the
 * HTML report are made from. Names end in their unit; sizes are bytes, times are nanoseconds.
 *
 * @module
 */
import type { ReportHead } from "../harness/report.ts";

/** What the driver says of an epoch. */
export interface EpochFigures {
  /** Operations done: a block freed and another allocated in its place. */
  operations: number;
  /** CPU time of all threads. */
  cpu_ns: number;
  /** Wall time until the last thread ended. */
  wall_ns: number;
  /** Time of an operation: CPU time where there is one thread, wall time where there are more. */
  time_ns: number;
  /** RSS of the process when it had ended. */
  rss_bytes: number;
  /** Page faults without a read. */
  minor_faults: number;
  /** Page faults with a read. */
  major_faults: number;
  /** How many single operations were timed. */
  latency_samples: number;
  /** What half of them did not exceed. */
  latency_p50_ns: number;
  /** What 99 of 100 did not exceed. */
  latency_p99_ns: number;
  /** What 999 of 1000 did not exceed. */
  latency_p99_9_ns: number;
  /** The longest. */
  latency_max_ns: number;
}

/** An epoch of a process. */
export interface Epoch extends EpochFigures {
  /** Which process of its allocator it was: 0, and one more each time the soak was resumed. */
  life: number;
  /** The round, from 0. */
  round: number;
  /** The first of its life, which is in no figure. */
  warm_up: boolean;
  /** How long its process had worked when it ended, the warm-up included. */
  active_seconds: number;
  /** When it ended: how long the soak had run, without the times at which it was not running. */
  elapsed_seconds: number;
}

/** An estimate of how RSS changes over a life, as a share of its median. */
export interface Drift {
  /** Theil–Sen slope × duration ÷ median RSS. */
  drift: number;
  /** The lower end of its 95 % interval; null for fewer than six epochs. */
  low: number | null;
  /** The upper end. */
  high: number | null;
}

/** A process from its start to its end. */
export interface Life extends Drift {
  /** Its number, from 0. */
  life: number;
  /** Epochs, the warm-up left out. */
  epochs: number;
  /** From the first of these to the last, as the process worked. */
  duration_seconds: number;
  /** The median over the epochs. */
  rss_bytes: number;
}

/** What the traced process counted. */
export interface SystemCalls {
  /** Epochs, the warm-up left out. */
  epochs: number;
  /** Operations in these. */
  operations: number;
  /** Each system call by name. */
  calls: Record<string, number>;
  /** All of them, of an operation. */
  per_operation: number;
}

/** The figures of a row, over the epochs of all lives. */
export interface RowFigures {
  /** Median RSS. */
  rss_bytes: number;
  /** The least. */
  rss_min_bytes: number;
  /** The greatest. */
  rss_max_bytes: number;
  /** Median of the epochs' time of an operation. */
  time_ns: number;
  /** Their 99th percentile. */
  time_p99_ns: number;
  /** Their 99.9th. */
  time_p99_9_ns: number;
  /** Operations a second of all epochs: standard deviation over mean. */
  throughput_cv: number;
  /** Median of the epochs' latency of this name. */
  latency_p50_ns: number;
  /** The same of the 99th percentile. */
  latency_p99_ns: number;
  /** The same of the 99.9th. */
  latency_p99_9_ns: number;
  /** The greatest 99.9th percentile of an epoch. */
  latency_p99_9_worst_ns: number;
}

/** What was found for one allocator. */
export interface Row {
  /** Its name on the command line. */
  allocator: string;
  /** The object that `malloc` really came from; null if it never told. */
  path: string | null;
  /** The allocator's own version, where it can be asked. */
  version: string | null;
  /** Whether `malloc` came from the object that was meant. */
  loaded: boolean;
  /** Why there are no epochs, or no more of them; null if nothing went wrong. */
  error: string | null;
  /** RSS before the first block, in the first life; null if there was none. */
  base_rss_bytes: number | null;
  /** RSS after the last block was freed, in the last life; null where that did not end by itself. */
  after_rss_bytes: number | null;
  /** Null where no epoch counts. */
  figures: RowFigures | null;
  /** The processes that have epochs that count. */
  lives: Life[];
  /** Null where none was counted. */
  system_calls: SystemCalls | null;
  /** Why they could not be counted. */
  system_calls_error: string | null;
  /** Every epoch, warm-ups included, without those of the traced process. */
  epochs: Epoch[];
}

/** One of the goals that hakmem has in a soak. */
export interface Goal {
  /** What is asked. */
  asked: string;
  /** What was reached, in words. */
  reached: string;
  /** Whether that is what is asked. */
  met: boolean;
}

/** A whole soak. */
export interface SoakReport extends ReportHead {
  /** The name of this shape. A change that breaks readers gets another number. */
  schema: "hakmem.soak/1";
  /** The workload. */
  workload: string;
  /** Threads of each process. */
  threads: number;
  /** What all allocators shared. */
  minutes: number;
  /** How long an allocator worked at a time. */
  epoch_seconds: number;
  /** Rounds that were planned. */
  rounds: number;
  /** When it was resumed, each time, UTC. */
  resumed: string[];
  /** By median RSS. */
  rows: Row[];
  /** None without epochs of hakmem. */
  goals: Goal[];
}
