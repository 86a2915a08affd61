/**
 * The loaded library: opened once for all who open it in this isolate, compared with the symbol table before
 * its first call, and unloaded by the last who closes it.
 *
 * Sharing is for speed. The engine's fast calls hold for one function at each place of a call, and every
 * `Deno.dlopen` makes functions anew: a second table in use at the same time makes every call about ten
 * times as slow.
 *
 * @module
 */
import { HakmemError } from "./errors.ts";
import { locate, openError, type Place } from "./locate.ts";
import { camelCase, declaration, type Manifest, parseManifest, withManifest } from "./manifest.ts";
import { abi, symbols } from "./symbols.ts";

/** The library's functions. */
export type Native = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** The library, as one of its users holds it. */
export interface Library {
  /** The functions. Not to be called after {@linkcode Library.release}: that would crash the process. */
  readonly native: Native;
  /** The absolute path of the file. */
  readonly path: string;
  /** The version of the allocator. */
  readonly version: string;
  /** Gives the library up. To be called once. */
  release(): void;
}

interface Loaded {
  handle: Deno.DynamicLibrary<typeof symbols>;
  version: string;
  users: number;
}

const remedy =
  "\nUse a library and a binding of one version; in a checkout, run ./hak build and ./hak symbols";

const loadedByPath = new Map<string, Loaded>();

/** Opens the library. Throws {@linkcode HakmemError} with all that is known of the cause. */
export function openLibrary(named: string | URL | undefined): Library {
  const place = locate(named);
  const { path } = place;
  const loaded = loadedByPath.get(path) ?? load(place);
  loadedByPath.set(path, loaded);
  loaded.users++;
  const { handle, version } = loaded;
  return { native: handle.symbols, path, version, release: () => release(path) };
}

function load(place: Place): Loaded {
  const { path } = place;
  try {
    // The object stays loaded from the look at its manifest on, so it is one and the same.
    return withManifest(path, (text) => {
      const version = check(path, text);
      return { handle: Deno.dlopen(path, symbols), version, users: 0 };
    });
  } catch (error) {
    if (error instanceof HakmemError) throw error;
    throw openError(place, error);
  }
}

/** Returns the version of an object that this binding can use. Throws if it cannot. */
function check(path: string, text: string): string {
  let manifest: Manifest;
  try {
    manifest = parseManifest(text);
  } catch (cause) {
    if (!(cause instanceof HakmemError)) throw cause;
    throw new HakmemError(`Cannot use ${path}: ${cause.message}${remedy}`, { cause });
  }
  const differences = compare(manifest);
  if (differences.length > 0) {
    const { version } = manifest;
    const list = differences.map((line) => `\n  ${line}`).join("");
    throw new HakmemError(
      `Cannot use ${path}, hakmem ${version}: its ABI is not this binding's:${list}${remedy}`,
    );
  }
  return manifest.version;
}

function release(path: string): void {
  const loaded = loadedByPath.get(path);
  if (loaded === undefined || --loaded.users > 0) return;
  loadedByPath.delete(path);
  loaded.handle.close();
}

/**
 * What the symbol table needs and the object does not have. What an object has besides is no difference, so a
 * newer one that only adds to its functions and to the end of its stats is good.
 */
export function compare(manifest: Manifest): string[] {
  const differences: string[] = [];
  const look = (what: string, here: string, there: string | undefined): void => {
    if (there === undefined) differences.push(`${what}: missing`);
    else if (there !== here) differences.push(`${what}: ${there}, where the binding has ${here}`);
  };
  const functions = new Map(manifest.functions.map((one) => [one.name, declaration(one)]));
  for (const [name, here] of Object.entries(abi.functions)) look(name, here, functions.get(name));
  const results = new Map(
    manifest.results.map(({ name, value }) => [camelCase(name), String(value)]),
  );
  for (const [name, here] of Object.entries(abi.results)) {
    look(`result ${name}`, String(here), results.get(name));
  }
  const fields = new Map(
    manifest.stats.fields.map(({ name, offset }) => [camelCase(name), String(offset)]),
  );
  for (const [position, name] of abi.stats.entries()) {
    look(`offset of stats.${name}`, String(position * 8), fields.get(name));
  }
  return differences;
}
