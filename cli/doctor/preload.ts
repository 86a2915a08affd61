/**
 * `LD_PRELOAD` and `/etc/ld.so.preload` as they stand: what the loader makes of them.
 *
 * @module
 */
import { basename } from "node:path";
import { libraryPaths, whyNotPreloadable } from "../../bench/harness/allocators.ts";
import { mallocFamily } from "../loader_log.ts";
import { callerPath } from "../paths.ts";
import { bad, type Finding, ok, warn } from "./finding.ts";
import { readObject, sanitizerOf, type SharedObject } from "./object.ts";

/** The loader's own list, which comes after the variable. */
export const preloadFile = "/etc/ld.so.preload";

/** What was found out about a list. */
export interface Preload {
  /** One for each thing worth saying. */
  findings: Finding[];
  /** The objects on the list that can be loaded, in order. */
  objects: SharedObject[];
  /** The hakmem with a malloc that is on it; null if there is none. */
  hakmem: SharedObject | null;
}

/**
 * Looks at every object of the two lists.
 *
 * @param variable The value of `LD_PRELOAD`, or null.
 * @param file The text of `/etc/ld.so.preload`, or null.
 * @param own The checkout's own object.
 */
export async function checkPreload(
  variable: string | null,
  file: string | null,
  own: SharedObject,
): Promise<Preload> {
  const findings: Finding[] = [];
  const listed: { topic: string; object: SharedObject }[] = [];
  const lists = [
    { topic: "LD_PRELOAD", text: variable ?? "" },
    { topic: preloadFile, text: (file ?? "").replaceAll(/#.*/g, "") },
  ];
  for (const { topic, text } of lists) {
    const { faults, objects } = await readList(topic, text);
    findings.push(...faults);
    listed.push(...objects.map((object) => ({ topic, object })));
  }
  const at = listed.findIndex(({ object }) => object.hakmem !== null && object.takesMalloc);
  const hakmem = listed[at]?.object ?? null;
  for (const [position, { topic, object }] of listed.entries()) {
    const finding = position === at
      ? describeHakmem(topic, object, own)
      : describeOther(topic, object, hakmem, position < at);
    if (finding !== null) findings.push(finding);
  }
  if ((variable ?? "") === "" && hakmem === null) {
    findings.push(
      ok("LD_PRELOAD", "not set; for one program: LD_PRELOAD=$(./hak lib preload) PROGRAM"),
    );
  } else if (hakmem === null && findings.every(({ level }) => level !== "bad")) {
    findings.push(warn("LD_PRELOAD", `${variable} is without hakmem`, `put ${own.path} first`));
  }
  return { findings, objects: listed.map(({ object }) => object), hakmem };
}

function describeHakmem(topic: string, object: SharedObject, own: SharedObject): Finding {
  const found = `hakmem ${object.hakmem}, ${object.path}`;
  if (Deno.realPathSync(object.path) === Deno.realPathSync(own.path)) return ok(topic, found);
  return warn(topic, `${found} is another copy than this checkout's`, `which is ${own.path}`);
}

/** What is to be said of an object that is listed before or after hakmem, or without it. */
function describeOther(
  topic: string,
  { path, elf, hakmem: version, takesMalloc }: SharedObject,
  hakmem: SharedObject | null,
  before: boolean,
): Finding | null {
  const sanitizer = sanitizerOf(elf, basename(path));
  if (sanitizer !== null) {
    return bad(topic, `${path} is the runtime of a sanitizer`, "use either it or hakmem");
  }
  if (version !== null && !takesMalloc) {
    return bad(
      topic,
      `${path} is hakmem's object for dlopen, without a malloc`,
      "use libhakmem_preload.so",
    );
  }
  if (!takesMalloc || hakmem === null) return null;
  if (!before) {
    return warn(topic, `${path} has a malloc too, which hakmem's comes before`, "leave it out");
  }
  const left = [...mallocFamily].filter((name) =>
    hakmem.elf.exports.has(name) && !elf.exports.has(name)
  );
  // What one heap gave is then given to the other, which ends the process.
  const mixed = left.length === 0 ? "" : ` but not ${left.join(", ")}, so that heaps are mixed`;
  return bad(
    topic,
    `${path} comes before hakmem and takes malloc${mixed}`,
    "put hakmem first, or leave one of them out",
  );
}

/** Takes a list apart as the loader does: at spaces, colons and line breaks. */
async function readList(
  topic: string,
  text: string,
): Promise<{ faults: Finding[]; objects: SharedObject[] }> {
  const faults: Finding[] = [];
  const objects: SharedObject[] = [];
  const pieces = [...text.matchAll(/[^ :\t\n]+/g)];
  for (let at = 0; at < pieces.length; at++) {
    const given = pieces[at]?.[0] ?? "";
    const start = pieces[at]?.index ?? 0;
    const { path, fault } = await resolve(given);
    const object = fault === null && path !== null ? readObject(path) : null;
    if (object !== null) objects.push(object);
    if (fault === null) {
      if (given.includes("/") && !given.startsWith("/")) {
        faults.push(
          warn(topic, `${given} is another file in every directory`, "give its whole path"),
        );
      }
      continue;
    }
    // Perhaps it is the first piece of a path that has one of the separators in it.
    const end = pieces.findIndex((piece, later) => {
      const whole = text.slice(start, piece.index + piece[0].length);
      return later > at && whyNotPreloadable(callerPath(whole)) === null;
    });
    const last = pieces[end];
    if (last === undefined) {
      faults.push(bad(topic, `${given} ${fault}`, "the loader goes on without it: correct it"));
    } else {
      const whole = text.slice(start, last.index + last[0].length);
      faults.push(
        bad(
          topic,
          `${whole} is split by the loader at its spaces and colons`,
          "copy it to a path that has neither",
        ),
      );
      at = end;
    }
  }
  return { faults, objects };
}

/** The file that the loader takes for an entry; where it would take none, why. */
async function resolve(given: string): Promise<{ path: string | null; fault: string | null }> {
  // $LIB and its like are replaced by the loader, each program's own.
  if (given.includes("$")) return { path: null, fault: null };
  if (given.includes("/")) {
    const path = callerPath(given);
    return { path, fault: whyNotPreloadable(path) };
  }
  for (const path of await libraryPaths([given])) {
    if (path.endsWith(`/${given}`) && whyNotPreloadable(path) === null) {
      return { path, fault: null };
    }
  }
  return { path: null, fault: "is in none of the loader's folders" };
}
