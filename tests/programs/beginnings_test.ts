/**
 * The first calls: before any constructor, in a constructor, in a thread, and by way of another preloaded library that
 * wraps malloc.
 */
import assert from "node:assert/strict";
import { preloadLibrary } from "../../cli/paths.ts";
import { testUnless } from "../skip.ts";
import { assertPrints, missingCompiler, runPreloaded, withCompiled } from "./compile.ts";

testUnless(
  "LD_PRELOAD: every function comes first in a process and in a thread",
  missingCompiler(),
  async () => {
    await withCompiled(["first_calls.c"], [], async (executable) => {
      for (let number = 0; number < 16; number++) {
        await assertPrints(executable, [`${number}`], "every function came first");
      }
    });
  },
);

testUnless(
  "LD_PRELOAD: before and behind a library that wraps malloc by dlsym and allocates as it starts",
  missingCompiler(),
  async () => {
    await withCompiled(["wrapper.c"], ["-shared", "-fPIC"], async (wrapper) => {
      await withCompiled(["wrapper_main.c"], [], async (executable) => {
        const behind = await runPreloaded(executable, [], `${wrapper}:${preloadLibrary}`);
        assert.deepEqual(behind, { code: 0, stdout: "wrapped\n", stderr: "" });
        const before = await runPreloaded(executable, [], `${preloadLibrary}:${wrapper}`);
        assert.deepEqual(before, { code: 0, stdout: "not wrapped\n", stderr: "" });
      });
    });
  },
);

testUnless(
  "LD_PRELOAD: forks before any constructor, and in constructors before and after ours",
  missingCompiler(),
  async () => {
    await withCompiled(["early_fork.c"], ["-shared", "-fPIC"], async (beside) => {
      await withCompiled(["early_fork.c"], ["-DPROGRAM"], async (executable) => {
        for (const preload of [`${preloadLibrary}:${beside}`, `${beside}:${preloadLibrary}`]) {
          const ended = await runPreloaded(executable, [], preload);
          assert.deepEqual(ended, { code: 0, stdout: "forked before main\n", stderr: "" });
        }
      });
    });
  },
);
