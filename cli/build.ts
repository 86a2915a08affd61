/**
 * `hak build`: makes the allocator's objects, header and programs; and the same when another command
 * needs them.
 *
 * `zig build` installs each file by rename, so a program that has the old object loaded keeps it whole.
 * Whether a build is needed is decided by the names, sizes and times of all sources and all outputs, as
 * noted in a stamp when the last build succeeded: a change to either, in any direction, leads to a build.
 * What is built for other platforms has no stamp: Zig's cache serves.
 * Builds of one checkout take turns by a lock on a file, which the system drops if its holder dies.
 *
 * @module
 */
import { dirname, join, relative } from "node:path";
import { runChild, writeOut } from "./child.ts";
import { Exit, RunError, UsageError } from "./errors.ts";
import { callerPath, ffiLibrary, header, preloadLibrary, root, zigOut } from "./paths.ts";
import { filesBelow } from "./walk.ts";

/** Each platform that `--all` builds for, the name of its folder, and its objects. */
const objectsOf: [platform: string, objects: string[]][] = [
  ["x86_64-linux-gnu", ["libhakmem_preload.so", "libhakmem.so"]],
  ["x86_64-linux-musl", ["libhakmem_preload.so", "libhakmem.so"]],
  ["aarch64-linux-gnu", ["libhakmem_preload.so", "libhakmem.so"]],
  ["aarch64-linux-musl", ["libhakmem_preload.so", "libhakmem.so"]],
  ["x86_64-macos", ["libhakmem.dylib"]],
  ["aarch64-macos", ["libhakmem.dylib"]],
];

/** One line for the list of commands. */
export const summary: string =
  "Build the allocator's objects, header and driver; --all: for every platform";

/** What `--help` prints. */
export const usage: string = `hak build [--all]

Builds what has changed, into zig/zig-out:
  lib/libhakmem_preload.so  for LD_PRELOAD: the malloc family and hak_*
  lib/libhakmem.so          for dlopen: hak_* only
  include/hakmem.h          the C header
  bin/                      the programs that measure
  --all   the two objects for every platform too, into zig/zig-out/PLATFORM/lib:
          ${objectsOf.map(([platform]) => platform).join("\n          ")}
          macOS gets libhakmem.dylib only; docs/PLATFORMS.md says what is tested`;

const zigDir = join(root, "zig");
const stampFile = join(zigOut, ".hak-stamp");

/** Runs the command. */
export async function run(args: string[]): Promise<number> {
  const [option, extra] = args;
  if (option !== undefined && option !== "--all") {
    throw new UsageError(`unexpected argument ${JSON.stringify(option)}: it takes only --all`);
  }
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${JSON.stringify(extra)}: --all stands alone`);
  }
  await build();
  if (option === "--all") await buildPlatforms();
  return 0;
}

/** How to build. */
export interface BuildOptions {
  /** Build the programs of the tests too, which takes twice as long. */
  tests?: boolean;
  /** Keep Zig's progress and messages back unless the build fails. */
  quiet?: boolean;
}

/** Builds, whatever is there. Writes only to standard error. */
export async function build(options: BuildOptions = {}): Promise<void> {
  using _lock = await lockBuilds();
  await zigBuild(options);
}

/** Builds unless what is there was made from the sources as they are now. */
export async function buildIfNeeded(options: BuildOptions = {}): Promise<void> {
  if (await isUpToDate(options)) return;
  using _lock = await lockBuilds();
  // Whoever held the lock may have built just what we need.
  if (!await isUpToDate(options)) await zigBuild(options);
}

/**
 * Builds the objects for every platform. Zig's own cache tells what is to be done.
 */
export async function buildPlatforms(options: BuildOptions = {}): Promise<void> {
  using _lock = await lockBuilds();
  await runZig(options.tests ? "platform-tests" : "platforms", options.quiet);
  for (
    const object of objectsOf.flatMap(([name, files]) =>
      files.map((file) => platformObject(name, file))
    )
  ) {
    if (!await exists(object)) throw notMade(object);
  }
}

/** The absolute path of an object that {@linkcode buildPlatforms} makes. */
function platformObject(platform: string, file: string): string {
  return join(zigOut, platform, "lib", file);
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function notMade(path: string): RunError {
  return new RunError(`zig build made no ${relative(root, path)}: zig/build.zig must install it`);
}

let zigFound: Promise<string> | undefined;

/**
 * The absolute path of Zig 0.17.0. The script `hak` finds it, or installs it; from then on it is first on
 * the `PATH` of this process and its children.
 */
export function zigPath(): Promise<string> {
  zigFound ??= findZig();
  return zigFound;
}

async function findZig(): Promise<string> {
  let output = "";
  const decoder = new TextDecoder();
  const status = await runChild({
    program: "sh",
    args: [join(root, "hak"), "--zig"],
    // A relative ZIG is meant from where the caller is.
    cwd: callerPath("."),
    onStdout: (piece) => output += decoder.decode(piece, { stream: true }),
  });
  // The script has said what is wrong.
  if (!status.success) throw new Exit(status.code);
  const path = output.trimEnd();
  Deno.env.set("ZIG", path);
  Deno.env.set("PATH", `${dirname(path)}:${Deno.env.get("PATH") ?? ""}`);
  return path;
}

async function zigBuild({ quiet = false, tests = false }: BuildOptions): Promise<void> {
  // Where there is no Zig, that is all there is to say.
  await zigPath();
  const sources = await listSources();
  if (!quiet) {
    console.error("hak: building the allocator (the first time takes a few minutes)");
  }
  await runZig(tests ? "test-programs" : undefined, quiet);
  const outputs = await listOutputs();
  for (const wanted of [preloadLibrary, ffiLibrary, header]) {
    if (!outputs.some((line) => line.startsWith(`${relative(zigOut, wanted)} `))) {
      throw notMade(wanted);
    }
  }
  await Deno.writeTextFile(stampFile, stamp(tests, sources, outputs));
}

/** Runs `zig build` for a step, or for the default one. */
async function runZig(step: string | undefined, quiet = false): Promise<void> {
  const zig = await zigPath();
  const held: Uint8Array[] = [];
  const status = await runChild({
    program: zig,
    args: ["build", "--release=fast", ...(step === undefined ? [] : [step])],
    cwd: zigDir,
    ...(quiet ? { onStderr: (piece: Uint8Array): void => void held.push(piece) } : {}),
  });
  if (!status.success) {
    for (const piece of held) writeOut(Deno.stderr, piece);
    throw new RunError(`the build failed: what zig build says is above (status ${status.code})`);
  }
}

async function isUpToDate({ tests = false }: BuildOptions): Promise<boolean> {
  let noted: string;
  try {
    noted = await Deno.readTextFile(stampFile);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  const [sources, outputs] = [await listSources(), await listOutputs()];
  // What was built with the programs of the tests serves everyone.
  return noted === stamp(true, sources, outputs) ||
    !tests && noted === stamp(false, sources, outputs);
}

function stamp(tests: boolean, sources: string[], outputs: string[]): string {
  return `${tests ? "tests too" : "without tests"}\n${sources.join("\n")}\n\n${
    outputs.join("\n")
  }\n`;
}

function listSources(): Promise<string[]> {
  return list(zigDir);
}

/** Those of the default build: what is made for other platforms lies beside them. */
function listOutputs(): Promise<string[]> {
  const others = objectsOf.map(([platform]) => join(zigOut, platform, "/"));
  return list(
    zigOut,
    (path) => path !== stampFile && !others.some((folder) => path.startsWith(folder)),
  );
}

/** A line for each file: its name, size and time of change. */
async function list(
  directory: string,
  wanted: (path: string) => boolean = () => true,
): Promise<string[]> {
  const lines: string[] = [];
  for await (const path of filesBelow(directory)) {
    if (!wanted(path)) continue;
    try {
      const { size, mtime } = await Deno.stat(path);
      lines.push(`${relative(directory, path)} ${size} ${mtime?.getTime()}`);
    } catch (error) {
      // A build that runs at this moment renames its files into place.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return lines.sort();
}

/** Waits until no other process builds in this checkout. The lock ends with the returned file. */
async function lockBuilds(): Promise<Deno.FsFile> {
  const path = join(zigDir, ".zig-cache", "hak-build.lock");
  let file: Deno.FsFile;
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
    file = await Deno.open(path, { create: true, write: true });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new RunError(`cannot write to ${dirname(path)} (${error.message}): make it writable`);
  }
  if (!await file.tryLock(true)) {
    console.error("hak: waiting for another build of this checkout");
    await file.lock(true);
  }
  return file;
}
