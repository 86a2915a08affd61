/**
 * Processes that fork while other threads allocate, and processes that end while they do. The children of the
 * first resize and free blocks older than the fork, fork again, and start threads; handlers of fork and of
 * exit allocate, also those that libc runs while the allocator holds its locks. A child that hangs is a
 * failure.
 */
import assert from "node:assert/strict";
import { missingFiles } from "./native_support.ts";
import { stressDoors, stressTests } from "./stress_support.ts";

const missing = missingFiles("hak-stress", stressDoors);
if (missing.length > 0) {
  Deno.test("fork: the programs are built", () => {
    assert.fail(`not built: ${missing.join(", ")}: run ./hak build`);
  });
} else {
  stressTests("fork", { threads: 4, operations: 200, control: 40 });
  stressTests("exit", { threads: 4, operations: 60, control: 20 });
}
