/**
 * What the allocator holds, as numbers.
 *
 * @module
 */
import { HakmemError } from "./errors.ts";
import type { Native } from "./library.ts";
import { abi } from "./symbols.ts";

/**
 * What the allocator holds in this process. Names that end in `Bytes` are bytes, all others are counts; those
 * that end in `Ever` only grow.
 *
 * The parts are read one after the other, so while other threads are busy they are of slightly different
 * moments.
 */
export interface HakmemStats {
  /** Threads that have a heap. */
  threads: number;
  /** Superslabs that are mapped now. */
  superslabs: number;
  /** Of these, the ones with nothing in use. */
  superslabsEmpty: number;
  /** Superslabs that were mapped since the start. */
  superslabsMappedEver: number;
  /** Superslabs that were unmapped since the start. */
  superslabsUnmappedEver: number;
  /** Superslabs that the system refused. */
  superslabsRefusedEver: number;
  /** Slabs of size classes. */
  slabs: number;
  /** Superslab memory in use by slabs. */
  slabBytes: number;
  /** Superslab memory in use by blocks above 128 KiB. */
  largeBytes: number;
  /** Superslab memory that is not in use and may still be resident. */
  dirtyBytes: number;
  /** Free blocks in the magazines of threads. */
  magazineBytes: number;
  /** Free blocks in cold magazines. */
  coldBytes: number;
  /** Free blocks in slabs. */
  slabFreeBytes: number;
  /** Blocks of slabs that were never handed out. */
  slabFreshBytes: number;
  /** Blocks above 1 MiB that are in use. */
  hugeBlocks: number;
  /** What is mapped for them. */
  hugeBytes: number;
  /** Address space of freed ones that the system would not take back. */
  hugeStuckBytes: number;
  /** What is mapped for the allocator's own records. */
  metadataBytes: number;
  /** Superslabs, blocks above 1 MiB (cached ones too) and records together. */
  mappedBytes: number;
  /** Freed blocks above 1 MiB that wait to be allocated again. */
  hugeCachedBytes: number;
}

/** Every field of the table has its place above, or is of no use outside. The compiler checks it. */
const names: readonly (keyof HakmemStats | "structBytes")[] = abi.stats;

/** Reads the stats. Counters are 64 bits wide there; here they are exact up to `2 ** 53`. */
export function readStats(native: Native): HakmemStats {
  // The object was compared with the table when it was opened, so it fills in every field.
  const fields = new BigUint64Array(names.length);
  const result = native.hak_stats(fields, BigInt(fields.byteLength));
  if (result !== abi.results.ok) {
    throw new HakmemError(`Cannot read the stats: hak_stats gives result ${result}`);
  }
  const { structBytes: _, ...stats } = Object.fromEntries(
    names.map((name, position) => [name, Number(fields[position])]),
  ) as Record<(typeof abi.stats)[number], number>;
  return stats;
}
