/**
 * `bench programs`: which programs are measured, what the meter tells of one, that the allocator really
 * served it, and what is left behind.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { ComparisonReport } from "../bench/comparison/schema.ts";
import { ProgramRunner, whyNotLoaded } from "../bench/programs/runner.ts";
import { planOf, prepareInputs } from "../bench/programs/selection.ts";
import { buildIfNeeded } from "../cli/build.ts";
import { processesBelow } from "../cli/child.ts";
import { binary, findProgram } from "../cli/paths.ts";
import { bench } from "./bench_support.ts";
import { testUnless } from "./skip.ts";
import {
  compile,
  forwardingPeer,
  inFolder,
  interruptOnce,
  namesIn,
  readReport,
  verbCommand,
} from "./verb_support.ts";

/** Why a run under hyperfine of these programs is not possible here; null if it is. */
function missing(...programs: string[]): string | null {
  const absent = ["hyperfine", ...programs].filter((name) => findProgram(name) === null);
  return absent.length === 0 ? null : `${absent.join(", ")} not on PATH`;
}

Deno.test("programs that are not installed are left out with a line that names the package", () => {
  const said: string[] = [];
  const here = ["hyperfine", "git", "redis-server"];
  const { hyperfine, programs } = planOf(
    ["git", "xz", "deno", "redis-server"],
    (line) => said.push(line),
    (name) => here.includes(name) ? `/bin/${name}` : null,
  );
  assert.equal(hyperfine, "/bin/hyperfine");
  // Deno runs this, wherever it lies.
  assert.deepEqual(programs.map(({ row }) => row), ["deno", "git"]);
  assert.deepEqual(said, [
    "Left out: redis-server, as redis-benchmark, redis-cli is not on PATH (Debian: redis-tools)",
    "Left out: xz, as xz is not on PATH (Debian: xz-utils)",
  ]);
});

Deno.test("without hyperfine, or without any of the programs, one line says what to install", () => {
  assert.throws(() => planOf([], () => {}, () => null), {
    name: "RunError",
    message: /^hyperfine is not on PATH.*apt-get install hyperfine/,
  });
  const only = (name: string): string | null => name === "hyperfine" ? "/bin/hyperfine" : null;
  assert.throws(() => planOf(["git"], () => {}, only), {
    name: "RunError",
    message: /^none of the programs is installed/,
  });
});

Deno.test("bench programs without hyperfine ends with status 1 and one line, before anything is built", () =>
  inFolder(async (folder) => {
    const { code, stdout, stderr } = await bench(["programs"], folder, { env: { PATH: folder } });
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /^hak bench: hyperfine is not on PATH[^\n]+\n$/);
  }));

Deno.test("a process whose malloc came from elsewhere shows in the loader's log", () => {
  const image = (program: string, malloc: string | null): Parameters<
    typeof whyNotLoaded
  >[0]["images"][number] => ({ pid: 1, program, libraries: new Set(), malloc });
  const told = (...images: ReturnType<typeof image>[]): string | null =>
    whyNotLoaded({ images, bindings: [] }, "/lib/ours.so");
  assert.equal(told(image("git", "/lib/ours.so"), image("sh", "/lib/ours.so")), null);
  assert.equal(
    told(image("git", "/lib/ours.so"), image("sh", "/lib/libc.so.6")),
    "not loaded: in sh malloc came from /lib/libc.so.6",
  );
  // A program at a fixed address lends its own entry, which must lead to the allocator.
  const lends = image("/bin/node", "/bin/node");
  const binding = { from: "/bin/node", symbol: "malloc" };
  const lent = (to: string): string | null =>
    whyNotLoaded({ images: [lends], bindings: [{ ...binding, to }] }, "/lib/ours.so");
  assert.equal(lent("/lib/ours.so"), null);
  assert.equal(lent("/lib/libc.so.6"), "not loaded: in /bin/node malloc came from /bin/node");
  assert.match(told(image("git", null)) ?? "", /nowhere known/);
  assert.match(told() ?? "", /told of no process/);
});

testUnless(
  "a program that the allocator did not serve has an error, whatever another process said",
  missing("git"),
  () =>
    inFolder(async (folder) => {
      await buildIfNeeded();
      const preload = await compile(folder, "nothing", "export fn nothing() void {}\n");
      const { hyperfine, programs } = planOf(["git"], () => {});
      const [program] = programs;
      assert(program !== undefined);
      const [inputs, scratch] = [join(folder, "inputs"), join(folder, "scratch")];
      for (const each of [inputs, scratch]) await Deno.mkdir(each);
      const { signal } = new AbortController();
      assert(await prepareInputs(inputs, [program], signal));
      const meter = binary("hak-program-meter");
      const runner = new ProgramRunner({ hyperfine, meter, inputs, scratch }, signal);
      // Of the C library, what its own process said is preloaded.
      for (const given of [preload, null]) {
        const outcome = await runner.measure({
          allocator: { name: "nothing", preload: given, env: {} },
          identity: {
            ...{ path: preload, loaded: true, version: null, libc: null, release: "none" },
            error: null,
          },
          subject: program,
          round: -1,
        });
        assert(outcome.kind === "failed");
        assert.match(outcome.error, /^not loaded: in \S*git malloc came from \S*libc\.so\.6$/);
      }
    }),
);

/** Runs the meter over a program; returns its exit status, its figures and the program's output. */
async function meter(
  folder: string,
  words: readonly string[],
): Promise<{ code: number; figures: Record<string, number | string>; output: string }> {
  await buildIfNeeded();
  const [figures, output] = [join(folder, "figures"), join(folder, "output")];
  const { code, stdout, stderr } = await new Deno.Command(binary("hak-program-meter"), {
    args: [figures, output, ...words],
    stdin: "inherit",
  }).output();
  assert.deepEqual([stdout.length, stderr.length], [0, 0]);
  return {
    code,
    figures: JSON.parse(await Deno.readTextFile(figures)),
    output: await Deno.readTextFile(output),
  };
}

Deno.test("the meter tells how a program ended, and gives it its variables and no input", () =>
  inFolder(async (folder) => {
    const script = "echo $GIVEN; echo to stderr >&2; read line || echo no input; exit 7";
    const { code, figures, output } = await meter(
      folder,
      ["GIVEN=a b", "--", "/bin/sh", "-c", script],
    );
    assert.equal(code, 7);
    assert.deepEqual([figures.status, figures.signal], [7, 0]);
    assert.equal(output, "a b\nto stderr\nno input\n");
    const killed = await meter(folder, ["--", "/bin/sh", "-c", "kill -SEGV $$"]);
    assert.deepEqual([killed.code, killed.figures.signal], [128 + 11, 11]);
    const absent = await meter(folder, ["--", "/no/such/program"]);
    assert.match(absent.output, /cannot run \/no\/such\/program: NOENT/);
    assert.equal(absent.code, 1);
    assert.match(String((await meter(folder, ["A=1", "B=2", "C=3"])).figures.error), /no program/);
  }));

Deno.test("peak RSS is the program's own, or its largest child's, and not that of who started it", () =>
  inFolder(async (folder) => {
    const mebi = 2 ** 20;
    const held = new Uint8Array(64 * mebi).fill(1);
    const small = (await meter(folder, ["--", "/bin/sh", "-c", ":"])).figures;
    assert(Number(small.peak_rss_bytes) < 16 * mebi, `${small.peak_rss_bytes}`);
    assert.equal(held[held.length - 1], 1);
    const dd = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    const large = (await meter(folder, ["--", "/bin/sh", "-c", `${dd}; :`])).figures;
    const peak = Number(large.peak_rss_bytes);
    assert(peak >= 100 * mebi && peak < 110 * mebi, `${peak}`);
    assert(Number(large.minor_faults) > Number(small.minor_faults));
    assert(Number(large.cpu_ns) > 0);
  }));

testUnless(
  "a program is measured under each allocator, and one that crashes fails nothing else",
  missing("git"),
  () =>
    inFolder(async (folder) => {
      const temporary = join(folder, "temporary");
      await Deno.mkdir(temporary);
      // Enough for the process that says what is loaded, not for git.
      const source = forwardingPeer("if (served > 500) @trap();");
      const crashes = await compile(folder, "crashes", source);
      const { code, stdout, stderr } = await bench(
        [
          ...["programs", "git", "--repeat", "2", "--allocators", "system,hakmem"],
          ...["--peer", `crashes=${crashes}`, "--json", "r.json"],
        ],
        folder,
        { env: { TMPDIR: temporary } },
      );
      assert.equal(code, 0, stderr);
      const { rows, summary } = await readReport<ComparisonReport>(folder);
      assert.equal(rows.length, 3);
      for (const row of rows.filter(({ allocator }) => allocator !== "crashes")) {
        assert.equal(row.error, null);
        assert.deepEqual([row.workload, row.row, row.threads], ["programs", "git", null]);
        assert.equal(row.repeats, 2);
        for (const each of row.samples) {
          assert.equal(each.time_ns, each.wall_ns);
          assert(each.time_ns > 0 && each.cpu_ns > 0 && each.minor_faults > 0);
          // Git with a small repository takes some MiB; we, who started it, ten times that.
          assert(each.rss_bytes > 2 ** 21 && each.rss_bytes < 2 ** 26, `${each.rss_bytes}`);
          assert.equal(each.left_bytes, null);
        }
      }
      const failed = rows.find(({ allocator }) => allocator === "crashes");
      assert.deepEqual([failed?.loaded, failed?.rank, failed?.repeats], [true, null, 0]);
      const says = /^(crashed with SIG(ILL|TRAP)|ended with exit status 128: )/;
      assert.match(failed?.error ?? "", says);
      assert.equal(summary?.rows, 1);
      assert.match(stdout, /^git: gc .* {2}git$/m);
      assert.deepEqual(namesIn(temporary), []);
    }),
);

testUnless(
  "a server is measured while its client is timed, also where it has an allocator of its own",
  missing("redis-server", "redis-benchmark", "redis-cli"),
  () =>
    inFolder(async (folder) => {
      const { code, stderr } = await bench([
        ...["programs", "redis-server", "--repeat", "1", "--allocators", "system,hakmem"],
        ...["--json", "r.json"],
      ], folder);
      assert.equal(code, 0, stderr);
      const { rows } = await readReport<ComparisonReport>(folder);
      assert.deepEqual(rows.map(({ error, repeats }) => [error, repeats]), [[null, 1], [null, 1]]);
      // What was put into the server is in its RSS.
      for (const { rss_bytes: rss } of rows) assert(rss !== null && rss > 30 * 2 ** 20, `${rss}`);
    }),
);

for (const [how, name] of [["git", "git"], ["a server", "redis-server"]] as const) {
  testUnless(
    `Ctrl-C during ${how} ends with status 130, no process left and no file`,
    name === "git" ? missing("git") : missing("redis-server", "redis-benchmark", "redis-cli"),
    () =>
      inFolder(async (folder) => {
        const temporary = join(folder, "temporary");
        await Deno.mkdir(temporary);
        const command = verbCommand(
          "bench",
          [
            ...["programs", name, "--repeat", "100", "--allocators", "system", "--json", "r.json"],
          ],
          folder,
          { env: { TMPDIR: temporary } },
        );
        const { code, stdout, stderr } = await interruptOnce(
          command,
          "Round 2 of",
          (pid) => Deno.kill(pid, "SIGINT"),
        );
        assert.equal(code, 130, stderr);
        assert.match(stdout, /INTERRUPTED/);
        const { rows, interrupted } = await readReport<ComparisonReport>(folder);
        assert.equal(interrupted, true);
        assert.deepEqual(rows.map(({ error }) => error), [null]);
        assert.deepEqual(namesIn(temporary), []);
        assert.deepEqual(withOpenFilesBelow(temporary), []);
      }),
  );
}

/** Processes whose working directory lies, or lay, in a folder. */
function withOpenFilesBelow(folder: string): number[] {
  return processesBelow(1).filter((pid) => {
    try {
      return Deno.readLinkSync(`/proc/${pid}/cwd`).startsWith(folder);
    } catch (error) {
      const beyond = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied;
      if (!beyond) throw error;
      return false;
    }
  });
}
