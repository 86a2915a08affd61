/**
 * The allocator as an object.
 *
 * @module
 */
import { HakmemError, OutOfMemoryError } from "./errors.ts";
import { checkAddresses, checkIndex, toAlignment, toUsize } from "./guards.ts";
import { type Library, type Native, openLibrary } from "./library.ts";
import { type HakmemStats, readStats } from "./stats.ts";

/** How to open the library. */
export interface OpenOptions {
  /** The absolute path, or the `file:` URL, of the library. Without it, {@linkcode Hakmem.open} looks itself. */
  path?: string | URL;
}

/** A size class of blocks up to 1024 bytes. */
export interface TinyClass {
  /** The number of the class, as {@linkcode Hakmem.tinyMagazineFlush} takes it. */
  index: number;
  /** The bytes of each block of the class. */
  blockBytes: number;
}

/**
 * The allocator, opened. There is one heap in a process: all that is opened in it, in workers too, allocates
 * from there, and a block may be freed by any of them.
 *
 * Sizes are bytes, as `number`: a safe integer from 0. What is no number throws a `TypeError`, any other
 * number a `RangeError`, and nothing is ever rounded or cut. What is no pointer throws a `TypeError`. A
 * pointer that is not a block in use (freed already, or from elsewhere) is a defect that JavaScript cannot
 * catch: the allocator says so in one line on standard error and ends the process with SIGABRT, at once where
 * it can tell, else when the block leaves the thread's magazine. A block that was freed must not be read or
 * written, nor an `ArrayBuffer` over it.
 *
 * After {@linkcode Hakmem.close} every method throws a {@linkcode HakmemError}.
 *
 * @example Allocate a block, write to it and free it
 * ```ts
 * import { Hakmem } from "@hakmem/hakmem";
 *
 * using hak = Hakmem.open();
 * const block = hak.malloc(64);
 * const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(block, 64));
 * bytes.fill(7);
 * hak.free(block);
 * ```
 *
 * @example Hand a block to a worker, which frees it
 * ```ts
 * import { Hakmem } from "@hakmem/hakmem";
 *
 * using hak = Hakmem.open();
 * // A pointer cannot be posted to a worker, its address can.
 * const address = BigInt(Deno.UnsafePointer.value(hak.malloc(64)));
 * // There, with a Hakmem of its own:
 * hak.free(Deno.UnsafePointer.create(address));
 * ```
 */
export class Hakmem implements Disposable {
  /** The absolute path of the library. */
  readonly path: string;
  /** The version of the library, such as `"0.1.0"`. */
  readonly version: string;
  /** `null` once closed: a call of a function of an unloaded library would crash the process. */
  #native: Native | null;
  readonly #release: () => void;
  readonly #tinyClassCount: number;

  private constructor({ native, path, version, release }: Library) {
    this.path = path;
    this.version = version;
    this.#native = native;
    this.#release = release;
    this.#tinyClassCount = native.hak_tiny_class_count();
  }

  /**
   * Opens the library. It is looked for in this order, and the first that is named counts:
   *
   * 1. `options.path`
   * 2. the environment variable `HAKMEM_LIB`, an absolute path; passed over without `--allow-env=HAKMEM_LIB`
   * 3. `zig/zig-out/lib/libhakmem.so` of the checkout that this module lies in
   *
   * This needs `--allow-ffi`, without a path. {@linkcode Hakmem.path} tells which file it is. Opening takes
   * a millisecond or two, and a library that is open already is shared. Open it once and keep it: once it is
   * closed by its last user and opened again, the engine no longer makes its fastest calls.
   *
   * @param options Where the library is, if it is to be said.
   * @returns The opened allocator, to be closed by `using` or {@linkcode Hakmem.close}.
   * @throws {HakmemError} If it cannot be opened, or is not the library that this binding was made for. The
   * message names each path and what was wrong with it.
   * @throws {TypeError} If `options.path` is not an absolute path or a `file:` URL.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * console.log(`hakmem ${hak.version} from ${hak.path}`);
   * ```
   */
  static open(options: OpenOptions = {}): Hakmem {
    return new Hakmem(openLibrary(options.path));
  }

  /** Whether {@linkcode Hakmem.close} was called. */
  get closed(): boolean {
    return this.#native === null;
  }

  /**
   * Closes the library for this object. The heap is untouched: blocks in use stay in use, and may be freed by
   * another `Hakmem`, opened before or after. Closing again does nothing.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   * import assert from "node:assert/strict";
   *
   * const hak = Hakmem.open();
   * hak.close();
   * assert.throws(() => hak.malloc(64), { name: "HakmemError", message: /closed/ });
   * ```
   */
  close(): void {
    if (this.#native === null) return;
    this.#native = null;
    this.#release();
  }

  /** Closes the library, at the end of the block of a `using` declaration. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Allocates a block. It is aligned to 16 bytes (to 8 if `size` is at most 8), and its contents are undefined.
   *
   * @param size How many bytes. 0 gives a block of its own too, to be freed like any other.
   * @returns The block.
   * @throws {OutOfMemoryError} If the system has not enough memory.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const block = hak.malloc(4096);
   * hak.free(block);
   * ```
   */
  malloc(size: number): Deno.PointerObject {
    const block = this.#open().hak_malloc(toUsize(size, "size"));
    if (block === null) throw new OutOfMemoryError(size);
    return block;
  }

  /**
   * Allocates a block of `count * size` bytes, all zero.
   *
   * @param count How many elements.
   * @param size How many bytes each of them has.
   * @returns The block.
   * @throws {OutOfMemoryError} If the system has not enough memory, or the product is beyond all memory.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   * import assert from "node:assert/strict";
   *
   * using hak = Hakmem.open();
   * const block = hak.calloc(16, 4);
   * const numbers = new Uint32Array(Deno.UnsafePointerView.getArrayBuffer(block, 64));
   * assert(numbers.every((number) => number === 0));
   * hak.free(block);
   * ```
   */
  calloc(count: number, size: number): Deno.PointerObject {
    const block = this.#open().hak_calloc(toUsize(count, "count"), toUsize(size, "size"));
    if (block === null) throw new OutOfMemoryError(count * size);
    return block;
  }

  /**
   * Gives a block another size, and often another address: from then on only the result is the block. The
   * contents stay as far as both sizes reach; what is beyond is undefined.
   *
   * As in C, `realloc(null, size)` is `malloc(size)`, and `realloc(block, 0)` frees the block and returns
   * `null`. In no other case is the result `null`.
   *
   * @param block The block, or `null`.
   * @param size How many bytes it is to have.
   * @returns The block of the new size, or `null` if it was freed.
   * @throws {OutOfMemoryError} If the system has not enough memory. The block is as it was then.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const small = hak.malloc(16);
   * const grown = hak.realloc(small, 4096);
   * hak.free(grown);
   * ```
   */
  realloc(block: Deno.PointerValue, size: number): Deno.PointerObject | null {
    const moved = this.#open().hak_realloc(block, toUsize(size, "size"));
    if (moved === null && (size > 0 || block === null)) throw new OutOfMemoryError(size);
    return moved;
  }

  /**
   * Frees a block. It must be one that is in use; see {@linkcode Hakmem} for what happens otherwise.
   *
   * @param block The block. `null` is nothing.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * hak.free(hak.malloc(64));
   * hak.free(null);
   * ```
   */
  free(block: Deno.PointerValue): void {
    this.#open().hak_free(block);
  }

  /**
   * Allocates a block at a multiple of `alignment`.
   *
   * @param alignment A power of two, in bytes.
   * @param size How many bytes. It need not be a multiple of `alignment`.
   * @returns The block.
   * @throws {RangeError} If `alignment` is not a power of two.
   * @throws {OutOfMemoryError} If the system has not enough memory.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   * import assert from "node:assert/strict";
   *
   * using hak = Hakmem.open();
   * const block = hak.alignedAlloc(4096, 100);
   * assert.equal(BigInt(Deno.UnsafePointer.value(block)) % 4096n, 0n);
   * hak.free(block);
   * ```
   */
  alignedAlloc(alignment: number, size: number): Deno.PointerObject {
    const block = this.#open().hak_aligned_alloc(toAlignment(alignment), toUsize(size, "size"));
    if (block === null) throw new OutOfMemoryError(size);
    return block;
  }

  /**
   * How many bytes of a block may be used: at least as many as were asked for.
   *
   * @param block The block.
   * @returns Bytes; 0 for `null`.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   * import assert from "node:assert/strict";
   *
   * using hak = Hakmem.open();
   * const block = hak.malloc(100);
   * assert(hak.usableSize(block) >= 100);
   * hak.free(block);
   * ```
   */
  usableSize(block: Deno.PointerValue): number {
    return Number(this.#open().hak_usable_size(block));
  }

  /**
   * Allocates as many blocks as an array has elements, and puts their addresses into it. For many blocks at
   * once this is faster than {@linkcode Hakmem.malloc}, since no pointer objects are made;
   * `Deno.UnsafePointer.create` makes one from an address.
   *
   * @param size How many bytes each block has.
   * @param blocks Takes the addresses. What was in it is overwritten.
   * @throws {OutOfMemoryError} If the system has not enough memory for all of them. None is allocated then,
   * and all elements are 0.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const blocks = new BigUint64Array(1000);
   * hak.mallocBatch(64, blocks);
   * const [first = 0n] = blocks;
   * console.log(hak.usableSize(Deno.UnsafePointer.create(first)));
   * hak.freeBatch(blocks);
   * ```
   */
  mallocBatch(size: number, blocks: BigUint64Array<ArrayBuffer>): void {
    const native = this.#open();
    const bytes = toUsize(size, "size");
    checkAddresses(blocks);
    const count = blocks.length;
    const allocated = native.hak_malloc_batch(bytes, BigInt(count), blocks);
    if (Number(allocated) === count) return;
    native.hak_free_batch(blocks, allocated);
    blocks.fill(0n);
    throw new OutOfMemoryError(size * count);
  }

  /**
   * Frees the blocks whose addresses are in an array, and sets its elements to 0, so that to free them once
   * more is nothing.
   *
   * @param blocks The addresses. An element of 0 is nothing.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const blocks = new BigUint64Array(16);
   * hak.mallocBatch(64, blocks);
   * hak.freeBatch(blocks.subarray(0, 8));
   * hak.freeBatch(blocks);
   * ```
   */
  freeBatch(blocks: BigUint64Array<ArrayBuffer>): void {
    const native = this.#open();
    checkAddresses(blocks);
    native.hak_free_batch(blocks, BigInt(blocks.length));
    blocks.fill(0n);
  }

  /**
   * The size classes of blocks up to 1024 bytes, from the smallest.
   *
   * @returns A new array.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const serving = hak.tinyClasses().find(({ blockBytes }) => blockBytes >= 100);
   * console.log(serving);
   * ```
   */
  tinyClasses(): TinyClass[] {
    const native = this.#open();
    return Array.from({ length: this.#tinyClassCount }, (_, index) => ({
      index,
      blockBytes: Number(native.hak_tiny_class_size(index)),
    }));
  }

  /**
   * The size class that serves blocks of a size.
   *
   * @param size How many bytes.
   * @returns The number of the class, or `null` if `size` is above 1024.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const index = hak.tinyClassOf(64);
   * if (index !== null) hak.tinyMagazineFlush(index);
   * ```
   */
  tinyClassOf(size: number): number | null {
    const index = this.#open().hak_tiny_class_of(toUsize(size, "size"));
    return index < 0 ? null : index;
  }

  /**
   * Returns the free blocks of one size class to their slabs, from this thread's magazine and from the cold
   * magazine, and unmaps superslabs that are empty.
   *
   * @param classIndex The number of the class, as {@linkcode Hakmem.tinyClasses} lists it.
   * @throws {RangeError} If there is no such class.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * for (const { index } of hak.tinyClasses()) hak.tinyMagazineFlush(index);
   * ```
   */
  tinyMagazineFlush(classIndex: number): void {
    const native = this.#open();
    checkIndex(classIndex, "classIndex", this.#tinyClassCount);
    native.hak_tiny_magazine_flush(classIndex);
  }

  /**
   * The same for every size class, tiny or not. Other threads do it too, each at its next slow path.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * hak.tinyMagazineFlushAll();
   * ```
   */
  tinyMagazineFlushAll(): void {
    this.#open().hak_tiny_magazine_flush_all();
  }

  /**
   * Flushes as {@linkcode Hakmem.tinyMagazineFlushAll} does, and gives every free page that is found back to
   * the system.
   *
   * @returns How many bytes were given back.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * console.log(`${hak.purge()} bytes given back`);
   * ```
   */
  purge(): number {
    return Number(this.#open().hak_purge());
  }

  /**
   * What the allocator holds in this process. It takes locks and adds up: for reports, not for hot loops.
   *
   * @returns A new object.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * const { mappedBytes, superslabs } = hak.stats();
   * console.log(`${mappedBytes} bytes mapped, ${superslabs} superslabs`);
   * ```
   */
  stats(): HakmemStats {
    return readStats(this.#open());
  }

  /**
   * Whether hakmem is the malloc of this process, by `LD_PRELOAD`. What this class allocates comes from
   * hakmem in any case; this tells of the memory of Deno itself and of other libraries.
   *
   * @returns `false` too if hakmem was loaded but another malloc comes before it. `./hak doctor` says why.
   *
   * @example
   * ```ts
   * import { Hakmem } from "@hakmem/hakmem";
   *
   * using hak = Hakmem.open();
   * console.log(hak.isActive() ? "malloc is hakmem's" : "malloc is the system's");
   * ```
   */
  isActive(): boolean {
    return this.#open().hak_is_active() === 1;
  }

  #open(): Native {
    if (this.#native === null) throw new HakmemError("Cannot call hakmem: the library is closed");
    return this.#native;
  }
}
