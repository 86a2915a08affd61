/**
 * `hak doctor`: whether hakmem is really the malloc of a program, and what is in the way.
 *
 * @module
 */
import { basename } from "node:path";
import { readText } from "../bench/sweep/machine.ts";
import { buildIfNeeded } from "./build.ts";
import { writeOut } from "./child.ts";
import { bad, type Finding, ok, renderFinding, warn } from "./doctor/finding.ts";
import { checkMachine } from "./doctor/machine.ts";
import { readObject, type SharedObject } from "./doctor/object.ts";
import { checkPreload, preloadFile } from "./doctor/preload.ts";
import { examine, type Obstacle, obstacleOf, type Start } from "./doctor/program.ts";
import { checkSettings } from "./doctor/settings.ts";
import { type Stray, watch, type Watched } from "./doctor/watch.ts";
import { readElf } from "./elf.ts";
import { RunError, UsageError } from "./errors.ts";
import type { Image } from "./loader_log.ts";
import { findProgram, preloadLibrary } from "./paths.ts";

export { type Setting, settings } from "./doctor/settings.ts";

/** One line for the list of commands. */
export const summary: string = "Say whether hakmem is really loaded in a program, and why not";

const defaultSeconds = 5;
const secondsMax = 86400;

/** What `--help` prints. */
export const usage: string = `hak doctor [--json] [--for SECONDS] [-- PROGRAM [ARGUMENT…]]

Looks at this machine, its limits, the HAKMEM_* variables and LD_PRELOAD as they stand. With a program, runs it
and says for it, and for every program that it starts, whether its malloc is hakmem's, and if not, why not and how
to mend it. Each line begins with ok, with warn (it works, but look at it) or with bad.
  --json          one JSON object on standard output, hakmem.doctor/1
  --for SECONDS   end the program after this time (default ${defaultSeconds}); a server is ended by SIGTERM then

The program gets LD_PRELOAD as it stands, with hakmem put first if it is not on the list. It reads nothing from
standard input, and what it writes is dropped, but for its last line on standard error if it fails. Not seen may be:
what is static or lost the environment and ends within some 20 ms, what runs as another user, and what a service that
runs already starts for it.

LD_PRELOAD is inherited: what the program starts is preloaded too, as long as the environment is handed on. "env -i",
sudo, systemd and most process managers do not: set LD_PRELOAD in their own configuration. The loader drops it in
programs that gain privileges (setuid, setgid, file capabilities), and hakmem heeds no HAKMEM_* variable there. It
splits it at spaces and colons. Static programs have no loader; programs with a malloc built in use their own.
Not with AddressSanitizer, ThreadSanitizer, MemorySanitizer or Valgrind, which bring a malloc that they must see.

The exit status is 0 if nothing is bad, 1 if something is, 2 if the command line is not understood.
Examples: ./hak doctor            ./hak doctor -- python3 -c 'print(1)'        ./hak doctor --for 20 -- ./server`;

/** What `--json` writes. A change that breaks readers gets another number. */
export interface DoctorReport {
  /** The name of this shape. */
  schema: "hakmem.doctor/1";
  /** The version of hakmem. */
  version: string;
  /** The object that programs are run with. */
  object: string;
  /** The program and its arguments; null without one. */
  command: string[] | null;
  /** Whether nothing is bad. */
  ok: boolean;
  /** All that was found, in the order of the lines. */
  findings: Finding[];
}

interface Options {
  json: boolean;
  seconds: number;
  command: string[] | null;
}

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const options = parse(args);
  await buildIfNeeded();
  const report = await diagnose(options);
  const text = options.json
    ? JSON.stringify(report, null, 2)
    : report.findings.map(renderFinding).join("\n");
  writeOut(Deno.stdout, new TextEncoder().encode(`${text}\n`));
  return report.ok ? 0 : 1;
}

function parse(args: string[]): Options {
  const options: Options = { json: false, seconds: defaultSeconds, command: null };
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? "";
    if (arg === "--") {
      options.command = args.slice(at + 1);
      if (options.command.length === 0) {
        throw new UsageError("no program after --: name one, as in hak doctor -- ls");
      }
      break;
    }
    const [name, given] = arg.split(/=(.*)/s);
    if (name === "--for") options.seconds = parseSeconds(given ?? args[++at]);
    else if (arg === "--json") options.json = true;
    else if (arg.startsWith("-")) {
      throw new UsageError(
        `unknown option ${JSON.stringify(arg)}: it takes --json, --for SECONDS and -- PROGRAM`,
      );
    } else {
      throw new UsageError(
        `unexpected argument ${
          JSON.stringify(arg)
        }: a program comes after --, as in hak doctor -- ls`,
      );
    }
  }
  return options;
}

function parseSeconds(text: string | undefined): number {
  const seconds = text === undefined || text.trim() === "" ? NaN : Number(text);
  if (seconds > 0 && seconds <= secondsMax) return seconds;
  throw new UsageError(
    `--for ${text ?? ""}: it takes seconds, above 0 and up to ${secondsMax}, as in --for 20`,
  );
}

async function diagnose(options: Options): Promise<DoctorReport> {
  const own = readObject(preloadLibrary);
  if (own === null || own.hakmem === null || !own.takesMalloc) {
    throw new RunError(`${preloadLibrary} is not hakmem's object: ./hak build makes it anew`);
  }
  const variable = Deno.env.get("LD_PRELOAD") ?? null;
  const preload = await checkPreload(variable, readText(preloadFile) ?? null, own);
  const object = preload.hakmem ?? own;
  // Wrong usage before anything is run or shown.
  const start = options.command === null ? null : examine(options.command[0] ?? "", object);
  const findings = [
    ...checkMachine(own),
    ...checkSettings(Deno.env.toObject()),
    ...preload.findings,
  ];
  if (start !== null && options.command !== null) {
    findings.push(...start.findings);
    if (start.worthRunning) {
      const value = preload.hakmem === null
        ? [own.path, variable].filter((one) => one !== null && one !== "").join(":")
        : variable ?? "";
      const hakmem = new Hakmem([own.path, object.path]);
      const watched = await watch({
        command: [programOf(options.command), ...options.command.slice(1)],
        preload: value,
        seconds: options.seconds,
        isHakmem: (path) => hakmem.is(path),
      });
      if (typeof watched === "string") {
        findings.push(
          bad("end", `it does not start: ${watched}`, "see that it starts without the doctor"),
        );
      } else {
        findings.push(
          ...judge(start, watched, hakmem, object, preload.findings, options.seconds),
        );
      }
    }
  }
  return {
    schema: "hakmem.doctor/1",
    version: own.hakmem,
    object: own.path,
    command: options.command,
    ok: findings.every(({ level }) => level !== "bad"),
    findings,
  };
}

function programOf([name = ""]: string[]): string {
  return name.includes("/") ? name : findProgram(name) ?? name;
}

/** Knows hakmem's objects by their files, whatever the names that lead there. */
class Hakmem {
  readonly #files: ReadonlySet<string>;

  constructor(paths: readonly string[]) {
    this.#files = new Set(paths.map((path) => Deno.realPathSync(path)));
  }

  is(path: string): boolean {
    if (this.#files.has(path)) return true;
    try {
      return this.#files.has(Deno.realPathSync(path));
    } catch (error) {
      // Such as "[vdso]", or a file that was deleted since.
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        return false;
      }
      throw error;
    }
  }
}

/** What became of the program and of all that it started; `known` is what was said of LD_PRELOAD before. */
function judge(
  start: Start,
  watched: Watched,
  hakmem: Hakmem,
  object: SharedObject,
  known: readonly Finding[],
  seconds: number,
): Finding[] {
  const { log, complaints, pid } = watched;
  const findings = complaints
    .filter(({ object: name }) =>
      !known.some(({ level, found }) => level === "bad" && found.includes(name))
    )
    .map(({ text }) => bad("loader", text, "correct LD_PRELOAD, or the file that it names"));
  const active = new Set<string>();
  const inactive = new Map<string, Finding>();
  const lends = new Set(
    log.bindings.filter(({ to, symbol }) => symbol === "malloc" && hakmem.is(to)).map((one) =>
      one.from
    ),
  );
  for (const image of [...log.images].sort((a, b) => a.pid - b.pid)) {
    const name = basename(image.program);
    const isCommand = image.pid === pid && name === basename(start.program);
    if (isCommand && start.obstacle !== null) continue;
    const obstacle = obstacleToImage(image, start, hakmem, lends);
    if (obstacle === null) active.add(name);
    else {inactive.set(
        `${name}: ${obstacle.why}`,
        bad("loaded", `${name} ${obstacle.why}`, obstacle.mend),
      );}
  }
  const first = log.images.find((image) => image.pid === pid);
  const started = first !== undefined && [...first.libraries].some((path) => hakmem.is(path));
  if (start.privilege !== null) findings.push(judgePrivilege(start, started));
  for (const stray of watched.strays) {
    if (stray.program === Deno.realPathSync(start.program) && isExplained(start, started)) continue;
    const { why, mend } = obstacleToStray(stray, object);
    inactive.set(stray.program, bad("loaded", `${stray.program} ${why}`, mend));
  }
  if (active.size > 0) {
    findings.push(ok("loaded", `malloc is hakmem's in ${[...active].join(", ")}`));
  }
  findings.push(...inactive.values());
  if (active.size === 0 && inactive.size === 0 && !isExplained(start, started)) {
    findings.push(
      bad(
        "loaded",
        `the loader said nothing of ${basename(start.program)}`,
        "try a command that runs longer",
      ),
    );
  }
  const end = judgeEnd(watched, seconds);
  return end === null ? findings : [...findings, end];
}

/** Whether another line has said already why the command itself is without hakmem. */
function isExplained(start: Start, started: boolean): boolean {
  return start.obstacle !== null || start.privilege !== null && !started;
}

function judgePrivilege({ program, privilege }: Start, started: boolean): Finding {
  const what = `${program} is ${privilege}`;
  return started
    ? warn(
      "program",
      `${what}, but gains nothing by it for this user: for others the loader drops LD_PRELOAD`,
      "do not rely on it",
    )
    : bad(
      "program",
      `${what}, so the loader drops LD_PRELOAD, and hakmem heeds no HAKMEM_* variable`,
      "run it as the user whose rights it needs, from a copy without the privilege",
    );
}

function obstacleToImage(
  image: Image,
  start: Start,
  hakmem: Hakmem,
  lends: ReadonlySet<string>,
): Obstacle | null {
  if (![...image.libraries].some((path) => hakmem.is(path))) {
    return {
      why: "was loaded without hakmem",
      mend: "look whether something changes LD_PRELOAD on the way, and at the loader's complaints",
    };
  }
  const { malloc } = image;
  if (malloc === null || hakmem.is(malloc)) return null;
  // A program at a fixed address that takes malloc's address lends its own entry to everybody, and that entry
  // leads to where the program's own reference goes: to hakmem, unless the program defines malloc.
  if (lends.has(malloc)) return null;
  if (malloc === image.program) {
    const path = malloc.includes("/") ? malloc : findProgram(malloc) ?? start.program;
    if (readElf(path)?.exports.has("malloc") === false) return null;
    return {
      why: "has hakmem loaded, but uses the malloc that it defines itself",
      mend: "build it without its allocator",
    };
  }
  return {
    why: `has hakmem loaded, but its malloc is that of ${malloc}`,
    mend: "put hakmem first in LD_PRELOAD",
  };
}

function obstacleToStray(
  { elf, privileged, preload }: Stray,
  object: SharedObject,
): Obstacle {
  const obstacle = elf === null ? null : obstacleOf(elf, object);
  if (obstacle !== null) return obstacle;
  if (privileged) {
    return {
      why: "gained privileges at its start, so the loader dropped LD_PRELOAD",
      mend: "run it as the user whose rights it needs",
    };
  }
  if (preload === null) {
    return {
      why: "was started without LD_PRELOAD, since something on the way dropped the environment",
      mend: "set LD_PRELOAD in the configuration of what starts it",
    };
  }
  return {
    why: `was started with LD_PRELOAD=${preload} and is without hakmem`,
    mend: "look at what changes LD_PRELOAD on the way, and at the loader's complaints",
  };
}

/** How the command ended; null if there is nothing to say. */
function judgeEnd({ status, lastLine }: Watched, seconds: number): Finding | null {
  if (status === null) {
    return ok("end", `still running after ${seconds} s, so it was ended; --for watches longer`);
  }
  if (status.success) return null;
  const how = status.signal === null ? `with status ${status.code}` : `by ${status.signal}`;
  const last = lastLine === "" ? "and wrote no error" : `and wrote last: ${lastLine}`;
  const compare = "run it without LD_PRELOAD too, to compare";
  return status.signal === null
    ? warn("end", `it ended ${how} ${last}`, compare)
    : bad("end", `it ended ${how} ${last}`, compare);
}
