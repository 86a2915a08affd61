/**
 * The state file of a soak: one line of JSON for what it is, then one for each thing that happened, written
 * as it happens. So a soak that was killed has lost the epoch that it was in and nothing else.
 *
 * @module
 */
import { RunError, UsageError } from "../../cli/errors.ts";
import { callerPath } from "../../cli/paths.ts";
import type { Allocator } from "../harness/allocators.ts";
import type { Epoch } from "./schema.ts";

/** What a soak is; a resumed one must be the same. */
export interface StateHead {
  /** The name of this shape. */
  schema: "hakmem.soak-state/1";
  /** The verb and its arguments as first given. */
  command: string[];
  /** When it began, UTC. */
  started: string;
  /** Options that decide what is measured, and rounds reckoned from them. */
  plan: Plan;
  /** Its allocators. */
  allocators: Allocator[];
  /** Where to write the result: absolute paths, or "-". */
  outputs: { json: string | null; csv: string | null; html: string | null };
  /** The files that are measured, and those that measure. */
  files: { path: string; sha256: string }[];
  /** Processor and kernel. */
  machine: string;
}

/** What each process does. */
export interface ProcessWork {
  /** The name of the workload. */
  workload: string;
  /** Threads of each process. */
  threads: number;
  /** What all allocators share. */
  minutes: number;
  /** How long an allocator works at a time. */
  epochSeconds: number;
}

/** What is measured. */
export interface Plan extends ProcessWork {
  /** What the workload draws from. */
  seed: number;
  /** How many rounds there are to be. */
  rounds: number;
}

/** Something that happened. `allocator` is its place in the list. */
export type Entry =
  | { kind: "life"; life: number; started: string }
  | { kind: "base"; allocator: number; life: number; rss_bytes: number }
  | { kind: "epoch"; allocator: number; epoch: Epoch }
  | {
    kind: "traced";
    allocator: number;
    round: number;
    warm_up: boolean;
    operations: number;
    calls: Record<string, number>;
    elapsed_seconds: number;
  }
  | { kind: "error"; allocator: number; traced: boolean; error: string }
  | { kind: "after"; allocator: number; rss_bytes: number };

/** A state file that is open, and locked against a second soak. */
export class SoakState {
  /** What the soak is. */
  readonly head: StateHead;
  /** What happened. */
  readonly entries: Entry[];
  readonly #path: string;
  readonly #file: Deno.FsFile;

  private constructor(path: string, file: Deno.FsFile, head: StateHead, entries: Entry[]) {
    this.#path = path;
    this.#file = file;
    this.head = head;
    this.entries = entries;
  }

  /** Refuses a file that holds another soak already, and one that cannot be. */
  static check(typed: string): void {
    const path = callerPath(typed);
    try {
      Deno.lstatSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      if (error instanceof Error) throw refusal(typed, error);
      throw error;
    }
    throw new UsageError(
      `${typed} is there already, as a soak that did not end leaves it: go on with it by './hak soak --resume ${typed}', remove it, or choose another by --state`,
    );
  }

  /** Begins a state file. */
  static async create(typed: string, head: StateHead): Promise<SoakState> {
    const path = callerPath(typed);
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path, { write: true, createNew: true });
    } catch (error) {
      if (error instanceof Error) throw refusal(typed, error);
      throw error;
    }
    await file.tryLock(true);
    const state = new SoakState(path, file, head, []);
    state.#write(head);
    return state;
  }

  /** Goes on with a state file. */
  static async open(typed: string): Promise<SoakState> {
    const path = callerPath(typed);
    let file: Deno.FsFile;
    let text: string;
    try {
      file = Deno.openSync(path, { read: true, write: true });
      text = Deno.readTextFileSync(path);
    } catch (error) {
      if (error instanceof Error) throw refusal(typed, error);
      throw error;
    }
    try {
      if (!await file.tryLock(true)) {
        throw new UsageError(`${typed} belongs to a soak that is running: wait for its end`);
      }
      // What was being written when the soak was killed has no end of line.
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      const [head, ...entries] = whole.split("\n").filter((line) => line !== "").map(parse);
      if (head === undefined || !isHead(head) || !entries.every(isEntry)) {
        throw new UsageError(
          `${typed} is no state file of a soak: --resume takes the file that './hak soak --state' wrote`,
        );
      }
      const length = new TextEncoder().encode(whole).length;
      file.truncateSync(length);
      file.seekSync(length, Deno.SeekMode.Start);
      return new SoakState(path, file, head, entries);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Writes down what happened. */
  append(entry: Entry): void {
    this.entries.push(entry);
    this.#write(entry);
  }

  /** Lets the file be. */
  close(): void {
    this.#file.close();
  }

  /** Removes the file of a soak that is complete. */
  remove(): void {
    Deno.removeSync(this.#path);
  }

  #write(line: StateHead | Entry): void {
    const bytes = new TextEncoder().encode(JSON.stringify(line) + "\n");
    for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
  }
}

/** The digest of a file. */
export async function digestOf(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(digest).toHex();
}

/**
 * Refuses to go on with what is not the same any more.
 *
 * @param now The files as they are, and the machine.
 */
export function checkSame(head: StateHead, now: Pick<StateHead, "files" | "machine">): void {
  if (head.machine !== now.machine) {
    throw new RunError(
      `cannot go on: the soak began on ${head.machine}, and this is ${now.machine}; begin a new one`,
    );
  }
  for (const { path, sha256 } of head.files) {
    if (now.files.some((file) => file.path === path && file.sha256 === sha256)) continue;
    throw new RunError(
      `cannot go on: ${path} is not what it was when the soak began; restore it, or begin a new soak`,
    );
  }
}

function refusal(typed: string, error: Error): UsageError {
  if (error instanceof Deno.errors.NotFound) {
    return new UsageError(`there is no ${typed}: name a state file, in a folder that exists`);
  }
  const reason = error.message.replace(/ \(os error \d+\).*$/s, "").toLowerCase();
  return new UsageError(`cannot use ${typed} as a state file: ${reason}`);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function isHead(value: unknown): value is StateHead {
  return typeof value === "object" && value !== null && "schema" in value &&
    value.schema === "hakmem.soak-state/1";
}

const kinds = ["life", "base", "epoch", "traced", "error", "after"];

function isEntry(value: unknown): value is Entry {
  return typeof value === "object" && value !== null && "kind" in value &&
    typeof value.kind === "string" && kinds.includes(value.kind);
}
