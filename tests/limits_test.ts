/**
 * What programs get when the system gives no more, and which system calls the allocator makes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { root } from "../cli/paths.ts";
import { missingCompiler, withCompiled } from "./programs/compile.ts";
import { missing } from "./programs/preload.ts";
import { checked, type Door, libc, preload } from "./native_support.ts";
import { testUnless } from "./skip.ts";

const mebi = 1 << 20;
// Else the compiler takes for granted that malloc leaves errno alone.
const options = ["-fno-builtin"];

/** The loads of work/limits.c: its arguments, and limits that the shell sets before. */
const loads: { what: string; args: string[]; ulimit?: string }[] = [
  { what: "no address space at all", args: ["address-space", "0"] },
  { what: "100 kB of address space", args: ["address-space", "100000"] },
  { what: "3 MB of address space", args: ["address-space", "3000000"] },
  { what: "16 MiB of address space", args: ["address-space", String(16 * mebi)] },
  { what: "100 kB of data", args: ["data", "100000"] },
  { what: "16 MiB of data", args: ["data", String(16 * mebi)] },
  { what: "a limit from the start of 4,000 KiB", args: ["from-the-start"], ulimit: "-v 4000" },
  { what: "a limit from the start of 9,000 KiB", args: ["from-the-start"], ulimit: "-v 9000" },
  { what: "a limit from the start of 30,000 KiB", args: ["from-the-start"], ulimit: "-v 30000" },
  { what: "a limit lowered to 64 MiB at run time", args: ["lowered", String(64 * mebi)] },
  { what: "a limit raised at run time", args: ["raised"], ulimit: "-v 65536" },
  {
    what: "8 MiB of locked memory, all of it locked, by an ordinary user",
    args: ["locked", String(8 * mebi)],
    ulimit: "-v 65536",
  },
  ...[0, 1, 2, 7].map((spare) => ({
    what: `as many mappings as there may be, but for ${spare}`,
    args: ["mappings", String(spare)],
  })),
];

for (const door of [preload, checked]) {
  testUnless(
    `limits (${door.name}): NULL with ENOMEM, and memory usable again in other sizes`,
    missingCompiler() ?? missingLimits(),
    async (t) => {
      await withCompiled(["limits.c"], options, async (executable) => {
        for (const { what, args, ulimit } of loads) {
          await t.step(what, async () => {
            const { code, stdout, stderr } = await run(executable, args, door, ulimit);
            // The one line that the allocator itself says of it.
            const rest = stderr.replace(/^hakmem: the system refused a superslab [^\n]*\n/, "");
            assert.deepEqual({ code, stdout, rest }, {
              code: 0,
              stdout: "usable again\n",
              rest: "",
            });
          });
        }
      });
    },
  );
}

for (const door of [preload, checked]) {
  testUnless(
    `limits (${door.name}): under HAKMEM_LIMIT NULL with ENOMEM, and memory usable again in other sizes`,
    missingCompiler(),
    async (t) => {
      await withCompiled(["limits.c"], options, async (executable) => {
        for (const limit of ["2M", "9000000", "32M"]) {
          await t.step(limit, async () => {
            const ended = await run(executable, ["limited"], limitedTo(limit, door));
            assert.match(ended.stderr, /^hakmem: a request does not fit in the limit of [^\n]*\n$/);
            assert.deepEqual([ended.code, ended.stdout], [0, "usable again\n"]);
          });
        }
      });
    },
  );
}

testUnless(
  "limits: what cycles through sizes finishes under a HAKMEM_LIMIT of 1.5 times its live set, and stays below",
  missingCompiler() ?? missingRollup(),
  async (t) => {
    await withCompiled(["memory_limit.c"], options, async (executable) => {
      for (const [load, live, threads] of cycles) {
        for (const door of [preload, checked]) {
          await t.step(`${load} of ${live} MiB, ${threads} threads, ${door.name}`, async () => {
            const args = [load, String(live * mebi), String(threads)];
            const ended = await run(executable, args, limitedTo(String(live * mebi * 1.5), door));
            assert.deepEqual(ended, { code: 0, stdout: "finished\n", stderr: "" });
          });
        }
      }
      // The figures of the program itself are not in vain.
      await t.step("without a limit it would not stay below", async () => {
        const door = { ...libc, env: { HAKMEM_LIMIT: String(16 * mebi) } };
        const ended = await run(executable, ["cycles", String(32 * mebi), "1"], door);
        assert.match(ended.stderr, /^\d+ bytes are resident: /);
      });
    });
  },
);

/** The loads of work/memory_limit.c, with the MiB in use at a time and the threads that have them. */
const cycles: readonly [string, number, number][] = [
  ["cycles", 8, 1],
  ["cycles", 64, 1],
  ["cycles", 64, 4],
  ["forks", 32, 1],
];

testUnless("limits: what HAKMEM_LIMIT cannot be is said once", missing(), async () => {
  const program = ["-c", "exit 3"];
  const stderr = async (value: string): Promise<string> => {
    const ended = await run("sh", program, limitedTo(value, preload));
    assert.equal(ended.code, 3);
    return ended.stderr;
  };
  for (const value of ["64M", "1000000000", ""]) assert.equal(await stderr(value), "");
  for (const value of ["0", "5q", "-1"]) {
    assert.equal(
      await stderr(value),
      `hakmem: HAKMEM_LIMIT=${value} is not understood, so it counts as unset; it must be cgroup or bytes above 0, as 500000000, 512M or 2G\n`,
    );
  }
  assert.match(
    await stderr("cgroup"),
    /^(hakmem: HAKMEM_LIMIT=cgroup found no memory limit of a cgroup of this process, so there is none\n)?$/,
  );
});

testUnless(
  "limits: a small process reserves little, and little of it counts in strict overcommit",
  missingCompiler(),
  async () => {
    await withCompiled(["limits.c"], options, async (executable) => {
      const [without, with_] = [
        mappedBytes((await run(executable, ["mapped"], libc)).stdout),
        mappedBytes((await run(executable, ["mapped"], preload)).stdout),
      ];
      assert.ok(with_.writable > without.writable, "the library's own mappings are not seen");
      assert.ok(with_.writable - without.writable < 4 * mebi, `${with_.writable} bytes count`);
      assert.ok(with_.all - without.all < 32 * mebi, `${with_.all} bytes are mapped`);
    });
  },
);

testUnless(
  "limits: a core file holds what was in use, not what was reserved",
  missingCompiler() ?? missingCores(),
  async () => {
    await withCompiled(["limits.c"], options, async (executable) => {
      const directory = await Deno.makeTempDir({ prefix: "hakmem-core-" });
      try {
        const args = ["core", String(256 * mebi)];
        const { code } = await run(executable, args, preload, "-c unlimited", directory);
        assert.equal(code, 134);
        const [core] = [...Deno.readDirSync(directory)];
        assert.ok(core !== undefined, "no core file was written");
        const { size } = await Deno.stat(join(directory, core.name));
        assert.ok(size > mebi && size < 8 * mebi, `the core file has ${size} bytes`);
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    });
  },
);

/** The paths of work/seccomp.c, and which of the lists in the document each may need. */
const paths: { name: string; lists: string[]; code: number; ulimit?: string }[] = [
  { name: "blocks", lists: ["memory"], code: 0 },
  { name: "purge", lists: ["memory"], code: 0 },
  { name: "threads", lists: ["memory"], code: 0 },
  { name: "far", lists: ["memory"], code: 0, ulimit: "-v 200000" },
  { name: "refused", lists: ["memory", "line"], code: 0 },
  // libc blocks signals while a thread ends.
  { name: "ends", lists: ["memory", "line"], code: 0 },
  { name: "misuse", lists: ["memory", "line", "abort"], code: 134 },
];

testUnless(
  "limits: a filter that allows only the listed system calls, and each of them is needed",
  missingCompiler() ?? missingSeccomp(),
  async (t) => {
    const lists = await listedCalls();
    const numbers = await callNumbers([...lists.values()].flat());
    const numberOf = (call: string): string => {
      const number = numbers.get(call);
      assert.ok(number !== undefined, `${call} is no system call here`);
      return String(number);
    };
    await withCompiled(["seccomp.c"], options, async (executable) => {
      const needed = new Set<string>();
      for (const { name, lists: wanted, code, ulimit } of paths) {
        const calls = [...new Set(wanted.flatMap((list) => lists.get(list) ?? []))];
        await t.step(`${name}, with ${wanted.join(", ")}`, async () => {
          for (const door of [preload, checked]) {
            const ended = await run(executable, [name, ...calls.map(numberOf)], door, ulimit);
            assert.equal(ended.code, code, `${door.name}: ${ended.stderr}`);
            const line = code !== 0 || name === "refused";
            assert.match(ended.stderr, line ? /^hakmem: [^\n]+\n$/ : /^$/);
          }
        });
        // With all other calls of all lists, so that only this one can be what is missed.
        const all = new Set([...lists.values()].flat());
        for (const left of all) {
          if (needed.has(left)) continue;
          const rest = [...all].filter((call) => call !== left).map(numberOf);
          const ended = await run(executable, [name, ...rest], preload, ulimit);
          if (ended.code === 31) needed.add(left);
        }
      }
      await t.step("each call is needed by one of these", () => {
        const unneeded = [...lists.values()].flat().filter((call) => !needed.has(call));
        assert.deepEqual(unneeded, []);
      });
    });
  },
);

/** A door under a limit of the allocator's own. */
function limitedTo(limit: string, door: Door): Door {
  return { ...door, env: { ...door.env, HAKMEM_LIMIT: limit } };
}

interface ProgramEnd {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program behind a door; `ulimit` are options of the shell's command for its soft limits. */
async function run(
  executable: string,
  args: string[],
  door: Door,
  ulimit?: string,
  cwd: string = root,
): Promise<ProgramEnd> {
  const limit = ulimit === undefined ? "" : `ulimit -S ${ulimit} && `;
  const variable = door.preload === undefined ? "" : `LD_PRELOAD='${door.preload}' `;
  const { LD_PRELOAD: _, ...outer } = Deno.env.toObject();
  // The shell itself is under no limit.
  const variables = Object.entries(door.env ?? {}).map(([name, value]) => `${name}='${value}' `);
  const output = await new Deno.Command("sh", {
    args: ["-c", `${limit}${variables.join("")}${variable}exec "$@"`, "sh", executable, ...args],
    clearEnv: true,
    env: outer,
    cwd,
    stdin: "null",
    signal: AbortSignal.timeout(180_000),
  }).output();
  const decoder = new TextDecoder();
  return {
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/** What `/proc/self/maps` says: all bytes, and those that are private and writable, which strict overcommit counts. */
function mappedBytes(maps: string): { all: number; writable: number } {
  const result = { all: 0, writable: 0 };
  for (const line of maps.trimEnd().split("\n")) {
    const [, from = "", to = "", access = ""] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
    const bytes = Number(BigInt(`0x${to}`) - BigInt(`0x${from}`));
    if (line.endsWith("[vsyscall]")) continue;
    result.all += bytes;
    if (access[1] === "w" && access[3] === "p") result.writable += bytes;
  }
  return result;
}

/** The lists of docs/LIMITS.md, by name. */
async function listedCalls(): Promise<Map<string, string[]>> {
  const text = await Deno.readTextFile(join(root, "docs", "LIMITS.md"));
  const lists = new Map<string, string[]>();
  for (const [, name = "", body = ""] of text.matchAll(/```calls (\w+)\n(.*?)```/gs)) {
    lists.set(name, body.trim().split(/\s+/));
  }
  assert.deepEqual([...lists.keys()], ["memory", "line", "abort"]);
  return lists;
}

/** The numbers of system calls on this machine, from the headers of the compiler. */
async function callNumbers(calls: string[]): Promise<Map<string, number>> {
  const numbers = new Map<string, number>();
  const source = `#include <sys/syscall.h>\n#include <stdio.h>\nint main(void) {\n${
    [...new Set(calls)].map((call) => `printf("${call} %d\\n", SYS_${call});`).join("\n")
  }\n}\n`;
  const directory = await Deno.makeTempDir({ prefix: "hakmem-calls-" });
  try {
    const path = join(directory, "calls.c");
    await Deno.writeTextFile(path, source);
    await withCompiled([path], [], async (executable) => {
      for (const line of (await run(executable, [], libc)).stdout.trimEnd().split("\n")) {
        const [call = "", number] = line.split(" ");
        numbers.set(call, Number(number));
      }
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  return numbers;
}

/** A kernel without a limit of mappings that a test can reach in seconds shows nothing. */
function missingLimits(): string | null {
  const mappings = Number(Deno.readTextFileSync("/proc/sys/vm/max_map_count"));
  if (mappings > 1_000_000) return `vm.max_map_count is ${mappings}: too many to reach`;
  return null;
}

function missingRollup(): string | null {
  try {
    Deno.readTextFileSync("/proc/self/smaps_rollup");
    return null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "the kernel has no smaps_rollup";
    throw error;
  }
}

function missingCores(): string | null {
  const pattern = Deno.readTextFileSync("/proc/sys/kernel/core_pattern").trim();
  if (pattern.startsWith("|") || basename(pattern) !== pattern) {
    return `kernel.core_pattern is ${JSON.stringify(pattern)}: no file beside the program`;
  }
  const limit = /^Max core file size +\S+ +(\S+)/m.exec(Deno.readTextFileSync("/proc/self/limits"));
  return limit?.[1] === "unlimited" ? null : "the size of core files is limited";
}

function missingSeccomp(): string | null {
  const actions = "/proc/sys/kernel/seccomp/actions_avail";
  try {
    return Deno.readTextFileSync(actions).includes("trap") ? null : "seccomp has no trap action";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "the kernel has no seccomp filters";
    throw error;
  }
}
