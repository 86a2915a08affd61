import assert from "node:assert/strict";
import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { fileDigest, missing, program, sameWithAndWithout, workDirectory } from "./preload.ts";

testUnless(
  "LD_PRELOAD: sqlite3 fills, indexes, queries, changes and packs a database",
  missing("sqlite3"),
  async () => {
    const script = await Deno.readFile(join(workDirectory, "database.sql"));
    await sameWithAndWithout(async (side) => {
      const output = await side.run(program("sqlite3"), ["-batch", "work.db"], { stdin: script });
      assert.match(output.stdout, /^integrity_check\nok$/m);
      return { ...output, database: await fileDigest(join(side.directory, "work.db")) };
    });
  },
);
