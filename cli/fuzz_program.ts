/**
 * Playing one program of the fuzzer (`zig/tests/fuzz.zig`) in a process of its own, and shortening one that
 * finds something.
 *
 * @module
 */
import { join } from "node:path";
import { runChild } from "./child.ts";
import { RunError } from "./errors.ts";
import { binary, ffiLibrary, preloadLibrary, zigOut } from "./paths.ts";

/** The allocators that a program can be played against. */
export const targets = ["zig", "preload", "checked", "hak", "libc"] as const;

/**
 * `zig` has the allocator inside the fuzzer, whose system calls are refused one by one; `checked` is `preload`
 * with assertions; `libc` is the control.
 */
export type Target = typeof targets[number];

/** What decides a program. */
export interface Program {
  /** The allocator. */
  target: Target;
  /** With the round, decides every action. */
  seed: bigint;
  /** The number of the program among those of a seed. */
  round: number;
  /** Threads at most. */
  threads: number;
  /** How many actions it has. */
  actions: number;
  /** The numbers of the actions that are played, as 0-17,33; all without it. */
  only?: string;
  /** A bug to plant, in the target `zig`. */
  canary?: string;
  /** With `HAKMEM_CHECK=1`. */
  check?: boolean;
}

/** How a program came out. */
export interface Played {
  /** What the program is like: threads, failing system calls, forks, addresses. */
  plan: string;
  /** Its threads run freely, so that the same program need not do the same again. */
  races: boolean;
  /** What was found wrong, in one line, or `null`. */
  found: string | null;
  /** The number of the action that found it. */
  action: number | null;
  /** The actions, a line each, if they were asked for. */
  printed: string[];
  /** The last line of a program that found nothing. */
  summary: string;
}

/** What a program has unless it is told otherwise. */
export const defaults: { threads: number; actions: number } = { threads: 4, actions: 6000 };

/** Plays a program to its end. */
export async function play(program: Program, print = false): Promise<Played> {
  let text = "";
  const decoder = new TextDecoder();
  const take = (piece: Uint8Array): void => {
    text += decoder.decode(piece, { stream: true });
  };
  const status = await runChild({
    program: binary("hak-fuzz"),
    args: [...argumentsOf(program), ...(print ? ["--print"] : [])],
    env: {
      LD_PRELOAD: preloadOf(program.target),
      ...(program.check ? { HAKMEM_CHECK: "1" } : {}),
    },
    onStdout: take,
    onStderr: take,
  });
  if (status.code === 2) throw new RunError(text.trim());
  const lines = text.trimEnd().split("\n");
  const plan = lines.find((line) => line.startsWith("plan: "))?.slice("plan: ".length) ?? "";
  return {
    plan,
    races: plan.includes("threads race"),
    ...(status.success ? { found: null, action: null } : finding(lines, status)),
    printed: lines.filter((line) => /^(?: {2}within it: )?\d+ thread \d+: /.test(line)),
    summary: lines.findLast((line) => line.startsWith("ok fuzz: ")) ?? "",
  };
}

/** The lines of the allocator itself come before that of the fuzzer, and say more. */
function finding(
  lines: string[],
  status: Deno.CommandStatus,
): { found: string; action: number | null } {
  const failure = lines.find((line) => line.startsWith("fail fuzz "));
  const said = lines.find((line) => /^hakmem: (?!the system refused)/.test(line));
  const found = failure === undefined
    ? `the program ended with ${status.signal ?? `status ${status.code}`} and no word`
    : failure.slice("fail ".length);
  const action = /\(action (\d+)/.exec(failure ?? "")?.[1];
  return {
    found: said === undefined ? found : `${found} (${said})`,
    action: action === undefined ? null : Number(action),
  };
}

/** The command that plays the same program again. */
export function commandOf(program: Program): string {
  const { target, seed, round, threads, actions, only, canary } = program;
  // A variable that changes the allocator is part of what is played.
  const check = program.check ? "1" : Deno.env.get("HAKMEM_CHECK");
  return [
    ...(check === undefined ? [] : [`HAKMEM_CHECK=${check}`]),
    `./hak fuzz --target ${target} --replay ${seed}:${round}`,
    ...(threads === defaults.threads ? [] : [`--threads ${threads}`]),
    ...(actions === defaults.actions ? [] : [`--actions ${actions}`]),
    ...(canary === undefined ? [] : [`--canary ${canary}`]),
    ...(only === undefined ? [] : [`--only ${only}`]),
  ].join(" ");
}

/** A program that still finds something, and how often one was tried on the way. */
export interface Shortened {
  /** With the actions that are left in `only`. */
  program: Program;
  /** How many are left. */
  left: number;
  /** Programs played on the way. */
  trials: number;
}

/**
 * Leaves out as many actions as possible: halves, quarters and so on down to single ones, each for good if the
 * rest still finds something.
 *
 * @param program One whose threads take turns.
 * @param last The number of the action that found something.
 * @param trialsMax When to be content.
 * @param onTrial Called after each program played.
 */
export async function shorten(
  program: Program,
  last: number,
  trialsMax: number,
  onTrial: (left: number, trials: number) => void = () => {},
): Promise<Shortened> {
  let trials = 0;
  let kept = selected(program.only).filter((number) => number <= last);
  if (program.only === undefined) kept = Array.from({ length: last + 1 }, (_, number) => number);
  for (let size = Math.ceil(kept.length / 2);;) {
    let shorter = false;
    for (let start = 0; start < kept.length && trials < trialsMax;) {
      const candidate = [...kept.slice(0, start), ...kept.slice(start + size)];
      const { found, action } = candidate.length === 0
        ? { found: null, action: null }
        : await play({ ...program, only: ranges(candidate) });
      onTrial(kept.length, ++trials);
      if (found === null) {
        start += size;
        continue;
      }
      shorter = true;
      // What comes after the finding is not needed; a finding at the end has no action of its own.
      kept = candidate.filter((number) => action === null || number <= action);
    }
    if (trials >= trialsMax || (size === 1 && !shorter)) break;
    size = Math.max(1, Math.floor(size / 2));
  }
  return { program: { ...program, only: ranges(kept) }, left: kept.length, trials };
}

/** Increasing numbers as 0-17,33. */
export function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < numbers.length;) {
    let end = at;
    while (numbers[end + 1] === (numbers[end] ?? 0) + 1) end++;
    parts.push(at === end ? `${numbers[at]}` : `${numbers[at]}-${numbers[end]}`);
    at = end + 1;
  }
  return parts.join(",");
}

/** The numbers of what {@link ranges} wrote. */
export function selected(only: string | undefined): number[] {
  return (only ?? "").split(",").filter((part) => part !== "").flatMap((part) => {
    const [first = 0, last = first] = part.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, step) => first + step);
  });
}

function argumentsOf(program: Program): string[] {
  const { target, seed, round, threads, actions, only, canary } = program;
  return [
    ...["--seed", `${seed}`, "--round", `${round}`],
    ...["--threads", `${threads}`, "--actions", `${actions}`],
    ...(target === "zig" ? ["--in-process"] : []),
    ...(target === "hak" ? ["--hak", ffiLibrary] : []),
    ...(canary === undefined ? [] : ["--canary", canary]),
    ...(only === undefined ? [] : ["--only", only]),
  ];
}

function preloadOf(target: Target): string {
  if (target === "preload") return preloadLibrary;
  return target === "checked" ? join(zigOut, "test", "libhakmem_preload_checked.so") : "";
}
