/**
 * Output files that are either whole or absent: written aside in the target's own folder and renamed.
 *
 * @module
 */
import { dirname, join } from "node:path";

/** How a target is written. A device or a pipe (`/dev/stdout`) cannot be replaced, only written to. */
type Target = { kind: "regular" | "special"; path: string };

/**
 * Checks before hours of measuring that a file can be written at the end, without leaving a trace.
 *
 * @returns What is wrong, or null.
 */
export function whyNotWritable(path: string): string | null {
  try {
    const target = resolveTarget(path);
    if (target === null) return "it is a directory";
    if (target.kind === "special") {
      // Opening a pipe waits for its reader; it is tried when there is something to say.
      if (!Deno.statSync(target.path).isFifo) Deno.openSync(target.path, { write: true }).close();
      return null;
    }
    // A rename would replace even a file that may not be written to; that is not ours to do.
    if (exists(target.path)) Deno.openSync(target.path, { write: true }).close();
    const aside = asidePath(target.path);
    Deno.openSync(aside, { write: true, createNew: true }).close();
    Deno.removeSync(aside);
    return null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "its folder does not exist";
    if (error instanceof Deno.errors.NotADirectory) return "its folder is a file";
    if (error instanceof Error) return reason(error);
    throw error;
  }
}

/** Writes a file whole: readers see the old content or the new, never a part. */
export function writeWhole(path: string, content: string): void {
  const target = resolveTarget(path);
  if (target === null) throw new Deno.errors.IsADirectory(`${path} is a directory`);
  if (target.kind === "special") {
    Deno.writeTextFileSync(target.path, content, { create: false });
    return;
  }
  const aside = asidePath(target.path);
  try {
    Deno.writeTextFileSync(aside, content, { createNew: true });
    Deno.renameSync(aside, target.path);
  } catch (error) {
    if (exists(aside)) Deno.removeSync(aside);
    throw error;
  }
}

/** Follows links, so that a link keeps pointing where it does; null for a directory. */
function resolveTarget(path: string): Target | null {
  if (!exists(path)) return { kind: "regular", path };
  const info = Deno.statSync(path);
  if (info.isDirectory) return null;
  // A pipe behind /dev/fd has no path of its own.
  return info.isFile
    ? { kind: "regular", path: Deno.realPathSync(path) }
    : { kind: "special", path };
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function asidePath(path: string): string {
  return join(dirname(path), `.hak-${Deno.pid}-${crypto.randomUUID()}.part`);
}

/** The system's own words without the call that Deno wraps around them. */
function reason(error: Error): string {
  return error.message.replace(/ \(os error \d+\).*$/s, "").toLowerCase();
}
