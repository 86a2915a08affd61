/** Every pointer of `docs/TRAPS.md` leads somewhere: to a file that holds the quoted words, or to a heading. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { root } from "../cli/paths.ts";

/** The anchors of a Markdown file's headings, as a forge makes them. */
function anchorsOf(text: string): Set<string> {
  return new Set(
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
      heading.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")
    ),
  );
}

/** What is wrong with the tables; empty when all is well. */
function wrongPointers(text: string): string[] {
  const wrong: string[] = [];
  for (const [, trap = "", shownBy = ""] of text.matchAll(/^\| ([A-D]\d+ .+?) +\| (.+?) +\|$/gm)) {
    for (const [, path = "", words = ""] of shownBy.matchAll(/`([^`]+)` "([^"]+)"/g)) {
      const file = readOrNull(path);
      if (file === null) wrong.push(`${trap}: no file ${path}`);
      else if (!file.includes(words)) wrong.push(`${trap}: ${path} does not hold "${words}"`);
    }
    for (const [, target = ""] of shownBy.matchAll(/\]\(([^)]+)\)/g)) {
      const [path = "", anchor] = target.split("#");
      const file = readOrNull(join("docs", path));
      if (file === null) wrong.push(`${trap}: no file ${path}`);
      else if (anchor !== undefined && !anchorsOf(file).has(anchor)) {
        wrong.push(`${trap}: no ${target}`);
      }
    }
  }
  return wrong;
}

function readOrNull(path: string): string | null {
  try {
    return Deno.readTextFileSync(join(root, path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

Deno.test("traps: each row points at a test or a limit that is there", () => {
  const text = Deno.readTextFileSync(join(root, "docs", "TRAPS.md"));
  const traps = [...text.matchAll(/^\| ([A-D]\d+) /gm)].map(([, label]) => label);
  const wanted = [["A", 14], ["B", 6], ["C", 8], ["D", 7]] as const;
  assert.deepEqual(
    traps,
    wanted.flatMap(([letter, count]) =>
      Array.from({ length: count }, (_, at) => `${letter}${at + 1}`)
    ),
  );
  assert.deepEqual(wrongPointers(text), []);
});

Deno.test("traps: a pointer that leads nowhere is noticed", () => {
  const row = (shownBy: string) => `| A1 a trap | ${shownBy} |\n`;
  assert.equal(wrongPointers(row('`tests/none.ts` "x"')).length, 1);
  assert.equal(wrongPointers(row('`tests/traps_test.ts` "' + "no such " + 'words"')).length, 1);
  assert.equal(wrongPointers(row("[LIMITS](LIMITS.md#nowhere)")).length, 1);
  assert.equal(wrongPointers(row("[LIMITS](NONE.md)")).length, 1);
  assert.deepEqual(wrongPointers(row("[LIMITS](LIMITS.md#system-calls)")), []);
});
