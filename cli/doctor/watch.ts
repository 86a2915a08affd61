/**
 * Runs a command with hakmem preloaded and watches which of its processes have it.
 *
 * glibc's loader writes into a log what it does in every process that inherits the environment. Static, musl and
 * privileged programs and those without the environment leave nothing there, so `/proc` is looked at as well,
 * again and again: of these, what ends between two looks is not seen.
 *
 * @module
 */
import { basename, join } from "node:path";
import { processesBelow, signalDescendants } from "../child.ts";
import { type Elf, readElf } from "../elf.ts";
import { Exit } from "../errors.ts";
import { loaderDebug, type LoaderLog, readLoaderLog } from "../loader_log.ts";
import { callerPath } from "../paths.ts";
import { auxiliaryValue } from "./machine.ts";

/** How to run the command. */
export interface WatchOptions {
  /** The program and its arguments. */
  command: readonly string[];
  /** Its `LD_PRELOAD`. */
  preload: string;
  /** After how long it is ended. */
  seconds: number;
  /** Whether a file is hakmem. */
  isHakmem(path: string): boolean;
}

/** A process that was seen without hakmem. */
export interface Stray {
  /** Its program. */
  program: string;
  /** What the program's file says; null where it cannot be read. */
  elf: Elf | null;
  /** Whether it gained privileges at its start. */
  privileged: boolean;
  /** `LD_PRELOAD` as it was started with; null if it was not set. */
  preload: string | null;
}

/** What was seen. */
export interface Watched {
  /** The process that the command became. */
  pid: number;
  /** What the loader wrote. */
  log: LoaderLog;
  /** Processes without hakmem, one a program. */
  strays: Stray[];
  /** The names of processes that may not be looked into, and left nothing in the log. */
  hidden: string[];
  /** What the loader complained of: each object that it left out, and its words. */
  complaints: { object: string; text: string }[];
  /** The last line that the command wrote to standard error; empty if it wrote none. */
  lastLine: string;
  /** How it ended; null if it had to be ended. */
  status: Deno.CommandStatus | null;
  /** Whether it has ended. */
  over: boolean;
}

const pollMs = 20;
/** How long a program that is told to end has for it. */
const graceMs = 2000;
/** How much of what it writes is kept. */
const outputMax = 65536;
/** The kind of number by which the kernel tells a program that it gained privileges. */
const secureKind = 23;
/** The kernel keeps no more of a program's name. */
const nameMax = 15;
const interrupts = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs a command to its end, or for a time. Returns what the system says if it does not start it. */
export async function watch(options: WatchOptions): Promise<Watched | string> {
  const logs = await Deno.makeTempDir({ prefix: "hakmem-doctor-" });
  // Programs of other users write there too.
  await Deno.chmod(logs, 0o1777);
  try {
    return await watchInto(logs, options);
  } finally {
    await Deno.remove(logs, { recursive: true });
  }
}

async function watchInto(logs: string, options: WatchOptions): Promise<Watched | string> {
  const { command: [program = "", ...args], preload } = options;
  const child = spawn(program, {
    args,
    cwd: callerPath("."),
    env: { LD_PRELOAD: preload, LD_DEBUG: loaderDebug, LD_DEBUG_OUTPUT: join(logs, "log") },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  if (typeof child === "string") return child;
  const output = new Tail(child.stderr);
  let interrupted: keyof typeof interrupts | null = null;
  const listeners = (Object.keys(interrupts) as (keyof typeof interrupts)[]).map((signal) => {
    const stop = (): void => void (interrupted = signal);
    Deno.addSignalListener(signal, stop);
    return (): void => Deno.removeSignalListener(signal, stop);
  });
  const strays = new Map<string, Stray>();
  const hidden = new Map<number, string>();
  let status: Deno.CommandStatus | null = null;
  const ended = child.status.then((value) => void (status = value));
  try {
    const deadline = performance.now() + options.seconds * 1000;
    while (status === null && interrupted === null && performance.now() < deadline) {
      for (const pid of processesBelow(Deno.pid)) {
        const stray = lookAt(pid, options.isHakmem);
        if (stray !== null) strays.set(stray.program, stray);
        const name = hiddenName(pid);
        if (name !== null) hidden.set(pid, name);
      }
      await Promise.race([ended, delay(pollMs)]);
    }
    const natural: Deno.CommandStatus | null = status;
    const over = natural !== null || await endAll(ended);
    // Whatever it left in the background may hold the pipe open.
    await Promise.race([output.done, delay(graceMs)]);
    if (interrupted !== null) throw new Exit(interrupts[interrupted]);
    const log = await readLoaderLog(logs);
    const started = new Set(log.images.map((image) => basename(image.program).slice(0, nameMax)));
    return {
      pid: child.pid,
      log,
      strays: [...strays.values()],
      hidden: [...new Set(hidden.values())].filter((name) => !started.has(name)),
      ...readOutput(output.text()),
      status: natural,
      over,
    };
  } finally {
    for (const remove of listeners) remove();
    await output.cancel();
  }
}

function spawn(program: string, options: Deno.CommandOptions): Deno.ChildProcess | string {
  try {
    return new Deno.Command(program, options).spawn();
  } catch (error) {
    // What the system says has a code; all else is a defect of ours.
    if (error instanceof Error && "code" in error) return error.message;
    throw error;
  }
}

/** Ends every process below this one. Returns whether the command has ended then. */
async function endAll(ended: Promise<void>): Promise<boolean> {
  let over = false;
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    signalDescendants(signal);
    await Promise.race([ended.then(() => void (over = true)), delay(graceMs)]);
    if (over) return true;
  }
  return false;
}

/** What a process is, if it is one without hakmem for certain; null otherwise, also while it is being loaded. */
function lookAt(pid: number, isHakmem: (path: string) => boolean): Stray | null {
  const folder = `/proc/${pid}`;
  const program = ofProcess(() => Deno.readLinkSync(join(folder, "exe")));
  const maps = ofProcess(() => Deno.readTextFileSync(join(folder, "maps")));
  const environment = ofProcess(() => Deno.readTextFileSync(join(folder, "environ")));
  if (program === null || maps === null || environment === null) return null;
  const objects = new Set([...maps.matchAll(/ (\/.*)$/gm)].map((match) => match[1] ?? ""));
  if ([...objects].some((path) => path !== program && isHakmem(path))) return null;
  const elf = ofProcess(() => readElf(`/proc/${pid}/exe`));
  // The loader maps what is preloaded before what the program needs, libc among it.
  const loaded = [...objects].some((path) => /\/libc[.-][^/]*$/.test(path));
  if (elf !== null && elf.interpreter !== null && !loaded) return null;
  // Had it called exec meanwhile, the parts would not belong together.
  if (ofProcess(() => Deno.readLinkSync(join(folder, "exe"))) !== program) return null;
  return {
    program,
    elf,
    privileged: ofProcess(() => auxiliaryValue(join(folder, "auxv"), secureKind)) === 1,
    preload: /(?:^|\0)LD_PRELOAD=([^\0]*)/.exec(environment)?.[1] ?? null,
  };
}

/** The name of a process that may not be looked into; null for any other. */
function hiddenName(pid: number): string | null {
  try {
    Deno.readLinkSync(`/proc/${pid}/exe`);
    return null;
  } catch (error) {
    if (isGone(error)) return null;
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
  }
  return ofProcess(() => Deno.readTextFileSync(`/proc/${pid}/comm`))?.trim() ?? null;
}

/** What is read of a process; null when it has ended, or may not be looked into. */
function ofProcess<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (isGone(error) || error instanceof Deno.errors.PermissionDenied) return null;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound ||
    // ESRCH, which Deno has no class for: it ended between the opening and the reading.
    error instanceof Error && error.message.includes("(os error 3)");
}

function readOutput(text: string): Pick<Watched, "complaints" | "lastLine"> {
  const pattern = /^ERROR: ld\.so: (object '(.+?)' from \S+ cannot be preloaded .*): ignored\.$/;
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const complaints = new Map<string, string>();
  let lastLine = "";
  for (const line of lines) {
    const [, said, object] = pattern.exec(line) ?? [];
    if (said === undefined || object === undefined) lastLine = line;
    else complaints.set(object, said);
  }
  return { complaints: [...complaints].map(([object, text]) => ({ object, text })), lastLine };
}

function delay(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

/** Reads a stream to its end and keeps what came first and last. */
class Tail {
  /** Ends with the stream. */
  readonly done: Promise<void>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #first = "";
  #last = "";

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
    this.done = this.#read();
  }

  text(): string {
    return this.#first + this.#last;
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await this.#reader.read();
      if (done) return;
      const text = decoder.decode(value, { stream: true });
      if (this.#first.length < outputMax) this.#first += text;
      else this.#last = (this.#last + text).slice(-outputMax);
    }
  }
}
