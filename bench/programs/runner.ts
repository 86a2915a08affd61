/**
 * One run of a real program under an allocator: hyperfine takes the wall time, `hak-program-meter` the
 * rest. In the warm-up round the loader's log proves that every process had its malloc from the allocator.
 *
 * @module
 */
import { cpSync } from "node:fs";
import { constants } from "node:os";
import { basename, join } from "node:path";
import { killTree, untilGone } from "../../cli/child.ts";
import { loaderDebug, type LoaderLog, readLoaderLog } from "../../cli/loader_log.ts";
import type { Trial } from "../comparison/run.ts";
import type { Sample } from "../comparison/schema.ts";
import {
  callerEnvironment,
  failed,
  type Outcome,
  PreloadPaths,
  signalInWords,
  whole,
} from "../harness/driver.ts";
import { readText } from "../harness/machine.ts";
import type { Client, Program } from "./programs.ts";
import { executable } from "./selection.ts";

/** Many times what a load takes, so that a hang ends. */
const limitSeconds = 120;

/** Where a runner finds and puts things. */
export interface Places {
  /** Path of hyperfine. */
  hyperfine: string;
  /** Path of `hak-program-meter`. */
  meter: string;
  /** The folder of the inputs, as `prepareInputs` made them. */
  inputs: string;
  /** A folder that exists, for runs and links. */
  scratch: string;
}

/** Runs programs, each in a fresh copy of its inputs; `stop` ends them early. */
export class ProgramRunner {
  readonly #places: Places;
  readonly #preloads: PreloadPaths;
  readonly #stop: AbortSignal;

  /**
   * @param places What exists already.
   * @param stop Aborted when the user wants to end.
   */
  constructor(places: Places, stop: AbortSignal) {
    this.#places = places;
    const links = join(places.scratch, "links");
    Deno.mkdirSync(links);
    this.#preloads = new PreloadPaths(links);
    this.#stop = stop;
  }

  /** Runs a program once. */
  async measure(
    { allocator, identity, subject, round }: Trial<Program>,
  ): Promise<Outcome<Sample>> {
    if (this.#stop.aborted) return { kind: "interrupted" };
    // A program may bring an allocator of its own, as redis-server does: the C library's is preloaded too.
    const preload = this.#preloads.of({
      ...allocator,
      preload: allocator.preload ?? identity.path,
    });
    // Always the same path: its length, and what is hashed of it, may change what a program does.
    const run = new Run(join(this.#places.scratch, "run"), this.#places, this.#stop);
    try {
      cpSync(join(this.#places.inputs, subject.row), run.work, { recursive: true });
      const command = [await executable(subject.needs[0] ?? subject.row), ...subject.args];
      const env = {
        ...subject.env,
        ...allocator.env,
        ...(preload === null ? {} : { LD_PRELOAD: preload }),
        ...(round < 0 ? { LD_DEBUG: loaderDebug, LD_DEBUG_OUTPUT: join(run.logs, "log") } : {}),
      };
      await run.make(command, env, subject.client);
      const outcome = run.sample(round);
      if (outcome.kind !== "value" || round >= 0 || preload === null) return outcome;
      const fault = whyNotLoaded(await readLoaderLog(run.logs), preload);
      return fault === null ? outcome : { kind: "failed", error: fault };
    } finally {
      await Deno.remove(run.folder, { recursive: true });
    }
  }
}

/** What a run has a folder for. */
class Run {
  readonly folder: string;
  /** Where the program runs. */
  readonly work: string;
  /** Where the loader writes its log, in the warm-up round. */
  readonly logs: string;
  readonly #places: Places;
  readonly #stop: AbortSignal;
  #isLate = false;
  /** What went wrong beside the program itself. */
  #trouble = "";

  constructor(folder: string, places: Places, stop: AbortSignal) {
    this.folder = folder;
    this.work = join(folder, "work");
    this.logs = join(folder, "logs");
    this.#places = places;
    this.#stop = stop;
    Deno.mkdirSync(this.work, { recursive: true });
    Deno.mkdirSync(this.logs);
  }

  /** Runs the program and times it, or what its client does. */
  async make(
    command: readonly string[],
    env: Readonly<Record<string, string>>,
    client: Client | undefined,
  ): Promise<void> {
    const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const metered = [
      ...[this.#places.meter, this.#figures, this.#output, ...settings, "--"],
      ...command,
    ];
    if (client === undefined) await this.#time(metered);
    else await this.#serve(metered, client);
  }

  /** What was found, once the program has ended. */
  sample(round: number): Outcome<Sample> {
    if (this.#stop.aborted) return { kind: "interrupted" };
    const said = readText(this.#output) ?? "";
    if (this.#isLate) return failed(`no end within ${limitSeconds} s`, said);
    const figures: Record<string, unknown> = JSON.parse(readText(this.#figures) || "{}");
    if (typeof figures.error === "string") return { kind: "failed", error: figures.error };
    if (figures.signal === constants.signals.SIGINT) return { kind: "interrupted" };
    if (typeof figures.signal === "number" && figures.signal !== 0) {
      return failed(signalInWords(nameOfSignal(figures.signal)), said);
    }
    if (figures.status !== 0 && figures.status !== undefined) {
      return failed(`ended with exit status ${figures.status}`, said);
    }
    const times = readText(this.#times);
    if (times === undefined || figures.status === undefined) {
      return failed("was not timed", this.#trouble || said);
    }
    const { results: [result] }: { results: { times: number[] }[] } = JSON.parse(times);
    const wall = (result?.times[0] ?? NaN) * 1e9;
    return {
      kind: "value",
      value: {
        repeat: round,
        operations: 1,
        time_ns: wall,
        cpu_ns: whole(figures.cpu_ns),
        wall_ns: wall,
        rss_bytes: whole(figures.peak_rss_bytes),
        left_bytes: null,
        base_rss_bytes: null,
        live_rss_bytes: null,
        after_rss_bytes: null,
        minor_faults: whole(figures.minor_faults),
        major_faults: whole(figures.major_faults),
        costs: null,
      },
    };
  }

  get #figures(): string {
    return join(this.folder, "figures.json");
  }

  get #output(): string {
    return join(this.folder, "output.txt");
  }

  get #times(): string {
    return join(this.folder, "times.json");
  }

  /** Has hyperfine run a command once. */
  async #time(command: readonly string[]): Promise<void> {
    await this.#run([
      ...[this.#places.hyperfine, "--shell=none", "--style=none", "--runs=1"],
      ...[`--export-json=${this.#times}`, command.map(quote).join(" ")],
    ]);
  }

  /** Starts a server, times its client, and ends the server. */
  async #serve(metered: readonly string[], { command, ask, stop }: Client): Promise<void> {
    const server = new AbortController();
    const served = this.#run(metered).finally(() => server.abort());
    while (!server.signal.aborted && !await this.#run(ask)) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (server.signal.aborted) return await served.then(() => {});
    await this.#time(command);
    await this.#run(stop);
    await served;
  }

  /** Runs a command to its end, or to that of the user's patience. Tells whether it ended well. */
  async #run([program = "", ...args]: readonly string[]): Promise<boolean> {
    if (this.#stop.aborted || this.#isLate) return false;
    const child = new Deno.Command(program, {
      args,
      cwd: this.work,
      clearEnv: true,
      env: callerEnvironment(),
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let killed: number[] = [];
    const kill = (): void => {
      killed = killTree(child.pid);
    };
    const timer = setTimeout(() => {
      this.#isLate = true;
      kill();
    }, limitSeconds * 1000);
    this.#stop.addEventListener("abort", kill);
    const { success, stderr } = await child.output();
    clearTimeout(timer);
    this.#stop.removeEventListener("abort", kill);
    await untilGone(killed);
    if (!success) this.#trouble = `${basename(program)}: ${new TextDecoder().decode(stderr)}`;
    return success;
  }
}

/** What speaks against an allocator having served every process of a tree; null if nothing does. */
export function whyNotLoaded({ images, bindings }: LoaderLog, preload: string): string | null {
  if (images.length === 0) return "not loaded: the loader told of no process";
  // A program at a fixed address that takes malloc's address lends its own entry to everybody, and that
  // entry leads on to where the program's own reference was resolved.
  const lenders = new Set(
    bindings.flatMap(({ from, to, symbol }) => symbol === "malloc" && to === preload ? from : []),
  );
  const image = images.find(({ program, malloc }) =>
    malloc !== preload && !(malloc === program && lenders.has(malloc))
  );
  return image === undefined
    ? null
    : `not loaded: in ${image.program} malloc came from ${image.malloc ?? "nowhere known"}`;
}

/** As hyperfine splits a command without a shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function nameOfSignal(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] ?? `signal ${number}`;
}
