/**
 * `hak doctor`: whether hakmem is really the malloc of a program, and what is in the way.
 *
 * @module
 */
import { readText } from "../bench/harness/machine.ts";
import { buildIfNeeded } from "./build.ts";
import { writeOut } from "./child.ts";
import { bad, type Finding, renderFinding } from "./doctor/finding.ts";
import { Hakmem, judge } from "./doctor/judge.ts";
import { checkMachine } from "./doctor/machine.ts";
import { readObject } from "./doctor/object.ts";
import { checkPreload, preloadFile } from "./doctor/preload.ts";
import { examine } from "./doctor/program.ts";
import { checkSettings } from "./doctor/settings.ts";
import { watch } from "./doctor/watch.ts";
import { RunError, UsageError } from "./errors.ts";
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
what is static or lost the environment and ends within some 20 ms, and what a service that runs already starts for it.

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
