/**
 * Which allocators are measured and where their shared objects lie.
 *
 * @module
 */
import { basename, join } from "node:path";
import { type Elf, readElf } from "../../cli/elf.ts";
import { callerPath, preloadLibrary } from "../../cli/paths.ts";
import { UsageError } from "../../cli/errors.ts";

/** An allocator to be measured. */
export interface Allocator {
  /** Its name on the command line and in the result. */
  name: string;
  /** The object to preload; null for the C library's own. */
  preload: string | null;
  /** Variables that only its processes get, in addition to the caller's. */
  env: Readonly<Record<string, string>>;
}

/** What `--peer` says after the name. */
export interface Peer {
  /** The shared object, as the caller typed it. */
  path: string;
  /** Variables for this peer only. */
  env: Readonly<Record<string, string>>;
}

/** Which allocators the caller wants. */
export interface AllocatorChoice {
  /** Names in the order given; null for all that are found. */
  allocators: string[] | null;
  /** Objects named by `--peer`, by name. */
  peers: Map<string, Peer>;
}

/** The names that `--allocators` knows without a `--peer`. */
export const knownAllocators: readonly string[] = [
  "system",
  "hakmem",
  "mimalloc",
  "jemalloc",
  "tcmalloc",
];

/** Our own allocator's name among them. */
export const ourselves = "hakmem";

/** The peers that are looked for: file names in order of preference, and where a person gets one. */
const peers: Record<string, { files: string[]; package: string }> = {
  mimalloc: {
    files: ["libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"],
    package: "libmimalloc2.0",
  },
  jemalloc: { files: ["libjemalloc.so.2", "libjemalloc.so"], package: "libjemalloc2" },
  tcmalloc: {
    files: ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc_minimal.so"],
    package: "libtcmalloc-minimal4",
  },
};

/**
 * The allocators that the choice means, in the order of the result's columns. A named one that is not
 * there is wrong usage; without names, peers that are not installed are left out.
 */
export async function resolveAllocators(choice: AllocatorChoice): Promise<Allocator[]> {
  const named = new Map<string, Peer>();
  for (const [name, { path: given, env }] of choice.peers) {
    const path = callerPath(given);
    const fault = whyNotPreloadable(path);
    if (fault !== null) {
      throw new UsageError(
        `--peer ${name}: ${path} ${fault}; name a shared object for this machine, as in '--peer ${name}=/usr/lib/libname.so'`,
      );
    }
    named.set(name, { path, env });
  }
  // A peer that is named is wanted, also where --allocators leaves it out.
  const names = [...new Set([...choice.allocators ?? knownAllocators, ...named.keys()])];
  const libraries = await libraryPaths(Object.values(peers).flatMap((peer) => peer.files));
  const allocators: Allocator[] = [];
  for (const name of names) {
    if (name === "system") {
      allocators.push({ name, preload: null, env: {} });
    } else if (name === ourselves) {
      allocators.push({ name, preload: preloadLibrary, env: {} });
    } else {
      const peer = named.get(name);
      const preload = peer?.path ?? findPeer(name, libraries);
      if (preload !== null) {
        allocators.push({ name, preload, env: peer?.env ?? {} });
      } else if (choice.allocators !== null) {
        const here = [
          "system",
          "hakmem",
          ...Object.keys(peers).filter((peer) => findPeer(peer, libraries) !== null),
        ];
        throw new UsageError(
          `${name} is not installed: valid here are ${
            here.join(", ")
          }; install it (Debian: apt-get install ${
            peers[name]?.package
          }) or add '--peer ${name}=/path/to/lib.so'`,
        );
      }
    }
  }
  return allocators;
}

/** Names of the peers that `resolveAllocators` found nowhere, with the packages that hold them. */
export function missingPeers(found: readonly Allocator[]): string[] {
  return Object.entries(peers)
    .filter(([name]) => !found.some((allocator) => allocator.name === name))
    .map(([name, peer]) => `${name} (${peer.package})`);
}

function findPeer(name: string, libraries: readonly string[]): string | null {
  for (const file of peers[name]?.files ?? []) {
    const path = libraries.find((library) =>
      basename(library) === file && whyNotPreloadable(library) === null
    );
    if (path !== undefined) return path;
  }
  return null;
}

/** Where shared objects of these names might be: the loader's own list first, then the usual folders. */
export async function libraryPaths(wanted: readonly string[]): Promise<string[]> {
  const folders = [
    ...(Deno.env.get("LD_LIBRARY_PATH") ?? "").split(":").filter((folder) => folder !== ""),
    "/usr/local/lib",
    ...["/usr/lib", "/lib"].flatMap((folder) => [...multiarchFolders(folder), folder]),
    "/usr/local/lib64",
    "/usr/lib64",
    "/lib64",
  ];
  const inFolders = folders.flatMap((folder) => wanted.map((file) => join(folder, file)));
  const cached = (await loaderCache()).filter((path) => wanted.includes(basename(path)));
  return [...cached, ...inFolders];
}

/** Folders such as `/usr/lib/x86_64-linux-gnu`. */
function multiarchFolders(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)]
      .filter((entry) => /-linux-(gnu|musl)/.test(entry.name))
      .map((entry) => join(folder, entry.name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** The paths in the dynamic loader's cache; none where there is no such cache, as with musl. */
async function loaderCache(): Promise<string[]> {
  // Where ldconfig lies is in root's PATH only on some systems.
  for (const program of ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]) {
    try {
      const command = new Deno.Command(program, { args: ["-p"], stdout: "piped", stderr: "null" });
      const { success, stdout } = await command.output();
      if (!success) continue;
      return [...new TextDecoder().decode(stdout).matchAll(/=> (\/.+)$/gm)].map((match) =>
        match[1] ?? ""
      );
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return [];
}

/**
 * Whether the loader can preload a file into a program of this machine, told from its ELF headers.
 *
 * @returns What is wrong ("does not exist"), or null.
 */
export function whyNotPreloadable(path: string): string | null {
  let elf: Elf | null;
  try {
    if (!Deno.statSync(path).isFile) return "is no file";
    elf = readElf(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return "does not exist";
    }
    if (error instanceof Deno.errors.PermissionDenied) return "cannot be read";
    throw error;
  }
  if (elf === null) return "is no ELF shared object";
  if (elf.machine !== Deno.build.arch) {
    return `is not built for this machine (${Deno.build.arch})`;
  }
  return elf.kind === "shared object"
    ? null
    : "is a program or an object file, no ELF shared object";
}
