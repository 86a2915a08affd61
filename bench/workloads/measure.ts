/**
 * One run of a row: what is asked of the native program, and what its line says.
 *
 * @module
 */
import type { Trial } from "../comparison/run.ts";
import type { Costs, Sample } from "../comparison/schema.ts";
import { type Driver, type Outcome, whole } from "../harness/driver.ts";
import type { Place } from "./catalog.ts";

/** A hundred times what a run takes with the slowest allocator known, so that a hang ends. */
const limitSeconds = 60;

/** What all runs of a comparison have in common. */
export interface Manner {
  /** What the workloads draw their random numbers from, the same for every allocator. */
  seed: number;
  /** By how much the number of operations is multiplied. */
  scale: number;
}

/** Runs a row once, in a process of its own. */
export async function measureRow(
  driver: Driver,
  { allocator, identity, subject, round }: Trial<Place>,
  { seed, scale }: Manner,
): Promise<Outcome<Sample>> {
  const answer = await driver.measure(allocator, identity, [
    subject.row,
    ...(subject.threaded ? [`--threads=${subject.threads}`] : []),
    `--seed=${seed + round + 1}`,
    `--scale=${scale}`,
  ], limitSeconds);
  return answer.kind === "value"
    ? { kind: "value", value: readSample(answer.value, subject, round) }
    : answer;
}

/** The figures of a line. */
export function readSample(
  line: Readonly<Record<string, unknown>>,
  { threaded }: Pick<Place, "threaded">,
  round: number,
): Sample {
  const operations = whole(line.operations);
  const cpu = whole(line.cpu_ns) / operations;
  const wall = whole(line.wall_ns) / operations;
  const base = whole(line.base_rss_bytes);
  const live = whole(line.live_rss_bytes);
  const after = whole(line.after_rss_bytes);
  return {
    repeat: round,
    operations,
    time_ns: threaded ? wall : cpu,
    cpu_ns: cpu,
    wall_ns: wall,
    rss_bytes: live - base,
    left_bytes: after - base,
    base_rss_bytes: base,
    live_rss_bytes: live,
    after_rss_bytes: after,
    minor_faults: whole(line.minor_faults),
    major_faults: whole(line.major_faults),
    costs: readCosts(line.costs),
  };
}

function readCosts(costs: unknown): Costs | null {
  if (typeof costs !== "object" || costs === null) return null;
  return Object.fromEntries(Object.entries(costs).map(([name, count]) => [name, whole(count)]));
}
