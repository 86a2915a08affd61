/**
 * Runs programs twice, without and with the allocator in `LD_PRELOAD`, and compares what came out.
 *
 * Both runs have the same environment, the same empty working directory under the same path, and the loader's
 * log, from which each run proves that the library was, or was not, in every program it started.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { loaderDebug, readLoaderLog } from "../../cli/loader_log.ts";
import { findProgram, preloadLibrary } from "../../cli/paths.ts";
import { assertNotPreloaded, assertPreloaded, type PreloadExpectation } from "./loader_log.ts";

export { findProgram };

/** A program that runs longer than this hangs; the slowest load here takes a tenth of it. */
const usualTimeLimitSeconds = 120;

/** The directory with the programs' own sources and scripts. */
export const workDirectory: string = join(import.meta.dirname ?? ".", "work");

/** Why a test that needs these programs cannot run here; `null` when it can. */
export function missing(...programs: string[]): string | null {
  if (Deno.build.os !== "linux") return "LD_PRELOAD objects are built for Linux";
  const absent = programs.filter((name) => findProgram(name) === null);
  return absent.length === 0 ? null : `${absent.join(", ")} not on PATH`;
}

/** The absolute path of a program that {@linkcode missing} found. */
export function program(name: string): string {
  const path = findProgram(name);
  assert.ok(path !== null, `${name} is not on PATH`);
  return path;
}

/** The interpreter itself, where `python3` on `PATH` is a script that looks for one. */
export async function pythonInterpreter(): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program("python3"), {
    args: ["-c", "import sys; print(sys.executable)"],
  }).output();
  const decoder = new TextDecoder();
  assert.ok(success, `python3 does not start: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trim();
}

/** What differs between one start and another. */
export interface StartOptions extends PreloadExpectation {
  /** Variables in addition to the fixed ones. */
  readonly env?: Readonly<Record<string, string>>;
  /** What the program reads; without it, nothing. */
  readonly stdin?: Uint8Array;
  /** The working directory; the side's own unless given. */
  readonly cwd?: string;
  /** The whole `LD_PRELOAD` of the preloaded side, where that is not our library alone. */
  readonly preload?: string;
  /** After how long the program counts as hung. */
  readonly timeLimitSeconds?: number;
}

/** What a program that ended with status 0 wrote. */
export interface Output {
  /** Its standard output. */
  readonly stdout: string;
  /** Its standard error. */
  readonly stderr: string;
}

/** A program that was started and has not been waited for. */
export interface Started {
  /** Its process id. */
  readonly pid: number;
  /** Whether it has not ended yet. */
  running(): boolean;
  /** Waits for the end; fails unless the status is 0 and the loader's log is as the side demands. */
  finish(): Promise<Output>;
}

/** One of the two ways in which a load runs: without or with the library. */
export class Side {
  /** Whether `LD_PRELOAD` names the library. */
  readonly preloaded: boolean;
  /** Empty at the start, and under the same path on both sides. */
  readonly directory: string;
  readonly #logs: string;
  readonly #running = new Map<number, { ended: Promise<Ended>; kill: () => string }>();
  #count = 0;

  /** Runs programs in `directory`, keeping the loader's logs in `logs`. */
  constructor(preloaded: boolean, directory: string, logs: string) {
    this.preloaded = preloaded;
    this.directory = directory;
    this.#logs = logs;
  }

  /** Runs a program to its end. */
  async run(command: string, args: readonly string[], options: StartOptions = {}): Promise<Output> {
    return await this.start(command, args, options).finish();
  }

  /** Starts a program. */
  start(command: string, args: readonly string[], options: StartOptions = {}): Started {
    this.#count += 1;
    const logs = join(this.#logs, String(this.#count));
    Deno.mkdirSync(logs);
    const log = join(logs, "log");
    const child = new Deno.Command(command, {
      args: [...args],
      cwd: options.cwd ?? this.directory,
      clearEnv: true,
      env: this.#environment(log, options),
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const stop = new AbortController();
    const kill = (): string => {
      const threads = killTree(child.pid, log);
      // Should a descendant be left that holds the pipes open, they are read no further.
      stop.abort();
      return threads;
    };
    const limit = options.timeLimitSeconds ?? usualTimeLimitSeconds;
    const ended = waitForEnd(child, options.stdin, limit, stop.signal, kill).finally(() =>
      this.#running.delete(child.pid)
    );
    this.#running.set(child.pid, { ended, kill });
    const what = `${[command, ...args].join(" ").slice(0, 200)} (${this})`;
    return {
      pid: child.pid,
      running: () => this.#running.has(child.pid),
      finish: async () => {
        const output = successOf(await ended, what);
        const check = this.preloaded ? assertPreloaded : assertNotPreloaded;
        check(await readLoaderLog(logs), preloadLibrary, options);
        await Deno.remove(logs, { recursive: true });
        return output;
      },
    };
  }

  /** Kills what still runs and waits until it is gone. */
  async stop(): Promise<void> {
    for (const { ended, kill } of this.#running.values()) {
      kill();
      await ended;
    }
  }

  /** How messages name the side. */
  toString(): string {
    return this.preloaded ? "with LD_PRELOAD" : "without LD_PRELOAD";
  }

  /** A program's variables: nothing of the caller's but where programs and libraries lie. */
  #environment(log: string, options: StartOptions): Record<string, string> {
    const env: Record<string, string> = {
      PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin",
      HOME: this.directory,
      TMPDIR: this.directory,
      LC_ALL: "C",
      TZ: "UTC",
      LD_DEBUG: loaderDebug,
      LD_DEBUG_OUTPUT: log,
      ...options.env,
    };
    const libraries = Deno.env.get("LD_LIBRARY_PATH");
    if (libraries !== undefined) env.LD_LIBRARY_PATH = libraries;
    if (this.preloaded) env.LD_PRELOAD = options.preload ?? preloadLibrary;
    return env;
  }
}

/**
 * Does the same work without and with the library and fails unless both return the same. What the work
 * returns must be all that the program produced: its output, and digests of its files.
 */
export async function sameWithAndWithout<T>(work: (side: Side) => Promise<T>): Promise<void> {
  await inTemporaryDirectory(async (temporary) => {
    const plain = await onSide(false, temporary, work);
    const preloaded = await onSide(true, temporary, work);
    assert.deepEqual(preloaded, plain, "the results with LD_PRELOAD differ from those without");
  });
}

/** Does work with the library only, for what has no counterpart without it. */
export async function withPreload(work: (side: Side) => Promise<void>): Promise<void> {
  await inTemporaryDirectory((temporary) => onSide(true, temporary, work));
}

/** The SHA-256 of a file. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const buffer = new Uint8Array(1 << 18);
  for (let count = await file.read(buffer); count !== null; count = await file.read(buffer)) {
    hash.update(buffer.subarray(0, count));
  }
  return hash.digest("hex");
}

/** The SHA-256 of a text, for output too long to be read in a failed comparison. */
export function textDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function inTemporaryDirectory(work: (path: string) => Promise<void>): Promise<void> {
  try {
    await Deno.stat(preloadLibrary);
  } catch (cause) {
    throw new Error(`Cannot find ${preloadLibrary}: run ./hak build`, { cause });
  }
  const temporary = await Deno.makeTempDir({ prefix: "hakmem-programs-" });
  try {
    await work(temporary);
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
}

async function onSide<T>(
  preloaded: boolean,
  temporary: string,
  work: (side: Side) => Promise<T>,
): Promise<T> {
  const directory = join(temporary, "work");
  const logs = join(temporary, "logs");
  await Deno.mkdir(directory);
  await Deno.mkdir(logs);
  const side = new Side(preloaded, directory, logs);
  try {
    return await work(side);
  } finally {
    await side.stop();
    await Deno.remove(directory, { recursive: true });
    await Deno.remove(logs, { recursive: true });
  }
}

/** How a program ended. */
interface Ended {
  readonly status: Deno.CommandStatus;
  readonly stdout: string;
  readonly stderr: string;
  /** What hung when the time limit passed, or `null` if it did not. */
  readonly hung: string | null;
}

/** Waits for the end of a child and of its output; kills it past the time limit. */
async function waitForEnd(
  child: Deno.ChildProcess,
  stdin: Uint8Array | undefined,
  limit: number,
  stop: AbortSignal,
  kill: () => string,
): Promise<Ended> {
  let hung: string | null = null;
  const timer = setTimeout(() => {
    hung = `it had not ended after ${limit} s and was killed:\n${kill()}`;
  }, limit * 1000);
  try {
    const [stdout, stderr, status] = await Promise.all([
      collect(child.stdout, stop),
      collect(child.stderr, stop),
      child.status,
      stdin === undefined ? null : feed(child.stdin, stdin),
    ]);
    return { status, stdout, stderr, hung };
  } finally {
    clearTimeout(timer);
  }
}

/** The output of a program that ended well; fails if it did not. */
function successOf({ status, stdout, stderr, hung }: Ended, what: string): Output {
  const tail = `stderr: ${stderr.slice(-4000)}\nstdout: ${stdout.slice(-2000)}`;
  assert.ok(hung === null, `${what}: ${hung}${tail}`);
  assert.ok(!stderr.includes("cannot be preloaded"), `${what} ran without the library\n${tail}`);
  const end = status.signal ?? `status ${status.code}`;
  assert.ok(status.success, `${what} ended with ${end}\n${tail}`);
  return { stdout, stderr };
}

async function collect(stream: ReadableStream<Uint8Array>, stop: AbortSignal): Promise<string> {
  const reader = stream.getReader();
  const cancel = (): Promise<void> => reader.cancel();
  stop.addEventListener("abort", cancel, { once: true });
  const decoder = new TextDecoder();
  let text = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    text += decoder.decode(chunk.value, { stream: true });
  }
  stop.removeEventListener("abort", cancel);
  return text + decoder.decode();
}

async function feed(stdin: WritableStream<Uint8Array>, bytes: Uint8Array): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(bytes);
    await writer.close();
  } catch (error) {
    // A program that ended before it read everything says why by its own status.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/**
 * Kills a child, its descendants, and those that were started with its loader's log in their environment,
 * which a daemon keeps when it loses its parents. Returns one line for each of their threads: where each stood.
 */
function killTree(root: number, log: string): string {
  const parents = new Map<number, number>();
  const doomed = new Set<number>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readOfProcess(`/proc/${name}/stat`);
    const environment = readOfProcess(`/proc/${name}/environ`);
    if (stat !== null) parents.set(Number(name), Number(statFields(stat)[1]));
    if (environment?.includes(log)) doomed.add(Number(name));
  }
  // A child that was waited for is no longer one, and its number may be another's.
  if (parents.get(root) === Deno.pid) doomed.add(root);
  for (let count = 0; count < doomed.size;) {
    count = doomed.size;
    for (const [pid, parent] of parents) if (doomed.has(parent)) doomed.add(pid);
  }
  const lines = [...doomed].map(describeProcess).join("");
  for (const pid of doomed) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
  return lines;
}

/** One line for each thread of a process. */
function describeProcess(pid: number): string {
  let lines = "";
  try {
    for (const { name: thread } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const directory = `/proc/${pid}/task/${thread}`;
      const stat = readOfProcess(`${directory}/stat`) ?? "";
      const name = readOfProcess(`${directory}/comm`)?.trim();
      const place = readOfProcess(`${directory}/wchan`);
      lines += `  process ${pid} thread ${thread} ${name}: state ${
        statFields(stat)[0]
      } in ${place}\n`;
    }
  } catch (error) {
    if (!isGone(error)) throw error;
  }
  return lines;
}

/** What a file in `/proc` says, or `null` when its process has ended or belongs to somebody else. */
function readOfProcess(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (isGone(error) || error instanceof Deno.errors.PermissionDenied) return null;
    throw error;
  }
}

/** The fields of a `/proc` stat file from the state on: the name before it may hold blanks. */
function statFields(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Whether an error says that a file or a process is not there; `ESRCH`, 3, has no class of its own. */
function isGone(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound ||
    (error instanceof Error && error.message.includes("(os error 3)"));
}
