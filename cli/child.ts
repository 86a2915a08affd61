/**
 * Running other programs so that Ctrl-C ends them with us.
 *
 * A terminal sends SIGINT to the whole foreground group, but `kill -INT` and most supervisors send it to one
 * process. While a child runs, a signal that reaches us is passed to every process below us, and the
 * command ends with the status that the signal stands for once the child has ended.
 *
 * @module
 */
import { Exit } from "./errors.ts";

/** A program to run, and what becomes of its output. */
export interface Child {
  /** A path, or a name to be found on `PATH`. */
  program: string;
  /** Its arguments. */
  args: string[];
  /** The directory it runs in; ours if not given. */
  cwd?: string;
  /** Variables to add to its environment. */
  env?: Record<string, string>;
  /** Called with each piece of its standard output as it comes; without it, the output is dropped. */
  onStdout?: (piece: Uint8Array) => void;
  /** Called with each piece of its standard error; without it, the child shares ours. */
  onStderr?: (piece: Uint8Array) => void;
}

const signals = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs a program to its end. Throws {@link Exit} if we were told to stop meanwhile. */
export async function runChild(child: Child): Promise<Deno.CommandStatus> {
  let stopped: keyof typeof signals | null = null;
  const stoppers = (Object.keys(signals) as (keyof typeof signals)[]).map((signal) => {
    const stop = (): void => {
      stopped = signal;
      signalDescendants(signal);
    };
    Deno.addSignalListener(signal, stop);
    return (): void => Deno.removeSignalListener(signal, stop);
  });
  try {
    const process = new Deno.Command(child.program, {
      args: child.args,
      stdin: "null",
      stdout: child.onStdout ? "piped" : "null",
      stderr: child.onStderr ? "piped" : "inherit",
      ...(child.cwd === undefined ? {} : { cwd: child.cwd }),
      ...(child.env === undefined ? {} : { env: child.env }),
    }).spawn();
    await Promise.all([
      child.onStdout && forward(process.stdout, child.onStdout),
      child.onStderr && forward(process.stderr, child.onStderr),
    ]);
    const status = await process.status;
    if (stopped !== null) throw new Exit(signals[stopped]);
    // A child that Ctrl-C ended may be collected before our own listener has run.
    if (status.code === signals.SIGINT) throw new Exit(signals.SIGINT);
    return status;
  } finally {
    for (const remove of stoppers) remove();
  }
}

async function forward(
  stream: ReadableStream<Uint8Array>,
  take: (piece: Uint8Array) => void,
): Promise<void> {
  for await (const piece of stream) take(piece);
}

/** Writes all of a piece, to standard output or standard error. Ends the command if the reader has gone. */
export function writeOut(to: { writeSync(piece: Uint8Array): number }, piece: Uint8Array): void {
  try {
    for (let at = 0; at < piece.length;) at += to.writeSync(piece.subarray(at));
  } catch (error) {
    // What the shell reports of a program that SIGPIPE ended, as with "| head".
    if (error instanceof Deno.errors.BrokenPipe) throw new Exit(141);
    throw error;
  }
}

/** Sends a signal to every process below this one. */
export function signalDescendants(signal: Deno.Signal): void {
  for (const pid of processesBelow(Deno.pid)) signalProcess(pid, signal);
}

/**
 * Kills a process and all below it, also those that it starts meanwhile.
 *
 * @returns Their ids. They are gone soon, not at once: see {@linkcode untilGone}.
 */
export function killTree(root: number): number[] {
  // What is stopped starts nothing any more.
  const stopped = new Set<number>();
  for (let count = -1; count < stopped.size;) {
    count = stopped.size;
    for (const pid of [root, ...processesBelow(root)]) {
      if (stopped.has(pid)) continue;
      stopped.add(pid);
      signalProcess(pid, "SIGSTOP");
    }
  }
  for (const pid of stopped) signalProcess(pid, "SIGKILL");
  return [...stopped];
}

/** Waits until processes that were killed have ended, and so touch no file any more. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    while (!["Z", "X", undefined].includes(statFields(pid)?.[0])) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

function signalProcess(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    // It ended between the look and the signal, or has rights that we have not.
    const beyond = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.PermissionDenied;
    if (!beyond) throw error;
  }
}

/** The ids of all processes below one, children before their own children. */
export function processesBelow(ancestor: number): number[] {
  const childrenOf = new Map<number, number[]>();
  for (const entry of Deno.readDirSync("/proc")) {
    const pid = Number(entry.name);
    if (!Number.isInteger(pid)) continue;
    const parent = parentOf(pid);
    if (parent === null) continue;
    const siblings = childrenOf.get(parent);
    if (siblings === undefined) childrenOf.set(parent, [pid]);
    else siblings.push(pid);
  }
  const below = [...childrenOf.get(ancestor) ?? []];
  for (const pid of below) below.push(...childrenOf.get(pid) ?? []);
  return below;
}

/** The parent of a process, or `null` if the process has ended. */
function parentOf(pid: number): number | null {
  const parent = statFields(pid)?.[1];
  return parent === undefined ? null : Number(parent);
}

/** What the kernel tells of a process, from its state and its parent on; `null` if it has ended. */
function statFields(pid: number): string[] | null {
  let stat: string;
  try {
    stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    // ESRCH, which Deno has no class for: it ended between the opening and the reading.
    if (error instanceof Error && error.message.includes("(os error 3)")) return null;
    throw error;
  }
  // "PID (NAME) STATE PARENT …": the name may itself hold spaces and parentheses.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}
