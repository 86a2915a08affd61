/**
 * The fuzzer: that it finds nothing in the allocator, finds every bug that is planted, plays the same program
 * again from its seed, and shortens it. Each run has seeds of its own and prints them.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  commandOf,
  defaults,
  play,
  type Played,
  type Program,
  ranges,
  selected,
  shorten,
  type Target,
} from "../cli/fuzz_program.ts";
import { binary, root } from "../cli/paths.ts";
import { checked, hak, missingFiles, preload } from "./native_support.ts";
import { testUnless } from "./skip.ts";

const decoder = new TextDecoder();

function fresh(target: Target): Program {
  const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
  return { target, seed: BigInt(seed), round: 0, ...defaults };
}

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function command(args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", join(root, "cli.ts"), "fuzz", ...args],
    cwd: root,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

async function fuzz(...args: string[]): Promise<Ended> {
  const { code, stdout, stderr } = await command(args).output();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The first round of these in which something is found, and it suits. */
async function find(
  program: Program,
  roundsMax: number,
  suits: (played: Played) => boolean = () => true,
): Promise<[Program, Played]> {
  for (let round = 0; round < roundsMax; round++) {
    const played = await play({ ...program, round });
    if (played.found !== null && suits(played)) return [{ ...program, round }, played];
  }
  return assert.fail(`nothing found in ${roundsMax} rounds: ${commandOf(program)}`);
}

const missing = missingFiles("hak-fuzz", [preload, checked, hak]);
if (missing.length > 0) {
  Deno.test("fuzz: the program is built", () => {
    assert.fail(`not built: ${missing.join(", ")}: run ./hak test`);
  });
} else {
  const canaries = await listCanaries();
  const fixedAddresses = (await play({ ...fresh("zig"), actions: 1 })).plan.endsWith(
    "fixed addresses",
  );

  const amounts: [Target, number, boolean?][] = [
    ["libc", 3],
    ["zig", 12],
    ["preload", 6],
    ["preload", 4, true],
    ["checked", 4],
    ["hak", 6],
  ];
  for (const [target, rounds, check = false] of amounts) {
    Deno.test(`fuzz, ${target}${check ? " with HAKMEM_CHECK=1" : ""}: ${rounds} programs find nothing`, async () => {
      const program = { ...fresh(target), check };
      console.log(`seed ${program.seed}`);
      for (let round = 0; round < rounds; round++) {
        const { found } = await play({ ...program, round });
        assert.equal(found, null, commandOf({ ...program, round }));
      }
    });
  }

  Deno.test("fuzz: programs race and take turns, fork, free what other threads made, and are refused memory", async () => {
    for (const target of ["zig", "preload", "hak"] as const) {
      const plans = new Set<string>();
      const sums = [0, 0, 0];
      for (let round = 0; round < 8; round++) {
        const played = await play({ ...fresh(target), seed: 3n, round, actions: 2000 });
        assert.equal(played.found, null);
        plans.add(played.races ? "race" : "turns");
        const figures = /(\d+) freed by another thread, (\d+) requests refused, (\d+) forks/.exec(
          played.summary,
        );
        for (const at of sums.keys()) sums[at] = (sums[at] ?? 0) + Number(figures?.[at + 1]);
      }
      assert.equal(plans.size, 2, target);
      assert.ok(sums.every((sum) => sum > 0), `${target}: ${sums}`);
    }
  });

  Deno.test("fuzz: there are bugs to plant in every part of the allocator", () => {
    assert.ok(canaries.length >= 10, canaries.join(" "));
  });

  // Without locks only a race goes wrong, which takes up to a minute to come: `./hak fuzz --canary locks_open`.
  for (const canary of canaries.filter((name) => name !== "locks_open")) {
    Deno.test(`fuzz: finds the planted bug ${canary}, and finds it again from the same seed`, async () => {
      const program = { ...fresh("zig"), canary };
      console.log(`seed ${program.seed}`);
      const [finding, played] = await find(program, 300);
      for (let times = 1;; times++) {
        const again = await play(finding);
        if (played.races && again.found === null && times < 50) continue;
        assert.notEqual(again.found, null, commandOf(finding));
        if (!played.races && fixedAddresses) {
          assert.equal(again.found, played.found, commandOf(finding));
        }
        break;
      }
    });
  }

  testUnless(
    "fuzz: the same seed gives the same addresses, another one does not",
    fixedAddresses ? null : "this system does not let a process have the same addresses again",
    async () => {
      for (const target of ["zig", "preload", "hak"] as const) {
        // One thread always takes turns.
        const program: Program = { ...fresh(target), threads: 1, actions: 2000 };
        const { summary } = await play(program);
        assert.match(summary, /digest [0-9a-f]+$/, commandOf(program));
        assert.equal((await play(program)).summary, summary, commandOf(program));
        assert.notEqual(
          (await play({ ...program, round: 1 })).summary,
          summary,
          commandOf(program),
        );
      }
    },
  );

  Deno.test("fuzz: a program that finds something is shortened to the actions that matter", async () => {
    const program: Program = { ...fresh("zig"), canary: "realloc_short", threads: 1 };
    console.log(`seed ${program.seed}`);
    // One with something to leave out.
    const [finding, { action }] = await find(program, 300, (played) => Number(played.action) > 50);
    assert.ok(action !== null, commandOf(finding));
    const shortened = await shorten(finding, action, 600);
    assert.ok(shortened.left <= 6, commandOf(shortened.program));
    assert.equal(selected(shortened.program.only).length, shortened.left);
    const { found, printed } = await play(shortened.program, true);
    assert.match(found ?? "", /lost byte \d+ in realloc/, commandOf(shortened.program));
    assert.match(printed.at(-1) ?? "", /realloc/, commandOf(shortened.program));
  });

  Deno.test("hak fuzz says what it found, replays it by the command it printed, and ends with status 1", async () => {
    const first = await fuzz("--rounds", "20", "--canary", "calloc_dirty", "--threads", "1");
    assert.equal(first.code, 1, first.stdout);
    const [, told, args = ""] =
      /^found: target zig, seed \d+, round \d+: (.*); replay: \.\/hak fuzz (.*)$/m
        .exec(first.stdout) ?? assert.fail(first.stdout);
    assert.match(told ?? "", /^fuzz \(.*action \d+.*came from calloc with byte/);
    assert.match(first.stdout, /^shortened from \d+ to \d+ actions: /m);
    const again = await fuzz(...args.split(" "));
    assert.equal(again.code, 1, again.stdout);
    assert.match(again.stdout, /^found: .*came from calloc with byte/m);
  });

  Deno.test("hak fuzz says what it played when nothing is found, and when it is stopped", async () => {
    const { code, stdout } = await fuzz("--rounds", "2", "--target", "hak", "--actions", "500");
    assert.match(
      stdout,
      /^seed \d+: hak\nnothing found: 2 programs of 500 actions \(hak 2\), 1k actions in .*\n$/,
    );
    assert.equal(code, 0);

    const child = command(["--minutes", "100", "--target", "zig"]).spawn();
    let text = "";
    const pieces = decoder.decode.bind(new TextDecoder());
    for await (const piece of child.stdout) {
      // The first line says that it is about to play.
      if (text === "") child.kill("SIGINT");
      text += pieces(piece, { stream: true });
    }
    await child.stderr.cancel();
    assert.match(text, /^stopped: \d+ programs? of 6k actions .*, seed \d+$/m);
    assert.equal((await child.status).code, 130);
  });

  Deno.test("hak fuzz refuses bad input in one line", async () => {
    const refused: [string[], RegExp][] = [
      [
        ["--target", "jemalloc"],
        /^hak fuzz: --target takes one of zig, preload, .*, not "jemalloc"\n$/,
      ],
      [["--minutes", "0"], /^hak fuzz: --minutes takes a number above 0 to 100000, not "0"\n$/],
      [["--minutes", "1", "--rounds", "1"], /^hak fuzz: --minutes and --rounds exclude each other/],
      [["--rounds", "1.5"], /^hak fuzz: --rounds takes a whole number, not "1.5"\n$/],
      [["--seed", "-1"], /^hak fuzz: .*\n$/],
      [["--replay", "1:2"], /^hak fuzz: --replay needs the --target/],
      [["--replay", "12", "--target", "zig"], /^hak fuzz: --replay takes SEED:ROUND/],
      [["--only", "1"], /^hak fuzz: --only leaves out actions of one program/],
      [
        ["--canary", "flush_twice", "--target", "hak"],
        /^hak fuzz: --canary needs --target zig, not hak\n$/,
      ],
      [
        ["--rounds", "1", "--canary", "no_such"],
        /--canary takes a name that --canaries lists, not no_such/,
      ],
      [["--fast"], /^hak fuzz: "--fast": the options are --minutes, /],
    ];
    for (const [args, line] of refused) {
      const { code, stderr } = await fuzz(...args);
      assert.match(stderr, line, args.join(" "));
      assert.notEqual(code, 0, args.join(" "));
    }
  });
}

Deno.test("fuzz: ranges of actions are written short and read back", () => {
  for (const numbers of [[], [0], [7], [0, 1, 2], [1, 3, 4, 5, 9], [0, 2, 4, 5]]) {
    assert.deepEqual(selected(ranges(numbers)), numbers);
  }
  assert.equal(ranges([0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
});

async function listCanaries(): Promise<string[]> {
  const { stdout } = await new Deno.Command(binary("hak-fuzz"), { args: ["--canaries"] }).output();
  return decoder.decode(stdout).trim().split("\n");
}
