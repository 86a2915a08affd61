/** Freed blocks above 1 MiB: they wait a while to be allocated again, and leave. */
import { testUnless } from "../skip.ts";
import { assertPrints, missingCompiler, withCompiled } from "./compile.ts";

const what = {
  "leaves": "wait with their pages, and leave while the program does something else",
  "rests-leave": "serve what grows in their place, and what is left behind it leaves",
  "leaves-when-asked": "are shown as free, and leave when malloc_trim asks",
  "leaves-at-once": "leave at once where too much would wait",
  "threads": "serve several threads, and the children that they fork",
};

for (const [name, text] of Object.entries(what)) {
  testUnless(`LD_PRELOAD: freed huge blocks ${text}`, missingCompiler(), async () => {
    await withCompiled(["huge.c"], ["-fno-builtin"], async (executable) => {
      await assertPrints(executable, [name], "as it should be");
    });
  });
}
