/**
 * Running a script that uses the binding in a process of its own: with the permissions and variables that a
 * test chooses, and free to crash.
 *
 * @module
 */

/** The address of the binding, for an import in a script. */
export const binding: string = import.meta.resolve("../mod.ts");

/** How a script ended. */
export interface Ended {
  /** The exit status. */
  code: number;
  /** The signal that ended it. */
  signal: Deno.Signal | null;
  /** What it wrote to standard output. */
  stdout: string;
  /** What it wrote to standard error. */
  stderr: string;
}

/** How to run a script. */
export interface ScriptOptions {
  /** The permissions, as `deno run` takes them; all of them if not given. */
  permissions?: string[];
  /** Variables to add to the environment. */
  env?: Record<string, string>;
  /** Run it as the user "nobody". */
  asNobody?: boolean;
  /** What `Hakmem` is imported from, if not from {@linkcode binding}. */
  from?: string;
}

/** Runs a TypeScript script. `Hakmem` and the errors are imported for it. */
export async function runScript(script: string, options: ScriptOptions = {}): Promise<Ended> {
  const { permissions = ["-A"], env = {}, asNobody = false, from = binding } = options;
  const folder = await Deno.makeTempDir({ prefix: "hak-ffi-" });
  try {
    const nobody = 65534;
    if (asNobody) await Deno.chown(folder, nobody, nobody);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-check", "--no-lock", "--no-config", ...permissions, "-"],
      cwd: folder,
      clearEnv: true,
      env: {
        HOME: folder,
        PATH: Deno.env.get("PATH") ?? "",
        NO_COLOR: "1",
        ...(asNobody || from !== binding ? { DENO_DIR: folder } : {}),
        ...env,
      },
      ...(asNobody ? { uid: nobody, gid: nobody } : {}),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const input = `import { Hakmem, HakmemError, OutOfMemoryError } from ${JSON.stringify(from)};
${script}`;
    const [output] = await Promise.all([
      child.output(),
      new Blob([input]).stream().pipeTo(child.stdin),
    ]);
    const decoder = new TextDecoder();
    return {
      code: output.code,
      signal: output.signal,
      stdout: decoder.decode(output.stdout).trimEnd(),
      stderr: decoder.decode(output.stderr).trimEnd(),
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Checks that a script ended well, and returns what it wrote to standard output. */
export function outputOf({ code, signal, stdout, stderr }: Ended): string {
  if (code !== 0) throw new Error(`the script ended with ${signal ?? `status ${code}`}: ${stderr}`);
  return stdout;
}
