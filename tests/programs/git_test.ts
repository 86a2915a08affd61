import assert from "node:assert/strict";
import { join } from "node:path";
import { generatedHistory } from "../../bench/programs/git_history.ts";
import { testUnless } from "../skip.ts";
import { missing, type Output, program, sameWithAndWithout, textDigest } from "./preload.ts";

const environment = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_AUTHOR_NAME: "Author",
  GIT_AUTHOR_EMAIL: "author@example.org",
  GIT_AUTHOR_DATE: "1700100000 +0000",
  GIT_COMMITTER_NAME: "Committer",
  GIT_COMMITTER_EMAIL: "committer@example.org",
  GIT_COMMITTER_DATE: "1700100000 +0000",
  GIT_PAGER: "cat",
};

testUnless(
  "LD_PRELOAD: git imports, commits, clones, packs and checks a repository",
  missing("git"),
  async () => {
    const history = new TextEncoder().encode(generatedHistory(500));
    await sameWithAndWithout(async (side) => {
      const git = (directory: string, args: string[], stdin?: Uint8Array): Promise<Output> =>
        side.run(
          program("git"),
          ["-c", "pack.threads=2", "-c", "gc.auto=0", ...args],
          {
            cwd: join(side.directory, directory),
            env: environment,
            ...(stdin === undefined ? {} : { stdin }),
          },
        );
      const results: Record<string, Output | string> = {};
      results.init = await git(".", ["init", "--quiet", "--initial-branch=main", "origin"]);
      await git("origin", ["fast-import", "--quiet"], history);
      results.reset = await git("origin", ["reset", "--hard", "main"]);
      for (let i = 0; i < 8; i++) {
        await Deno.writeTextFile(
          join(side.directory, "origin", `late${i % 3}.txt`),
          `${i}\n`.repeat(500),
        );
        await git("origin", ["add", "--all"]);
        results[`commit ${i}`] = await git("origin", ["commit", "--message", `late ${i}`]);
      }
      results.merge = await git("origin", ["merge", "--no-edit", "side"]);
      results.clone = await git(".", ["clone", "--no-local", "origin", "clone"]);
      await git("clone", ["gc", "--aggressive", "--prune=now"]);
      // The objects are the same; how two threads share the search for deltas, and so the pack's bytes,
      // is left to chance. A check that unpacks each of them follows.
      results.objects = textDigest((await git("clone", ["rev-list", "--objects", "--all"])).stdout);
      results.fsck = await git("clone", ["fsck", "--full", "--strict"]);
      const packs = await git("clone", ["count-objects", "--verbose"]);
      assert.match(packs.stdout, /^count: 0$/m);
      assert.match(packs.stdout, /^packs: 1$/m);
      results.log = textDigest(
        (await git("clone", ["log", "--patch", "--find-renames", "--all"])).stdout,
      );
      results.blame = textDigest((await git("clone", ["blame", "file3.txt"])).stdout);
      results.grep = textDigest((await git("clone", ["grep", "-n", "-E", "line [0-9]*7 "])).stdout);
      results.archive = textDigest(
        (await git("clone", ["archive", "--format=tar", "HEAD"])).stdout,
      );
      results.status = await git("clone", ["status", "--porcelain", "--branch"]);
      results.head = await git("clone", ["rev-parse", "HEAD", "HEAD^{tree}", "origin/side"]);
      return results;
    });
  },
);
