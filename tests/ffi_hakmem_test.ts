/**
 * What the binding does with blocks, with wrong arguments and after closing: the same when a call is new and
 * when the engine has made it fast, for only then does Deno cut an integer in silence.
 */
import assert from "node:assert/strict";
import { Hakmem, HakmemError, OutOfMemoryError } from "../mod.ts";
import { outputOf, runScript } from "./ffi_support.ts";

/** Calls enough for the engine to compile a function and its native call. */
const untilHot = 100_000;

/** A view of a block's bytes. */
function bytesOf(block: Deno.PointerObject, size: number): Uint8Array {
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(block, size));
}

function addressOf(block: Deno.PointerValue): bigint {
  return BigInt(Deno.UnsafePointer.value(block));
}

/** Values that are no size, each with the error that it must lead to. */
const wrongSizes: [value: unknown, error: string][] = [
  [-1, "RangeError"],
  [1.5, "RangeError"],
  [NaN, "RangeError"],
  [Infinity, "RangeError"],
  [-Infinity, "RangeError"],
  [2 ** 53, "RangeError"],
  [2 ** 64, "RangeError"],
  [1e300, "RangeError"],
  [64n, "TypeError"],
  [2n ** 64n, "TypeError"],
  ["64", "TypeError"],
  ["", "TypeError"],
  [true, "TypeError"],
  [null, "TypeError"],
  [undefined, "TypeError"],
  [{}, "TypeError"],
  [{ valueOf: (): number => 64 }, "TypeError"],
  [new Number(64), "TypeError"],
  [[64], "TypeError"],
  [Symbol("size"), "TypeError"],
  [(): number => 64, "TypeError"],
];

const noPointers: unknown[] = [
  undefined,
  0,
  64,
  1.5,
  NaN,
  16n,
  "block",
  true,
  {},
  Object.create(null),
  [],
  Symbol("block"),
  (): null => null,
  new Uint8Array(8),
  new ArrayBuffer(8),
  new Proxy({}, {}),
];

Deno.test("ffi: a block of any size can be written to its end, and blocks do not overlap", () => {
  using hak = Hakmem.open();
  const sizes = [1, 8, 9, 16, 17, 100, 1024, 1025, 4096, 32_768, 65_537, 1_048_576, 5_000_000];
  const blocks = sizes.map((size, index) => {
    const block = hak.malloc(size);
    assert.equal(addressOf(block) % (size <= 8 ? 8n : 16n), 0n);
    assert(hak.usableSize(block) >= size);
    bytesOf(block, hak.usableSize(block)).fill(index + 1);
    return block;
  });
  for (const [index, block] of blocks.entries()) {
    const bytes = bytesOf(block, hak.usableSize(block));
    assert(bytes.every((byte) => byte === index + 1), `block of ${sizes[index]}`);
    hak.free(block);
  }
});

Deno.test("ffi: a size of 0 gives a block of its own", () => {
  using hak = Hakmem.open();
  const blocks = [hak.malloc(0), hak.malloc(-0), hak.calloc(0, 8), hak.alignedAlloc(64, 0)];
  assert.equal(new Set(blocks.map(addressOf)).size, blocks.length);
  for (const block of blocks) hak.free(block);
});

Deno.test("ffi: freeing null is nothing, and null has no usable size", () => {
  using hak = Hakmem.open();
  hak.free(null);
  assert.equal(hak.usableSize(null), 0);
});

Deno.test("ffi: calloc gives zeroes, also where a freed block lay", () => {
  using hak = Hakmem.open();
  for (const size of [48, 1024, 40_000, 2_000_000]) {
    const dirty = hak.malloc(size);
    bytesOf(dirty, size).fill(0xff);
    hak.free(dirty);
    const block = hak.calloc(size / 4, 4);
    assert(bytesOf(block, size).every((byte) => byte === 0), `calloc of ${size} bytes`);
    hak.free(block);
  }
});

Deno.test("ffi: realloc keeps the contents as far as both sizes reach", () => {
  using hak = Hakmem.open();
  let block = hak.realloc(null, 10);
  assert(block !== null);
  bytesOf(block, 10).set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const size of [100, 5000, 3_000_000, 70_000, 10, 4]) {
    block = hak.realloc(block, size);
    assert(block !== null);
    assert(hak.usableSize(block) >= size);
    const known = Math.min(size, 4);
    assert.deepEqual([...bytesOf(block, known)], [1, 2, 3, 4].slice(0, known));
  }
  assert.equal(hak.realloc(block, 0), null);
  const own = hak.realloc(null, 0);
  assert(own !== null);
  hak.free(own);
});

Deno.test("ffi: alignedAlloc gives multiples of every power of two", () => {
  using hak = Hakmem.open();
  for (let alignment = 1; alignment <= 2 ** 24; alignment *= 2) {
    for (const size of [1, 100, 70_000]) {
      const block = hak.alignedAlloc(alignment, size);
      assert.equal(addressOf(block) % BigInt(alignment), 0n, `alignment ${alignment}`);
      assert(hak.usableSize(block) >= size);
      bytesOf(block, size).fill(1);
      hak.free(block);
    }
  }
});

Deno.test("ffi: alignedAlloc refuses what is no power of two", () => {
  using hak = Hakmem.open();
  const align = (alignment: number): void => hak.free(hak.alignedAlloc(alignment, 64));
  const refuse = (): void => {
    for (const wrong of [0, 3, 24, 4095, 4097, 2 ** 32 + 8, 2 ** 52 + 1, Number.MAX_SAFE_INTEGER]) {
      assert.throws(() => align(wrong), { name: "RangeError", message: /as alignment: / });
    }
    for (const [wrong, name] of wrongSizes) {
      assert.throws(() => align(wrong as number), { name, message: /as alignment: / });
    }
  };
  refuse();
  for (let i = 0; i < untilHot; i++) align(64);
  refuse();
});

Deno.test("ffi: wrong sizes are refused, in new calls and in hot ones", async (t) => {
  using hak = Hakmem.open();
  const blocks = new BigUint64Array(1);
  const callers: [name: string, call: (size: number) => void][] = [
    ["malloc", (size) => hak.free(hak.malloc(size))],
    ["calloc, count", (count) => hak.free(hak.calloc(count, 1))],
    ["calloc, size", (size) => hak.free(hak.calloc(1, size))],
    ["realloc", (size) => hak.free(hak.realloc(null, size))],
    ["alignedAlloc", (size) => hak.free(hak.alignedAlloc(16, size))],
    ["tinyClassOf", (size) => hak.tinyClassOf(size)],
    ["mallocBatch", (size) => {
      hak.mallocBatch(size, blocks);
      hak.freeBatch(blocks);
    }],
  ];
  for (const [name, call] of callers) {
    await t.step(name, () => {
      const refuse = (): void => {
        for (const [wrong, error] of wrongSizes) {
          assert.throws(
            () => call(wrong as number),
            { name: error, message: /^Cannot use .* as (size|count): it must be an integer/ },
          );
        }
      };
      refuse();
      for (let i = 0; i < untilHot; i++) call(i & 1023);
      refuse();
      for (let i = 0; i < untilHot; i++) call(i & 1023);
      refuse();
    });
  }
});

Deno.test("ffi: sizes beyond 32 bits are not cut, in new calls and in hot ones", () => {
  using hak = Hakmem.open();
  const sizes = [2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 5];
  const check = (): void => {
    for (const size of sizes) {
      let block: Deno.PointerObject;
      try {
        block = hak.malloc(size);
      } catch (error) {
        // On a small machine; what matters is that no small block is given.
        if (!(error instanceof OutOfMemoryError)) throw error;
        continue;
      }
      assert(hak.usableSize(block) >= size);
      hak.free(block);
    }
  };
  check();
  for (let i = 0; i < untilHot; i++) hak.free(hak.malloc(i & 255));
  check();
});

Deno.test("ffi: what is no pointer is refused, in new calls and in hot ones", () => {
  using hak = Hakmem.open();
  const refuse = (): void => {
    for (const wrong of noPointers) {
      const block = wrong as Deno.PointerValue;
      assert.throws(() => hak.free(block), TypeError);
      assert.throws(() => hak.realloc(block, 64), TypeError);
      assert.throws(() => hak.usableSize(block), TypeError);
    }
  };
  refuse();
  for (let i = 0; i < untilHot; i++) {
    const block = hak.realloc(hak.malloc(16), 64);
    hak.usableSize(block);
    hak.free(block);
  }
  refuse();
});

Deno.test("ffi: out of memory tells the size, and leaves everything as it was", () => {
  using hak = Hakmem.open();
  const most = Number.MAX_SAFE_INTEGER;
  const outOf = (size: number) => (error: unknown): boolean => {
    assert(error instanceof OutOfMemoryError);
    assert(error instanceof HakmemError);
    assert.equal(error.size, size);
    assert.equal(error.name, "OutOfMemoryError");
    assert(error.message.includes(String(size)));
    return true;
  };
  const block = hak.malloc(100);
  bytesOf(block, 100).fill(9);
  const before = hak.stats();
  assert.throws(() => hak.malloc(most), outOf(most));
  assert.throws(() => hak.calloc(1, most), outOf(most));
  assert.throws(() => hak.calloc(most, most), outOf(most * most));
  assert.throws(() => hak.calloc(2 ** 32, 2 ** 32), outOf(2 ** 64));
  assert.throws(() => hak.alignedAlloc(4096, most), outOf(most));
  assert.throws(() => hak.alignedAlloc(2 ** 52, 1), outOf(1));
  assert.throws(() => hak.realloc(block, most), outOf(most));
  assert.throws(() => hak.realloc(null, most), outOf(most));
  const { hugeBlocks, hugeBytes } = hak.stats();
  assert.deepEqual({ hugeBlocks, hugeBytes }, {
    hugeBlocks: before.hugeBlocks,
    hugeBytes: before.hugeBytes,
  });
  assert(bytesOf(block, 100).every((byte) => byte === 9));
  hak.free(block);
});

Deno.test("ffi: a batch gives as many blocks as the array has elements, and takes them back", () => {
  using hak = Hakmem.open();
  // The engine keeps the elements of short arrays elsewhere, and a view may begin in the middle.
  const whole = new BigUint64Array(20).fill(7n);
  const arrays = [
    ...[0, 1, 2, 7, 8, 9, 100, 5000].map((length) => new BigUint64Array(length)),
    whole.subarray(4, 12),
    new BigUint64Array(new ArrayBuffer(80, { maxByteLength: 800 }), 16, 4),
  ];
  for (let round = 0; round < 300; round++) {
    for (const blocks of arrays) {
      hak.mallocBatch(48, blocks);
      assert(blocks.every((address) => address !== 0n && address % 16n === 0n));
      if (round === 0) {
        assert.equal(new Set(blocks).size, blocks.length);
        for (const address of blocks) {
          const block = Deno.UnsafePointer.create(address);
          assert(block !== null && hak.usableSize(block) >= 48);
          bytesOf(block, 48).fill(3);
        }
      }
      hak.freeBatch(blocks);
      assert(blocks.every((address) => address === 0n));
      hak.freeBatch(blocks);
    }
  }
  assert(whole.subarray(0, 4).every((element) => element === 7n));
  assert(whole.subarray(12).every((element) => element === 7n));
});

Deno.test("ffi: a batch refuses an array whose addresses have moved elsewhere", () => {
  using hak = Hakmem.open();
  const blocks = new BigUint64Array(4);
  hak.mallocBatch(64, blocks);
  const moved = new BigUint64Array(blocks.buffer.transfer());
  const refused = { name: "TypeError", message: /as blocks: it is detached/ };
  assert.throws(() => hak.freeBatch(blocks), refused);
  assert.throws(() => hak.mallocBatch(64, blocks), refused);
  hak.freeBatch(moved);
});

Deno.test("ffi: a batch refuses what is no BigUint64Array", () => {
  using hak = Hakmem.open();
  const blocks = new BigUint64Array(1);
  const wrong = [...noPointers, null, new Float64Array(4), new BigInt64Array(4), [1n]];
  const refuse = (): void => {
    for (const value of wrong) {
      const array = value as BigUint64Array<ArrayBuffer>;
      assert.throws(() => hak.mallocBatch(64, array), {
        name: "TypeError",
        message: /as blocks: /,
      });
      assert.throws(() => hak.freeBatch(array), { name: "TypeError", message: /as blocks: / });
    }
  };
  refuse();
  for (let i = 0; i < untilHot; i++) {
    hak.mallocBatch(64, blocks);
    hak.freeBatch(blocks);
  }
  refuse();
});

Deno.test("ffi: a batch that memory does not suffice for allocates nothing", () => {
  using hak = Hakmem.open();
  // Together more than any address space; one alone may well be had.
  const size = 2 ** 32;
  const blocks = new BigUint64Array(2 ** 17).fill(5n);
  const before = hak.stats();
  assert.throws(() => hak.mallocBatch(size, blocks), (error) => {
    assert(error instanceof OutOfMemoryError);
    assert.equal(error.size, size * blocks.length);
    return true;
  });
  assert(blocks.every((address) => address === 0n));
  const after = hak.stats();
  assert.equal(after.hugeBlocks, before.hugeBlocks);
  assert.equal(after.hugeBytes, before.hugeBytes);
});

Deno.test("ffi: the tiny classes cover every size up to 1024, each by the smallest that fits", () => {
  using hak = Hakmem.open();
  const classes = hak.tinyClasses();
  assert.equal(classes.at(-1)?.blockBytes, 1024);
  for (const [index, one] of classes.entries()) {
    assert.equal(one.index, index);
    assert(one.blockBytes > (classes[index - 1]?.blockBytes ?? 0));
  }
  for (let size = 0; size <= 1024; size++) {
    const serving = classes.find(({ blockBytes }) => blockBytes >= size);
    assert.equal(hak.tinyClassOf(size), serving?.index, `size ${size}`);
    const block = hak.malloc(size);
    assert.equal(hak.usableSize(block), serving?.blockBytes, `size ${size}`);
    hak.free(block);
  }
  assert.equal(hak.tinyClassOf(1025), null);
  assert.equal(hak.tinyClassOf(Number.MAX_SAFE_INTEGER), null);
});

Deno.test("ffi: flushing a class returns its free blocks, and only those", () => {
  using hak = Hakmem.open();
  hak.tinyMagazineFlushAll();
  const free = (): number => {
    const { magazineBytes, coldBytes } = hak.stats();
    return magazineBytes + coldBytes;
  };
  const blocks = new BigUint64Array(64);
  const leave = (size: number): void => {
    hak.mallocBatch(size, blocks);
    hak.freeBatch(blocks);
  };
  const start = free();
  leave(64);
  const with64 = free();
  assert(with64 > start, "freed blocks wait in the magazine");
  leave(512);
  const withBoth = free();
  assert(withBoth > with64);
  hak.tinyMagazineFlush(hak.tinyClassOf(64) ?? -1);
  assert.equal(free(), withBoth - (with64 - start));
  hak.tinyMagazineFlush(hak.tinyClassOf(512) ?? -1);
  assert.equal(free(), start);
});

Deno.test("ffi: flushing everything unmaps what a million blocks took", () => {
  using hak = Hakmem.open();
  hak.tinyMagazineFlushAll();
  const before = hak.stats();
  const blocks = new BigUint64Array(1_000_000);
  hak.mallocBatch(64, blocks);
  const live = hak.stats();
  // A few may lie in slabs that were there.
  assert(live.slabBytes - before.slabBytes >= 60_000_000);
  hak.freeBatch(blocks);
  hak.tinyMagazineFlushAll();
  const after = hak.stats();
  assert(after.slabBytes <= before.slabBytes);
  assert(after.mappedBytes - before.mappedBytes < 8_000_000, "most superslabs are unmapped");
});

Deno.test("ffi: purging tells what it gave back", () => {
  using hak = Hakmem.open();
  hak.purge();
  assert.equal(hak.purge(), 0);
  const blocks = new BigUint64Array(100);
  hak.mallocBatch(8192, blocks);
  for (const address of blocks) {
    const block = Deno.UnsafePointer.create(address);
    assert(block !== null);
    bytesOf(block, 8192).fill(1);
  }
  hak.freeBatch(blocks);
  assert(hak.purge() > 0);
});

Deno.test("ffi: a class that there is not is refused, in new calls and in hot ones", () => {
  using hak = Hakmem.open();
  const count = hak.tinyClasses().length;
  const wrong: [value: unknown, error: string][] = [
    ...wrongSizes,
    [count, "RangeError"],
    [2 ** 31, "RangeError"],
    [2 ** 32, "RangeError"],
    [2 ** 32 + 1, "RangeError"],
  ];
  const refuse = (): void => {
    for (const [value, name] of wrong) {
      assert.throws(
        () => hak.tinyMagazineFlush(value as number),
        { name, message: /^Cannot use .* as classIndex: it must be / },
      );
    }
  };
  refuse();
  for (let i = 0; i < untilHot; i++) hak.tinyMagazineFlush(i % count);
  refuse();
});

Deno.test("ffi: the stats are whole numbers that follow what is allocated", () => {
  using hak = Hakmem.open();
  const before = hak.stats();
  for (const [name, value] of Object.entries(before)) {
    assert(Number.isSafeInteger(value) && value >= 0, `${name} is ${value}`);
  }
  const huge = hak.malloc(10_000_000);
  const large = hak.malloc(500_000);
  const during = hak.stats();
  assert.equal(during.hugeBlocks, before.hugeBlocks + 1);
  assert(during.hugeBytes >= before.hugeBytes + 10_000_000);
  assert(during.largeBytes >= before.largeBytes + 500_000);
  assert(during.mappedBytes >= during.hugeBytes + during.metadataBytes);
  assert(during.threads >= 1);
  hak.free(huge);
  hak.free(large);
  assert.equal(hak.stats().hugeBlocks, before.hugeBlocks);
});

/** Each method of `Hakmem` with arguments that would do if the library were open. */
const methods: Record<string, (hak: Hakmem) => unknown> = {
  malloc: (hak) => hak.malloc(64),
  calloc: (hak) => hak.calloc(8, 8),
  realloc: (hak) => hak.realloc(null, 64),
  free: (hak) => hak.free(null),
  alignedAlloc: (hak) => hak.alignedAlloc(64, 64),
  usableSize: (hak) => hak.usableSize(null),
  mallocBatch: (hak) => hak.mallocBatch(64, new BigUint64Array(4)),
  freeBatch: (hak) => hak.freeBatch(new BigUint64Array(4)),
  tinyClasses: (hak) => hak.tinyClasses(),
  tinyClassOf: (hak) => hak.tinyClassOf(64),
  tinyMagazineFlush: (hak) => hak.tinyMagazineFlush(0),
  tinyMagazineFlushAll: (hak) => hak.tinyMagazineFlushAll(),
  purge: (hak) => hak.purge(),
  stats: (hak) => hak.stats(),
};

const closedError = { name: "HakmemError", message: "Cannot call hakmem: the library is closed" };

Deno.test("ffi: after closing every method throws, in new calls and in hot ones", async (t) => {
  const known = Object.getOwnPropertyNames(Hakmem.prototype)
    .filter((name) => !["constructor", "close", "closed"].includes(name));
  assert.deepEqual(known.sort(), Object.keys(methods).sort());
  for (const [name, call] of Object.entries(methods)) {
    await t.step(name, () => {
      for (let round = 0; round < 2; round++) {
        const hak = Hakmem.open();
        // These take long enough by themselves that the engine's part does not matter.
        const calls = ["stats", "purge", "tinyClasses", "mallocBatch"].includes(name)
          ? 300
          : untilHot;
        for (let i = 0; i < calls; i++) {
          const result = call(hak);
          if (name.endsWith("alloc")) hak.free(result as Deno.PointerObject);
        }
        hak.close();
        for (let i = 0; i < 1000; i++) assert.throws(() => call(hak), closedError);
      }
    });
  }
});

Deno.test("ffi: closing in the middle of a hot loop stops the loop, not the process", () => {
  const loop = (hak: Hakmem, closeAt: number): number => {
    let done = 0;
    try {
      for (; done < 3 * untilHot; done++) {
        if (done === closeAt) hak.close();
        hak.free(hak.malloc(64));
      }
    } catch (error) {
      assert(error instanceof HakmemError);
    }
    return done;
  };
  for (const closeAt of [2 * untilHot, 2 * untilHot + 1, 0, untilHot]) {
    assert.equal(loop(Hakmem.open(), closeAt), closeAt);
  }
});

Deno.test("ffi: closing again is nothing, and using closes", () => {
  const hak = Hakmem.open();
  assert.equal(hak.closed, false);
  hak.close();
  assert.equal(hak.closed, true);
  hak.close();
  hak[Symbol.dispose]();
  let inner: Hakmem;
  {
    using scoped = Hakmem.open();
    inner = scoped;
    inner.free(inner.malloc(1));
  }
  assert.equal(inner.closed, true);
  assert.throws(() => inner.malloc(1), closedError);
});

Deno.test("ffi: closing one leaves the others open, and a second close does not count twice", () => {
  const first = Hakmem.open();
  using second = Hakmem.open();
  const block = first.malloc(64);
  first.close();
  first.close();
  second.free(block);
  second.free(second.malloc(64));
});

Deno.test("ffi: a block outlives the library that it came from", () => {
  const first = Hakmem.open();
  const block = first.malloc(64);
  const bytes = bytesOf(block, 64);
  bytes.fill(5);
  first.close();
  assert(bytes.every((byte) => byte === 5));
  using second = Hakmem.open();
  assert.equal(second.usableSize(block), 64);
  const other = second.malloc(64);
  assert.notEqual(addressOf(other), addressOf(block));
  second.free(block);
  second.free(other);
});

Deno.test("ffi: a method without its object throws and does not crash", () => {
  using hak = Hakmem.open();
  const { malloc, free, close } = hak;
  assert.throws(() => malloc(64), TypeError);
  assert.throws(() => free(null), TypeError);
  assert.throws(() => close(), TypeError);
  assert.throws(() => Hakmem.prototype.malloc.call({} as Hakmem, 64), TypeError);
});

Deno.test("ffi: a pointer from elsewhere ends the process with one line and SIGABRT", async () => {
  const foreign = await runScript(`
using hak = Hakmem.open();
hak.free(Deno.UnsafePointer.create(0x1230n));
console.log("still here");`);
  assert.deepEqual(foreign, {
    code: 134,
    signal: "SIGABRT",
    stdout: "",
    stderr:
      "hakmem: foreign pointer: 0x1230 lies in no block of hakmem; give it back to what made it, " +
      "or set HAKMEM_FOREIGN=ignore; see docs/errors/foreign-pointer.md",
  });

  const buffer = await runScript(`
using hak = Hakmem.open();
hak.free(Deno.UnsafePointer.of(new Uint8Array(1000)));`);
  assert.equal(buffer.signal, "SIGABRT");
  assert.match(
    buffer.stderr,
    /^hakmem: foreign pointer: 0x[0-9a-f]+ lies in no block of hakmem; .*$/,
  );
});

Deno.test("ffi: a block freed twice ends the process", async () => {
  const twice = await runScript(`
using hak = Hakmem.open();
const block = hak.malloc(64);
hak.free(block);
hak.free(block);
console.log("still here");`);
  assert.equal(twice.signal, "SIGABRT");
  assert.equal(twice.stdout, "");
  assert.match(
    twice.stderr,
    /^hakmem: double free: 0x[0-9a-f]+ is a block of 64 bytes, free already; .*$/,
  );
});

Deno.test("ffi: a process that never closes ends well", async () => {
  const script = `
const hak = Hakmem.open();
for (let i = 0; i < 1000; i++) hak.malloc(i);
globalThis.addEventListener("unload", () => hak.free(hak.malloc(64)));
console.log("end");`;
  assert.equal(outputOf(await runScript(script)), "end");
});
