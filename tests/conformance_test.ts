/**
 * The conformance suite of `zig/tests/suite.zig` at every door: libc as control, the preloaded object,
 * `hak_*` of the other object, and Zig's own allocator as control for the Zig door. hakmem's Zig allocator
 * meets the same suite in the unit tests.
 *
 * Each case is a test and a process of its own, so that the first call of the case is the allocator's first.
 */
import assert from "node:assert/strict";
import { binary } from "../cli/paths.ts";
import {
  type Door,
  guarded,
  hak,
  libc,
  missingFiles,
  preload,
  runNative,
} from "./native_support.ts";

const program = "hak-conformance";
const zigControl: Door = { name: "Zig control", args: ["--zig"] };

/** Cases that a door cannot have, by design: anything more that it lacks is a failure. */
const inapplicable = new Map<Door, string[]>([
  [libc, [
    "aligned-alloc-bad-alignment",
    "batch",
    "free-sized",
    "misuse",
    "tiny-classes",
    "unload",
    "zig-resize",
    "zig-standard-suite",
  ]],
  [preload, ["unload", "zig-resize", "zig-standard-suite"]],
  [guarded, ["unload", "zig-resize", "zig-standard-suite"]],
  [hak, [
    "free-sized",
    "memalign",
    "posix-memalign",
    "posix-memalign-errors",
    "pvalloc",
    "reallocarray",
    "valloc",
    "zig-resize",
    "zig-standard-suite",
  ]],
  [zigControl, [
    "aligned-alloc-bad-alignment",
    "batch",
    "calloc-lazy",
    "calloc-overflow",
    "calloc-zeroed",
    "family-from-one-object",
    "flush-gives-back",
    "flush-live-blocks",
    "free-null",
    "free-sized",
    "memalign",
    "misuse",
    "out-of-memory",
    "posix-memalign",
    "posix-memalign-errors",
    "pvalloc",
    "realloc-moves-pages",
    "realloc-null",
    "realloc-shrink",
    "realloc-to-zero",
    "reallocarray",
    "reuse-across-sizes",
    "tiny-classes",
    "unload",
    "usable-size",
    "valloc",
    "zero-sizes",
  ]],
]);

/**
 * Cases that HAKMEM_CHECK fails by design: fresh blocks are filled and freed ones wait, a resized block always moves, a
 * block's usable size is the one asked for, and the guards and records of small blocks take more memory than they.
 */
const unlikeGuarded = [
  "calloc-lazy",
  "flush-gives-back",
  "out-of-memory",
  "realloc-moves-pages",
  "realloc-shrink",
  "realloc-to-zero",
  "reuse-across-sizes",
  "tiny-classes",
];

interface Listed {
  name: string;
  reason: string | null;
}

/** The cases of a door, as the program lists them. */
function listCases(door: Door): Listed[] {
  const output = new Deno.Command(binary(program), {
    args: ["--list", ...door.args],
    env: { ...door.env, ...(door.preload === undefined ? {} : { LD_PRELOAD: door.preload }) },
  }).outputSync();
  const text = new TextDecoder().decode(output.stdout);
  assert.equal(output.code, 0, text + new TextDecoder().decode(output.stderr));
  return text.trimEnd().split("\n").map((line) => {
    const [name = "", reason] = line.split(": skip: ");
    return { name, reason: reason ?? null };
  });
}

/** The first line of a run names the object whose functions were called. */
function expectedSubject(door: Door): RegExp {
  if (door === zigControl) return /^subject zig: std\.heap\.smp_allocator$/m;
  if (door === libc) return /^subject malloc: .*\/libc\.so\.6$/m;
  const path = door.preload ?? door.args[1] ?? "";
  const kind = door.preload === undefined ? "hak" : "malloc";
  return new RegExp(`^subject ${kind}: ${RegExp.escape(path)}$`, "m");
}

const missing = missingFiles(program, [preload, guarded, hak]);
if (missing.length > 0) {
  Deno.test("conformance: the programs are built", () => {
    assert.fail(`not built: ${missing.join(", ")}: run ./hak build`);
  });
} else {
  for (const [door, lacking] of inapplicable) {
    const cases = listCases(door);
    for (const { name, reason } of cases) {
      if (reason !== null || (door === guarded && unlikeGuarded.includes(name))) continue;
      Deno.test(`conformance, ${door.name}: ${name}`, async () => {
        const { code, text, command } = await runNative(program, door, [name]);
        assert.match(text, expectedSubject(door));
        assert.match(text, new RegExp(`^pass ${name}$`, "m"), `${text}\n${command}`);
        assert.equal(code, 0, `${text}\n${command}`);
      });
    }
    Deno.test(`conformance, ${door.name}: lacks only what it cannot have`, () => {
      const lacked = cases.filter(({ reason }) => reason !== null);
      assert.deepEqual(lacked.map(({ name }) => name).toSorted(), lacking);
    });
  }

  // One process for all cases, too small for the page map of the whole address space. What one case leaves
  // behind, the next ones must live with.
  for (const door of [libc, preload, hak]) {
    Deno.test(`conformance, ${door.name}: all cases under ulimit -v 1 GiB`, async () => {
      const { code, text, command } = await runNative(program, door, [], 1024 * 1024);
      assert.match(text, expectedSubject(door));
      assert.doesNotMatch(text, /^fail/m, `${text}\n${command}`);
      assert.equal(code, 0, `${text}\n${command}`);
    });
  }

  Deno.test("conformance: the suite notices every planted defect", async () => {
    const { code, text, command } = await runNative(program, libc, ["--self-test"]);
    assert.doesNotMatch(text, /^fail/m, `${text}\n${command}`);
    assert.equal(code, 0, `${text}\n${command}`);
    assert.ok(text.split("\n").filter((line) => line.startsWith("pass defect: ")).length >= 40);
  });

  for (
    const [args, said] of [
      [["--hak", "no-such-file.so"], /^cannot open no-such-file\.so: /],
      [["no-such-case"], /^hak-conformance: no such case .*: no-such-case/],
      [["--no-such-option"], /^hak-conformance: no such option: --no-such-option/],
    ] as const
  ) {
    Deno.test(`conformance: ${args.join(" ")} is refused in one line`, async () => {
      const { code, text } = await runNative(program, libc, [...args]);
      assert.match(text, said);
      assert.equal(text.split("\n").length, 1);
      assert.equal(code, 2);
    });
  }
}
