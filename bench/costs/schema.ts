/**
 * What `./hak costs` reports, also as JSON.
 *
 * @module
 */
import type { ReportHead } from "../harness/report.ts";

/** Figures by the names that `hak_cost_name` gives; docs/SCALING.md says what each is. */
export type Counts = Record<string, number>;

/** What both parts say of a row. */
interface CostRow {
  /** The workload that it belongs to. */
  workload: string;
  /** Its name on the command line. */
  row: string;
  /** The same for people. */
  label: string;
  /** What one operation is. */
  operation: string;
  /** How many threads ran it. */
  threads: number;
  /** The allocator's name. */
  allocator: string;
  /** Why there are no figures; null if there are. */
  error: string | null;
}

/** Instructions of a row under an allocator. */
export interface InstructionRow extends CostRow {
  /** The object that was measured; null if it did not load. */
  path: string | null;
  /** Its version, where it can be asked. */
  version: string | null;
  /** The operations of the two runs. */
  operations: number[];
  /** The instructions of all calls into the allocator in the two runs. */
  instructions: number[];
  /** Instructions of one operation: the difference of the two by that of the operations. Null on an error. */
  per_operation: number | null;
}

/** Counts of a row with the object that counts. */
export interface CountRow extends CostRow {
  /** How many operations all threads did together; 0 on an error. */
  operations: number;
  /** Counts while they did them. */
  counts: Counts;
  /** The same for a thousand operations. */
  per_1000: Counts;
}

/** A whole report. */
export interface CostReport extends ReportHead {
  /** The shape of this document. */
  schema: "hakmem.costs/1";
  /** The version of the valgrind that counted; null if none was needed. */
  valgrind: string | null;
  /** Instructions, row by row. */
  instructions: InstructionRow[];
  /** Counts, row by row. */
  counts: CountRow[];
}
