import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { missing, pythonInterpreter, sameWithAndWithout, workDirectory } from "./preload.ts";

async function runScript(name: string): Promise<void> {
  const python = await pythonInterpreter();
  await sameWithAndWithout((side) =>
    side.run(python, ["-B", join(workDirectory, name)], {
      // Without the first, Python serves small objects from arenas of its own.
      env: { PYTHONMALLOC: "malloc", PYTHONHASHSEED: "0" },
    })
  );
}

testUnless(
  "LD_PRELOAD: python3 threads build and drop lists, dicts, strings and bytes",
  missing("python3"),
  () => runScript("python_threads.py"),
);

testUnless(
  "LD_PRELOAD: python3 forks worker processes while threads allocate",
  missing("python3"),
  () => runScript("python_fork.py"),
);

testUnless(
  "LD_PRELOAD: python3 writes and reads JSON",
  missing("python3"),
  () => runScript("python_json.py"),
);
