/**
 * hakmem, a memory allocator, called from Deno: blocks of native memory for FFI, and a look at what the
 * allocator holds.
 *
 * Importing this does nothing; {@linkcode Hakmem.open} loads the library. It needs `--allow-ffi`, and
 * `--allow-env=HAKMEM_LIB` if that variable is to be heeded.
 *
 * @example Ten thousand blocks, and what they take
 * ```ts
 * import { Hakmem } from "@hakmem/hakmem";
 *
 * using hak = Hakmem.open();
 * const blocks = Array.from({ length: 10_000 }, () => hak.malloc(48));
 * console.log(hak.stats().slabBytes);
 * for (const block of blocks) hak.free(block);
 * hak.tinyMagazineFlushAll();
 * console.log(hak.stats().slabBytes);
 * ```
 *
 * @module
 */
export { Hakmem, type OpenOptions, type TinyClass } from "./ffi/hakmem.ts";
export { HakmemError, OutOfMemoryError } from "./ffi/errors.ts";
export type { HakmemStats } from "./ffi/stats.ts";
