import assert from "node:assert/strict";
import { join } from "node:path";
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

/** A history for `git fast-import`: a main line whose files change a little in each commit, and a side line. */
function generatedHistory(commits: number): string {
  const files = 40;
  const contents = Array.from(
    { length: files },
    (_, file) =>
      Array.from({ length: 150 }, (_, line) => `file ${file} line ${line} of the first version`),
  );
  const data = (text: string): string => `data ${text.length}\n${text}\n`;
  let stream = "";
  for (let i = 0; i < commits; i++) {
    const branch = i % 50 === 49 ? "side" : "main";
    stream += `commit refs/heads/${branch}\n`;
    stream += `author A U Thor <author@example.org> ${1700000000 + i * 60} +0000\n`;
    stream += `committer C O Mitter <committer@example.org> ${1700000000 + i * 60} +0100\n`;
    stream += data(`Change ${i}\n\nThe reason for change ${i}.`);
    if (branch === "side") {
      if (i === 49) stream += "from refs/heads/main\n";
      stream += `M 100644 inline side/${i}.txt\n` + data(`side ${i}\n`.repeat(i));
      continue;
    }
    for (let change = 0; change < 3; change++) {
      const file = (i * 7 + change * 13) % files;
      const lines = contents[file] ?? [];
      lines[(i * 31 + change) % lines.length] = `changed in ${i}, ${change}: ${
        (i * 2654435761) % 1000003
      }`;
      if (i % 10 === change) lines.push(`added in ${i}, line ${lines.length} `.repeat(1 + i % 3));
      const path = file % 5 === 0 ? `directory${file % 3}/file${file}.txt` : `file${file}.txt`;
      stream += `M 100644 inline ${path}\n` + data(lines.join("\n") + "\n");
    }
  }
  return stream + "done\n";
}
