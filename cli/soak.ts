/**
 * `./hak soak`: lets allocators work for hours, in turn, and tells whether they grow, slow down or stall.
 *
 * @module
 */
import { type Allocator, resolveAllocators } from "../bench/harness/allocators.ts";
import type { Outputs } from "../bench/harness/command_line.ts";
import { Driver } from "../bench/harness/driver.ts";
import { Interrupt } from "../bench/harness/interrupt.ts";
import { describeMachine } from "../bench/harness/machine.ts";
import { checkOutputs, writeReport } from "../bench/harness/outputs.ts";
import { exitStatus, takeReport } from "../bench/harness/report.ts";
import { renderCsv } from "../bench/soak/csv.ts";
import { parseRequest, type SoakOptions, usageText } from "../bench/soak/options.ts";
import { planRounds } from "../bench/soak/plan.ts";
import { runSoak } from "../bench/soak/run.ts";
import type { SoakReport } from "../bench/soak/schema.ts";
import { checkSame, digestOf, SoakState, type StateHead } from "../bench/soak/state.ts";
import { goalsOf, rowsOf } from "../bench/soak/summary.ts";
import { renderTable } from "../bench/soak/table.ts";
import { buildIfNeeded } from "./build.ts";
import { binary, callerPath } from "./paths.ts";

/** What the list of commands says of this verb. */
export const summary: string =
  "Let allocators work for an hour, in turn: drift of memory, throughput, latency, system calls";

/** The help text. */
export const usage: string = usageText;

/** A soak that is to be made, or the rest of one. */
interface Job {
  options: SoakOptions;
  allocators: readonly Allocator[];
  /** Where the state is, as typed. */
  statePath: string;
  /** The state of a soak that goes on. */
  state: SoakState | null;
  rounds: number;
  command: string[];
}

/** Runs the verb and returns its exit status. */
export async function run(args: string[]): Promise<number> {
  const request = parseRequest(args);
  if (request.kind === "resume") {
    const state = await SoakState.open(request.state);
    return await soak(jobOf(state, request.state, request.outputs));
  }
  const { options, state: statePath } = request;
  const allocators = await resolveAllocators(options);
  const rounds = planRounds(options, allocators.length);
  SoakState.check(statePath);
  return await soak({
    options,
    allocators,
    statePath,
    state: null,
    rounds,
    command: ["soak", ...args],
  });
}

/** The rest of a soak. */
function jobOf(state: SoakState, statePath: string, asked: Outputs): Job {
  const { plan, allocators, outputs, command } = state.head;
  const { workload, threads, minutes, epochSeconds, seed, rounds } = plan;
  const named = asked.json !== null || asked.csv !== null || asked.html !== null;
  const options: SoakOptions = {
    ...{ workload, threads, minutes, epochSeconds, seed },
    ...(named ? { json: asked.json, csv: asked.csv, html: asked.html } : outputs),
    allocators: allocators.map(({ name }) => name),
    peers: new Map(),
    repeat: 1,
  };
  return { options, allocators, statePath, state, rounds, command };
}

async function soak(job: Job): Promise<number> {
  const { options, allocators, statePath, command } = job;
  checkOutputs(options);
  await buildIfNeeded();

  using interrupt = new Interrupt();
  const { head, result } = await takeReport(
    command,
    options,
    allocators,
    async (folder, progress) => {
      const driver = new Driver(binary("hak-soak-driver"), folder, interrupt.signal);
      const identities = await driver.identifyAll(allocators);
      const libc = identities.find((identity) => identity.libc !== null)?.libc ?? null;
      if (identities.length < allocators.length) {
        return { identities, state: job.state, interrupted: true, libc };
      }
      const files = await filesOf([
        binary("hak-soak-driver"),
        ...identities.flatMap(({ path }) => path ?? []),
      ]);
      const { cpu, kernel } = describeMachine(libc);
      const now = { files, machine: `${cpu}, ${kernel}` };
      if (job.state !== null) checkSame(job.state.head, now);
      const state = job.state ?? await SoakState.create(statePath, headOf(job, now));
      console.error(`State: ${statePath}`);
      const work = { identities, driver, state, progress, stop: interrupt.signal };
      return { identities, state, interrupted: await runSoak(work) === "interrupted", libc };
    },
  );
  const { identities, state } = result;
  const entries = state?.entries ?? [];
  const rows = rowsOf({ allocators: [...allocators] }, entries, identities);
  const { workload, threads, minutes, epochSeconds } = options;
  const lives = entries.flatMap((entry) => entry.kind === "life" ? [entry.started] : []);
  const report: SoakReport = {
    schema: "hakmem.soak/1",
    ...head,
    ...(state === null ? {} : { started: state.head.started }),
    ...{ workload, threads, minutes, epoch_seconds: epochSeconds, rounds: job.rounds },
    resumed: lives.slice(1),
    rows,
    goals: goalsOf(rows),
  };
  await writeReport(options, {
    json: () => JSON.stringify(report, null, 2) + "\n",
    csv: () => renderCsv(report),
    // Only this needs the chart library, which takes its time to load.
    html: async () => (await import("../bench/soak/html.ts")).renderHtml(report),
    table: (colour) => renderTable(report, colour),
  });
  state?.close();
  if (state !== null) {
    if (result.interrupted) console.error(`To go on: ./hak soak --resume ${statePath}`);
    else state.remove();
  }
  return exitStatus(report, rows);
}

function headOf(
  { options, allocators, rounds, command }: Job,
  now: Pick<StateHead, "files" | "machine">,
): StateHead {
  const { workload, threads, minutes, epochSeconds, seed, json, csv, html } = options;
  const target = (path: string | null): string | null =>
    path === null || path === "-" ? path : callerPath(path);
  return {
    schema: "hakmem.soak-state/1",
    command,
    started: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    plan: { workload, threads, minutes, epochSeconds, seed, rounds },
    allocators: [...allocators],
    outputs: { json: target(json), csv: target(csv), html: target(html) },
    ...now,
  };
}

async function filesOf(paths: readonly string[]): Promise<StateHead["files"]> {
  const files: StateHead["files"] = [];
  for (const path of new Set(paths)) files.push({ path, sha256: await digestOf(path) });
  return files;
}
