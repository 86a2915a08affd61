/**
 * A program before it runs: whether the loader can preload anything into it, told from its files.
 *
 * @module
 */
import { basename } from "node:path";
import { type Elf, readElf } from "../elf.ts";
import { UsageError } from "../errors.ts";
import { mallocFamily } from "../loader_log.ts";
import { callerPath, findProgram } from "../paths.ts";
import { bad, type Finding, ok } from "./finding.ts";
import { openGlibc } from "./machine.ts";
import { libcOf, sanitizerOf, type SharedObject } from "./object.ts";

/** Why hakmem is not, or not the malloc, in a program. */
export interface Obstacle {
  /** What is the matter. */
  why: string;
  /** How to mend it. */
  mend: string;
}

/** What a command starts. */
export interface Start {
  /** One for the program, and one for each script before it. */
  findings: Finding[];
  /** The program at the end of the scripts. */
  program: string;
  /** What keeps hakmem out of the program, or from being its malloc. */
  obstacle: Obstacle | null;
  /** How the program gains privileges ("setuid"), at which the loader drops `LD_PRELOAD`; null if it does not. */
  privilege: string | null;
  /** Whether there is more to learn from a run. */
  worthRunning: boolean;
}

/** Scripts lead to scripts; the kernel gives up at this many. */
const scriptsMax = 5;
const setuidBit = 0o4000;
const setgidBit = 0o2000;

/** Looks at what a command names and what that leads to. Throws {@link UsageError} if there is no such program. */
export function examine(command: string, object: SharedObject): Start {
  const findings: Finding[] = [];
  let program = locate(command, "to run");
  // Where it is a script, it tells by its own name only.
  const isValgrind = /^valgrind(\.bin)?$/.test(basename(program));
  for (let depth = 0; depth < scriptsMax; depth++) {
    const script = readShebang(program);
    if (script === null) break;
    findings.push(ok("script", `${program} is run by ${script.line}`));
    program = locate(script.interpreter, `that ${program} asks for`);
  }
  const elf = readElf(program);
  const start = { findings, program, privilege: privilegeOf(program) };
  if (isValgrind) {
    const obstacle = {
      why: "is Valgrind, which puts a malloc of its own in place of any other",
      mend: "use either it or hakmem",
    };
    findings.push(bad("program", `${command} ${obstacle.why}`, obstacle.mend));
    return { ...start, obstacle, worthRunning: false };
  }
  if (elf === null) {
    const obstacle = {
      why: "is neither a program nor a script with a #! line",
      mend: "run it by its interpreter",
    };
    findings.push(bad("program", `${program} ${obstacle.why}`, obstacle.mend));
    return { ...start, obstacle, worthRunning: false };
  }
  const obstacle = obstacleOf(elf, object);
  findings.push(
    obstacle === null
      ? ok("program", `${program}: dynamic, ${libcOf(elf)}, ${elf.machine}`)
      : bad("program", `${program} ${obstacle.why}`, obstacle.mend),
  );
  // The system refuses a program for another machine, or emulates it with libraries of its own.
  return { ...start, obstacle, worthRunning: elf.machine === object.elf.machine };
}

/** What keeps hakmem out of a program, or from being its malloc; null where nothing does. */
export function obstacleOf(elf: Elf, object: SharedObject): Obstacle | null {
  if (elf.machine !== object.elf.machine) {
    return {
      why: `is built for ${elf.machine}, and hakmem for ${object.elf.machine}`,
      mend: "use builds for one machine",
    };
  }
  if (elf.interpreter === null) {
    return {
      why: "is statically linked, so there is no loader to read LD_PRELOAD",
      mend: "link it dynamically",
    };
  }
  const libc = libcOf(elf);
  if (object.libc !== null && libc !== object.libc) {
    return {
      why: `is a ${libc} program (${elf.interpreter}), and hakmem is built for ${object.libc}`,
      mend: `use a ${object.libc} build of it`,
    };
  }
  const sanitizer = sanitizerOf(elf, "");
  if (sanitizer !== null) {
    return {
      why: `is built with a sanitizer (${sanitizer}), which brings a malloc of its own`,
      mend: "run it without hakmem",
    };
  }
  if (elf.exports.has("malloc")) {
    const own = [...mallocFamily].filter((name) => elf.exports.has(name)).join(", ");
    return {
      why: `has a malloc of its own (${own}), and what a program defines comes before any preload`,
      mend: "build it without its allocator",
    };
  }
  return null;
}

/** How a program gains privileges when it is started, told from its file; null if it does not. */
function privilegeOf(path: string): string | null {
  const mode = Deno.statSync(path).mode ?? 0;
  if ((mode & setuidBit) !== 0) return "setuid";
  // Without the right to run it for its group, the bit means something else.
  if ((mode & setgidBit) !== 0 && (mode & 0o010) !== 0) return "setgid";
  return hasCapabilities(path) ? "given capabilities" : null;
}

function hasCapabilities(path: string): boolean {
  const glibc = openGlibc({
    getxattr: { parameters: ["buffer", "buffer", "pointer", "usize"], result: "isize" },
  });
  if (glibc === null) return false;
  try {
    const text = (value: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(`${value}\0`);
    // Without room for the attribute, the size of it is the answer; -1 if there is none.
    return glibc.symbols.getxattr(text(path), text("security.capability"), null, 0n) > 0;
  } finally {
    glibc.close();
  }
}

function locate(name: string, what: string): string {
  const path = name.includes("/") ? callerPath(name) : findProgram(name);
  if (path === null) {
    throw new UsageError(`no program ${JSON.stringify(name)} ${what}: it is not on PATH`);
  }
  try {
    const { isFile, mode } = Deno.statSync(path);
    if (!isFile) throw new UsageError(`cannot run ${path}: it is no file`);
    if (((mode ?? 0) & 0o111) === 0) {
      throw new UsageError(`cannot run ${path}: it is not executable (chmod +x makes it so)`);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new UsageError(`no program ${path} ${what}: there is no such file`);
    }
    throw error;
  }
  return path;
}

/** The first line of a script, and the program that it leads to; null if the file is no script. */
function readShebang(path: string): { line: string; interpreter: string } | null {
  const head = new Uint8Array(256);
  using file = Deno.openSync(path);
  const length = file.readSync(head) ?? 0;
  const text = new TextDecoder().decode(head.subarray(0, length));
  const line = /^#!\s*([^\n]*)/.exec(text)?.[1]?.trim();
  if (line === undefined) return null;
  const [interpreter = "", ...args] = line.split(/\s+/);
  // env runs what it finds on PATH: its first argument that is neither an option nor a variable.
  const found = basename(interpreter) === "env"
    ? args.find((arg) => !arg.startsWith("-") && !arg.includes("="))
    : undefined;
  return { line, interpreter: found ?? interpreter };
}
