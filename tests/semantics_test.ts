/**
 * `docs/SEMANTICS.md` against the programs that check it and the object that it speaks of: every exported
 * function has a row, every cell is a claim of `zig/tests/semantics.zig` or
 * `tests/programs/work/operators.cpp` in the same words, and every claim holds. Both programs must notice
 * a defect in each cell.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { preloadLibrary, root } from "../cli/paths.ts";
import { checked, type Door, libc, missingFiles, preload, runNative } from "./native_support.ts";
import { missing, program, workDirectory } from "./programs/preload.ts";
import { testUnless } from "./skip.ts";

const cellProgram = "hak-semantics";
const operatorSource = join(workDirectory, "operators.cpp");
const columns = [
  "size 0",
  "too large",
  "bad alignment",
  "NULL",
  "foreign pointer",
  "errno on failure",
  "errno on success",
];
/** What a cell says where its column does not apply. */
const none = "–";

/** `ROW | COLUMN | CLAIM`, and `NAME | is | ROW` for a further name of a function. */
type Claim = string;

/** The claims of all tables that have the seven columns, and what is wrong with their form. */
function readTables(markdown: string): { claims: Claim[]; problems: string[] } {
  const claims: Claim[] = [];
  const problems: string[] = [];
  let inTable = false;
  for (const line of markdown.split("\n")) {
    const cells = line.startsWith("|")
      ? line.split("|").slice(1, -1).map((cell) => cell.trim())
      : [];
    if (cells.slice(1).join() === columns.join()) {
      inTable = true;
      continue;
    }
    if (cells.length === 0) inTable = false;
    if (!inTable || /^-+$/.test(cells[0] ?? "")) continue;
    const [name = "", ...others] = (cells[0] ?? "").split(", ").map((word) =>
      /^`(.+)`$/.exec(word)?.[1] ?? word
    );
    if (cells.length !== columns.length + 1) problems.push(`${name}: ${cells.length} cells`);
    for (const [at, column] of columns.entries()) {
      const cell = cells[at + 1] ?? "";
      if (cell === "") problems.push(`${name} | ${column}: empty`);
      else if (cell !== none) claims.push(`${name} | ${column} | ${cell}`);
    }
    claims.push(...others.map((other) => `${other} | is | ${name}`));
  }
  return { claims, problems };
}

/** What is wrong with the document, given what the programs check and the object exports. */
function differences(markdown: string, checkedClaims: Claim[], exported: string[]): string[] {
  const { claims, problems } = readTables(markdown);
  const rows = new Set(claims.map((claim) => claim.split(" | ")[0]));
  return [
    ...problems,
    ...claims.filter((claim) => !checkedClaims.includes(claim)).map((claim) =>
      `unchecked: ${claim}`
    ),
    ...checkedClaims.filter((claim) => !claims.includes(claim)).map((claim) => `unsaid: ${claim}`),
    ...exported.filter((name) => !rows.has(name)).map((name) => `no row: ${name}`),
  ];
}

/** The functions that a 64-bit little-endian ELF object exports. */
function exportedFunctions(path: string): string[] {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const word = (at: number): number => Number(view.getBigUint64(at, true));
  const sections = Array.from({ length: view.getUint16(60, true) }, (_, number) => {
    const at = word(40) + number * view.getUint16(58, true);
    return {
      type: view.getUint32(at + 4, true),
      offset: word(at + 24),
      size: word(at + 32),
      link: view.getUint32(at + 40, true),
    };
  });
  const dynamicSymbols = 11;
  const symbols = sections.find(({ type }) => type === dynamicSymbols);
  const names = sections[symbols?.link ?? 0];
  assert(symbols !== undefined && names !== undefined, `${path} has no dynamic symbols`);
  const found: string[] = [];
  for (let at = symbols.offset; at < symbols.offset + symbols.size; at += 24) {
    const isFunction = (view.getUint8(at + 4) & 15) === 2;
    const isDefined = view.getUint16(at + 6, true) !== 0;
    if (!isFunction || !isDefined) continue;
    const start = names.offset + view.getUint32(at, true);
    found.push(new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start))));
  }
  return found;
}

async function claimsOfC(): Promise<Claim[]> {
  const { code, text } = await runNative(cellProgram, libc, ["--list"]);
  assert.equal(code, 0, text);
  return text.split("\n");
}

/** The claims of the C++ program, from its source: where there is no compiler, they still must be said. */
async function claimsOfOperators(): Promise<Claim[]> {
  const source = await Deno.readTextFile(operatorSource);
  return [...source.matchAll(/^ {4}\{"([^"]+ \| [^"]+ \| [^"]+)",/gm)].map(([, claim = ""]) =>
    claim
  );
}

/** Fails unless the program said of exactly these claims, in this order, that they hold. */
function assertAllPass(text: string, claims: Claim[]): void {
  const said = text.split("\n").filter((line) => /^(pass|fail) /.test(line)).toSorted();
  assert.deepEqual(said, claims.map((claim) => `pass ${claim}`).toSorted());
}

const absent = missingFiles(cellProgram, [preload, checked]);
if (absent.length > 0) {
  Deno.test("semantics: the programs are built", () => {
    assert.fail(`not built: ${absent.join(", ")}: run ./hak build`);
  });
} else {
  const markdown = await Deno.readTextFile(join(root, "docs", "SEMANTICS.md"));
  const claims = [...await claimsOfC(), ...await claimsOfOperators()];
  const exported = exportedFunctions(preloadLibrary);

  Deno.test("semantics: the tables say what is checked, and leave out no exported function", () => {
    assert.ok(claims.length > 150, `${claims.length} claims`);
    assert.ok(exported.includes("malloc") && exported.includes("hak_purge"), exported.join());
    assert.deepEqual(differences(markdown, claims, exported), []);
  });

  Deno.test("semantics: a table that differs in anything is noticed", async (t) => {
    const row = /^\| `pvalloc`.*\n/m;
    const alterations: [what: string, from: RegExp, to: string, expected: RegExp][] = [
      ["a row is missing", row, "", /^no row: pvalloc$/],
      ["a name is missing", /, `cfree`/, "", /^no row: cfree$/],
      [
        "a name is in the wrong row",
        /`malloc`, /,
        "`malloc`, `cfree`, ",
        /^unchecked: cfree \| is \| malloc$/,
      ],
      ["a cell is empty", /\| one page +\|/, "| |", /^pvalloc \| size 0: empty$/],
      [
        "a cell says something else",
        /one page/,
        "two pages",
        /^unchecked: pvalloc \| size 0 \| two pages$/,
      ],
      ["a cell says nothing", /one page/, none, /^unsaid: pvalloc \| size 0 \| one page$/],
      ["a cell is too many", /(\| one page +\|)/, "$1 new |", /^pvalloc: 9 cells$/],
      ["a column is missing", /^\| operator .*\n/m, "", /^unsaid: operator new \| size 0 \|/],
    ];
    for (const [what, from, to, expected] of alterations) {
      await t.step(what, () => {
        const altered = markdown.replace(from, to);
        assert.notEqual(altered, markdown);
        const found = differences(altered, claims, exported);
        assert.ok(found.some((line) => expected.test(line)), found.join("\n"));
      });
    }
    await t.step("a function is exported and not described", () => {
      assert.deepEqual(differences(markdown, claims, [...exported, "hak_new"]), [
        "no row: hak_new",
      ]);
    });
    await t.step("a check is gone", () => {
      assert.deepEqual(differences(markdown, claims.slice(1), exported), [
        `unchecked: ${claims[0]}`,
      ]);
    });
  });

  for (const door of [preload, checked]) {
    Deno.test(`semantics: each cell of the C tables holds, ${door.name}`, async () => {
      const { code, text, command } = await runNative(cellProgram, door, []);
      assertAllPass(text, await claimsOfC());
      assert.equal(code, 0, `${text}\n${command}`);
    });
  }

  Deno.test("semantics: each check of the C tables notices a defect in its function", async () => {
    const { code, text, command } = await runNative(cellProgram, preload, ["--self-test"]);
    assert.doesNotMatch(text, /^fail/m, `${text}\n${command}`);
    assert.equal(code, 0, `${text}\n${command}`);
    const cells = (await claimsOfC()).filter((claim) => !claim.includes(" | is | "));
    assert.equal(
      text.split("\n").filter((line) => line.startsWith("noticed ")).length,
      cells.length,
    );
  });

  Deno.test("semantics: without hakmem nothing is checked, and said so", async () => {
    const { code, text } = await runNative(cellProgram, libc, []);
    assert.match(text, /^hak-semantics: hakmem is not preloaded \(/);
    assert.equal(code, 2);
  });

  testUnless(
    "semantics: each cell of the C++ table holds, by libstdc++'s route through malloc",
    missing("g++"),
    async () => {
      await withOperators([], preload, async (text, code) => {
        assertAllPass(text, await claimsOfOperators());
        assert.equal(code, 0, text);
      });
    },
  );

  testUnless(
    "semantics: each check of the C++ table notices operators that are wrong",
    missing("g++"),
    async () => {
      await withOperators(["-DDEFECTS"], preload, async (text, code) => {
        const failed = text.split("\n").filter((line) => line.startsWith("fail "));
        assert.equal(failed.length, (await claimsOfOperators()).length, text);
        assert.equal(code, 1, text);
      });
    },
  );
}

/** Compiles the C++ program and runs it at a door. */
async function withOperators(
  options: string[],
  door: Door,
  use: (text: string, code: number) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "hakmem-operators-" });
  try {
    const executable = join(directory, "operators");
    const args = ["-std=c++17", "-O1", "-w", ...options, "-o", executable, operatorSource, "-ldl"];
    const compiled = await new Deno.Command(program("g++"), { args }).output();
    assert.ok(compiled.success, new TextDecoder().decode(compiled.stderr));
    const { code, stdout } = await new Deno.Command(executable, {
      env: { LD_PRELOAD: door.preload ?? "" },
      signal: AbortSignal.timeout(120_000),
    }).output();
    await use(new TextDecoder().decode(stdout).trimEnd(), code);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
