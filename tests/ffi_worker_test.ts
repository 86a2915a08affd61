/**
 * Blocks that move between workers. Each worker opens the binding by itself; the heap is one.
 */
import assert from "node:assert/strict";
import { Hakmem } from "../mod.ts";
import type { Order } from "./ffi_worker.ts";

/** A worker that answers one order at a time. */
class Helper implements Disposable {
  readonly #worker = new Worker(import.meta.resolve("./ffi_worker.ts"), { type: "module" });

  tell(order: Order): Promise<bigint[]> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<bigint[]>): void => resolve(data);
      this.#worker.onerror = (event): void => {
        event.preventDefault();
        reject(new Error(event.message));
      };
      this.#worker.postMessage(order);
    });
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

function addressesOf(blocks: Deno.PointerObject[]): bigint[] {
  return blocks.map((block) => BigInt(Deno.UnsafePointer.value(block)));
}

function blocksAt(addresses: bigint[]): Deno.PointerObject[] {
  return addresses.map((address) => {
    const block = Deno.UnsafePointer.create(address);
    assert(block !== null);
    return block;
  });
}

function bytesOf(block: Deno.PointerObject, size: number): Uint8Array {
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(block, size));
}

Deno.test("ffi worker: what one thread allocates, another checks and frees", async () => {
  using hak = Hakmem.open();
  using helper = new Helper();
  for (const size of [16, 1000, 20_000, 300_000, 2_000_000]) {
    const count = size > 100_000 ? 5 : 2000;
    const ours = Array.from({ length: count }, () => hak.malloc(size));
    for (const block of ours) bytesOf(block, size).fill(1);
    await helper.tell({ kind: "free", addresses: addressesOf(ours), size, fill: 1 });

    const theirs = blocksAt(await helper.tell({ kind: "allocate", count, size, fill: 2 }));
    for (const block of theirs) {
      assert(bytesOf(block, size).every((byte) => byte === 2));
      hak.free(block);
    }
  }
});

Deno.test("ffi worker: a check of the helper's can fail", async () => {
  using hak = Hakmem.open();
  using helper = new Helper();
  const block = hak.calloc(1, 64);
  const addresses = addressesOf([block]);
  await assert.rejects(
    helper.tell({ kind: "free", addresses, size: 64, fill: 1 }),
    /does not hold 1/,
  );
  hak.free(block);
});

for (const close of [true, false]) {
  const how = close ? "closed the library and ended" : "ended and left the library open";
  Deno.test(`ffi worker: blocks outlive a worker that ${how}`, async () => {
    using hak = Hakmem.open();
    const size = 100;
    for (let round = 0; round < 5; round++) {
      let addresses: bigint[];
      {
        using helper = new Helper();
        addresses = await helper.tell({ kind: "allocate", count: 1000, size, fill: 3 });
        await helper.tell({ kind: "churn", rounds: 1000 });
        await helper.tell({ kind: "end", close });
      }
      for (const block of blocksAt(addresses)) {
        assert(bytesOf(block, size).every((byte) => byte === 3));
        hak.free(block);
      }
    }
  });
}

Deno.test("ffi worker: a worker terminated while it allocates takes nothing with it", async () => {
  using hak = Hakmem.open();
  hak.free(hak.malloc(1));
  await threadsAtMost(hak, 1);
  for (let round = 0; round < 5; round++) {
    {
      using helper = new Helper();
      await helper.tell({ kind: "churn forever" });
    }
    for (let i = 0; i < 10_000; i++) hak.free(hak.malloc(i % 5000));
  }
  await threadsAtMost(hak, 1);
  hak.tinyMagazineFlushAll();
  assert.equal(hak.stats().magazineBytes, 0);
});

/** Waits until threads that were told to end have left the allocator. */
async function threadsAtMost(hak: Hakmem, count: number): Promise<void> {
  while (hak.stats().threads > count) await new Promise((done) => setTimeout(done, 20));
}

Deno.test("ffi worker: closing in one thread leaves the others open", async () => {
  using helper = new Helper();
  await helper.tell({ kind: "churn", rounds: 10 });
  for (let round = 0; round < 20; round++) {
    const hak = Hakmem.open();
    const ours = addressesOf([hak.calloc(64, 1)]);
    hak.close();
    await helper.tell({ kind: "free", addresses: ours, size: 64, fill: 0 });
  }
});

Deno.test("ffi worker: four workers allocate and free at once, and free each other's", async () => {
  const helpers = Array.from({ length: 4 }, () => new Helper());
  try {
    const size = 48;
    let made = await Promise.all(
      helpers.map((helper, fill) => helper.tell({ kind: "allocate", count: 2000, size, fill })),
    );
    for (let round = 1; round < 10; round++) {
      const fillOf = (index: number): number => (index + round - 1) % helpers.length;
      made = await Promise.all(helpers.map(async (helper, index) => {
        const from = (index + 1) % helpers.length;
        const addresses = made[from] ?? [];
        await helper.tell({ kind: "free", addresses, size, fill: fillOf(from) });
        await helper.tell({ kind: "churn", rounds: 500 });
        return helper.tell({ kind: "allocate", count: 2000, size, fill: (index + round) % 4 });
      }));
    }
    assert.equal(new Set(made.flat()).size, 4 * 2000);
    using hak = Hakmem.open();
    for (const block of blocksAt(made.flat())) hak.free(block);
  } finally {
    for (const helper of helpers) helper[Symbol.dispose]();
  }
});
