import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { missing, program, sameWithAndWithout, workDirectory } from "./preload.ts";

testUnless(
  "LD_PRELOAD: bash loops with subshells, pipelines and background jobs",
  missing("bash", "sort", "head", "tail", "paste", "tr", "cat"),
  async () => {
    await sameWithAndWithout((side) =>
      side.run(program("bash"), [join(workDirectory, "bash_loops.sh")], {
        programs: ["bash", "true", "sort", "head", "tail", "paste", "tr", "cat"],
      })
    );
  },
);
