/**
 * One small C program per kind of misuse, with and without `HAKMEM_CHECK=1`, on the shipped object and the one with
 * assertions: the whole line on standard error is compared, and `docs/MISUSE.md` must say the same.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { ffiLibrary, preloadLibrary, root } from "../cli/paths.ts";
import { missingCompiler, preloadLibraries, withCompiled } from "./programs/compile.ts";
import { testUnless } from "./skip.ts";

/** What each kind of misuse is told to do; the page is named after the kind. */
const advice = new Map([
  ["foreign pointer", "give it back to what made it, or set HAKMEM_FOREIGN=ignore"],
  ["interior pointer", "pass the address that malloc returned"],
  ["double free", "free each block once"],
  ["use after free", "keep no pointer to a block that was freed"],
  ["wrong size", "pass the size that malloc was asked for"],
  ["wrong alignment", "pass the alignment that was asked for"],
  ["overflow", "write no further than the size asked for"],
  ["underflow", "write nothing before the block"],
  ["write after free", "keep no pointer to a block that was freed"],
]);

interface Misuse {
  name: string;
  /** The first line of the program. */
  summary: string;
  /** What is said by default and under `HAKMEM_CHECK=1`, without advice: or `nothing`, or `fault`. */
  expected: { default: string; check: string };
}

const directory = join(root, "tests", "misuse");
const programs = [...Deno.readDirSync(directory)].map(({ name }) => readMisuse(name))
  .toSorted((a, b) => a.name.localeCompare(b.name));

function readMisuse(file: string): Misuse {
  const source = Deno.readTextFileSync(join(directory, file));
  const head = /^\/\/ (.+)\n\/\/\n\/\/ default: (.+)\n\/\/ check: (.+)\n/.exec(source);
  assert.ok(head, `${file} does not start with its summary and what is expected`);
  const [, summary = "", byDefault = "", check = ""] = head;
  return { name: file.replace(/\.c$/, ""), summary, expected: { default: byDefault, check } };
}

function kindOf(expected: string): string {
  return expected.split(":")[0] ?? "";
}

function expectedLine(expected: string): RegExp {
  const kind = kindOf(expected);
  const page = join("docs", "errors", `${kind.replaceAll(" ", "-")}.md`);
  Deno.statSync(join(root, page));
  const line = `hakmem: ${expected}; ${advice.get(kind)}; see ${page}\n`;
  return new RegExp(`^${RegExp.escape(line).replace("ADDRESS", "0x[0-9a-f]+")}$`);
}

interface Ended {
  code: number;
  signal: Deno.Signal | null;
  text: string;
}

async function runUnder(
  path: string,
  env: Record<string, string>,
  library: string = preloadLibrary,
): Promise<Ended> {
  const { code, signal, stderr } = await new Deno.Command(path, {
    env: { ...env, LD_PRELOAD: library },
    stdin: "null",
    signal: AbortSignal.timeout(60_000),
  }).output();
  return { code, signal, text: new TextDecoder().decode(stderr) };
}

function withMisuse(name: string, use: (path: string) => Promise<void>): Promise<void> {
  return withCompiled(
    [join(directory, `${name}.c`)],
    ["-O0", "-fno-builtin", "-Wno-everything"],
    use,
  );
}

for (const { name, expected } of programs) {
  testUnless(`misuse: ${name}`, missingCompiler(), async () => {
    await withMisuse(name, async (path) => {
      for (const library of preloadLibraries) {
        for (const mode of ["default", "check"] as const) {
          const env: Record<string, string> = mode === "check" ? { HAKMEM_CHECK: "1" } : {};
          const { code, signal, text } = await runUnder(path, env, library);
          const where = `${mode}, ${library}`;
          const wanted = expected[mode];
          if (wanted === "nothing" || wanted === "fault") {
            assert.equal(text, "", where);
            assert.equal(signal ?? code, wanted === "fault" ? "SIGSEGV" : 0, where);
          } else {
            assert.match(text, expectedLine(wanted), where);
            assert.equal(signal, "SIGABRT", where);
          }
        }
      }
    });
  });
}

Deno.test("misuse: docs/MISUSE.md has one row for each program, and counts them", () => {
  const text = Deno.readTextFileSync(join(root, "docs", "MISUSE.md"));
  const rows = [...text.matchAll(/^\| `(\S+)` +\| (.+?) +\| (.+?) +\| (.+?) +\|$/gm)]
    .map(([, ...cells]) => cells)
    .toSorted(([a = ""], [b = ""]) => a.localeCompare(b));
  const wanted = programs.map(({ name, summary, expected }) => [
    name,
    summary,
    kindOf(expected.default),
    kindOf(expected.check),
  ]);
  assert.deepEqual(rows, wanted);
  const noticed = (mode: "default" | "check") =>
    programs.filter(({ expected }) => expected[mode] !== "nothing").length;
  const flat = text.replaceAll(/\s+/g, " ");
  assert.ok(flat.includes(
    `Of ${programs.length} kinds, ${noticed("default")} are noticed by default and ${
      noticed("check")
    } under`,
  ));
  assert.ok(noticed("default") >= 12 && noticed("check") >= 30);
});

Deno.test("misuse: every page under docs/errors/ belongs to a kind", () => {
  const source = Deno.readTextFileSync(join(root, "zig", "src", "seeing", "fatal.zig"));
  const kinds = /pub const Kind = enum \{([^}]+)\}/.exec(source)?.[1]?.match(/\w+/g) ?? [];
  const pages = [...Deno.readDirSync(join(root, "docs", "errors"))].map(({ name }) => name);
  assert.deepEqual(
    pages.toSorted(),
    kinds.map((kind) => `${kind.replaceAll("_", "-")}.md`).toSorted(),
  );
});

testUnless(
  "misuse: HAKMEM_FOREIGN=ignore lets foreign pointers pass, and nothing else",
  missingCompiler(),
  async () => {
    for (const name of ["free-stack", "free-unmapped", "free-wild", "realloc-foreign"]) {
      await withMisuse(name, async (path) => {
        for (const more of [{}, { HAKMEM_CHECK: "1" }]) {
          const { signal, text } = await runUnder(path, { HAKMEM_FOREIGN: "ignore", ...more });
          assert.equal(text, "", name);
          assert.equal(signal, null, name);
        }
      });
    }
    for (const name of ["double-free", "double-free-large", "free-interior-large"]) {
      await withMisuse(name, async (path) => {
        const { signal, text } = await runUnder(path, { HAKMEM_FOREIGN: "ignore" });
        assert.match(text, /^hakmem: /, name);
        assert.equal(signal, "SIGABRT", name);
      });
    }
  },
);

testUnless(
  "misuse: a value that is not understood is said once, and counts as unset",
  missingCompiler(),
  async () => {
    await withMisuse("overflow", async (path) => {
      const { code, text } = await runUnder(path, { HAKMEM_CHECK: "yes", HAKMEM_FOREIGN: "" });
      assert.equal(
        text,
        "hakmem: HAKMEM_CHECK=yes is not understood, so it counts as unset; it must be 0 or 1\n",
      );
      assert.equal(code, 0);
    });
  },
);

testUnless(
  "misuse: a program with more rights than its caller heeds no setting",
  missingCompiler() ?? (Deno.uid() === 0 ? null : "only root can give a program to somebody else"),
  async () => {
    await withCompiled(["privileged.c"], [], async (path) => {
      // Where anybody may look.
      await Deno.chmod(dirname(path), 0o755);
      const library = join(dirname(path), "libhakmem.so");
      await Deno.copyFile(ffiLibrary, library);
      const run = async (): Promise<{ stdout: string; stderr: string }> => {
        const { stdout, stderr } = await new Deno.Command(path, {
          args: [library],
          env: { HAKMEM_CHECK: "yes" },
          signal: AbortSignal.timeout(60_000),
        }).output();
        const decoder = new TextDecoder();
        return { stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
      };
      const plain = await run();
      assert.equal(plain.stdout, "the same rights\n");
      assert.match(plain.stderr, /^hakmem: HAKMEM_CHECK=yes is not understood/);
      const nobody = 65534;
      await Deno.chown(path, nobody, nobody);
      await Deno.chmod(path, 0o4755);
      assert.deepEqual(await run(), { stdout: "more rights\n", stderr: "" });
    });
  },
);
