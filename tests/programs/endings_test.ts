/**
 * The ends of threads and processes, and of the object's own use: what is allocated and freed then, and what is left
 * behind.
 */
import assert from "node:assert/strict";
import { ffiLibrary, preloadLibrary } from "../../cli/paths.ts";
import { testUnless } from "../skip.ts";
import { assertPrints, missingCompiler, runPreloaded, withCompiled } from "./compile.ts";
import { sameWithAndWithout } from "./preload.ts";

testUnless(
  "LD_PRELOAD: destructors of a thread before and after ours, in all rounds, and libc's own",
  missingCompiler(),
  async () => {
    await withCompiled(["late_ends.c"], [], async (executable) => {
      await sameWithAndWithout(async (side) => (await side.run(executable, [])).stdout);
    });
  },
);

for (const how of ["exit", "return", "quick_exit", "pthread_exit"]) {
  testUnless(
    `LD_PRELOAD: handlers at the end by ${how} free and allocate`,
    missingCompiler(),
    async () => {
      await withCompiled(["exits.c"], [], async (executable) => {
        await sameWithAndWithout((side) => side.run(executable, [how]));
      });
    },
  );
}

const shortThreads = {
  plain: "that allocate",
  rounds: "that allocate in every round of their destructors",
  last: "whose first call comes in the last round of their destructors",
  free: "whose only call is a free in the last round of their destructors",
};
for (const [act, what] of Object.entries(shortThreads)) {
  testUnless(
    `LD_PRELOAD: resident memory does not grow from 1,000 to 100,000 threads ${what}`,
    missingCompiler(),
    async () => {
      await withCompiled(["short_threads.c"], [], async (executable) => {
        const ended = await runPreloaded(executable, [act], preloadLibrary);
        assert.deepEqual(ended, { code: 0, stdout: "resident memory did not grow\n", stderr: "" });
      });
    },
  );
}

testUnless(
  "dlopen: both objects stay while threads live that used them, after every dlclose",
  missingCompiler(),
  async () => {
    await withCompiled(["reload.c"], [], async (executable) => {
      for (const library of [ffiLibrary, preloadLibrary]) {
        const ended = await runPreloaded(executable, [library], "");
        assert.deepEqual(ended, { code: 0, stdout: "it stayed\n", stderr: "" });
      }
    });
  },
);

testUnless(
  "LD_PRELOAD: consumers that only free keep resident memory within its bound",
  missingCompiler(),
  async () => {
    await withCompiled(["hand_over.c"], [], async (executable) => {
      for (const [producers, consumers] of [[1, 1], [4, 1], [1, 4]]) {
        for (const places of [100, 20_000, 100_000]) {
          for (const rhythm of ["single", "tides"]) {
            const args = [`${producers}`, `${consumers}`, `${places}`, rhythm];
            await assertPrints(executable, args, "bounded");
          }
        }
      }
    });
  },
);
