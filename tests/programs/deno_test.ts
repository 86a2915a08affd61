import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { missing, sameWithAndWithout, workDirectory } from "./preload.ts";

testUnless("LD_PRELOAD: deno with workers", missing(), async () => {
  await sameWithAndWithout((side) =>
    side.run(
      Deno.execPath(),
      ["run", "--allow-all", "--no-config", "--no-lock", join(workDirectory, "deno_workers.ts")],
      { env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" } },
    )
  );
});
