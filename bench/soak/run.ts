/**
 * A soak: processes that live on, one an allocator and a traced one beside it, that take turns by epochs.
 *
 * @module
 */
import { Conversation } from "../harness/conversation.ts";
import {
  type Driver,
  type Identity,
  type Outcome,
  samePath,
  text,
  whole,
} from "../harness/driver.ts";
import type { Progress } from "../harness/progress.ts";
import { isTraced, orderOf } from "./plan.ts";
import type { EpochFigures } from "./schema.ts";
import type { SoakState } from "./state.ts";

/** What a soak runs with. */
export interface SoakWork {
  /** What was found of each allocator. */
  identities: readonly Identity[];
  /** Starts the processes. */
  driver: Driver;
  /** What is to be done, what was done, and where to write it down. */
  state: SoakState;
  /** Shows how far it has got. */
  progress: Progress;
  /** Aborted when the user wants to end. */
  stop: AbortSignal;
}

/** Rounds that the display takes together. */
const shownRounds = 10;

/** Makes what is left of a soak. What it finds is in the state. */
export async function runSoak(work: SoakWork): Promise<"complete" | "interrupted"> {
  const soak = new Soak(work);
  try {
    return await soak.run();
  } finally {
    await soak.close();
  }
}

/** One epoch to be made. */
interface Turn {
  round: number;
  allocator: number;
  traced: boolean;
}

class Soak {
  readonly #work: SoakWork;
  readonly #life: number;
  readonly #elapsedBefore: number;
  readonly #began = performance.now();
  readonly #processes = new Map<string, Process>();
  /** Those that failed, by key; of an allocator that failed, the traced process too. */
  readonly #failed = new Set<string>();

  constructor(work: SoakWork) {
    this.#work = work;
    const { entries } = work.state;
    this.#life = entries.filter(({ kind }) => kind === "life").length;
    this.#elapsedBefore = Math.max(
      0,
      ...entries.flatMap((entry) =>
        entry.kind === "epoch"
          ? [entry.epoch.elapsed_seconds]
          : entry.kind === "traced"
          ? [entry.elapsed_seconds]
          : []
      ),
    );
    for (const entry of entries) {
      if (entry.kind === "error") this.#markFailed(entry);
    }
  }

  async run(): Promise<"complete" | "interrupted"> {
    const { state, identities, progress } = this.#work;
    const { rounds, epochSeconds } = state.head.plan;
    const turns = this.#turnsLeft();
    if (turns.length > 0 || this.#life === 0) {
      const started = new Date().toISOString().replace(/\.\d+Z$/, "Z");
      state.append({ kind: "life", life: this.#life, started });
    }
    for (const [allocator, { error }] of identities.entries()) {
      if (error !== null) this.#fail({ allocator, traced: false }, error);
    }
    let shown = -1;
    for (const [index, turn] of turns.entries()) {
      if (this.#isOut(turn)) continue;
      const left = turns.slice(index).filter((each) => !this.#isOut(each)).length;
      const secondsLeft = left * (epochSeconds + 0.01);
      const group = Math.floor(turn.round / shownRounds);
      if (group !== shown) {
        shown = group;
        const [first, last] = [group * shownRounds + 1, (group + 1) * shownRounds];
        progress.round(`Rounds ${first}–${Math.min(last, rounds)} of ${rounds}`, secondsLeft);
      }
      const name = state.head.allocators[turn.allocator]?.name ?? "";
      progress.step(
        turn.traced ? `${name}, counting system calls` : name,
        index / turns.length,
        secondsLeft,
      );
      if (await this.#take(turn) === "interrupted") return "interrupted";
    }
    return await this.#conclude();
  }

  async close(): Promise<void> {
    for (const process of this.#processes.values()) await process.conversation.close();
  }

  /** Every epoch that the plan has and the state has not. */
  #turnsLeft(): Turn[] {
    const { head: { plan, allocators }, entries } = this.#work.state;
    const done = new Set(
      entries.flatMap((entry) =>
        entry.kind === "epoch"
          ? [turnKey({ ...entry, round: entry.epoch.round, traced: false })]
          : entry.kind === "traced"
          ? [turnKey({ ...entry, traced: true })]
          : []
      ),
    );
    const turns: Turn[] = [];
    let first: number | null = null;
    for (let round = 0; round < plan.rounds; round++) {
      for (const allocator of orderOf(round, allocators.length, plan.seed)) {
        const measured = { round, allocator, traced: false };
        if (done.has(turnKey(measured))) continue;
        first ??= round;
        const traced = { round, allocator, traced: true };
        if (isTraced(round - first) && !done.has(turnKey(traced))) turns.push(traced);
        turns.push(measured);
      }
    }
    return turns;
  }

  async #take(turn: Turn): Promise<"done" | "interrupted"> {
    const { state } = this.#work;
    const outcome = await this.#epoch(turn);
    if (outcome.kind === "interrupted") return "interrupted";
    if (outcome.kind === "failed") {
      this.#fail(turn, outcome.error);
      return "done";
    }
    const { process, line } = outcome.value;
    const figures = readEpoch(line, state.head.plan.threads);
    process.activeSeconds += figures.wall_ns / 1e9;
    const common = {
      round: turn.round,
      warm_up: process.epochs === 0,
      elapsed_seconds: this.#elapsedBefore + (performance.now() - this.#began) / 1000,
    };
    process.epochs += 1;
    const { allocator } = turn;
    if (turn.traced) {
      const calls = readCalls(line.system_calls);
      state.append({ kind: "traced", allocator, ...common, operations: figures.operations, calls });
    } else {
      const active = { life: this.#life, active_seconds: process.activeSeconds };
      state.append({ kind: "epoch", allocator, epoch: { ...common, ...active, ...figures } });
    }
    return "done";
  }

  /** Lets a process work for an epoch; starts it where it is not there yet. */
  async #epoch(turn: Turn): Promise<Outcome<{ process: Process; line: Record<string, unknown> }>> {
    const key = processKey(turn);
    let process = this.#processes.get(key);
    if (process === undefined) {
      const started = this.#start(turn);
      process = started;
      this.#processes.set(key, started);
      const ready = await started.conversation.answer(startSeconds);
      if (ready.kind !== "value") return ready;
      const path = text(ready.value.malloc_path);
      const meant = this.#work.identities[turn.allocator]?.path ?? "";
      if (path === null || !samePath(path, meant)) {
        return { kind: "failed", error: `not loaded: malloc came from ${path ?? "nowhere known"}` };
      }
      if (!turn.traced) {
        const { allocator } = turn;
        const rss_bytes = whole(ready.value.base_rss_bytes);
        this.#work.state.append({ kind: "base", allocator, life: this.#life, rss_bytes });
      }
    }
    const { epochSeconds } = this.#work.state.head.plan;
    const answer = await process.conversation.ask(startSeconds + 3 * epochSeconds);
    return answer.kind === "value"
      ? { kind: "value", value: { process, line: answer.value } }
      : answer;
  }

  #start({ allocator, traced }: Turn): Process {
    const { driver, state, stop } = this.#work;
    const { plan, allocators } = state.head;
    const chosen = allocators[allocator];
    if (chosen === undefined) throw new Error("A turn without an allocator is not made");
    const child = driver.start(chosen, [
      plan.workload,
      `--threads=${plan.threads}`,
      `--epoch-ms=${Math.round(plan.epochSeconds * 1000)}`,
      `--seed=${plan.seed}`,
      ...(traced ? ["--trace"] : []),
    ], "piped");
    return { conversation: new Conversation(child, stop), activeSeconds: 0, epochs: 0 };
  }

  /** Ends the processes, which so free their last blocks. */
  async #conclude(): Promise<"complete" | "interrupted"> {
    const { state } = this.#work;
    for (const [allocator] of state.head.allocators.entries()) {
      const process = this.#processes.get(processKey({ allocator, traced: false }));
      if (process === undefined || this.#isOut({ allocator, traced: false })) continue;
      const last = await process.conversation.conclude(startSeconds);
      if (last.kind === "interrupted") return "interrupted";
      if (last.kind === "failed") this.#fail({ allocator, traced: false }, last.error);
      else state.append({ kind: "after", allocator, rss_bytes: whole(last.value.after_rss_bytes) });
    }
    return "complete";
  }

  /** What failed once is not asked again. */
  #fail({ allocator, traced }: Pick<Turn, "allocator" | "traced">, error: string): void {
    if (this.#isOut({ allocator, traced })) return;
    this.#markFailed({ allocator, traced });
    this.#work.state.append({ kind: "error", allocator, traced, error });
  }

  #markFailed({ allocator, traced }: Pick<Turn, "allocator" | "traced">): void {
    this.#failed.add(processKey({ allocator, traced: true }));
    if (!traced) this.#failed.add(processKey({ allocator, traced: false }));
  }

  #isOut(turn: Pick<Turn, "allocator" | "traced">): boolean {
    return this.#failed.has(processKey(turn));
  }
}

/** Enough to fill the slots, or to check and free them, with the slowest allocator known. */
const startSeconds = 60;

interface Process {
  conversation: Conversation;
  /** How long it has worked. */
  activeSeconds: number;
  /** How many epochs. */
  epochs: number;
}

function turnKey({ round, allocator, traced }: Turn): string {
  return `${round} ${allocator} ${traced}`;
}

function processKey({ allocator, traced }: Pick<Turn, "allocator" | "traced">): string {
  return `${allocator} ${traced}`;
}

/** The figures of a line. */
export function readEpoch(line: Readonly<Record<string, unknown>>, threads: number): EpochFigures {
  const operations = whole(line.operations);
  const [cpu, wall] = [whole(line.cpu_ns), whole(line.wall_ns)];
  return {
    operations,
    cpu_ns: cpu,
    wall_ns: wall,
    time_ns: (threads === 1 ? cpu : wall) / operations,
    rss_bytes: whole(line.rss_bytes),
    minor_faults: whole(line.minor_faults),
    major_faults: whole(line.major_faults),
    latency_samples: whole(line.latency_samples),
    latency_p50_ns: number(line.latency_p50_ns),
    latency_p99_ns: number(line.latency_p99_ns),
    latency_p99_9_ns: number(line.latency_p99_9_ns),
    latency_max_ns: number(line.latency_max_ns),
  };
}

function readCalls(value: unknown): Record<string, number> {
  if (typeof value !== "object" || value === null) {
    throw new TypeError(`The traced driver answered ${JSON.stringify(value)} for its system calls`);
  }
  return Object.fromEntries(Object.entries(value).map(([name, count]) => [name, whole(count)]));
}

function number(value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new TypeError(`The driver answered ${JSON.stringify(value)} where a number belongs`);
}
