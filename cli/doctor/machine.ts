/**
 * The machine: what of it decides whether and how well hakmem runs.
 *
 * @module
 */
import { formatBytes } from "../../bench/harness/format.ts";
import { cgroupLimits, hugePageModes, memoryInfo, readText } from "../../bench/harness/machine.ts";
import { compareVersions } from "../elf.ts";
import { bad, type Finding, ok, warn } from "./finding.ts";
import type { SharedObject } from "./object.ts";

/** The C library of a system. */
export interface Libc {
  /** Which one. */
  name: "glibc" | "musl" | "unknown";
  /** Its version, where it can be asked. */
  version: string | null;
}

/** A mapping count that a limit below leaves hakmem little room in; it is the kernel's own default. */
const usualMapCount = 65530;
/** hakmem's records are kept for pieces of memory of this size. */
const pageBytesMax = 65536;
/** cgroup v1 writes no limit as the largest number of whole pages. */
const noLimitBytes = 2 ** 62;

/** Everything about the machine. */
export function checkMachine(object: SharedObject): Finding[] {
  return [
    checkObject(object),
    checkLibc(runningLibc(), object),
    ok("kernel", `Linux ${Deno.osRelease()}, ${Deno.build.arch}`),
    checkPageSize(pageBytes()),
    checkHugePages(hugePageModes()),
    checkOvercommit(readText("/proc/sys/vm/overcommit_memory")?.trim() ?? "unknown"),
    ...checkLimits(
      readText("/proc/self/limits") ?? "",
      Number(readText("/proc/sys/vm/max_map_count") ?? NaN),
    ),
    checkCgroup(),
  ];
}

/** The object that the loader is to load. */
export function checkObject({ hakmem, path }: SharedObject): Finding {
  const found = `${hakmem}, ${path}`;
  if (!/[ :]/.test(path)) return ok("hakmem", found);
  return bad(
    "hakmem",
    `${found} has a space or a colon in its path, where the loader splits LD_PRELOAD`,
    "move the checkout, or copy the object to a path that has neither",
  );
}

/** Whether the system's C library has what the object needs of it. */
export function checkLibc({ name, version }: Libc, { libc, elf }: SharedObject): Finding {
  const here = version === null ? name : `${name} ${version}`;
  if (libc !== null && name !== libc) {
    return bad("libc", `${here}, and hakmem is built for ${libc}`, `use it on a ${libc} system`);
  }
  const needed = elf.glibcNeeded;
  if (needed === null || version === null) return ok("libc", here);
  const requirement = `hakmem needs ${needed} or newer`;
  return compareVersions(version, needed) >= 0
    ? ok("libc", `${here}; ${requirement}`)
    : bad("libc", `${here}, and ${requirement}`, "use a newer system");
}

/** Asks the C library that this process runs with. */
export function runningLibc(): Libc {
  const asked = openGlibc({ gnu_get_libc_version: { parameters: [], result: "pointer" } });
  if (asked === null) {
    const musl = /\/ld-musl-|\/libc\.musl-/.test(readText("/proc/self/maps") ?? "");
    return { name: musl ? "musl" : "unknown", version: null };
  }
  try {
    const text = asked.symbols.gnu_get_libc_version();
    return {
      name: "glibc",
      version: text === null ? null : Deno.UnsafePointerView.getCString(text),
    };
  } finally {
    asked.close();
  }
}

/** glibc, as far as these functions go; null where it is not there. */
export function openGlibc<const Functions extends Deno.ForeignLibraryInterface>(
  functions: Functions,
): Deno.DynamicLibrary<Functions> | null {
  try {
    return Deno.dlopen("libc.so.6", functions);
  } catch (error) {
    if (error instanceof Error && error.message.includes("libc.so.6")) return null;
    throw error;
  }
}

/** The kernel's page size, which it tells every program at its start. */
function pageBytes(): number {
  return auxiliaryValue("/proc/self/auxv", 6) ?? 0;
}

/** A number that the kernel gave a program at its start; null if it gave none of this kind. */
export function auxiliaryValue(path: string, kind: number): number | null {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 16 <= view.byteLength; at += 16) {
    if (view.getBigUint64(at, true) === BigInt(kind)) {
      return Number(view.getBigUint64(at + 8, true));
    }
  }
  return null;
}

/** Whether hakmem can do with pages of this size. */
export function checkPageSize(bytes: number): Finding {
  if (bytes > 0 && bytes <= pageBytesMax) return ok("page size", formatBytes(bytes));
  return bad(
    "page size",
    formatBytes(bytes),
    `hakmem needs pages of at most ${formatBytes(pageBytesMax)}`,
  );
}

/** How the kernel hands out huge pages. */
export function checkHugePages(modes: Record<string, string>): Finding {
  const found = Object.entries(modes).map(([name, mode]) => `${name} ${mode}`).join(", ");
  if (found === "") return ok("huge pages", "none: this kernel has no transparent ones");
  if (modes.enabled !== "always") return ok("huge pages", found);
  return warn(
    "huge pages",
    `${found}: the kernel may fill what is free, so more is resident than in use`,
    "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
  );
}

/** What the kernel does about promises of memory. */
export function checkOvercommit(mode: string): Finding {
  const meanings: Record<string, string> = {
    0: "the kernel refuses only what is beyond reason",
    1: "the kernel refuses nothing",
  };
  if (mode !== "2") return ok("overcommit", `mode ${mode}: ${meanings[mode] ?? "unknown"}`);
  const limit = formatBytes(memoryInfo("CommitLimit") ?? 0);
  const used = formatBytes(memoryInfo("Committed_AS") ?? 0);
  return warn(
    "overcommit",
    `mode 2, strict: ${used} of ${limit} are promised, and malloc returns NULL at the limit`,
    "sysctl vm.overcommit_memory=0 unless this is meant",
  );
}

/** The limits that this process hands on to programs, from the text of `/proc/PID/limits`. */
export function checkLimits(text: string, mapCount: number): Finding[] {
  const findings: Finding[] = [];
  const found: string[] = [];
  const names = [
    { line: "Max address space", name: "address space", option: "-v" },
    { line: "Max data size", name: "data", option: "-d" },
    { line: "Max locked memory", name: "locked memory", option: null },
  ];
  for (const { line, name, option } of names) {
    const value = new RegExp(`^${line}\\s+(\\S+)`, "m").exec(text)?.[1] ?? "unknown";
    const shown = /^\d+$/.test(value) ? formatBytes(Number(value)) : value;
    if (option === null || !/^\d+$/.test(value)) found.push(`${name} ${shown}`);
    else {
      findings.push(
        warn(
          "limits",
          `${name} ${shown}: malloc returns NULL beyond it`,
          `ulimit ${option} unlimited, unless this is meant`,
        ),
      );
    }
  }
  if (mapCount < usualMapCount) {
    findings.push(
      warn(
        "limits",
        `mappings ${mapCount}: with many large blocks malloc returns NULL early`,
        `sysctl vm.max_map_count=${usualMapCount}`,
      ),
    );
  } else found.push(`mappings ${Number.isNaN(mapCount) ? "unknown" : mapCount}`);
  return [ok("limits", found.join(", ")), ...findings];
}

/** The tightest limit of the cgroups that this process is in. */
function checkCgroup(): Finding {
  const limits = cgroupLimits().filter(({ limitBytes }) => limitBytes < noLimitBytes);
  const [tightest] = limits.sort((a, b) => a.roomBytes - b.roomBytes);
  if (tightest === undefined) return ok("cgroup", "no memory limit");
  const { folder, limitBytes, usedBytes, roomBytes } = tightest;
  const found = `${formatBytes(usedBytes)} of ${formatBytes(limitBytes)} in use (${folder})`;
  if (roomBytes >= limitBytes / 10) return ok("cgroup", found);
  return warn("cgroup", `${found}: the kernel kills a process at the limit`, "raise the limit");
}
