/**
 * The machine beneath what is measured: what it is, for the report, and how much memory it has to give.
 *
 * @module
 */
import { dirname, join } from "node:path";

/** Where it was measured. */
export interface Machine {
  /** The processor's name. */
  cpu: string;
  /** Logical processors that this process may use. */
  cores: number;
  /** All memory. */
  memory_bytes: number;
  /** Kernel name and release. */
  kernel: string;
  /** C library and version. */
  libc: string;
  /** Transparent huge pages: always, madvise or never. */
  thp: string;
}

/** Describes the machine. The C library is what a measuring process said of itself. */
export function describeMachine(libcVersion: string | null): Machine {
  return {
    cpu: processorName(),
    cores: navigator.hardwareConcurrency,
    memory_bytes: memoryInfo("MemTotal") ?? 0,
    kernel: `Linux ${Deno.osRelease()}`,
    libc: libcVersion === null ? "unknown" : `glibc ${libcVersion}`,
    thp: hugePageModes().enabled ?? "unavailable",
  };
}

/** The checkout's commit, or "unknown" where there is no git or no commit. */
export async function commitOf(folder: string): Promise<string> {
  try {
    const git = new Deno.Command("git", {
      args: ["-C", folder, "rev-parse", "--verify", "--quiet", "HEAD"],
      stdout: "piped",
      stderr: "null",
    });
    const { success, stdout } = await git.output();
    return success ? new TextDecoder().decode(stdout).trim() : "unknown";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "unknown";
    throw error;
  }
}

/**
 * Bytes that a new process could use now: what the kernel calls available, or what is left of the
 * smallest cgroup limit above us.
 */
export function availableMemoryBytes(): number {
  const room = cgroupLimits().map(({ roomBytes }) => roomBytes);
  return Math.min(memoryInfo("MemAvailable") ?? Infinity, ...room);
}

function processorName(): string {
  const text = readText("/proc/cpuinfo") ?? "";
  const name = /^model name\s*:\s*(.+)$/m.exec(text)?.[1] ??
    // aarch64 has no model name there; a board's device tree has one.
    readText("/proc/device-tree/model")?.replace(/\0/g, "");
  return name?.trim() || `unknown ${Deno.build.arch}`;
}

/** The modes of transparent huge pages by the names that the kernel has for them; none where it has none. */
export function hugePageModes(): Record<string, string> {
  const modes: Record<string, string> = {};
  for (const name of ["enabled", "defrag", "shmem_enabled"]) {
    const text = readText(`/sys/kernel/mm/transparent_hugepage/${name}`) ?? "";
    const mode = /\[([\w+]+)\]/.exec(text)?.[1];
    if (mode !== undefined) modes[name] = mode;
  }
  return modes;
}

/** A line of `/proc/meminfo` in bytes; null if this kernel does not have it. */
export function memoryInfo(field: string): number | null {
  const text = readText("/proc/meminfo") ?? "";
  const kibibytes = new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(text)?.[1];
  return kibibytes === undefined ? null : Number(kibibytes) * 1024;
}

/** A cgroup that limits memory. */
export interface CgroupLimit {
  /** Where its files lie. */
  folder: string;
  /** What it may use. */
  limitBytes: number;
  /** What it uses, page cache included. */
  usedBytes: number;
  /** What it may use in addition, page cache counted as room. */
  roomBytes: number;
}

/** Each limited cgroup from ours up to the root. */
export function cgroupLimits(): CgroupLimit[] {
  const versions = [
    { line: /^0::(.+)$/m, mount: "/sys/fs/cgroup", limit: "memory.max", used: "memory.current" },
    {
      line: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.+)$/m,
      mount: "/sys/fs/cgroup/memory",
      limit: "memory.limit_in_bytes",
      used: "memory.usage_in_bytes",
    },
  ];
  const groups = readText("/proc/self/cgroup") ?? "";
  const limits: CgroupLimit[] = [];
  for (const { line, mount, limit, used } of versions) {
    let group = line.exec(groups)?.[1];
    while (group !== undefined) {
      const folder = join(mount, group);
      const limitBytes = readNumber(join(folder, limit));
      const usedBytes = readNumber(join(folder, used));
      if (limitBytes !== null && usedBytes !== null) {
        const statistics = readText(join(folder, "memory.stat")) ?? "";
        const cache = Number(/^(?:total_)?inactive_file (\d+)$/m.exec(statistics)?.[1] ?? 0);
        const roomBytes = Math.max(0, limitBytes - usedBytes + cache);
        limits.push({ folder, limitBytes, usedBytes, roomBytes });
      }
      group = group === "/" ? undefined : dirname(group);
    }
  }
  return limits;
}

function readNumber(path: string): number | null {
  const text = readText(path)?.trim();
  // "max" is a cgroup without a limit.
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
}

/** A file's text; undefined where this kernel does not have it or does not show it. */
export function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) {
      return undefined;
    }
    throw error;
  }
}
