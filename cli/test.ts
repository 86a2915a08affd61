/**
 * `hak test`: builds, then runs the Zig unit tests and every Deno test file, and counts both together.
 *
 * What a test prints goes through to the user as it comes. The Zig runner prints a line for each test
 * (`zig/test_runner.zig`). Each Deno test file runs in a process of its own, so that a crash of the library
 * inside Deno costs the rest of one file only, and is counted from a JUnit report. Where a process dies
 * before it has reported, what it was running counts as failed. As many files run at once as there are
 * processors; what they print comes file by file.
 *
 * @module
 */
import { join, relative } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { buildIfNeeded, zigPath } from "./build.ts";
import { runChild, writeOut } from "./child.ts";
import { RunError, UsageError } from "./errors.ts";
import { root } from "./paths.ts";
import { filesBelow, readIfThere } from "./walk.ts";

/** One line for the list of commands. */
export const summary: string = "Run the Zig and the Deno tests";

/** What `--help` prints. */
export const usage: string = `hak test [FILTER]

Builds what has changed, runs the Zig unit tests and the Deno tests, and ends with the skipped tests and
their reasons, the failed ones, and the line "N passed, N failed".
  FILTER   run only tests whose names contain this text

The exit status is 1 if a test failed or none ran.`;

/** How the tests of one part came out. */
export interface Outcome {
  /** How many passed. */
  passed: number;
  /** The failed ones, each with what is known of the cause. */
  failed: string[];
  /** The skipped ones, each with its reason. */
  skipped: string[];
}

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const [filter = "", extra] = args;
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${JSON.stringify(extra)}: it takes one filter`);
  }
  if (filter.startsWith("-")) {
    throw new UsageError(`unknown option ${JSON.stringify(filter)}: it takes a text to filter by`);
  }
  try {
    await buildIfNeeded({ tests: true });
  } catch (error) {
    // Without the objects most tests would only fail for the same reason.
    if (!(error instanceof RunError)) throw error;
    return report([{ passed: 0, failed: [error.message], skipped: [] }], filter);
  }

  const outcomes = [await zigTests(filter)];
  const files: string[] = [];
  for await (const path of filesBelow(root)) {
    if (path.endsWith("_test.ts")) files.push(path);
  }
  outcomes.push(...await allDenoTests(files, filter));
  return report(outcomes, filter);
}

/** Runs test files, as many at once as there are processors. */
async function allDenoTests(files: readonly string[], filter: string): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const turns = new Turns((piece) => writeOut(Deno.stdout, piece));
  const waiting = files.entries();
  const lane = async (): Promise<void> => {
    for (const [index, file] of waiting) {
      const say = (piece: Uint8Array): void => turns.say(index, piece);
      const head = `\n# ${relative(root, file)} (${index + 1} of ${files.length} files)\n`;
      say(new TextEncoder().encode(head));
      outcomes[index] = await denoTests(file, filter, say);
      turns.end(index);
    }
  };
  await Promise.all(Array.from({ length: navigator.hardwareConcurrency }, lane));
  return outcomes;
}

/**
 * Output of several that speak at once, one after the other: the first that has not ended is heard as it speaks,
 * what the others say is kept until their turn.
 */
export class Turns {
  #current = 0;
  #kept = new Map<number, Uint8Array[]>();
  #ended = new Set<number>();
  #out: (piece: Uint8Array) => void;

  /** @param out Takes what is to be heard now. */
  constructor(out: (piece: Uint8Array) => void) {
    this.#out = out;
  }

  /** One of them, numbered from 0, says something. */
  say(speaker: number, piece: Uint8Array): void {
    if (speaker === this.#current) return this.#out(piece);
    const kept = this.#kept.get(speaker);
    if (kept === undefined) this.#kept.set(speaker, [piece]);
    else kept.push(piece);
  }

  /** It has said everything. */
  end(speaker: number): void {
    this.#ended.add(speaker);
    while (this.#ended.delete(this.#current)) {
      this.#current++;
      for (const piece of this.#kept.get(this.#current) ?? []) this.#out(piece);
      this.#kept.delete(this.#current);
    }
  }
}

/** Prints what was skipped, what failed and, last, the counts. Returns the exit status. */
function report(outcomes: Outcome[], filter: string): number {
  const skipped = outcomes.flatMap((outcome) => outcome.skipped);
  const failed = outcomes.flatMap((outcome) => outcome.failed);
  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
  if (skipped.length > 0) {
    console.log(`\nSkipped:\n${skipped.map((text) => `  ${text}`).join("\n")}`);
  }
  if (failed.length > 0) console.log(`\nFailed:\n${failed.map((text) => `  ${text}`).join("\n")}`);
  if (passed + failed.length === 0) {
    console.log(
      filter === "" ? "\nno test ran" : `\nno test has ${JSON.stringify(filter)} in its name`,
    );
  }
  console.log(`\n${passed} passed, ${failed.length} failed`);
  return failed.length > 0 || passed === 0 ? 1 : 0;
}

async function zigTests(filter: string): Promise<Outcome> {
  const zig = await zigPath();
  console.log("# zig build test");
  const tally = new ZigTally();
  const lines = new Lines((line) => {
    if (tally.take(line)) console.log(line);
  });
  const status = await runChild({
    program: zig,
    args: ["build", "test"],
    cwd: join(root, "zig"),
    env: { HAK_TEST_STARTS: "1", HAK_TEST_FILTER: filter },
    onStdout: (piece) => lines.add(piece),
  });
  lines.end();
  return tally.outcome(status.code);
}

/** Counts the lines that `zig/test_runner.zig` prints. */
export class ZigTally {
  #planned = 0;
  #passed = 0;
  #failed: string[] = [];
  #skipped: string[] = [];
  /** Several, if the build runs several test programs at once. */
  #running = new Set<string>();

  /** Takes one line of output. Returns false for those that only a program reads. */
  take(line: string): boolean {
    const [, word, rest = ""] = /^(plan|start|pass|fail|skip) (.*)$/.exec(line) ?? [];
    if (word === "plan") this.#planned += Number(rest);
    else if (word === "start") this.#running.add(rest);
    else if (word === "pass") this.#passed++;
    else if (word === "fail") this.#failed.push(`zig: ${rest}`);
    else if (word === "skip") this.#skipped.push(`zig: ${rest}`);
    if (word === "pass") this.#running.delete(rest);
    else if (word === "fail" || word === "skip") {
      // "NAME: WHY", and the name may hold a colon too.
      for (const name of this.#running) {
        if (rest.startsWith(`${name}: `)) this.#running.delete(name);
      }
    }
    return word !== "plan" && word !== "start";
  }

  /** The counts, once the run has ended with an exit status. */
  outcome(status: number): Outcome {
    const failed = [...this.#failed];
    for (const name of this.#running) failed.push(`zig: ${name}: crashed (see above)`);
    const ended = this.#passed + failed.length + this.#skipped.length;
    if (ended < this.#planned) {
      failed.push(`zig: ${this.#planned - ended} tests did not run, after the crash`);
    }
    if (status !== 0 && failed.length === 0) {
      failed.push(`zig build test ended with status ${status} (see above)`);
    }
    return { passed: this.#passed, failed, skipped: [...this.#skipped] };
  }
}

async function denoTests(
  file: string,
  filter: string,
  say: (piece: Uint8Array) => void,
): Promise<Outcome> {
  const name = relative(root, file);
  const folder = await Deno.makeTempDir({ prefix: "hak-test-" });
  try {
    const junit = join(folder, "junit.xml");
    const tally = new DenoTally();
    const lines = new Lines((line) => tally.take(line));
    const status = await runChild({
      program: Deno.execPath(),
      args: [
        "test",
        "-A",
        `--config=${join(root, "deno.json")}`,
        `--junit-path=${junit}`,
        ...(filter === "" ? [] : [`--filter=${filter}`]),
        file,
      ],
      cwd: root,
      env: Deno.stdout.isTerminal() && !Deno.noColor ? { FORCE_COLOR: "1" } : {},
      onStdout: (piece) => {
        say(piece);
        lines.add(piece);
      },
      onStderr: say,
    });
    lines.end();
    return tally.outcome(name, status, await readIfThere(junit));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Counts the tests of one file from its JUnit report or, without one, from what was printed. */
export class DenoTally {
  #passed = 0;
  #failed: string[] = [];
  #running: string | null = null;
  #quoting = false;

  /** Takes one line of output. */
  take(line: string): void {
    const text = stripVTControlCharacters(line);
    // What a test itself prints stands between two rules.
    if (text === "------- output -------") this.#quoting = true;
    else if (text === "----- output end -----") this.#quoting = false;
    if (this.#quoting) return;
    const [, name, result] =
      /^(\S.*?) \.\.\.(?: (ok|FAILED|ignored|cancelled)\b.*\))?$/.exec(text) ?? [];
    if (name === undefined) return;
    this.#running = result === undefined ? name : null;
    if (result === "ok") this.#passed++;
    else if (result === "FAILED" || result === "cancelled") this.#failed.push(name);
  }

  /**
   * The counts, once the process has ended.
   *
   * @param file The name of the test file.
   * @param status How the process ended.
   * @param junit The report, or `null` if the process wrote none.
   */
  outcome(
    file: string,
    status: { code: number; signal: string | null },
    junit: string | null,
  ): Outcome {
    if (junit !== null) {
      const outcome = readJunit(file, junit);
      if (status.code !== 0 && outcome.failed.length === 0) {
        outcome.failed.push(`${file}: an error outside of its tests (see above)`);
      }
      return outcome;
    }
    const how = status.signal === null ? `status ${status.code}` : status.signal;
    const failed = this.#failed.map((name) => `${file}: ${name}`);
    const where = this.#running === null ? "" : `, in: ${this.#running}`;
    failed.push(`${file}: the process ended with ${how}${where}; the rest did not run (see above)`);
    return { passed: this.#passed, failed, skipped: [] };
  }
}

/** Reads Deno's JUnit report of one file. A step of a test is part of it and not counted. */
export function readJunit(file: string, xml: string): Outcome {
  const outcome: Outcome = { passed: 0, failed: [], skipped: [] };
  const cases = [...xml.matchAll(/<testcase name="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs)]
    .map(([, name = "", body = ""]) => ({ name: unescape(name), body }));
  const names = new Set(cases.map(({ name }) => name));
  for (const { name, body } of cases) {
    if (isStep(name, names)) continue;
    const [, problem, message] = /<(failure|error|skipped)(?: message="([^"]*)")?/.exec(body) ?? [];
    if (problem === undefined) outcome.passed++;
    else if (problem === "skipped") outcome.skipped.push(`${file}: ${name}`);
    else outcome.failed.push(`${file}: ${name}: ${firstLine(unescape(message ?? ""))}`);
  }
  return outcome;
}

/** A step is named "TEST > STEP", and its test is in the same report. */
function isStep(name: string, names: Set<string>): boolean {
  for (let at = name.indexOf(" > "); at >= 0; at = name.indexOf(" > ", at + 1)) {
    if (names.has(name.slice(0, at))) return true;
  }
  return false;
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}

const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function unescape(text: string): string {
  return text.replaceAll(/&(?:(lt|gt|quot|apos|amp)|#x([0-9a-f]+)|#([0-9]+));/gi, (...match) => {
    const [whole, name, hex, decimal] = match as string[];
    if (name !== undefined) return entities[name] ?? whole ?? "";
    return String.fromCodePoint(hex === undefined ? Number(decimal) : parseInt(hex, 16));
  });
}

/** Cuts pieces of output into lines. */
class Lines {
  #decoder = new TextDecoder();
  #rest = "";
  #take: (line: string) => void;

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  add(piece: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#take(line);
  }

  end(): void {
    if (this.#rest !== "") this.#take(this.#rest);
    this.#rest = "";
  }
}
