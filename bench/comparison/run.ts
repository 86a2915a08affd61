/**
 * Runs a comparison: round by round, every subject under one allocator after the other.
 *
 * @module
 */
import type { Allocator } from "../harness/allocators.ts";
import type { Identity, Outcome } from "../harness/driver.ts";
import type { Progress } from "../harness/progress.ts";
import { type Gathered, measureRounds, planRounds, type RoundStep } from "../harness/rounds.ts";
import { rankRows, summarizeSamples, type Unranked } from "./ranking.ts";
import type { Row, Sample, Subject } from "./schema.ts";

/** An allocator, and what its process said of itself. */
export interface Contender {
  /** What is to be measured. */
  allocator: Allocator;
  /** What is loaded then. */
  identity: Identity;
}

/** One measurement: which subject under which allocator, in which round. */
export interface Trial<Place extends Subject> extends Contender {
  /** What is measured. */
  subject: Place;
  /** The round, -1 for the warm-up. */
  round: number;
}

/** What to compare, and how. */
export interface Comparison<Place extends Subject> {
  /** What is measured, in the order of the report. */
  subjects: readonly Place[];
  /** Who takes part. */
  contenders: readonly Contender[];
  /** Samples a row. */
  repeat: number;
  /** What shuffles the order of measuring. */
  seed: number;
  /** About how many seconds one measurement takes. */
  likelySeconds: number;
  /** Measures once. */
  measure(trial: Trial<Place>): Promise<Outcome<Sample>>;
}

interface Cell<Place extends Subject> extends Gathered<Sample>, Contender {
  subject: Place;
}

/** Measures all of it. Rows that were not reached before Ctrl-C are left out. */
export async function runComparison<Place extends Subject>(
  comparison: Comparison<Place>,
  progress: Progress,
): Promise<{ rows: Row[]; interrupted: boolean }> {
  const { subjects, contenders, repeat, seed } = comparison;
  const cells = subjects.map((subject) =>
    contenders.map((contender): Cell<Place> => ({
      ...contender,
      subject,
      samples: [],
      error: contender.identity.error,
    }))
  );
  const cellOf = (step: RoundStep): Cell<Place> => {
    const cell = cells[step.cell]?.[step.allocator];
    if (cell === undefined) throw new RangeError(`No cell ${step.cell}, ${step.allocator}`);
    return cell;
  };
  const end = await measureRounds<RoundStep, Sample>(
    {
      steps: planRounds(subjects.length, contenders.length, repeat, seed),
      gathered: cellOf,
      name: (step) => {
        const { allocator, subject } = cellOf(step);
        return `${allocator.name}, ${subject.row}${threadsText(subject)}`;
      },
      likelySeconds: () => comparison.likelySeconds,
      measure: (step) => comparison.measure({ ...cellOf(step), round: step.round }),
    },
    repeat,
    progress,
  );
  const told = cells.flat().filter(({ samples, error }) => samples.length > 0 || error !== null);
  return { rows: rankRows(told.map(toRow)), interrupted: end === "interrupted" };
}

/** The number of threads as part of a name, where it is one's choice. */
export function threadsText({ threads }: Pick<Subject, "threads">): string {
  return threads === null || threads === 1 ? "" : `, ${threads} threads`;
}

function toRow({ allocator, identity, subject, samples, error }: Cell<Subject>): Unranked {
  const { workload, row, label, threads, operation } = subject;
  return {
    ...{ workload, row, label, threads, operation },
    allocator: allocator.name,
    path: identity.path,
    version: identity.version,
    loaded: identity.loaded,
    error,
    repeats: samples.length,
    ...summarizeSamples(samples),
    samples,
  };
}
