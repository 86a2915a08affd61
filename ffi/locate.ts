/**
 * Where the library is looked for, and what was wrong with a file that would not open.
 *
 * @module
 */
import { HakmemError } from "./errors.ts";
import { shown } from "./guards.ts";

/** A file to open. */
export interface Place {
  /** The absolute path. */
  path: string;
  /** Who named it, as an error says it. */
  source: string;
  /** The places of a higher rank that named no file, each with the reason. */
  passedOver: string[];
}

/** Machines by their number in the header of an ELF file. */
const machines: Record<number, string> = {
  3: "x86",
  40: "arm",
  62: "x86_64",
  183: "aarch64",
  243: "riscv",
};

const mend =
  "Run ./hak build in a checkout of hakmem, or set HAKMEM_LIB to the absolute path of a " +
  "libhakmem.so (and give --allow-env=HAKMEM_LIB)";

/** Finds the file that is to be opened. One that was named counts even if it turns out not to open. */
export function locate(path: string | URL | undefined): Place {
  if (path !== undefined) return { path: toPath(path), source: "options.path", passedOver: [] };
  const passedOver: string[] = [];
  const named = readVariable(passedOver);
  if (named !== null) return { path: named, source: "HAKMEM_LIB", passedOver };
  const built = new URL("../zig/zig-out/lib/libhakmem.so", import.meta.url);
  if (built.protocol === "file:") {
    return { path: toPath(built), source: "the checkout's build", passedOver };
  }
  passedOver.push(
    `the checkout's build: the binding comes from ${built.origin}, not from a checkout`,
  );
  throw new HakmemError(message([], passedOver));
}

/** The error for a file that would not open. */
export function openError({ path, source, passedOver }: Place, cause: unknown): HakmemError {
  return new HakmemError(message([`${path} (${source}): ${reason(path, cause)}`], passedOver), {
    cause,
  });
}

function message(tried: string[], passedOver: string[]): string {
  const { os, arch } = Deno.build;
  const lines = [...passedOver, ...tried].map((line) => `\n  ${line}`);
  return `Cannot open libhakmem.so for ${os} ${arch}:${lines.join("")}\n${mend}`;
}

/** `HAKMEM_LIB`, or `null` and the reason. */
function readVariable(passedOver: string[]): string | null {
  let value: string | undefined;
  try {
    value = Deno.env.get("HAKMEM_LIB");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    passedOver.push("HAKMEM_LIB: not read, for want of --allow-env=HAKMEM_LIB");
    return null;
  }
  if (value === undefined || value === "") {
    passedOver.push("HAKMEM_LIB: not set");
    return null;
  }
  if (!value.startsWith("/")) {
    throw new HakmemError(
      message([`${value} (HAKMEM_LIB): the path must be absolute, so begin with "/"`], []),
    );
  }
  return value;
}

/** The absolute path that a caller named. */
function toPath(path: string | URL): string {
  if (path instanceof URL) {
    if (path.protocol !== "file:") {
      throw new TypeError(`Cannot open ${path.href}: the library must be a file on this machine`);
    }
    return decodeURIComponent(path.pathname.replaceAll(/%(?![0-9a-f]{2})/gi, "%25"));
  }
  if (typeof path !== "string") {
    throw new TypeError(
      `Cannot open a library: options.path must be a string or a URL, not ${shown(path)}`,
    );
  }
  if (!path.startsWith("/")) {
    throw new TypeError(`Cannot open ${JSON.stringify(path)}: options.path must be absolute`);
  }
  return path;
}

/** What was wrong, in words. What the system's loader says is all that is known without `--allow-read`. */
function reason(path: string, error: unknown): string {
  if (error instanceof Deno.errors.NotCapable) {
    return error.message.includes(path)
      ? "Deno may not load it: run with --allow-ffi"
      : "Deno may load it but not read its memory: run with --allow-ffi, without a path";
  }
  if (!(error instanceof Error)) return String(error);
  const said = error.message.replace(/^(Could not open library: )+/, "");
  // What the loader says of a file that is not there, and also of one for another machine.
  if (said.startsWith(path) && said.endsWith("No such file or directory")) {
    return reasonFromFile(path) ?? loaderSays(said);
  }
  if (said.includes("Permission denied")) {
    return "the system denies access: check the permissions of the file and of its folders";
  }
  if (said.includes("wrong ELF class")) return wrongMachine("another word size");
  if (said.includes("invalid ELF header") || said.includes("file too short")) {
    return "it is not a shared object";
  }
  if (said.includes("Is a directory")) return "it is a directory";
  if (said.includes("undefined symbol: hak_abi_manifest")) {
    return "it is a shared object, but not hakmem's: it has no hak_abi_manifest";
  }
  return loaderSays(said);
}

/** Tells a missing file from one that the loader will not have. `null` if the file looks right. */
function reasonFromFile(path: string): string | null {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") {
    return `there is no such file, or it is for another machine than ${Deno.build.arch} ` +
      "(--allow-read lets hakmem tell which)";
  }
  const head = new Uint8Array(20);
  try {
    using file = Deno.openSync(path);
    file.readSync(head);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no such file";
    throw error;
  }
  const number = new DataView(head.buffer).getUint16(18, head[5] !== 2);
  const machine = machines[number] ?? `ELF machine ${number}`;
  return machine === Deno.build.arch ? null : wrongMachine(machine);
}

function wrongMachine(machine: string): string {
  return `it is a shared object for another machine (${machine}, not ${Deno.build.arch})`;
}

function loaderSays(said: string): string {
  return `the loader says ${JSON.stringify(said)}`;
}
