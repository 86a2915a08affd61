/**
 * One child process a measurement: starts the native driver under an allocator and reads its line.
 *
 * @module
 */
import { basename, join } from "node:path";
import type { Allocator } from "./allocators.ts";
import type { Pattern, Sample } from "./schema.ts";

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

/** A value, a failure of the child in words, or neither since the user pressed Ctrl-C. */
export type Outcome<T> =
  | { kind: "value"; value: T }
  | { kind: "failed"; error: string }
  | { kind: "interrupted" };

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

/** Starts the driver; `stop` ends a child early and makes its outcome "interrupted". */
export class Measurer {
  readonly #driver: string;
  readonly #stop: AbortSignal;
  /** A folder for links to objects whose own path LD_PRELOAD cannot carry. */
  readonly #links: string;

  /**
   * Starts nothing yet.
   *
   * @param driver Path of `hak-sweep-driver`.
   * @param links An empty folder that lives as long as this.
   * @param stop Aborted when the user wants to end.
   */
  constructor(driver: string, links: string, stop: AbortSignal) {
    this.#driver = driver;
    this.#links = links;
    this.#stop = stop;
  }

  /** Finds out whether an allocator really loads, and what it is. */
  async identify(allocator: Allocator): Promise<Outcome<Identity>> {
    const answer = await this.#run(allocator, ["--identify"], 30);
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

  /** Measures once, in a process of its own. */
  async measure(
    allocator: Allocator,
    identity: Identity,
    what: Measurement,
  ): Promise<Outcome<Sample>> {
    const { size, count } = what;
    const answer = await this.#run(
      allocator,
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
    const said = answer.value.line;
    const path = text(said.malloc_path);
    if (path === null || !samePath(path, identity.path ?? "")) {
      return { kind: "failed", error: `not loaded: malloc came from ${path ?? "nowhere known"}` };
    }
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

  async #run(
    allocator: Allocator,
    args: string[],
    limitSeconds: number,
  ): Promise<Outcome<{ line: Record<string, unknown>; stderr: string }>> {
    if (this.#stop.aborted) return { kind: "interrupted" };
    const child = new Deno.Command(this.#driver, {
      args,
      clearEnv: true,
      env: this.#environment(allocator),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
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
    if (late) return failed(`no answer within ${Math.round(limitSeconds)} s`, stderr);
    if (output.signal === "SIGKILL") {
      return failed("killed by SIGKILL, as the kernel does when memory runs out", stderr);
    }
    if (output.signal !== null) return failed(`crashed with ${output.signal}`, stderr);
    const line = parseLine(decoder.decode(output.stdout));
    if (typeof line?.error === "string") return failed(line.error, stderr);
    if (output.code !== 0) return failed(`ended with exit status ${output.code}`, stderr);
    if (line === null) return failed("answered nothing that can be read", stderr);
    return { kind: "value", value: { line, stderr } };
  }

  /** The caller's environment, so that an allocator's own variables work, with only our preload. */
  #environment(allocator: Allocator): Record<string, string> {
    const { LD_PRELOAD: _inherited, ...environment } = Deno.env.toObject();
    if (allocator.preload === null) return environment;
    return { ...environment, LD_PRELOAD: this.#preloadPath(allocator.preload) };
  }

  #preloadPath(path: string): string {
    // The loader splits the list at colons and spaces, with no way to quote them.
    if (!/[:\s]/.test(path)) return path;
    const name = basename(path).replace(/[:\s]/g, "_");
    const taken = [...Deno.readDirSync(this.#links)];
    const known = taken.find((entry) => Deno.readLinkSync(join(this.#links, entry.name)) === path);
    const link = join(this.#links, known?.name ?? `${taken.length}-${name}`);
    if (known === undefined) Deno.symlinkSync(path, link);
    return link;
  }
}

function failed(error: string, stderr: string): { kind: "failed"; error: string } {
  const said = stderr.trim().split("\n").at(-1)?.slice(0, 200) ?? "";
  return { kind: "failed", error: said === "" ? error : `${error}: ${said}` };
}

/** The loader's own reason for leaving a preload out, in brackets. */
function loaderMessage(stderr: string): string {
  const reason = /cannot be preloaded \((.+?)\)/.exec(stderr)?.[1];
  return reason === undefined ? "" : ` (${reason})`;
}

function parseLine(stdout: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(stdout);
    return typeof value === "object" && value !== null ? { ...value } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function whole(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new TypeError(`The driver answered ${JSON.stringify(value)} where a whole number belongs`);
}

function samePath(a: string, b: string): boolean {
  return realPath(a) === realPath(b);
}

function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  }
}
