/**
 * What a block costs from Deno: the binding, libc's malloc called by `Deno.dlopen`, and `new Uint8Array`.
 *
 *   ./hak bench-ffi            builds first, or: deno bench --allow-ffi --allow-env=HAKMEM_LIB
 *
 * How to read it:
 * - A row of "one block" allocates and frees one block of the size, untouched. A row of "4096 blocks" holds
 *   4096 of them at once; divide its time by 4096.
 * - The binding checks every size, and that the library is open. libc is called in the fastest way there is
 *   (a `usize` given as a bigint) and without any check, so the binding's rows carry a little more.
 * - JavaScript zeroes its arrays, malloc does not: compare `new Uint8Array` with the calloc rows. Nor does a
 *   row of `new Uint8Array` free anything itself: the garbage collector does, at times of its own, which
 *   shows in the average and the maximum more than in the 75th percentile.
 * - What a block costs when it is first written to, which is most of the cost of a large one, is not here:
 *   `./hak sweep` measures that.
 */
import { Hakmem } from "../mod.ts";

const hak = Hakmem.open();

const libc = Deno.dlopen("libc.so.6", {
  malloc: { parameters: ["usize"], result: "pointer" },
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  free: { parameters: ["pointer"], result: "void" },
}).symbols;

/** Where results go, so that no allocation is without a use and optimised away. */
export let kept: unknown = null;

const sizes: [name: string, size: number][] = [
  ["16 B", 16],
  ["64 B", 64],
  ["4 KiB", 4096],
  ["64 KiB", 65_536],
  ["1 MiB", 1_048_576],
];

for (const [name, size] of sizes) {
  const group = `one block of ${name}`;
  Deno.bench(`hakmem malloc, free: ${name}`, { group, baseline: true }, () => {
    hak.free(hak.malloc(size));
  });
  Deno.bench(`libc malloc, free: ${name}`, { group }, () => {
    libc.free(libc.malloc(BigInt(size)));
  });
  Deno.bench(`hakmem calloc, free: ${name}`, { group }, () => {
    hak.free(hak.calloc(1, size));
  });
  Deno.bench(`libc calloc, free: ${name}`, { group }, () => {
    libc.free(libc.calloc(1n, BigInt(size)));
  });
  Deno.bench(`new Uint8Array: ${name}`, { group }, () => {
    kept = new Uint8Array(size);
  });
}

const count = 4096;

for (const [name, size] of [["16 B", 16], ["64 B", 64], ["1 KiB", 1024]] as const) {
  const group = `${count} blocks of ${name}`;
  const pointers = new Array<Deno.PointerValue>(count).fill(null);
  const addresses = new BigUint64Array(count);
  const arrays = new Array<Uint8Array | null>(count).fill(null);
  Deno.bench(`hakmem malloc all, free all: ${name}`, { group, baseline: true }, () => {
    for (let i = 0; i < count; i++) pointers[i] = hak.malloc(size);
    for (let i = 0; i < count; i++) hak.free(pointers[i] ?? null);
  });
  Deno.bench(`hakmem mallocBatch, freeBatch: ${name}`, { group }, () => {
    hak.mallocBatch(size, addresses);
    hak.freeBatch(addresses);
  });
  Deno.bench(`libc malloc all, free all: ${name}`, { group }, () => {
    for (let i = 0; i < count; i++) pointers[i] = libc.malloc(BigInt(size));
    for (let i = 0; i < count; i++) libc.free(pointers[i] ?? null);
  });
  Deno.bench(`new Uint8Array, all kept: ${name}`, { group }, () => {
    for (let i = 0; i < count; i++) arrays[i] = new Uint8Array(size);
  });
}
