/**
 * The commands: how they are chosen, what they say to bad input, when they build, and how `hak test`
 * counts. Where a command would build, it runs in a checkout of its own with a stand-in for Zig.
 */
import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { buildIfNeeded, zigPath } from "../cli/build.ts";
import { callerPath, ffiLibrary, preloadLibrary, root } from "../cli/paths.ts";
import { DenoTally, readJunit, Turns, ZigTally } from "../cli/test.ts";
import { filesBelow } from "../cli/walk.ts";

const decoder = new TextDecoder();

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

async function cli(
  args: string[],
  options: { checkout?: string; env?: Record<string, string> } = {},
): Promise<Ended> {
  const output = await command(args, options).output();
  return {
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

function command(
  args: string[],
  { checkout = root, env = {} }: { checkout?: string; env?: Record<string, string> } = {},
): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      `--config=${join(checkout, "deno.json")}`,
      join(checkout, "cli.ts"),
      ...args,
    ],
    cwd: checkout,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

async function read(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!await condition()) await new Promise((done) => setTimeout(done, 20));
}

/** A checkout with the commands, one Zig source, and a stand-in for Zig. */
class Checkout implements AsyncDisposable {
  readonly folder: string;
  readonly env: Record<string, string>;

  private constructor(folder: string) {
    this.folder = folder;
    this.env = { ZIG: this.path("fake/zig") };
  }

  static async create(): Promise<Checkout> {
    const checkout = new Checkout(
      await Deno.realPath(await Deno.makeTempDir({ prefix: "hak-cli-" })),
    );
    for await (const file of filesBelow(join(root, "cli"))) {
      await checkout.write(relative(root, file), await Deno.readTextFile(file));
    }
    for (const name of ["hak", "cli.ts", "deno.json"]) {
      await checkout.write(name, await Deno.readTextFile(join(root, name)));
    }
    await checkout.write("zig/src/a.zig", "// one\n");
    // It runs in zig/. It makes the outputs by rename, as the real one does, and notes each build.
    await checkout.write(
      "fake/zig",
      `#!/bin/sh
case "$*" in
  version) echo 0.17.0; exit ;;
  'build --release=fast' | 'build --release=fast test-programs') ;;
  'build --release=fast platforms')
    for system in linux-gnu linux-musl macos; do for machine in x86_64 aarch64; do
      mkdir -p "zig-out/$machine-$system/lib"
      for file in libhakmem.so libhakmem_preload.so libhakmem.dylib; do
        [ "$machine-$system/$file" = "$(cat ../fake/omit)" ] || : > "zig-out/$machine-$system/lib/$file"
      done
    done; done
    exit ;;
  'build test') echo "$HAK_TEST_FILTER" > ../fake/filter; cat ../fake/tests; read status < ../fake/status; exit "$status" ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
echo built >> ../fake/builds
[ ! -e ../fake/slow ] || { : > ../fake/waiting; while [ -e ../fake/slow ]; do sleep 0.02; done; }
[ ! -e ../fake/broken ] || { echo 'src/a.zig:1:1: error: as you wish' >&2; exit 1; }
for file in lib/libhakmem.so lib/libhakmem_preload.so include/hakmem.h; do
  [ "$file" != "$(cat ../fake/omit)" ] || continue
  mkdir -p "zig-out/\${file%/*}" && echo "$file" > zig-out/new && mv zig-out/new "zig-out/$file"
done
`,
      0o755,
    );
    await checkout.write("fake/omit", "nothing\n");
    return checkout;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async write(name: string, text: string, mode = 0o644): Promise<void> {
    await Deno.mkdir(dirname(this.path(name)), { recursive: true });
    await Deno.writeTextFile(this.path(name), text, { mode });
  }

  cli(...args: string[]): Promise<Ended> {
    return cli(args, { checkout: this.folder, env: this.env });
  }

  command(...args: string[]): Deno.Command {
    return command(args, { checkout: this.folder, env: this.env });
  }

  /** How often Zig has built. */
  async builds(): Promise<number> {
    return (await read(this.path("fake/builds"))).split("\n").length - 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Asserts that a command refused its input: one line on standard error, nothing else. */
function refused(ended: Ended, line: string): void {
  assert.deepEqual(ended, { code: 2, stdout: "", stderr: `${line}\n` });
}

Deno.test("without a command, hak lists the commands of deno.json", async () => {
  const listed = await cli([]);
  assert.equal(listed.code, 0);
  assert.equal(listed.stderr, "");
  const { tasks } = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
    tasks: Record<string, { description: string }>;
  };
  const lines = [...listed.stdout.matchAll(/^ {2}(\S+) +(\S.*)$/gm)];
  assert.deepEqual(
    lines.map(([, name, text]) => [name, text]),
    Object.entries(tasks).map(([name, { description }]) => [name, description]),
  );
  assert.deepEqual(await cli(["help"]), listed);
  assert.deepEqual(await cli(["--help"]), listed);
});

Deno.test("each command has a module that says how it is used", async () => {
  const config = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
    tasks: Record<string, { description: string }>;
  };
  for (const [name, { description }] of Object.entries(config.tasks)) {
    const module = await import(join(root, "cli", `${name.replaceAll("-", "_")}.ts`)) as {
      summary: string;
      usage: string;
      run: (args: string[]) => Promise<number>;
    };
    assert.equal(module.summary, description);
    assert.match(module.usage, new RegExp(`^(usage: )?(\\./)?hak ${name}\\b`, "i"));
    assert.equal(module.run.length, 1);
  }
});

Deno.test("--help shows how a command is used, and does not run it", async () => {
  await using checkout = await Checkout.create();
  for (const args of [["lib", "--help"], ["lib", "preload", "-h"], ["help", "lib"]]) {
    const { code, stdout, stderr } = await checkout.cli(...args);
    assert.match(stdout, /^hak lib preload\|ffi\n/);
    assert.equal(stderr, "");
    assert.equal(code, 0);
  }
  assert.equal(await checkout.builds(), 0);
});

Deno.test("bad input is refused in one line with status 2, before anything is built", async () => {
  await using checkout = await Checkout.create();
  const commands =
    "the commands are sweep, bench, costs, soak, test, build, lib, doctor, fuzz, bench-ffi, symbols, ok";
  refused(await checkout.cli("swep"), `hak: unknown command "swep": ${commands}`);
  refused(await checkout.cli(""), `hak: unknown command "": ${commands}`);
  refused(await checkout.cli("a\nb"), `hak: unknown command "a\\nb": ${commands}`);
  refused(await checkout.cli("help", "swep"), `hak: unknown command "swep": ${commands}`);
  refused(await checkout.cli("lib"), "hak lib: which object? Try hak lib preload, or hak lib ffi");
  refused(await checkout.cli("lib", "x"), 'hak lib: unknown object "x": it is preload or ffi');
  refused(
    await checkout.cli("lib", "ffi", "preload"),
    'hak lib: unexpected argument "preload": one object at a time',
  );
  refused(
    await checkout.cli("build", "--fast"),
    'hak build: unexpected argument "--fast": it takes only --all',
  );
  refused(await checkout.cli("ok", "x"), 'hak ok: unexpected argument "x": it takes none');
  refused(
    await checkout.cli("test", "--filter"),
    'hak test: unknown option "--filter": it takes a text to filter by',
  );
  refused(
    await checkout.cli("test", "a", "b"),
    'hak test: unexpected argument "b": it takes one filter',
  );
  assert.equal(await checkout.builds(), 0);
});

Deno.test("a path from the caller is relative to where the caller was", () => {
  const before = Deno.env.get("INIT_CWD");
  try {
    Deno.env.set("INIT_CWD", "/some where");
    assert.equal(callerPath("a/../b.json"), "/some where/b.json");
    assert.equal(callerPath("/c.json"), "/c.json");
    Deno.env.delete("INIT_CWD");
    assert.equal(callerPath("b.json"), join(Deno.cwd(), "b.json"));
  } finally {
    if (before === undefined) Deno.env.delete("INIT_CWD");
    else Deno.env.set("INIT_CWD", before);
  }
});

Deno.test("hak lib prints the path of the built object and nothing else", async () => {
  for (const [name, path] of [["preload", preloadLibrary], ["ffi", ffiLibrary]] as const) {
    const { code, stdout } = await cli(["lib", name]);
    assert.equal(stdout, `${path}\n`);
    assert.equal(code, 0);
    assert((await Deno.stat(path)).isFile);
  }
});

Deno.test("hak lib builds when a source or an output has changed, and only then", async () => {
  await using checkout = await Checkout.create();
  const expectBuilds = async (builds: number): Promise<void> => {
    const { code, stdout } = await checkout.cli("lib", "ffi");
    assert.equal(stdout, `${checkout.path("zig/zig-out/lib/libhakmem.so")}\n`);
    assert.equal(code, 0);
    assert.equal(await checkout.builds(), builds);
  };
  await expectBuilds(1);
  await expectBuilds(1);
  await checkout.write("zig/src/a.zig", "// one, and more\n");
  await expectBuilds(2);
  // A source that got older, as by a checkout of an older commit with its times kept.
  await Deno.utime(checkout.path("zig/src/a.zig"), 1, 1);
  await expectBuilds(3);
  await checkout.write("zig/include/new.h", "");
  await expectBuilds(4);
  await Deno.remove(checkout.path("zig/include/new.h"));
  await expectBuilds(5);
  await Deno.remove(checkout.path("zig/zig-out/include/hakmem.h"));
  await expectBuilds(6);
  await checkout.write("zig/zig-out/lib/libhakmem.so", "overwritten by something else");
  await expectBuilds(7);
  await expectBuilds(7);
  // What the build itself keeps is no source.
  await checkout.write("zig/.zig-cache/x.zig", "");
  await expectBuilds(7);
  // An explicit build always asks Zig.
  assert.deepEqual(await checkout.cli("build"), {
    code: 0,
    stdout: "",
    stderr: "hak: building the allocator (the first time takes a few minutes)\n",
  });
  assert.equal(await checkout.builds(), 8);
});

Deno.test("hak build --all makes the objects of every platform, and leaves the default build be", async () => {
  await using checkout = await Checkout.create();
  const built = "hak: building the allocator (the first time takes a few minutes)\n";
  assert.deepEqual(await checkout.cli("build", "--all"), { code: 0, stdout: "", stderr: built });
  assert.equal(await checkout.builds(), 1);
  // What lies in the folders of the platforms is none of the default build's outputs.
  await checkout.write("zig/zig-out/aarch64-linux-musl/lib/libhakmem.so", "changed");
  assert.equal((await checkout.cli("lib", "ffi")).code, 0);
  assert.equal(await checkout.builds(), 1);
  await Deno.remove(checkout.path("zig/zig-out/aarch64-macos"), { recursive: true });
  await checkout.write("fake/omit", "aarch64-macos/libhakmem.dylib\n");
  const omitted = await checkout.cli("build", "--all");
  assert.equal(omitted.code, 1);
  assert.equal(
    omitted.stderr,
    `${built}hak build: zig build made no zig/zig-out/aarch64-macos/lib/libhakmem.dylib: ` +
      "zig/build.zig must install it\n",
  );
  for (const args of [["--al"], ["--all", "--all"]]) {
    const { code, stderr } = await checkout.cli("build", ...args);
    assert.equal(code, 2);
    assert.match(stderr, /^hak build: unexpected argument "--all?": .*--all.*\n$/);
  }
});

Deno.test("a build that fails shows what Zig says and ends in one line", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/broken", "");
  const { code, stdout, stderr } = await checkout.cli("lib", "preload");
  assert.equal(code, 1);
  assert.equal(stdout, "");
  assert.deepEqual(stderr.split("\n").slice(1), [
    "src/a.zig:1:1: error: as you wish",
    "hak lib: the build failed: what zig build says is above (status 1)",
    "",
  ]);
  await Deno.remove(checkout.path("fake/broken"));
  await checkout.write("fake/omit", "lib/libhakmem.so\n");
  const omitted = await checkout.cli("lib", "preload");
  assert.equal(omitted.code, 1);
  assert.equal(
    omitted.stderr.split("\n")[1],
    "hak lib: zig build made no zig/zig-out/lib/libhakmem.so: zig/build.zig must install it",
  );
  await checkout.write("fake/omit", "nothing\n");
  assert.equal((await checkout.cli("lib", "preload")).code, 0);
});

Deno.test("a build without Zig ends with what the script hak says", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("hak", "echo 'hak: no Zig here' >&2; exit 1\n");
  assert.deepEqual(await checkout.cli("lib", "ffi"), {
    code: 1,
    stdout: "",
    stderr: "hak: no Zig here\n",
  });
});

Deno.test("a relative ZIG is meant from where the caller is", async () => {
  await using checkout = await Checkout.create();
  const env = { ZIG: "../fake/zig", INIT_CWD: checkout.path("zig") };
  const { code, stdout } = await cli(["lib", "ffi"], { checkout: checkout.folder, env });
  assert.equal(stdout, `${checkout.path("zig/zig-out/lib/libhakmem.so")}\n`);
  assert.equal(code, 0);
});

Deno.test("of two builds at once the second waits, and finds its work done", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/slow", "");
  const first = checkout.cli("lib", "preload");
  await until(async () => await read(checkout.path("fake/builds")) !== "");
  const second = checkout.command("lib", "ffi").spawn();
  const stderr = second.stderr.getReader();
  assert.equal(
    decoder.decode((await stderr.read()).value),
    "hak: waiting for another build of this checkout\n",
  );
  await Deno.remove(checkout.path("fake/slow"));
  assert.equal((await first).code, 0);
  assert.equal((await stderr.read()).done, true);
  assert.equal(
    await new Response(second.stdout).text(),
    `${checkout.path("zig/zig-out/lib/libhakmem.so")}\n`,
  );
  assert.equal((await second.status).code, 0);
  assert.equal(await checkout.builds(), 1);
});

Deno.test("Ctrl-C ends a build and its children with status 130, also if one process gets it", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/slow", "");
  const child = checkout.command("build").spawn();
  await until(async () => await read(checkout.path("fake/builds")) !== "");
  child.kill("SIGINT");
  // The output ends when the last process that holds it has ended.
  const [status] = await Promise.all([
    child.status,
    child.stdout.cancel(),
    new Response(child.stderr).text(),
  ]);
  assert.equal(status.code, 130);
  await Deno.remove(checkout.path("fake/slow"));
  assert.equal((await checkout.cli("build")).code, 0);
});

Deno.test("Zig installs by rename: an object that is loaded stays whole", async () => {
  await buildIfNeeded();
  const prefix = await Deno.makeTempDir({ prefix: "hak-install-" });
  try {
    const install = async (): Promise<void> => {
      const { success, stderr } = await new Deno.Command(await zigPath(), {
        args: ["build", "--release=fast", "--prefix", prefix],
        cwd: join(root, "zig"),
      }).output();
      assert(success, decoder.decode(stderr));
    };
    await install();
    const path = join(prefix, "lib", "libhakmem.so");
    const inode = (await Deno.stat(path)).ino;
    using held = await Deno.open(path);
    // A file of another time is one that Zig must install anew.
    await Deno.utime(path, 1, 1);
    await install();
    assert.notEqual((await Deno.stat(path)).ino, inode);
    const old = new Uint8Array(await new Response(held.readable).arrayBuffer());
    assert.deepEqual(old, await Deno.readFile(path));
  } finally {
    await Deno.remove(prefix, { recursive: true });
  }
});

const mixedTests = `
import assert from "node:assert/strict";
Deno.test("first", () => {});
Deno.test("second > odd name", () => {});
Deno.test("steps", async (t) => {
  await t.step("a step", () => {});
});
Deno.test({ name: "absent [skipped: no such program]", ignore: true, fn: () => {} });
`;

Deno.test("hak test counts Zig and Deno tests together, and its last line says so", async () => {
  await using checkout = await Checkout.create();
  await checkout.write(
    "fake/tests",
    "plan 3\nstart a.one\npass a.one\nstart a.two\nskip a.two: the kernel is old\nstart b\npass b\n",
  );
  await checkout.write("fake/status", "0\n");
  await checkout.write("tests/mixed_test.ts", mixedTests.replace(/^import.*\n/m, ""));
  const { code, stdout } = await checkout.cli("test");
  assert.equal(
    stdout.slice(stdout.indexOf("\nSkipped:")),
    `
Skipped:
  zig: a.two: the kernel is old
  tests/mixed_test.ts: absent [skipped: no such program]

5 passed, 0 failed
`,
  );
  assert.match(stdout, /^pass a\.one$/m);
  assert.doesNotMatch(stdout, /^(plan|start) /m);
  assert.equal(code, 0);
});

Deno.test("hak test tells every failure and ends with status 1", async () => {
  await using checkout = await Checkout.create();
  await checkout.write(
    "fake/tests",
    "plan 4\nstart a\nfail a: TestUnexpectedResult\nstart b: c\npass b: c\nstart d\n",
  );
  await checkout.write("fake/status", "1\n");
  await checkout.write(
    "tests/mixed_test.ts",
    `${mixedTests}
Deno.test("wrong", () => assert.equal(1, 2));
Deno.test("wrong step", async (t) => {
  await t.step("inner", () => assert.fail("no"));
});
`,
  );
  await checkout.write("tests/module_test.ts", `throw new Error("at load");\n`);
  await checkout.write("tests/types_test.ts", `export const x: number = "";\n`);
  await checkout.write(
    "tests/crash_test.ts",
    `Deno.test("before", () => {});
Deno.test("crashes", () => Deno.kill(Deno.pid, "SIGKILL"));
Deno.test("after", () => {});
`,
  );
  const { code, stdout } = await checkout.cli("test");
  assert.equal(
    stdout.slice(stdout.indexOf("\nFailed:"))
      .replace(/(strictly equal):.*/, "$1")
      // Deno may be killed before it has printed the name.
      .replace("SIGKILL, in: crashes;", "SIGKILL;"),
    `
Failed:
  zig: a: TestUnexpectedResult
  zig: d: crashed (see above)
  zig: 1 tests did not run, after the crash
  tests/crash_test.ts: the process ended with SIGKILL; the rest did not run (see above)
  tests/mixed_test.ts: wrong: Uncaught AssertionError: Expected values to be strictly equal
  tests/mixed_test.ts: wrong step: 1 test step failed
  tests/module_test.ts: an error outside of its tests (see above)
  tests/types_test.ts: the process ended with status 1; the rest did not run (see above)

5 passed, 8 failed
`,
  );
  assert.equal(code, 1);
});

Deno.test("hak test counts a build that fails as a failure", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/broken", "");
  const { code, stdout, stderr } = await checkout.cli("test");
  assert.equal(
    stdout,
    "\nFailed:\n  the build failed: what zig build says is above (status 1)\n\n0 passed, 1 failed\n",
  );
  assert.match(stderr, /as you wish/);
  assert.equal(code, 1);
});

Deno.test("hak test runs what a filter names, and fails if that is nothing", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/tests", "plan 0\n");
  await checkout.write("fake/status", "0\n");
  await checkout.write("tests/mixed_test.ts", mixedTests.replace(/^import.*\n/m, ""));
  const some = await checkout.cli("test", "odd name");
  assert.equal(some.stdout.trimEnd().split("\n").at(-1), "1 passed, 0 failed");
  assert.equal(some.code, 0);
  assert.equal(await read(checkout.path("fake/filter")), "odd name\n");
  const none = await checkout.cli("test", "nothing like it");
  assert.deepEqual(none.stdout.trimEnd().split("\n").slice(-3), [
    'no test has "nothing like it" in its name',
    "",
    "0 passed, 0 failed",
  ]);
  assert.equal(none.code, 1);
});

Deno.test("Ctrl-C ends hak test with status 130", async () => {
  await using checkout = await Checkout.create();
  await checkout.write("fake/tests", "plan 0\n");
  await checkout.write("fake/status", "0\n");
  await checkout.write(
    "tests/long_test.ts",
    `Deno.test("long", async () => {
  console.log("begun");
  await new Promise((done) => setTimeout(done, 60_000));
});
`,
  );
  const child = checkout.command("test").spawn();
  let seen = "";
  for await (const piece of child.stdout) {
    const before = seen;
    seen += decoder.decode(piece);
    if (seen.includes("begun") && !before.includes("begun")) child.kill("SIGINT");
  }
  await child.stderr.cancel();
  assert.match(seen, /begun/);
  assert.doesNotMatch(seen, /passed/);
  assert.equal((await child.status).code, 130);
});

Deno.test("a Zig build that ends badly without a failed test is a failure", () => {
  const tally = new ZigTally();
  assert.deepEqual(tally.outcome(1), {
    passed: 0,
    failed: ["zig build test ended with status 1 (see above)"],
    skipped: [],
  });
});

Deno.test("Zig tests that run at the same time are told apart", () => {
  const tally = new ZigTally();
  for (const line of ["plan 1", "plan 2", "start a", "start b", "pass a", "text", "start c"]) {
    tally.take(line);
  }
  tally.take("skip c: why: not");
  assert.deepEqual(tally.outcome(1), {
    passed: 1,
    failed: ["zig: b: crashed (see above)"],
    skipped: ["zig: c: why: not"],
  });
});

Deno.test("of test files that run at the same time, each is heard whole and in its turn", () => {
  let heard = "";
  const turns = new Turns((piece) => heard += decoder.decode(piece));
  const say = (speaker: number, text: string): void =>
    turns.say(speaker, new TextEncoder().encode(text));
  say(1, "b");
  say(0, "a");
  assert.equal(heard, "a");
  say(1, "B");
  turns.end(1);
  say(2, "c");
  say(0, "A");
  assert.equal(heard, "aA");
  turns.end(0);
  assert.equal(heard, "aAbBc");
  say(2, "C");
  turns.end(2);
  say(3, "d");
  assert.equal(heard, "aAbBcCd");
});

Deno.test("without a report, Deno's own lines are counted", () => {
  const tally = new DenoTally();
  const lines = [
    "running 5 tests from ./x_test.ts",
    "one ... \x1b[32mok\x1b[0m (1ms)",
    "two ...",
    "------- output -------",
    "two ... ok (0ms)",
    "----- output end -----",
    "two ... FAILED (1ms)",
    "three ... ignored (0ms)",
    "four ...",
  ];
  for (const line of lines) tally.take(line);
  assert.deepEqual(tally.outcome("x_test.ts", { code: 139, signal: "SIGSEGV" }, null), {
    passed: 1,
    failed: [
      "x_test.ts: two",
      "x_test.ts: the process ended with SIGSEGV, in: four; the rest did not run (see above)",
    ],
    skipped: [],
  });
});

Deno.test("a JUnit report is read with its entities, and steps are no tests of their own", () => {
  assert.deepEqual(
    readJunit(
      "x_test.ts",
      `<testsuite name="x" tests="6">
  <testcase name="a &amp; &quot;b&quot; &#62; c" classname="x" time="0.1" line="1" col="2">
  </testcase>
  <testcase name="plain" classname="x"/>
  <testcase name="bad" classname="x">
    <failure message="Uncaught Error: &lt;1&gt;
second line">trace</failure>
  </testcase>
  <testcase name="gone" classname="x">
    <error message="Cancelled"/>
  </testcase>
  <testcase name="away [skipped: why]" classname="x">
    <skipped/>
  </testcase>
  <testcase name="plain &gt; step" classname="x">
    <failure message="no">no</failure>
  </testcase>
</testsuite>`,
    ),
    {
      passed: 2,
      failed: ["x_test.ts: bad: Uncaught Error: <1>", "x_test.ts: gone: Cancelled"],
      skipped: ["x_test.ts: away [skipped: why]"],
    },
  );
});

Deno.test("hak test builds its programs where another command built without them, and not the other way", async () => {
  await using checkout = await Checkout.create();
  await checkout.cli("lib", "ffi");
  assert.equal(await checkout.builds(), 1);
  await checkout.cli("lib", "ffi");
  assert.equal(await checkout.builds(), 1);
  await checkout.cli("test", "nothing is called so");
  assert.equal(await checkout.builds(), 2);
  await checkout.cli("test", "nothing is called so");
  await checkout.cli("lib", "ffi");
  assert.equal(await checkout.builds(), 2);
});
