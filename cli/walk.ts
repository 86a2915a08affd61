/**
 * The project's own files.
 *
 * @module
 */
import { join } from "node:path";

/** Folders that hold what was made or installed, not what was written. */
const skipped = new Set(["node_modules", "zig-out", "zig-pkg"]);

/**
 * The absolute paths of all files below a directory, in the order of their names; nothing if the directory
 * does not exist. Hidden folders and folders of made files are left out, unless the walk starts there.
 */
export async function* filesBelow(directory: string): AsyncGenerator<string> {
  let entries: Deno.DirEntry[];
  try {
    entries = await Array.fromAsync(Deno.readDir(directory));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  entries.sort((a, b) => a.name < b.name ? -1 : 1);
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (!entry.isDirectory) yield path;
    else if (!entry.name.startsWith(".") && !skipped.has(entry.name)) yield* filesBelow(path);
  }
}

/** The text of a file; `null` if there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
