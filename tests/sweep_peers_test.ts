/**
 * Telling shared objects that can be preloaded here from everything else, and finding the peers.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { missingPeers, resolveAllocators, whyNotPreloadable } from "../bench/harness/allocators.ts";
import { parseOptions } from "../bench/sweep/options.ts";
import { ffiLibrary, preloadLibrary } from "../cli/paths.ts";
import { buildIfNeeded } from "../cli/build.ts";
import { inFolder } from "./verb_support.ts";

Deno.test("our own objects can be preloaded, damaged copies of them cannot", () =>
  inFolder(async (folder) => {
    await buildIfNeeded();
    assert.equal(whyNotPreloadable(preloadLibrary), null);
    assert.equal(whyNotPreloadable(ffiLibrary), null);
    const whole = await Deno.readFile(preloadLibrary);
    const copy = join(folder, "copy.so");
    const damaged = (at: number, byte: number): Uint8Array => {
      const bytes = whole.slice();
      bytes[at] = byte;
      return bytes;
    };
    const cases: [Uint8Array, RegExp][] = [
      [whole.subarray(0, 40), /no ELF shared object/],
      [damaged(0, 0), /no ELF shared object/],
      [damaged(4, 1), /not built for this machine/],
      [damaged(18, 0xf7), /not built for this machine/],
      [damaged(16, 2), /program or an object file/],
      [new Uint8Array(), /no ELF shared object/],
    ];
    for (const [bytes, says] of cases) {
      await Deno.writeFile(copy, bytes);
      assert.match(whyNotPreloadable(copy) ?? "", says);
    }
    // The headers say where the rest is: cut off there, it must be read without a fault.
    await Deno.writeFile(copy, whole.subarray(0, 80));
    whyNotPreloadable(copy);
  }));

Deno.test("a program is no shared object, even if it can be loaded anywhere", () => {
  assert.match(whyNotPreloadable("/bin/sh") ?? "", /is a program/);
});

Deno.test("allocators come in the order named, and a named peer always takes part", () =>
  inFolder(async (folder) => {
    await buildIfNeeded();
    const other = join(folder, "other.so");
    await Deno.copyFile(preloadLibrary, other);
    const options = parseOptions(["--allocators", "hakmem,system", "--peer", `other=${other}`]);
    assert.deepEqual(await resolveAllocators(options), [
      { name: "hakmem", preload: preloadLibrary, env: {} },
      { name: "system", preload: null, env: {} },
      { name: "other", preload: other, env: {} },
    ]);
  }));

Deno.test("every peer is either found or named as missing", async () => {
  const options = parseOptions([]);
  const found = await resolveAllocators(options);
  assert.deepEqual(found.slice(0, 2).map(({ name }) => name), ["system", "hakmem"]);
  const missing = missingPeers(found).map((text) => text.split(" ")[0] ?? "");
  const peers = [...found.slice(2).map(({ name }) => name), ...missing];
  assert.deepEqual(peers.sort(), ["jemalloc", "mimalloc", "tcmalloc"]);
  for (const { preload } of found.slice(2)) {
    assert(preload !== null);
    assert.equal(whyNotPreloadable(preload), null);
  }
});
