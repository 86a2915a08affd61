import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { missing, program, sameWithAndWithout, textDigest, workDirectory } from "./preload.ts";

testUnless(
  "LD_PRELOAD: perl with hashes, strings, sorting, patterns, forks and threads",
  missing("perl"),
  async () => {
    await sameWithAndWithout(async (side) => {
      const { stdout, stderr } = await side.run(program("perl"), [
        join(workDirectory, "perl_work.pl"),
      ]);
      return { lines: stdout.split("\n").length, digest: textDigest(stdout), stderr };
    });
  },
);
