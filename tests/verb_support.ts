/**
 * What the tests of the verbs that measure share: running one as a user does, Ctrl-C, and peers made for
 * the purpose.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { ReportHead } from "../bench/harness/report.ts";
import { zigPath } from "../cli/build.ts";
import { root } from "../cli/paths.ts";

/** What a run of a verb left behind. */
export interface Outcome {
  /** Its exit status. */
  code: number;
  /** All of its standard output. */
  stdout: string;
  /** All of its standard error. */
  stderr: string;
}

/** How a verb is run besides its arguments. */
export interface Surroundings {
  /** Variables in addition to the test's own. */
  env?: Record<string, string>;
  /** A command that runs the rest, such as `setsid`. */
  under?: string;
}

/** The command for a verb with these arguments, called from a folder. */
export function verbCommand(
  verb: string,
  args: readonly string[],
  folder: string,
  { env = {}, under }: Surroundings = {},
): Deno.Command {
  const deno = Deno.execPath();
  const words = ["run", "--quiet", "-A", join(root, "cli.ts"), verb, ...args];
  return new Deno.Command(under ?? deno, {
    args: under === undefined ? words : [deno, ...words],
    cwd: root,
    env: { INIT_CWD: folder, NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs a verb to its end. */
export async function runVerb(
  verb: string,
  args: readonly string[],
  folder: string,
  surroundings?: Surroundings,
): Promise<Outcome> {
  const output = await verbCommand(verb, args, folder, surroundings).output();
  const decoder = new TextDecoder();
  return {
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/**
 * Starts a verb, waits until it says something on standard error, and interrupts it.
 *
 * @param send Sends the signal.
 */
export async function interruptOnce(
  command: Deno.Command,
  said: string,
  send: (pid: number) => void,
): Promise<Outcome> {
  const process = command.spawn();
  const decoder = new TextDecoder();
  const stdout = new Response(process.stdout).text();
  let stderr = "";
  let sent = false;
  for await (const piece of process.stderr) {
    stderr += decoder.decode(piece, { stream: true });
    if (sent || !stderr.includes(said)) continue;
    send(process.pid);
    sent = true;
  }
  assert(sent, stderr);
  const { code } = await process.status;
  return { code, stdout: await stdout, stderr };
}

/** Runs a test in a folder of its own, which is removed afterwards. */
export async function inFolder(test: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "hakmem-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The names in a folder, without the order that the system gives them. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}

/** What a verb wrote to `r.json`, the file that the tests have it write; `Report` is what its schema says. */
export async function readReport<Report>(folder: string): Promise<Report> {
  return JSON.parse(await Deno.readTextFile(join(folder, "r.json")));
}

/** A figure that the row must have. */
export function figure(value: number | null | undefined): number {
  assert(typeof value === "number" && Number.isFinite(value));
  return value;
}

/** Makes a shared object from Zig source. Returns its path. */
export async function compile(folder: string, name: string, source: string): Promise<string> {
  const file = join(folder, `${name}.zig`);
  await Deno.writeTextFile(file, source);
  const library = join(folder, `lib${name}.so`);
  const zig = new Deno.Command(await zigPath(), {
    args: [
      ...["build-lib", "-dynamic", "-O", "ReleaseSmall", file, `-femit-bin=${library}`],
      ...["--cache-dir", join(folder, "cache")],
    ],
    stderr: "piped",
  });
  const { success, stderr } = await zig.output();
  assert(success, new TextDecoder().decode(stderr));
  return library;
}

/** Source of an allocator that hands everything on to the C library's, and does `extra` in each malloc. */
export function forwardingPeer(extra: string): string {
  return `
    extern fn __libc_malloc(size: usize) ?*anyopaque;
    extern fn __libc_free(block: ?*anyopaque) void;
    extern fn getenv(name: [*:0]const u8) ?[*:0]const u8;
    var served: usize = 0;
    export fn malloc(size: usize) ?*anyopaque {
        served += 1;
        ${extra}
        return __libc_malloc(size);
    }
    export fn free(block: ?*anyopaque) void {
        __libc_free(block);
    }
  `;
}

/** What a report begins with, of a run that never was. */
export const syntheticHead: Omit<ReportHead, "command"> = {
  seed: 7,
  started: "2026-11-21T10:00:00Z",
  interrupted: false,
  commit: "unknown",
  machine: {
    cpu: "a processor",
    cores: 2,
    memory_bytes: 2 ** 33,
    kernel: "Linux 6.1",
    libc: "glibc 2.36",
    thp: "madvise",
  },
};
