/**
 * The real programs that allocators are measured under, each with a load that allocates.
 *
 * @module
 */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { RunError } from "../../cli/errors.ts";
import { root } from "../../cli/paths.ts";
import type { Subject } from "../comparison/schema.ts";
import { randomSource } from "../harness/rounds.ts";
import { generatedHistory } from "./git_history.ts";

/** A program under a load. Every run starts in a fresh copy of its inputs. */
export interface Program extends Subject {
  /** What must be installed, the program itself first. */
  needs: readonly string[];
  /** What it is run with. */
  args: readonly string[];
  /** Variables that it gets. */
  env: Readonly<Record<string, string>>;
  /** Of a server: what is timed while it runs, and what ends it. */
  client?: Client;
  /** Puts the inputs into an empty folder. */
  prepare(folder: string): Promise<void> | void;
}

/** What makes a server work. */
export interface Client {
  /** Timed: a program and its arguments. */
  command: readonly string[];
  /** Ends with status 0 once the server answers. */
  ask: readonly string[];
  /** Makes the server end. */
  stop: readonly string[];
}

/** What the tests of these programs work on serves here too. */
const testLoads = join(root, "tests", "programs", "work");

const gitEnvironment = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
};

/** All programs, in the order of the report. */
export const programs: readonly Program[] = [
  program("python3", "dicts, lists and objects come and go", {
    args: ["-B", "objects.py"],
    // Without the first, Python serves small objects from arenas of its own.
    env: { PYTHONMALLOC: "malloc", PYTHONHASHSEED: "0" },
    prepare: (folder) => copyHere([join(import.meta.dirname ?? ".", "objects.py")], folder),
  }),
  program("node", "four workers: buffers, JSON, compression", {
    args: ["node_workers.mjs"],
    prepare: (folder) => copyHere([join(testLoads, "node_workers.mjs")], folder),
  }),
  program("deno", "workers: buffers, JSON, compression", {
    args: ["run", "--allow-all", "--no-config", "--no-lock", "deno_workers.ts"],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    prepare: (folder) =>
      copyHere(["deno_workers.ts", "deno_worker.ts"].map((name) => join(testLoads, name)), folder),
  }),
  program("redis-server", "driven by redis-benchmark, which is what is timed", {
    needs: ["redis-server", "redis-benchmark", "redis-cli"],
    args: ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--daemonize", "no"],
    client: {
      command: [
        ...["redis-benchmark", "-s", "redis.sock", "-n", "100000", "-r", "100000", "-c", "20"],
        ...["-P", "16", "-d", "300", "-q", "-t", "set,get,lpush,rpop,sadd,hset,zadd,mset"],
      ],
      ask: ["redis-cli", "-s", "redis.sock", "PING"],
      stop: ["redis-cli", "-s", "redis.sock", "SHUTDOWN", "NOSAVE"],
    },
  }),
  program("sqlite3", "bulk insert, index, query, change and vacuum", {
    args: ["-batch", "work.db", ".read database.sql"],
    prepare: (folder) => copyHere([join(testLoads, "database.sql")], folder),
  }),
  program("g++", "template-heavy C++20", {
    args: ["-std=c++20", "-O0", "-c", "-o", "templates.o", "templates.cpp"],
    prepare: (folder) => copyHere([join(testLoads, "templates.cpp")], folder),
  }),
  program("git", "gc --aggressive of 500 commits", {
    args: [
      ...["-c", "pack.threads=2", "-c", "gc.auto=0"],
      ...["gc", "--aggressive", "--prune=now", "--quiet"],
    ],
    env: gitEnvironment,
    prepare: async (folder) => {
      const git = (args: string[], input?: string): Promise<void> =>
        runToEnd("git", args, folder, input);
      await git(["init", "--quiet", "--initial-branch=main"]);
      await git(["fast-import", "--quiet"], generatedHistory(500));
    },
  }),
  program("xz", "-T2 -3, 24 MiB of text", {
    args: ["-T2", "-3", "--block-size=4MiB", "--keep", "text"],
    prepare: (folder) => Deno.writeTextFileSync(join(folder, "text"), generatedText(24 * 2 ** 20)),
  }),
];

function program(
  name: string,
  load: string,
  { needs = [name], args, env = {}, client, prepare = (): void => {} }:
    & Pick<Program, "args">
    & Partial<Program>,
): Program {
  return {
    workload: "programs",
    row: name,
    label: `${name}: ${load}`,
    threads: null,
    operation: "run",
    ...{ needs, args, env, prepare },
    ...(client === undefined ? {} : { client }),
  };
}

function copyHere(files: readonly string[], folder: string): void {
  for (const file of files) copyFileSync(file, join(folder, file.slice(file.lastIndexOf("/") + 1)));
}

async function runToEnd(
  name: string,
  args: readonly string[],
  folder: string,
  input: string | undefined,
): Promise<void> {
  const child = new Deno.Command(name, {
    args: [...args],
    cwd: folder,
    env: gitEnvironment,
    stdin: input === undefined ? "null" : "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const ended = child.output();
  if (input !== undefined) await new Blob([input]).stream().pipeTo(child.stdin);
  const { success, code, stderr } = await ended;
  if (success) return;
  throw new RunError(
    `cannot prepare the load of ${name}: '${name} ${args.join(" ")}' ended with status ${code}: ${
      new TextDecoder().decode(stderr).trim()
    }`,
  );
}

/** Text that compresses about as prose does: words drawn from a thousand, common ones more often. */
function generatedText(bytes: number): string {
  const random = randomSource(1);
  const words = Array.from(
    { length: 1000 },
    () => Math.floor(random() * 36 ** 6).toString(36).slice(0, 2 + Math.floor(random() * 7)),
  );
  const parts: string[] = [];
  for (let length = 0; length < bytes;) {
    const word = words[Math.floor(random() ** 3 * words.length)] ?? "";
    parts.push(word);
    length += word.length + 1;
  }
  return parts.join(" ");
}
