/**
 * What to make of a run: in which programs hakmem is the malloc, and why not in the others.
 *
 * @module
 */
import { basename } from "node:path";
import { type Elf, readElf } from "../elf.ts";
import type { Image } from "../loader_log.ts";
import { findProgram } from "../paths.ts";
import { bad, type Finding, ok, warn } from "./finding.ts";
import type { SharedObject } from "./object.ts";
import { type Obstacle, obstacleOf, type Start } from "./program.ts";
import type { Stray, Watched } from "./watch.ts";

/** Knows hakmem's objects by their files, whatever the names that lead there. */
export class Hakmem {
  readonly #files: ReadonlySet<string>;

  /** @param paths The objects. */
  constructor(paths: readonly string[]) {
    this.#files = new Set(paths.map((path) => Deno.realPathSync(path)));
  }

  /** Whether a path leads to one of them. */
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
export function judge(
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
    const obstacle = obstacleToImage(image, hakmem, lends);
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
  const command = basename(start.program);
  for (const name of watched.hidden) {
    if (command.startsWith(name) && isExplained(start, started)) continue;
    inactive.set(
      name,
      warn(
        "loaded",
        `${name} may not be looked into: if it gained privileges, the loader dropped LD_PRELOAD`,
        "ask the doctor as root",
      ),
    );
  }
  if (active.size > 0) {
    findings.push(ok("loaded", `malloc is hakmem's in ${[...active].join(", ")}`));
  }
  findings.push(...inactive.values());
  if (active.size === 0 && inactive.size === 0 && !isExplained(start, started)) {
    findings.push(
      bad(
        "loaded",
        `the loader said nothing of ${command}`,
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

/** Why hakmem is not the malloc of a program that the loader told of; null if it is. */
export function obstacleToImage(
  image: Image,
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
  if (malloc === image.program) {
    // A program at a fixed address that takes malloc's address lends its own entry to everybody, and that entry
    // leads to where the program's own reference goes: to hakmem, unless the program defines malloc.
    if (lends.has(malloc) || fileOf(image)?.exports.has("malloc") === false) return null;
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

/** What the file of a program says; null where its first argument does not lead there. */
function fileOf({ program }: Image): Elf | null {
  // Where a relative path began is not known.
  const path = program.startsWith("/")
    ? program
    : program.includes("/")
    ? null
    : findProgram(program);
  if (path === null) return null;
  try {
    return readElf(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) {
      return null;
    }
    throw error;
  }
}

/** Why a process that was seen is without hakmem. */
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
function judgeEnd({ status, over, lastLine }: Watched, seconds: number): Finding | null {
  if (!over) {
    return warn(
      "end",
      `still running after ${seconds} s, with more rights than ours`,
      "end it yourself",
    );
  }
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
