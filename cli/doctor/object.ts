/**
 * Objects that can be preloaded: which of them is hakmem, and which bring a malloc.
 *
 * @module
 */
import { type Elf, readElf } from "../elf.ts";

/** A shared object as the doctor sees it. */
export interface SharedObject {
  /** Where it lies. */
  path: string;
  /** What the file says of itself. */
  elf: Elf;
  /** The C library that it was built for; null if it needs none. */
  libc: "glibc" | "musl" | null;
  /** The version of hakmem that it is; null if it is something else. */
  hakmem: string | null;
  /** Whether calls of `malloc` can go to it. */
  takesMalloc: boolean;
}

/** Looks into an object. Returns null if the file is not ELF; throws what the system says of it. */
export function readObject(path: string): SharedObject | null {
  const elf = readElf(path);
  if (elf === null) return null;
  return {
    path,
    elf,
    libc: libcOf(elf),
    hakmem: elf.exports.has("hak_abi_manifest") ? manifestVersion(path) : null,
    takesMalloc: elf.exports.has("malloc"),
  };
}

/** The C library that an object or a program asks for. */
export function libcOf({ needed, interpreter }: Elf): "glibc" | "musl" | null {
  if (interpreter !== null) return /\/ld-musl-[^/]*$/.test(interpreter) ? "musl" : "glibc";
  if (needed.includes("libc.so.6")) return "glibc";
  return needed.some((name) => name === "libc.so" || name.startsWith("libc.musl-")) ? "musl" : null;
}

/** The sanitizer whose malloc an object or a program brings along; null if none. */
export function sanitizerOf({ needed, exports }: Elf, name: string): string | null {
  const library = /^lib(?:clang_rt\.)?(?:asan|hwasan|tsan|msan|lsan)\b/;
  const found = [name, ...needed].find((one) => library.test(one)) ??
    ["__asan_init", "__hwasan_init", "__tsan_init", "__msan_init"].find((one) => exports.has(one));
  return found ?? null;
}

/** The version in an object's ABI manifest. It is read from the file: to load the object would be to use it. */
function manifestVersion(path: string): string {
  const text = new TextDecoder("latin1").decode(Deno.readFileSync(path));
  return /\{"schema":"hakmem\.abi\/\d+","version":"([^"]+)"/.exec(text)?.[1] ?? "unknown";
}
