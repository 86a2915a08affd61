/**
 * One measurement of a sweep: what is asked of the native driver, and what its line says.
 *
 * @module
 */
import type { Allocator } from "../harness/allocators.ts";
import { type Driver, type Identity, type Outcome, whole } from "../harness/driver.ts";
import type { Pattern, Sample } from "./schema.ts";

/** What one process is to measure. */
export interface Measurement {
  /** The round, which also varies the order of freeing. */
  round: number;
  /** Bytes of a block. */
  size: number;
  /** Number of blocks. */
  count: number;
  /** The order of freeing. */
  pattern: Pattern;
  /** What the sweep is shuffled by. */
  seed: number;
  /** Whether to wait the idle second. */
  idle: boolean;
}

/** The function behind each release name of the driver; null for an allocator without one. */
export const flushNames: Record<string, string | null> = {
  hakmem: "hak_tiny_magazine_flush_all, hak_purge",
  mimalloc: "mi_collect",
  jemalloc: "mallctl arena.4096.purge",
  tcmalloc: "MallocExtension_ReleaseFreeMemory",
  glibc: "malloc_trim",
  none: null,
};

const idleMs = 1000;
const mebi = 2 ** 20;

/**
 * Bytes that blocks may take with the most wasteful allocator known: a header and rounding (glibc, 32
 * bytes for 16), or size classes a quarter apart. The driver warms this much before it measures.
 */
export function warmBytes(size: number, count: number): number {
  const block = Math.max(1.25 * size, 16 * Math.ceil(size / 16) + 16);
  return Math.ceil(count * block) + 8 * mebi;
}

/** Bytes that a measuring process needs at its peak: blocks, pointer array and the process itself. */
export function neededBytes(size: number, count: number): number {
  return warmBytes(size, count) + 8 * count + 64 * mebi;
}

/** Measures once, in a process of its own. */
export async function measureBlocks(
  driver: Driver,
  allocator: Allocator,
  identity: Identity,
  what: Measurement,
): Promise<Outcome<Sample>> {
  const { size, count } = what;
  const answer = await driver.measure(
    allocator,
    identity,
    [
      `--size=${size}`,
      `--count=${count}`,
      `--pattern=${what.pattern}`,
      `--seed=${what.seed + what.round + 1}`,
      `--warm-bytes=${warmBytes(size, count)}`,
      `--idle-ms=${what.idle ? idleMs : 0}`,
      `--release=${identity.release}`,
    ],
    // A hundred times what the slowest allocator known needs, so that a hang ends.
    60 + count * (1e-5 + size * 1e-8),
  );
  if (answer.kind !== "value") return answer;
  const said = answer.value;
  const base = whole(said.base_rss_bytes);
  const live = whole(said.live_rss_bytes);
  const overhead = live - base - count * size;
  return {
    kind: "value",
    value: {
      repeat: what.round,
      base_rss_bytes: base,
      live_rss_bytes: live,
      overhead_bytes: overhead,
      overhead_per_block_bytes: overhead / count,
      after_free_rss_bytes: whole(said.after_free_rss_bytes),
      after_flush_rss_bytes: whole(said.after_flush_rss_bytes),
      after_idle_rss_bytes: what.idle ? whole(said.after_idle_rss_bytes) : null,
      alloc_ns: whole(said.alloc_total_ns) / count,
      free_ns: whole(said.free_total_ns) / count,
    },
  };
}
