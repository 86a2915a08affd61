/**
 * The seeded multi-thread stress of `zig/tests/stress.zig`: canaries in every block and an oracle that no two
 * live blocks overlap, with libc as control. Fork and exit are in `fork_test.ts`.
 */
import assert from "node:assert/strict";
import { libc, missingFiles, runNative } from "./native_support.ts";
import { stressDoors, stressTests } from "./stress_support.ts";

const program = "hak-stress";
const missing = missingFiles(program, stressDoors);
if (missing.length > 0) {
  Deno.test("stress: the programs are built", () => {
    assert.fail(`not built: ${missing.join(", ")}: run ./hak build`);
  });
} else {
  stressTests("mixed", { threads: 4, operations: 500_000, control: 100_000 });
  stressTests("mixed", { threads: 24, operations: 30_000, control: 10_000 });
  stressTests("scarce", { threads: 4, operations: 200_000, control: 30_000 });
  stressTests("producer-consumer", { threads: 4, operations: 1_500_000, control: 500_000 });
  stressTests("churn", { threads: 8, operations: 8000, control: 2000 });

  Deno.test("stress: notices every planted defect", async () => {
    const { code, text, command } = await runNative(program, libc, ["--self-test"]);
    assert.doesNotMatch(text, /^fail/m, `${text}\n${command}`);
    assert.match(text, /^pass oracle: an overlapping block$/m);
    assert.match(text, /^pass oracle: a corrupted canary$/m);
    assert.match(text, /^pass hang: /m);
    assert.equal(code, 0, `${text}\n${command}`);
  });

  Deno.test("stress: an unknown mode is refused in one line", async () => {
    const { code, text } = await runNative(program, libc, ["--mode", "sideways"]);
    assert.match(text, /^hak-stress: --mode takes mixed, .*, not sideways /);
    assert.equal(text.split("\n").length, 1);
    assert.equal(code, 2);
  });
}
