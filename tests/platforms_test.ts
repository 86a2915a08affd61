/**
 * The objects of `./hak build --all`: what each needs of its platform, read from the files, and as much of the
 * native tests as runs here: musl by its own loader, aarch64 under qemu-user. What an emulator cannot run is left
 * out by name below; docs/PLATFORMS.md lists it as untested.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildPlatforms, zigPath } from "../cli/build.ts";
import { ffiLibrary, preloadLibrary, zigOut } from "../cli/paths.ts";
import { dynamicObject, MachObject, versionAtMost } from "./platforms_objects.ts";
import { findProgram, missing, workDirectory } from "./programs/preload.ts";
import { testUnless } from "./skip.ts";

/** A platform whose programs run here if its loader is there. */
interface Runner {
  name: string;
  /** The emulator's command; nothing for the machine's own processor. */
  emulator: string[];
  /** What Debian calls the packages, and the files of theirs that a run needs. */
  packages: string;
  files: string[];
}

const arm64Root = "/usr/aarch64-linux-gnu";
const runners: Runner[] = [
  {
    name: "x86_64-linux-musl",
    emulator: [],
    packages: "musl",
    files: ["/lib/ld-musl-x86_64.so.1"],
  },
  {
    name: "aarch64-linux-gnu",
    emulator: ["qemu-aarch64", "-L", arm64Root],
    packages: "qemu-user and libc6-arm64-cross",
    files: [`${arm64Root}/lib/ld-linux-aarch64.so.1`],
  },
  {
    name: "aarch64-linux-musl",
    emulator: ["qemu-aarch64"],
    packages: "qemu-user and musl:arm64",
    files: ["/lib/ld-musl-aarch64.so.1"],
  },
];

/** Why the programs of a platform cannot run here, or `null`. */
function lacking({ name, emulator, packages, files }: Runner): string | null {
  const native = Deno.build.os === "linux" && Deno.build.arch === "x86_64";
  if (!native) return `${name} is tried on x86_64 Linux only`;
  const absent = files.filter((path) => !existsSync(path));
  const [program] = emulator;
  if (program !== undefined && findProgram(program) === null) absent.push(program);
  return absent.length === 0 ? null : `no ${absent.join(", ")} (Debian: ${packages})`;
}

/** An emulator keeps a record of every page, and would take all memory where a test maps terabytes. */
const dataLimitKib = 6 * 1024 * 1024;

/** Runs a program of a platform and returns how it ended, and what it printed. */
async function run(
  { emulator }: Runner,
  program: string,
  args: string[],
  variables: Record<string, string> = {},
): Promise<{ code: number; text: string }> {
  const set = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  // The variables are the emulated program's own: LD_PRELOAD would be read by the emulator's loader too.
  const command = emulator.length === 0
    ? ["env", ...set, program, ...args]
    : [...emulator, ...set.flatMap((each) => ["-E", each]), program, ...args];
  const { LD_PRELOAD: _, ...env } = Deno.env.toObject();
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `ulimit -d ${dataLimitKib} && exec "$@"`, "sh", ...command],
    clearEnv: true,
    env,
    stdin: "null",
    signal: AbortSignal.timeout(180_000),
  }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout) + decoder.decode(stderr);
  return { code, text: `${command.join(" ")}\n${text.trimEnd()}` };
}

function objectPath(platform: string, file: string): string {
  return join(zigOut, platform, "lib", file);
}

const linux = ["x86_64-linux-gnu", "x86_64-linux-musl", "aarch64-linux-gnu", "aarch64-linux-musl"];
const elfFiles = ["libhakmem.so", "libhakmem_preload.so"];

await buildPlatforms({ tests: true, quiet: true });

for (const platform of linux) {
  for (const file of elfFiles) {
    Deno.test(`platforms: ${platform}/${file} says what it is and needs`, async () => {
      const object = await dynamicObject(objectPath(platform, file));
      assert.equal(object.machine, platform.startsWith("aarch64") ? "aarch64" : "x86_64");
      // A kernel with pages of 64 KiB maps only what is aligned to them.
      const pages = object.machine === "aarch64" ? 65536 : 4096;
      assert(object.segmentAlignments.length >= 3);
      for (const alignment of object.segmentAlignments) assert.equal(alignment, pages);
      // The flag lets a late dlopen fail; so only the object that is preloaded may have it.
      assert.equal(object.staticTls, file === "libhakmem_preload.so");
      if (platform.endsWith("musl")) {
        assert.deepEqual(object.needed, ["libc.so"]);
        assert.deepEqual(object.versions, []);
      } else {
        assert(object.versions.length > 0);
        for (const version of object.versions) {
          assert(versionAtMost(version, "GLIBC_2.17"), `${file} needs ${version}`);
        }
      }
    });
  }
}

testUnless(
  "platforms: the default build needs no newer glibc than docs/PLATFORMS.md says",
  Deno.build.os === "linux" ? null : "its objects are Linux's",
  async () => {
    for (const path of [ffiLibrary, preloadLibrary]) {
      const { versions } = await dynamicObject(path);
      assert(versions.length > 0);
      for (const version of versions) {
        assert(versionAtMost(version, "GLIBC_2.34"), `${path} needs ${version}`);
      }
    }
  },
);

for (const platform of ["x86_64-macos", "aarch64-macos"]) {
  Deno.test(`platforms: ${platform}/libhakmem.dylib is an object of that platform`, async () => {
    const object = new MachObject(await Deno.readFile(objectPath(platform, "libhakmem.dylib")));
    assert.equal(object.machine, platform.startsWith("aarch64") ? "aarch64" : "x86_64");
    assert.deepEqual(object.libraries, ["/usr/lib/libSystem.B.dylib"]);
    // The constructor, without which dlclose could take the object away under a living thread.
    assert.equal(object.sectionBytes("__mod_init_func"), 8);
    for (const name of ["_hak_malloc", "_hak_free", "_hak_abi_manifest"]) {
      assert(object.exported.includes(name), `exports ${name}`);
    }
    assert(!object.exported.includes("_malloc"));
  });
}

/**
 * The unit tests of what depends on the processor and its addresses. The others map terabytes, which an emulator
 * cannot, or take long under one.
 */
const unitTests = ["page_map", "registry", "slab", "lock"].map((name) => `test.${name}: `);

/**
 * An emulator ignores RLIMIT_AS, adds a line of its own where a program aborts, and its records of pages count as
 * resident and fault.
 */
const beyondEmulation = ["out-of-memory", "misuse", "calloc-lazy", "realloc-moves-pages"];

/** A mode of hak-stress with as many operations as it needs to judge. An emulator cannot fork beside threads. */
const modes: [mode: string, operations: number, emulated: boolean][] = [
  ["mixed", 20_000, true],
  ["scarce", 60_000, false],
  ["producer-consumer", 200_000, true],
  ["churn", 400, true],
  ["fork", 40, false],
  ["exit", 20, false],
];

/** Compiles a program of tests/programs/work for a platform. */
async function compile(platform: string, source: string, folder: string): Promise<string> {
  const executable = join(folder, source.replace(/\.c$/, ""));
  const { success, stderr } = await new Deno.Command(await zigPath(), {
    args: [
      ...["cc", "-target", platform, "-dynamic", "-O1", "-pthread"],
      ...[join(workDirectory, source), "-o", executable],
    ],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return executable;
}

for (const runner of runners) {
  const { name, emulator } = runner;
  const reason = lacking(runner) ?? missing("sh", "env");
  const emulated = emulator.length > 0;
  const test = join(zigOut, name, "test");
  const preload = { LD_PRELOAD: objectPath(name, "libhakmem_preload.so") };
  const checked = { LD_PRELOAD: join(test, "libhakmem_preload_checked.so") };
  const doors: [door: string, args: string[], variables: Record<string, string>][] = [
    ["preload", [], preload],
    ["hak_*", ["--hak", objectPath(name, "libhakmem.so")], {}],
  ];

  for (const [door, args, variables] of doors) {
    testUnless(`platforms, ${name}, ${door}: conformance`, reason, async () => {
      const program = join(test, "hak-conformance");
      const listed = await run(runner, program, ["--list", ...args], variables);
      assert.equal(listed.code, 0, listed.text);
      const cases = listed.text.split("\n").slice(1)
        .filter((line) => !line.includes(": skip: "))
        .filter((each) => !emulated || !beyondEmulation.includes(each));
      assert(cases.length >= 24, listed.text);
      const { code, text } = await run(runner, program, [...cases, ...args], variables);
      const wanted = variables["LD_PRELOAD"] ?? args[1];
      assert(text.includes(` ${wanted}\n`), text);
      for (const each of cases) assert(text.includes(`\npass ${each}`), `${each}:\n${text}`);
      assert.equal(code, 0, text);
    });
  }

  for (const [mode, operations, runsEmulated] of modes) {
    const why = reason ??
      (emulated && !runsEmulated ? `qemu-user cannot run it: see docs/PLATFORMS.md` : null);
    testUnless(`platforms, ${name}: stress, ${mode}, with assertions`, why, async () => {
      const { code, text } = await run(runner, join(test, "hak-stress"), [
        ...["--mode", mode, "--operations", `${operations}`, "--threads", "4", "--limit", "120"],
      ], checked);
      assert.match(text, new RegExp(`^ok ${mode}: `, "m"), text);
      assert.equal(code, 0, text);
    });
  }

  testUnless(
    `platforms, ${name}: unit tests of addresses, slabs and locks`,
    reason,
    async () => {
      for (const filter of unitTests) {
        const { code, text } = await run(runner, join(test, "unit-tests"), [], {
          HAK_TEST_FILTER: filter,
        });
        assert.match(text, /^pass /m, `${filter}: ${text}`);
        assert.doesNotMatch(text, /^(fail|skip) /m, text);
        assert.equal(code, 0, text);
      }
    },
  );

  testUnless(
    `platforms, ${name}: libhakmem.so is opened when many threads exist`,
    reason,
    async () => {
      const folder = await Deno.makeTempDir({ prefix: "hak-platforms-" });
      try {
        const program = await compile(name, "late_dlopen.c", folder);
        const { code, text } = await run(runner, program, [objectPath(name, "libhakmem.so")]);
        const [, used] =
          /^48 threads before it, 48 after; (\d+) bytes of stack used$/m.exec(text) ?? [];
        assert(used !== undefined, text);
        assert.equal(code, 0, text);
        // musl gives a thread 128 KiB.
        assert(Number(used) < 32 * 1024, text);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  );

  testUnless(`platforms, ${name}: programs under preload`, reason, async () => {
    const folder = await Deno.makeTempDir({ prefix: "hak-platforms-" });
    try {
      for (const source of ["thread_ends.c", "free_only_thread.c"]) {
        const program = await compile(name, source, folder);
        const without = await run(runner, program, []);
        const { code, text } = await run(runner, program, [], preload);
        const printed = (whole: string): string[] => whole.split("\n").slice(1);
        assert.equal(code, 0, text);
        assert.deepEqual(printed(text), printed(without.text));
        assert(printed(text).length > 0);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
