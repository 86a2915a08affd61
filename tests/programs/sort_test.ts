import assert from "node:assert/strict";
import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { fileDigest, missing, program, sameWithAndWithout } from "./preload.ts";

testUnless("LD_PRELOAD: sort --parallel=2 of 100 MB", missing("sort"), async () => {
  const input = await Deno.makeTempFile({ prefix: "hakmem-sort-" });
  try {
    await writeLines(input, 100_000_000);
    const unsorted = await fileDigest(input);
    await sameWithAndWithout(async (side) => {
      // Little memory makes sort write sorted parts and merge them, besides sorting in two threads.
      const args = ["--parallel=2", "--buffer-size=24M", "--output=sorted", input];
      const output = await side.run(program("sort"), args);
      const sorted = await fileDigest(join(side.directory, "sorted"));
      assert.notEqual(sorted, unsorted);
      const { size } = await Deno.stat(join(side.directory, "sorted"));
      return { ...output, sorted, size };
    });
  } finally {
    await Deno.remove(input);
  }
});

/** Writes lines of 1 to 96 letters and digits in random order, the last one cut at `size`. */
async function writeLines(path: string, size: number): Promise<void> {
  const alphabet = new TextEncoder().encode(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.",
  );
  using file = await Deno.open(path, { write: true, truncate: true });
  const buffer = new Uint8Array(1 << 20);
  let state = 88172645;
  let lineEnd = 0;
  for (let written = 0; written < size;) {
    const length = Math.min(buffer.length, size - written);
    for (let i = 0; i < length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      if (i === lineEnd) {
        buffer[i] = 10;
        lineEnd = i + 2 + (state >>> 8) % 96;
      } else {
        buffer[i] = alphabet[state & 63] ?? 0;
      }
    }
    lineEnd -= length;
    written += await writeAll(file, buffer.subarray(0, length));
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<number> {
  let done = 0;
  while (done < bytes.length) done += await file.write(bytes.subarray(done));
  return done;
}
