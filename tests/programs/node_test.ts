import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { missing, program, sameWithAndWithout, workDirectory } from "./preload.ts";

testUnless("LD_PRELOAD: node with worker threads", missing("node"), async () => {
  await sameWithAndWithout((side) =>
    side.run(program("node"), [join(workDirectory, "node_workers.mjs")])
  );
});
