/**
 * fork where it hurts: in signal handlers that interrupted the allocator, with many threads, while memory goes back to
 * the system, and every other way to start a program. Forks beside fork handlers of others are in `fork_test.ts`.
 */
import assert from "node:assert/strict";
import { testUnless } from "../skip.ts";
import {
  assertPrints,
  missingCompiler,
  preloadLibraries,
  runPreloaded,
  withCompiled,
} from "./compile.ts";

const insideLine =
  "hakmem: a signal handler that interrupted the allocator allocates or frees in the same thread, " +
  "which would wait for ever; let it call async-signal-safe functions only\n";

testUnless(
  "LD_PRELOAD: a signal handler forks that interrupted the allocator with its locks held",
  missingCompiler() ?? missingTraps(),
  async () => {
    await withCompiled(["trap_inside.c"], [], async (executable) => {
      await assertPrints(executable, ["fork"], "the handler's children ended well");
    });
  },
);

testUnless(
  "LD_PRELOAD: a signal handler that allocates inside the allocator ends in one line instead of hanging",
  missingCompiler() ?? missingTraps(),
  async () => {
    await withCompiled(["trap_inside.c"], [], async (executable) => {
      for (const library of preloadLibraries) {
        const ended = await runPreloaded(executable, ["allocate"], library);
        assert.deepEqual(ended, { code: 134, stdout: "", stderr: insideLine });
      }
    });
  },
);

for (const where of ["slow", "fast"]) {
  testUnless(
    `LD_PRELOAD: a signal handler forks wherever it comes in ${where} paths, beside other threads`,
    missingCompiler(),
    async () => {
      await withCompiled(["fork_in_handler.c"], [], async (executable) => {
        for (const library of preloadLibraries) {
          const { code, stdout, stderr } = await runPreloaded(executable, [where], library);
          assert.equal(stdout, "300 children of 300\n", stderr);
          assert.equal(code, 0, stderr);
          // A child that could not be served has said so; nothing else was said.
          const aborted = Number(/(\d+) aborted\n$/.exec(stderr)?.[1]);
          assert.equal(stderr, `${insideLine.repeat(aborted)}${aborted} aborted\n`);
          if (where === "fast") assert.equal(aborted, 0);
        }
      });
    },
  );
}

testUnless(
  "LD_PRELOAD: the children of 50 threads have one thread and the memory of all",
  missingCompiler(),
  async () => {
    await withCompiled(["fork_many.c"], [], async (executable) => {
      await assertPrints(executable, [], "all children ended well");
    });
  },
);

testUnless(
  "LD_PRELOAD: a fork while memory goes back to the system loses none of it in the child",
  missingCompiler(),
  async () => {
    await withCompiled(["fork_purging.c"], [], async (executable) => {
      await assertPrints(executable, [], "nothing was lost");
    });
  },
);

testUnless(
  "LD_PRELOAD: posix_spawn, vfork, fork, system and popen from several threads",
  missingCompiler(),
  async () => {
    await withCompiled(["spawns.c"], [], async (executable) => {
      await assertPrints(executable, [], "all programs ended as they should");
    });
  },
);

/** Why system calls cannot be turned into signals here; `null` when they can. */
function missingTraps(): string | null {
  const actions = "/proc/sys/kernel/seccomp/actions_avail";
  try {
    return /\btrap\b/.test(Deno.readTextFileSync(actions)) ? null : `no trap in ${actions}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `${actions} does not exist`;
    throw error;
  }
}
