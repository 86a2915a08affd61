/**
 * Where things lie: the checkout, what the build makes, and the paths that a caller types.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The absolute path of the checkout. */
export const root: string = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where `zig build` installs everything. */
export const zigOut: string = join(root, "zig", "zig-out");

/** The object for `LD_PRELOAD`: the malloc family and `hak_*`. */
export const preloadLibrary: string = join(zigOut, "lib", "libhakmem_preload.so");

/** The same with every cost counted, for `./hak costs` and the tests. */
export const countingLibrary: string = join(zigOut, "test", "libhakmem_preload_counting.so");

/** The object for `dlopen`: `hak_*` only. */
export const ffiLibrary: string = join(zigOut, "lib", "libhakmem.so");

/** The C header, as installed by the build. */
export const header: string = join(zigOut, "include", "hakmem.h");

/** The absolute path of a native program that the build makes, for example `hak-sweep-driver`. */
export function binary(name: string): string {
  return join(zigOut, "bin", name);
}

/**
 * The absolute path of a file that the caller named. `deno task` runs in the checkout and leaves the
 * caller's own directory in `INIT_CWD`: a relative path means one from there.
 */
export function callerPath(path: string): string {
  return resolve(Deno.env.get("INIT_CWD") ?? Deno.cwd(), path);
}

/** The absolute path of a program, or `null` where `PATH` has none of that name. */
export function findProgram(name: string): string | null {
  for (const directory of (Deno.env.get("PATH") ?? "").split(":")) {
    if (directory === "") continue;
    const path = join(directory, name);
    try {
      const { isFile, mode } = Deno.statSync(path);
      if (isFile && ((mode ?? 0) & 0o111) !== 0) return path;
    } catch (error) {
      const absent = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied ||
        error instanceof Deno.errors.NotADirectory;
      if (!absent) throw error;
    }
  }
  return null;
}
