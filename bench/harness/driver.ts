/**
 * One child process a measurement: starts a native driver under an allocator and reads its line.
 *
 * @module
 */
import { basename, join } from "node:path";
import type { Allocator } from "./allocators.ts";

/** What an allocator's process says of itself before anything is measured. */
export interface Identity {
  /** The object that `malloc` really comes from; null if the process did not say. */
  path: string | null;
  /** Whether that is the object that was meant. */
  loaded: boolean;
  /** The allocator's version, where it can be asked. */
  version: string | null;
  /** The C library's version. */
  libc: string | null;
  /** The driver's name for the allocator's release function. */
  release: string;
  /** Why it cannot be measured; null if it can. */
  error: string | null;
}

/** A value, a failure of the child in words, or neither since the user pressed Ctrl-C. */
export type Outcome<T> =
  | { kind: "value"; value: T }
  | { kind: "failed"; error: string }
  | { kind: "interrupted" };

/** What a driver printed. */
export interface Answer {
  /** Its line of JSON. */
  line: Record<string, unknown>;
  /** All of its standard error. */
  stderr: string;
}

/** Starts the driver; `stop` ends a child early and makes its outcome "interrupted". */
export class Driver {
  readonly #program: string;
  readonly #preloads: PreloadPaths;
  readonly #stop: AbortSignal;

  /**
   * Starts nothing yet.
   *
   * @param program Path of the native program.
   * @param links An empty folder that lives as long as this.
   * @param stop Aborted when the user wants to end.
   */
  constructor(program: string, links: string, stop: AbortSignal) {
    this.#program = program;
    this.#preloads = new PreloadPaths(links);
    this.#stop = stop;
  }

  /** Finds out whether an allocator really loads, and what it is. */
  async identify(allocator: Allocator): Promise<Outcome<Identity>> {
    const answer = await this.run(allocator, ["--identify"], 30);
    if (answer.kind === "interrupted") return answer;
    const unknown = { path: null, loaded: false, version: null, libc: null, release: "none" };
    if (answer.kind === "failed") {
      return { kind: "value", value: { ...unknown, error: answer.error } };
    }
    const said = answer.value.line;
    const path = text(said.malloc_path);
    // Without a preload, malloc must be the C library's: an inherited preload would measure another.
    const meant = allocator.preload ?? text(said.libc_path);
    const loaded = path !== null && meant !== null && samePath(path, meant);
    const identity: Identity = {
      path: path === null ? null : realPath(path),
      loaded,
      version: loaded ? text(said.version) : null,
      libc: text(said.libc),
      release: loaded ? text(said.release) ?? "none" : "none",
      error: null,
    };
    if (!loaded) {
      const cause = loaderMessage(answer.value.stderr);
      identity.error = `not loaded: malloc came from ${identity.path ?? "nowhere known"}${cause}`;
    } else if (!samePath(path, text(said.free_path) ?? "")) {
      identity.error = `not usable: it has malloc, but free came from ${text(said.free_path)}`;
    }
    return { kind: "value", value: identity };
  }

  /** Identifies one allocator after the other; fewer than all if Ctrl-C came meanwhile. */
  async identifyAll(allocators: readonly Allocator[]): Promise<Identity[]> {
    const identities: Identity[] = [];
    for (const allocator of allocators) {
      const outcome = await this.identify(allocator);
      if (outcome.kind !== "value") break;
      identities.push(outcome.value);
    }
    return identities;
  }

  /** Measures once: as {@linkcode run}, and fails unless `malloc` came from where the identity says. */
  async measure(
    allocator: Allocator,
    identity: Identity,
    args: readonly string[],
    limitSeconds: number,
  ): Promise<Outcome<Record<string, unknown>>> {
    const answer = await this.run(allocator, args, limitSeconds);
    if (answer.kind !== "value") return answer;
    const path = text(answer.value.line.malloc_path);
    if (path === null || !samePath(path, identity.path ?? "")) {
      return { kind: "failed", error: `not loaded: malloc came from ${path ?? "nowhere known"}` };
    }
    return { kind: "value", value: answer.value.line };
  }

  /** Runs the driver to its end, or to the end of its time, and reads its line. */
  async run(
    allocator: Allocator,
    args: readonly string[],
    limitSeconds: number,
  ): Promise<Outcome<Answer>> {
    if (this.#stop.aborted) return { kind: "interrupted" };
    const child = this.start(allocator, args, "null");
    let late = false;
    const kill = (): void => {
      try {
        child.kill("SIGKILL");
      } catch (error) {
        // It ended by itself between the two.
        if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
      }
    };
    const timer = setTimeout(() => {
      late = true;
      kill();
    }, limitSeconds * 1000);
    this.#stop.addEventListener("abort", kill);
    const output = await child.output();
    clearTimeout(timer);
    this.#stop.removeEventListener("abort", kill);

    // Ctrl-C reaches the whole process group: the child may die of it before we hear of it.
    if (this.#stop.aborted || output.signal === "SIGINT") return { kind: "interrupted" };
    const decoder = new TextDecoder();
    const stderr = decoder.decode(output.stderr);
    if (late) return failed(`no answer within ${limitSeconds.toFixed(0)} s`, stderr);
    if (output.signal !== null) return failed(signalInWords(output.signal), stderr);
    const line = parseLine(decoder.decode(output.stdout));
    if (typeof line?.error === "string") return failed(line.error, stderr);
    if (output.code !== 0) return failed(`ended with exit status ${output.code}`, stderr);
    if (line === null) return failed("answered nothing that can be read", stderr);
    return { kind: "value", value: { line, stderr } };
  }

  /** Starts the driver, for who talks with it. */
  start(
    allocator: Allocator,
    args: readonly string[],
    stdin: "null" | "piped",
  ): Deno.ChildProcess {
    return new Deno.Command(this.#program, {
      args: [...args],
      clearEnv: true,
      env: this.#environment(allocator),
      stdin,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  #environment(allocator: Allocator): Record<string, string> {
    const preload = this.#preloads.of(allocator);
    return {
      ...callerEnvironment(),
      ...allocator.env,
      ...(preload === null ? {} : { LD_PRELOAD: preload }),
    };
  }
}

/** The caller's environment, so that an allocator's own variables work, without its preload. */
export function callerEnvironment(): Record<string, string> {
  const { LD_PRELOAD: _inherited, ...environment } = Deno.env.toObject();
  return environment;
}

/** Paths that `LD_PRELOAD` can carry. */
export class PreloadPaths {
  /** A folder for links to objects whose own path it cannot. */
  readonly #links: string;

  /**
   * @param links An empty folder that lives as long as this.
   */
  constructor(links: string) {
    this.#links = links;
  }

  /** What `LD_PRELOAD` must be for an allocator; null for the C library's own. */
  of({ preload }: Allocator): string | null {
    // The loader splits the list at colons and spaces, with no way to quote them.
    if (preload === null || !/[:\s]/.test(preload)) return preload;
    const name = basename(preload).replace(/[:\s]/g, "_");
    const taken = [...Deno.readDirSync(this.#links)];
    const known = taken.find((entry) =>
      Deno.readLinkSync(join(this.#links, entry.name)) === preload
    );
    const link = join(this.#links, known?.name ?? `${taken.length}-${name}`);
    if (known === undefined) Deno.symlinkSync(preload, link);
    return link;
  }
}

/** What is said of a child that a signal ended. */
export function signalInWords(signal: string): string {
  return signal === "SIGKILL"
    ? "killed by SIGKILL, as the kernel does when memory runs out"
    : `crashed with ${signal}`;
}

/** A failure with the last line that the child wrote of it. */
export function failed(error: string, stderr: string): { kind: "failed"; error: string } {
  const said = stderr.trim().split("\n").at(-1)?.slice(0, 200) ?? "";
  return { kind: "failed", error: said === "" ? error : `${error}: ${said}` };
}

/** The loader's own reason for leaving a preload out, in brackets. */
function loaderMessage(stderr: string): string {
  const reason = /cannot be preloaded \((.+?)\)/.exec(stderr)?.[1];
  return reason === undefined ? "" : ` (${reason})`;
}

/** An object as JSON, or null where there is none. */
export function parseLine(stdout: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(stdout);
    return typeof value === "object" && value !== null ? { ...value } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** A text that is not empty, or null. */
export function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** A whole number that the driver must have given. */
export function whole(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new TypeError(`The driver answered ${JSON.stringify(value)} where a whole number belongs`);
}

/** Whether two paths lead to one file. */
export function samePath(a: string, b: string): boolean {
  return realPath(a) === realPath(b);
}

/** A path without links, or as it is where nothing lies. */
export function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  }
}
