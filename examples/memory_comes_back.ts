/**
 * A million small blocks: what they take, what stays when they are freed, and what a flush gives back.
 *
 *   deno run --allow-ffi examples/memory_comes_back.ts
 */
import { Hakmem } from "../mod.ts";

using hak = Hakmem.open();
const blocks = new BigUint64Array(1_000_000);
const size = 16;

console.log("                  in slabs    free blocks         mapped");
show("at the start");
hak.mallocBatch(size, blocks);
show("allocated");
hak.freeBatch(blocks);
show("freed");
hak.tinyMagazineFlushAll();
show("flushed");

function show(moment: string): void {
  const { slabBytes, magazineBytes, coldBytes, slabFreeBytes, mappedBytes } = hak.stats();
  const columns = [slabBytes, magazineBytes + coldBytes + slabFreeBytes, mappedBytes];
  console.log(
    moment.padEnd(12) +
      columns.map((bytes) => `${(bytes / 2 ** 20).toFixed(2)} MiB`.padStart(15)).join(""),
  );
}
