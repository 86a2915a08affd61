/**
 * The script `hak`, run by a plain `sh` on a `PATH` that holds only what a test puts there: stand-ins for
 * deno, zig, pip and npm, and the few system programs that the script may count on. Nothing is downloaded.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { root } from "../cli/paths.ts";

const decoder = new TextDecoder();

/** A checkout with only the script in it, and a `PATH` of its own. */
class Sandbox implements AsyncDisposable {
  readonly folder: string;
  readonly checkout: string;
  readonly bin: string;
  readonly home: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.checkout = join(folder, "a check out");
    this.bin = join(folder, "bin");
    this.home = join(folder, "home");
  }

  static async create(): Promise<Sandbox> {
    const sandbox = new Sandbox(
      await Deno.realPath(await Deno.makeTempDir({ prefix: "hak-script-" })),
    );
    for (const folder of [sandbox.checkout, sandbox.bin, sandbox.home]) await Deno.mkdir(folder);
    await Deno.copyFile(join(root, "hak"), join(sandbox.checkout, "hak"));
    // Only what POSIX or coreutils has.
    for (
      const name of ["sh", "cat", "chmod", "dirname", "mkdir", "mv", "readlink", "rm", "sleep"]
    ) {
      const path = ["/usr/bin", "/bin"].map((bin) => join(bin, name)).find(exists);
      assert(path !== undefined, `${name} is neither in /usr/bin nor in /bin`);
      await Deno.symlink(path, join(sandbox.bin, name));
    }
    return sandbox;
  }

  /** Puts a shell script onto the `PATH`, or elsewhere in the sandbox. */
  async script(path: string, body: string): Promise<void> {
    const whole = path.includes("/") ? join(this.folder, path) : join(this.bin, path);
    await Deno.mkdir(join(whole, ".."), { recursive: true });
    await Deno.writeTextFile(whole, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }

  /** A Deno that tells its version and, run otherwise, the arguments that it got. */
  deno(path: string, version: string): Promise<void> {
    return this.script(path, tool("-V", `deno ${version}`));
  }

  /** A Zig likewise. */
  zig(path: string, version: string): Promise<void> {
    return this.script(path, tool("version", version));
  }

  /** A python3 whose pip runs the given lines, with the folder to install into in `$target`. */
  pip(body: string): Promise<void> {
    return this.script(
      "python3",
      `[ "$1 $2" = "-m pip" ] || exit 9
if [ "$3" = --version ]; then echo "pip 23.0.1"; exit; fi
while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; package=$1; shift; done
${body}`,
    );
  }

  async run(args: string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<{
    code: number;
    stdout: string;
    stderr: string;
  }> {
    const output = await this.command(args, options).output();
    return {
      code: output.code,
      stdout: decoder.decode(output.stdout),
      stderr: decoder.decode(output.stderr),
    };
  }

  command(
    args: string[],
    { cwd, env }: { cwd?: string; env?: Record<string, string> } = {},
  ): Deno.Command {
    return new Deno.Command(join(this.checkout, "hak"), {
      args,
      cwd: cwd ?? this.folder,
      clearEnv: true,
      env: { PATH: this.bin, HOME: this.home, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  }

  /** What lies in `.tools`. */
  async tools(): Promise<string[]> {
    const tools = join(this.checkout, ".tools");
    if (!exists(tools)) return [];
    return (await Array.fromAsync(Deno.readDir(tools))).map((entry) => entry.name).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

function tool(question: string, answer: string): string {
  return `if [ "$1" = ${question} ]; then echo '${answer}'; exit; fi
printf '%s:' "$0"; printf ' <%s>' "$@"; printf '\\nINIT_CWD=%s PWD=%s\\n' "$INIT_CWD" "$PWD"`;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A shell line that puts a stand-in program of the given version where pip would. */
function installs(path: string, question: string, answer: string): string {
  return `mkdir -p "$target/${path.slice(0, path.lastIndexOf("/"))}"
cat > "$target/${path}" <<'END'
#!/bin/sh
${tool(question, answer)}
END
chmod +x "$target/${path}"
echo "Successfully installed $package"`;
}

const installsDeno = installs("bin/deno", "-V", "deno 2.9.6");
const installsZig = installs("ziglang/zig", "version", "0.17.0");

Deno.test("hak is a POSIX sh script of at most 80 lines that can be executed", async () => {
  const text = await Deno.readTextFile(join(root, "hak"));
  assert.match(text, /^#!\/bin\/sh\n/);
  assert(text.trimEnd().split("\n").length <= 80);
  const { mode } = await Deno.stat(join(root, "hak"));
  assert(mode !== null && (mode & 0o111) === 0o111);
});

Deno.test("hak hands its arguments on as they are", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.deno("deno", "2.9.6");
  const args = [
    "a b",
    "",
    'it\'s "so"',
    "$HOME",
    "`id`",
    "*",
    "\\",
    "-",
    "--",
    "--x=y",
    "new\nline",
  ];
  const { code, stdout, stderr } = await sandbox.run(["sweep", ...args]);
  const expected = ["run", "-q", "-A", "cli.ts", "sweep", ...args].map((arg) => ` <${arg}>`);
  assert.equal(
    stdout,
    `${sandbox.bin}/deno:${
      expected.join("")
    }\nINIT_CWD=${sandbox.folder} PWD=${sandbox.checkout}\n`,
  );
  assert.equal(stderr, "");
  assert.equal(code, 0);
});

Deno.test("hak passes on the exit status of the command", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.deno("deno", "2.9.6");
  await sandbox.script("deno", `[ "$1" != -V ] || { echo deno 2.9.6; exit; }\nexit 7`);
  assert.equal((await sandbox.run(["test"])).code, 7);
});

Deno.test("hak works from any directory, through a symbolic link and with a relative DENO", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.deno("own/deno", "2.8.0");
  const elsewhere = join(sandbox.folder, "else where");
  await Deno.mkdir(elsewhere);
  await Deno.symlink(join(sandbox.checkout, "hak"), join(sandbox.bin, "hak"));
  const output = await new Deno.Command(join(sandbox.bin, "hak"), {
    args: ["lib", "preload"],
    cwd: elsewhere,
    clearEnv: true,
    env: { PATH: sandbox.bin, DENO: "../own/deno" },
  }).output();
  assert.equal(
    decoder.decode(output.stdout),
    `${elsewhere}/../own/deno: <run> <-q> <-A> <cli.ts> <lib> <preload>\n` +
      `INIT_CWD=${elsewhere} PWD=${sandbox.checkout}\n`,
  );
});

Deno.test("hak takes the first Deno that is new enough: DENO, PATH, home, .tools", async () => {
  await using sandbox = await Sandbox.create();
  const uses = async (path: string, env: Record<string, string> = {}): Promise<void> => {
    const { stdout, stderr } = await sandbox.run(["build"], { env });
    assert.equal(stdout.split(":")[0], join(sandbox.folder, path));
    assert.equal(stderr, "");
  };
  await sandbox.deno("a check out/.tools/deno/bin/deno", "2.9.6");
  await uses("a check out/.tools/deno/bin/deno");
  await sandbox.deno("home/.deno/bin/deno", "2.10.0");
  await uses("home/.deno/bin/deno");
  await sandbox.deno("deno", "2.8.0");
  await uses("bin/deno");
  await sandbox.deno("own/deno", "3.0.1");
  await uses("own/deno", { DENO: join(sandbox.folder, "own/deno") });
  // One that is too old, or none at all, is passed over.
  await sandbox.deno("own/deno", "2.7.14");
  await uses("bin/deno", { DENO: join(sandbox.folder, "own/deno") });
  await uses("bin/deno", { DENO: join(sandbox.folder, "nothing") });
  for (const old of ["1.46.3", "2.0.0", "2.7.99", "0.28.0", "", "two"]) {
    await sandbox.deno("deno", old);
    await uses("home/.deno/bin/deno");
  }
});

Deno.test("hak installs Deno with pip once, and says in one line what it gets and why", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.deno("deno", "2.3.1");
  await sandbox.pip(installsDeno);
  const first = await sandbox.run(["build"]);
  assert.equal(
    first.stderr,
    `hak: getting deno==2.9.6 with pip into .tools/deno: ${sandbox.bin}/deno is 2.3.1, 2.8 or newer is needed\n`,
  );
  assert.match(first.stdout, /\.tools\/deno\/bin\/deno: <run>/);
  assert.deepEqual(await sandbox.tools(), ["deno"]);
  const second = await sandbox.run(["build"]);
  assert.deepEqual(second, { ...first, stderr: "" });
});

Deno.test("hak turns to npm where pip fails, and replaces what does not run", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.script("a check out/.tools/deno/bin/deno", "exit 1");
  await sandbox.pip("echo 'ERROR: No matching distribution found for deno==2.9.6'; exit 1");
  await sandbox.script(
    "npm",
    `[ "$1" != --version ] || { echo 11.0.0; exit; }
while [ $# -gt 0 ]; do [ "$1" = --prefix ] && target=$2/node_modules/@deno/linux; package=$1; shift; done
${installs("deno", "-V", "deno 2.9.6")}`,
  );
  const { code, stdout, stderr } = await sandbox.run(["build"]);
  assert.equal(code, 0);
  const broken = join(sandbox.checkout, ".tools/deno/bin/deno");
  assert.equal(
    stderr,
    ["deno==2.9.6 with pip", "deno@2.9.6 with npm"].map((what) =>
      `hak: getting ${what} into .tools/deno: ${broken} is not one that runs, 2.8 or newer is needed\n`
    ).join(""),
  );
  assert.match(stdout, /\.tools\/deno\/bin\/deno: <run>/);
  assert.deepEqual(await sandbox.tools(), ["deno"]);
});

Deno.test("hak says in one line what to install where Deno cannot be had", async () => {
  await using sandbox = await Sandbox.create();
  const none = await sandbox.run(["build"]);
  assert.equal(none.code, 1);
  assert.equal(none.stdout, "");
  assert.equal(
    none.stderr,
    "hak: Deno: none was found, 2.8 or newer is needed: install pip (Debian: python3-pip) or npm, " +
      "or install Deno yourself (deno.com) and put it on PATH\n",
  );

  // A python3 without pip is the same as none.
  await sandbox.script("python3", "echo 'No module named pip' >&2; exit 1");
  assert.deepEqual(await sandbox.run(["build"]), none);

  await sandbox.pip(`echo Collecting deno
echo 'ERROR: Could not find a version: Network is unreachable' >&2
echo 'WARNING: try again'
exit 1`);
  const failed = await sandbox.run(["build"]);
  assert.equal(failed.code, 1);
  assert.equal(failed.stdout, "");
  const [getting, trouble, rest] = failed.stderr.split("\n");
  assert.match(getting ?? "", /^hak: getting deno==2.9.6 with pip/);
  assert.equal(
    trouble,
    "hak: cannot get Deno (pip: ERROR: Could not find a version: Network is unreachable): " +
      "check the network, or install Deno yourself (deno.com) and put it on PATH",
  );
  assert.equal(rest, "");
  assert.deepEqual(await sandbox.tools(), []);
});

Deno.test("hak says in one line that it cannot write", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.pip(installsDeno);
  const tools = join(sandbox.checkout, ".tools");
  await Deno.writeTextFile(tools, "no folder");
  assert.deepEqual(await sandbox.run(["build"]), {
    code: 1,
    stdout: "",
    stderr: `hak: cannot write to ${tools}: make it writable, ` +
      "or install Deno yourself (deno.com) and put it on PATH\n",
  });
});

Deno.test("two haks that install at once do not disturb each other", async () => {
  await using sandbox = await Sandbox.create();
  // Each waits until both have begun.
  await sandbox.pip(`: > "${sandbox.folder}/begun.$$"
while set -- "${sandbox.folder}"/begun.*; [ $# -lt 2 ]; do sleep 0.02; done
${installsDeno}`);
  const both = await Promise.all([sandbox.run(["build"]), sandbox.run(["build"])]);
  for (const { code, stdout } of both) {
    assert.equal(code, 0);
    assert.match(stdout, /\.tools\/deno\/bin\/deno: <run>/);
  }
  assert.deepEqual(await sandbox.tools(), ["deno"]);
});

Deno.test("hak does not take half an install for a whole one", async () => {
  await using sandbox = await Sandbox.create();
  // The program is there, but the install has not ended when Ctrl-C comes.
  await sandbox.pip(`${installsDeno}\necho started > "${sandbox.folder}/started"\nsleep 60`);
  const child = new Deno.Command(join(sandbox.checkout, "hak"), {
    args: ["build"],
    cwd: sandbox.folder,
    clearEnv: true,
    env: { PATH: sandbox.bin, HOME: sandbox.home },
    detached: true,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  while (!exists(join(sandbox.folder, "started"))) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assert.equal((await sandbox.tools()).length, 1);
  Deno.kill(-child.pid, "SIGINT");
  assert.equal((await child.status).code, 130);
  assert.deepEqual(await sandbox.tools(), []);

  // An installer that claims success without having made the program.
  await sandbox.pip(`mkdir -p "$target/bin"; echo fine`);
  const { code, stderr } = await sandbox.run(["build"]);
  assert.equal(code, 1);
  assert.match(stderr, /hak: cannot get Deno \(pip: fine\): check the network/);
  assert.deepEqual(await sandbox.tools(), []);

  await sandbox.pip(installsDeno);
  assert.equal((await sandbox.run(["build"])).code, 0);
});

Deno.test("hak --zig prints the path of Zig 0.17.0 and nothing else", async () => {
  await using sandbox = await Sandbox.create();
  const finds = async (path: string, env: Record<string, string> = {}): Promise<void> => {
    const { code, stdout, stderr } = await sandbox.run(["--zig"], { env });
    assert.equal(stdout, `${join(sandbox.folder, path)}\n`);
    assert.equal(stderr, "");
    assert.equal(code, 0);
  };
  await sandbox.zig("a check out/.tools/zig/ziglang/zig", "0.17.0");
  await finds("a check out/.tools/zig/ziglang/zig");
  await sandbox.zig("zig", "0.17.0");
  await finds("bin/zig");
  await sandbox.zig("own/zig-17", "0.17.0");
  await finds("own/zig-17", { ZIG: join(sandbox.folder, "own/zig-17") });
  for (const other of ["0.16.0", "0.17.1", "0.18.0", "0.17.0-dev.12+abc", ""]) {
    await sandbox.zig("zig", other);
    await finds("a check out/.tools/zig/ziglang/zig");
  }
});

Deno.test("hak --zig installs Zig with pip, or says what to install", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.zig("zig", "0.13.0");
  const none = await sandbox.run(["--zig"]);
  assert.equal(none.code, 1);
  assert.equal(none.stdout, "");
  assert.equal(
    none.stderr,
    `hak: Zig: ${sandbox.bin}/zig is 0.13.0, 0.17.0 is needed: install pip (Debian: python3-pip), ` +
      "or install Zig 0.17.0 yourself (ziglang.org/download) and put it on PATH\n",
  );
  await sandbox.pip(installsZig);
  const { code, stdout, stderr } = await sandbox.run(["--zig"]);
  assert.equal(code, 0);
  assert.equal(stdout, `${sandbox.checkout}/.tools/zig/ziglang/zig\n`);
  assert.equal(
    stderr,
    `hak: getting ziglang==0.17.0 with pip into .tools/zig: ${sandbox.bin}/zig is 0.13.0, 0.17.0 is needed\n`,
  );
  assert.deepEqual(await sandbox.tools(), ["zig"]);
});

Deno.test("hak runs what the tasks of deno.json run", async () => {
  await using sandbox = await Sandbox.create();
  await sandbox.deno("deno", "2.9.6");
  const { tasks } = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
    tasks: Record<string, { command: string }>;
  };
  for (const [name, { command }] of Object.entries(tasks)) {
    const words = (await sandbox.run([name])).stdout.split("\n")[0]?.matchAll(/<(.*?)>/g) ?? [];
    assert.equal(command, `deno ${[...words].map(([, word]) => word).join(" ")}`);
  }
});

for (const whole of [true, false]) {
  for (const starter of ["hak", "deno task"]) {
    const target = whole ? "the group" : "one process";
    Deno.test(`SIGINT to ${target} of ${starter} ends the command with status 130`, async () => {
      await using sandbox = await Sandbox.create();
      await Deno.copyFile(join(root, "deno.json"), join(sandbox.checkout, "deno.json"));
      await Deno.writeTextFile(
        join(sandbox.checkout, "cli.ts"),
        `Deno.addSignalListener("SIGINT", () => {
  console.log("stopping");
  Deno.exit(130);
});
console.log("started");
setTimeout(() => {}, 60_000);
`,
      );
      const byTask = starter === "deno task";
      const child = new Deno.Command(byTask ? Deno.execPath() : join(sandbox.checkout, "hak"), {
        args: [...byTask ? ["task"] : [], "sweep"],
        cwd: sandbox.checkout,
        env: { DENO: Deno.execPath() },
        detached: true,
        stdin: "null",
        stdout: "piped",
        stderr: "null",
      }).spawn();
      let seen = "";
      for await (const piece of child.stdout) {
        const before = seen.length;
        seen += decoder.decode(piece);
        if (before === 0) Deno.kill(whole ? -child.pid : child.pid, "SIGINT");
      }
      assert.equal(seen, "started\nstopping\n");
      assert.equal((await child.status).code, 130);
    });
  }
}
