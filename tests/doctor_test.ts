/**
 * `hak doctor`: what it says of the machine, the settings, LD_PRELOAD, and of programs that cannot have hakmem, each
 * a real one.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { libraryPaths } from "../bench/harness/allocators.ts";
import { buildIfNeeded, zigPath } from "../cli/build.ts";
import { type DoctorReport, settings } from "../cli/doctor.ts";
import { type Finding, renderFinding } from "../cli/doctor/finding.ts";
import {
  checkHugePages,
  checkLibc,
  checkLimits,
  checkObject,
  checkOvercommit,
  checkPageSize,
} from "../cli/doctor/machine.ts";
import { Hakmem, obstacleToImage } from "../cli/doctor/judge.ts";
import { readObject, type SharedObject } from "../cli/doctor/object.ts";
import { checkPreload } from "../cli/doctor/preload.ts";
import { checkSettings } from "../cli/doctor/settings.ts";
import { readElf } from "../cli/elf.ts";
import { ffiLibrary, preloadLibrary, root } from "../cli/paths.ts";
import { missing, program, workDirectory } from "./programs/preload.ts";
import { isThere } from "./native_support.ts";
import { testUnless } from "./skip.ts";

await buildIfNeeded();
const own = readObject(preloadLibrary) as SharedObject;
const notSet =
  "ok    LD_PRELOAD    not set; for one program: LD_PRELOAD=$(./hak lib preload) PROGRAM";
const noSettings = "ok    settings      no HAKMEM_* variable is set";

const libraries = await libraryPaths(["libjemalloc.so.2", "libasan.so.8"]);
const jemalloc = findLibrary("libjemalloc.so.2");
const asan = findLibrary("libasan.so.8");

function findLibrary(name: string): string {
  return libraries.find((path) => path.endsWith(`/${name}`) && isThere(path)) ?? "";
}

function absent(path: string, name: string): string | null {
  return path === "" ? `${name} is not installed` : null;
}

interface Ended {
  code: number;
  lines: string[];
  stderr: string;
}

interface Environment {
  env?: Record<string, string>;
  cwd?: string;
  uid?: number;
}

/** Runs `hak doctor` with nothing of the caller's environment that it looks at. */
async function doctor(
  args: string[],
  { env = {}, cwd = root, uid }: Environment = {},
): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      `--config=${join(root, "deno.json")}`,
      join(root, "cli.ts"),
      "doctor",
      ...args,
    ],
    cwd: root,
    clearEnv: true,
    env: {
      PATH: Deno.env.get("PATH") ?? "",
      HOME: Deno.env.get("HOME") ?? "/",
      NO_COLOR: "1",
      INIT_CWD: cwd,
      ...env,
    },
    stdin: "null",
    ...(uid === undefined ? {} : { uid, gid: uid }),
  }).output();
  const decoder = new TextDecoder();
  return {
    code,
    lines: decoder.decode(stdout).trimEnd().split("\n"),
    stderr: decoder.decode(stderr),
  };
}

/** What is said beyond the machine. */
function beyondMachine({ lines }: Ended): string[] {
  return lines.slice(lines.findIndex((line) => /^\w+ +settings /.test(line)));
}

/** Asserts what a run says of a program, and its status. */
async function says(
  command: string[],
  code: number,
  lines: string[],
  environment: Environment & { args?: string[] } = {},
): Promise<void> {
  const ended = await doctor([...environment.args ?? [], "--", ...command], environment);
  assert.deepEqual(beyondMachine(ended), [noSettings, notSet, ...lines], ended.stderr);
  assert.equal(ended.code, code);
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "hak-doctor-test-" }));
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function compile(command: string[], source: string, output: string): Promise<void> {
  const [compiler = "", ...args] = command;
  const { success, stderr } = await new Deno.Command(compiler, {
    args: [...args, "-std=gnu11", "-O1", "-o", output, join(workDirectory, source)],
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

async function zigCompile(target: string, source: string, output: string): Promise<void> {
  await compile([await zigPath(), "cc", "-target", ...target.split(" ")], source, output);
}

function textOf(findings: Finding[]): string[] {
  return findings.map(renderFinding);
}

testUnless(
  "doctor: without a program, it says of the machine what the system says",
  missing("getconf", "uname"),
  async () => {
    const ended = await doctor([]);
    const { code, lines } = ended;
    assert.equal(code, 0, lines.join("\n"));
    const topics = lines.map((line) => line.slice(6, 20).trim());
    const known = [
      ...["hakmem", "libc", "kernel", "page size", "huge pages", "overcommit", "limits", "cgroup"],
      ...["settings", "LD_PRELOAD"],
    ];
    assert.deepEqual([...new Set(topics)], known);
    const ask = async (name: string, ...args: string[]): Promise<string> =>
      new TextDecoder().decode((await new Deno.Command(name, { args }).output()).stdout).trim();
    const { version } = JSON.parse(await Deno.readTextFile(join(root, "deno.json"))) as {
      version: string;
    };
    assert.equal(lines[0], `ok    hakmem        ${version}, ${preloadLibrary}`);
    const glibc = await ask("getconf", "GNU_LIBC_VERSION");
    assert.match(
      lines[1] ?? "",
      new RegExp(`^ok    libc          ${glibc}; hakmem needs 2\\.\\d+ or newer$`),
    );
    assert.equal(
      lines[2],
      `ok    kernel        Linux ${await ask("uname", "-r")}, ${await ask("uname", "-m")}`,
    );
    const pageKib = Number(await ask("getconf", "PAGESIZE")) / 1024;
    assert.equal(lines[3], `ok    page size     ${pageKib.toPrecision(3)} KiB`);
    const modes = ["enabled", "defrag", "shmem_enabled"].flatMap((name) => {
      const path = `/sys/kernel/mm/transparent_hugepage/${name}`;
      return isThere(path) ? `${name} ${Deno.readTextFileSync(path).split(/[[\]]/)[1]}` : [];
    });
    const hugePages = (lines[4] ?? "").slice(20);
    assert.ok(hugePages.startsWith(modes.length > 0 ? modes.join(", ") : "none: "), hugePages);
    assert.deepEqual(beyondMachine(ended), [noSettings, notSet]);
  },
);

Deno.test("doctor: what of a machine is bad, or worth a look", () => {
  const copy = (change: Partial<SharedObject>): SharedObject => ({ ...own, ...change });
  assert.deepEqual(
    textOf([
      checkObject(copy({ path: "/a b/lib.so", hakmem: "1.2.3" })),
      checkLibc({ name: "glibc", version: "2.9" }, own),
      checkLibc(
        { name: "glibc", version: "2.100" },
        copy({ elf: { ...own.elf, glibcNeeded: "2.34" } }),
      ),
      checkLibc({ name: "musl", version: null }, own),
      checkPageSize(131072),
      checkPageSize(65536),
      checkHugePages({ enabled: "always", defrag: "madvise" }),
      checkHugePages({}),
      checkOvercommit("1"),
    ]),
    [
      "bad   hakmem        1.2.3, /a b/lib.so has a space or a colon in its path, where the loader splits LD_PRELOAD; move the checkout, or copy the object to a path that has neither",
      `bad   libc          glibc 2.9, and hakmem needs ${own.elf.glibcNeeded} or newer; use a newer system`,
      "ok    libc          glibc 2.100; hakmem needs 2.34 or newer",
      "bad   libc          musl, and hakmem is built for glibc; use it on a glibc system",
      "bad   page size     128 KiB; hakmem needs pages of at most 64.0 KiB",
      "ok    page size     64.0 KiB",
      "warn  huge pages    enabled always, defrag madvise: the kernel may fill what is free, so more is resident than in use; echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
      "ok    huge pages    none: this kernel has no transparent ones",
      "ok    overcommit    mode 1: the kernel refuses nothing",
    ],
  );
  assert.match(
    renderFinding(checkOvercommit("2")),
    /^warn {2}overcommit {4}mode 2, strict: [\d.]+ \w+ of [\d.]+ \w+ are promised, and malloc returns NULL at the limit; sysctl vm\.overcommit_memory=0 unless this is meant$/,
  );
});

testUnless("doctor: limits are read as the shell sets them", missing("sh"), async () => {
  const read = async (command: string): Promise<string> => {
    const args = ["-c", `${command}; cat /proc/self/limits`];
    return new TextDecoder().decode((await new Deno.Command("sh", { args }).output()).stdout);
  };
  // A shell cannot take limits away that it was started with.
  const none = (await read("ulimit -l 64")).replaceAll(
    /^(Max address space|Max data size) .*$/gm,
    "$1   unlimited   unlimited   bytes",
  );
  assert.deepEqual(textOf(checkLimits(none, 65530)), [
    "ok    limits        address space unlimited, data unlimited, locked memory 64.0 KiB, mappings 65530",
  ]);
  assert.deepEqual(
    textOf(checkLimits(await read("ulimit -l 64; ulimit -v 1048576; ulimit -d 2097152"), 1000)),
    [
      "ok    limits        locked memory 64.0 KiB",
      "warn  limits        address space 1.00 GiB: malloc returns NULL beyond it; ulimit -v unlimited, unless this is meant",
      "warn  limits        data 2.00 GiB: malloc returns NULL beyond it; ulimit -d unlimited, unless this is meant",
      "warn  limits        mappings 1000: with many large blocks malloc returns NULL early; sysctl vm.max_map_count=65530",
    ],
  );
});

Deno.test("doctor: unknown settings, and values that they do not have", () => {
  assert.deepEqual(
    textOf(checkSettings({
      HAKMEM_CHECK: "1",
      HAKMEM_CHEK: "1",
      HAKMEM_FOREIGN: "yes",
      HACKMEM_LIB: "x",
      hakmem_lib: "x",
      HAKMEM_LIB: "/nowhere/libhakmem.so",
      HAKMEM_ARENAS: "4",
      HAKMEM: "not one of the family",
      HOME: "/",
    })),
    [
      "bad   settings      HACKMEM_LIB is no setting of hakmem; did you mean HAKMEM_LIB?",
      "bad   settings      HAKMEM_ARENAS is no setting of hakmem; the settings are HAKMEM_CHECK, HAKMEM_FOREIGN, HAKMEM_FRESH, HAKMEM_LIB, HAKMEM_LIMIT",
      "ok    settings      HAKMEM_CHECK=1",
      "bad   settings      HAKMEM_CHEK is no setting of hakmem; did you mean HAKMEM_CHECK?",
      "bad   settings      HAKMEM_FOREIGN=yes is not valid; it takes one of abort, ignore; or unset it",
      "bad   settings      HAKMEM_LIB=/nowhere/libhakmem.so does not exist; it takes the absolute path of a libhakmem.so; or unset it",
      "bad   settings      hakmem_lib is no setting of hakmem; did you mean HAKMEM_LIB?",
    ],
  );
  const values = (env: Record<string, string>): string[] => textOf(checkSettings(env));
  assert.deepEqual(values({ HAKMEM_CHECK: "" }), [
    "warn  settings      HAKMEM_CHECK is empty, which counts as unset; give it a value, or unset it",
  ]);
  assert.deepEqual(values({ HAKMEM_LIB: "lib.so" }), [
    "bad   settings      HAKMEM_LIB=lib.so is no absolute path; it takes the absolute path of a libhakmem.so; or unset it",
  ]);
  assert.deepEqual(values({ HAKMEM_LIB: ffiLibrary, HAKMEM_CHECK: "0", HAKMEM_FOREIGN: "abort" }), [
    "ok    settings      HAKMEM_CHECK=0",
    "ok    settings      HAKMEM_FOREIGN=abort",
    `ok    settings      HAKMEM_LIB=${ffiLibrary}`,
  ]);
  for (const value of ["cgroup", "1", "500000000", "64K", "512M", "2g", "17179869183G"]) {
    assert.deepEqual(values({ HAKMEM_LIMIT: value }), [
      `ok    settings      HAKMEM_LIMIT=${value}`,
    ]);
  }
  for (const value of ["0", "0M", "K", "1T", "1 M", "1MB", "-1", "1.5G", "17179869184G", "max"]) {
    assert.deepEqual(values({ HAKMEM_LIMIT: value }), [
      `bad   settings      HAKMEM_LIMIT=${value} is not valid; it takes cgroup or bytes above 0, as 500000000, 512M or 2G; or unset it`,
    ]);
  }
  assert.deepEqual(values({ PATH: "/bin" }), [noSettings]);
});

Deno.test("doctor: a bad setting of the caller's is bad", async () => {
  const ended = await doctor([], { env: { HAKMEM_CHEK: "1" } });
  assert.deepEqual(beyondMachine(ended), [
    "bad   settings      HAKMEM_CHEK is no setting of hakmem; did you mean HAKMEM_CHECK?",
    notSet,
  ]);
  assert.equal(ended.code, 1);
});

Deno.test("doctor: the settings that it knows are those of docs/SETTINGS.md", async () => {
  const text = await Deno.readTextFile(join(root, "docs", "SETTINGS.md"));
  const rows = [...text.matchAll(/^\| *`(HAKMEM_\w+)` *\|([^|\n]*)\|/gm)].map(
    ([, name, values]) => {
      const listed = [...(values ?? "").matchAll(/`([^`]+)`/g)].map((match) => match[1]);
      return {
        name,
        values: listed.length > 0 ? listed : null,
        ...(values?.includes("bytes") ? { bytes: true } : {}),
      };
    },
  );
  const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }): number =>
    (a.name ?? "") < (b.name ?? "") ? -1 : 1;
  assert.deepEqual(rows.sort(byName), [...settings].sort(byName));
});

Deno.test("doctor: every way in which a list of preloads is wrong", () =>
  inFolder(async (folder) => {
    const at = (name: string): string => join(folder, name);
    await Deno.mkdir(at("a b:c"));
    await Deno.copyFile(preloadLibrary, at("a b:c/lib.so"));
    await Deno.copyFile(preloadLibrary, at("copy.so"));
    await Deno.writeTextFile(at("text.so"), "no object ".repeat(20));
    const foreign = await Deno.readFile(preloadLibrary);
    foreign[18] = 243;
    await Deno.writeFile(at("foreign.so"), foreign);
    const cases: [list: string, lines: string[]][] = [
      ["", [notSet]],
      [preloadLibrary, [`ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`]],
      [`:${preloadLibrary} `, [`ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`]],
      [
        at("copy.so"),
        [
          `warn  LD_PRELOAD    hakmem ${own.hakmem}, ${
            at("copy.so")
          } is another copy than this checkout's; which is ${preloadLibrary}`,
        ],
      ],
      [
        at("absent.so"),
        [
          `bad   LD_PRELOAD    ${
            at("absent.so")
          } does not exist; the loader goes on without it: correct it`,
        ],
      ],
      [
        `${at("text.so")} ${folder}:${at("foreign.so")}`,
        [
          `bad   LD_PRELOAD    ${
            at("text.so")
          } is no ELF shared object; the loader goes on without it: correct it`,
          `bad   LD_PRELOAD    ${folder} is no file; the loader goes on without it: correct it`,
          `bad   LD_PRELOAD    ${
            at("foreign.so")
          } is not built for this machine (${Deno.build.arch}); the loader goes on without it: correct it`,
        ],
      ],
      [
        Deno.execPath(),
        [
          `bad   LD_PRELOAD    ${Deno.execPath()} is a program or an object file, no ELF shared object; the loader goes on without it: correct it`,
        ],
      ],
      [
        `${at("a b:c/lib.so")} ${preloadLibrary}`,
        [
          `bad   LD_PRELOAD    ${
            at("a b:c/lib.so")
          } is split by the loader at its spaces and colons; copy it to a path that has neither`,
          `ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`,
        ],
      ],
      [
        "libnosuch.so",
        [
          "bad   LD_PRELOAD    libnosuch.so is in none of the loader's folders; the loader goes on without it: correct it",
        ],
      ],
      [
        ffiLibrary,
        [
          `bad   LD_PRELOAD    ${ffiLibrary} is hakmem's object for dlopen, without a malloc; use libhakmem_preload.so`,
        ],
      ],
    ];
    for (const [list, lines] of cases) {
      assert.deepEqual(textOf((await checkPreload(list, null, own)).findings), lines);
    }
    const before = Deno.env.get("INIT_CWD");
    try {
      Deno.env.set("INIT_CWD", folder);
      assert.deepEqual(textOf((await checkPreload("./copy.so", null, own)).findings), [
        "warn  LD_PRELOAD    ./copy.so is another file in every directory; give its whole path",
        `warn  LD_PRELOAD    hakmem ${own.hakmem}, ${
          at("copy.so")
        } is another copy than this checkout's; which is ${preloadLibrary}`,
      ]);
    } finally {
      if (before === undefined) Deno.env.delete("INIT_CWD");
      else Deno.env.set("INIT_CWD", before);
    }
    // The loader's own file comes after the variable.
    const file = `# for all\n${preloadLibrary}\n`;
    const { findings, hakmem } = await checkPreload(null, file, own);
    assert.deepEqual(textOf(findings), [
      `ok    /etc/ld.so.preload  hakmem ${own.hakmem}, ${preloadLibrary}`,
    ]);
    assert.equal(hakmem?.path, preloadLibrary);
  }));

testUnless(
  "doctor: another preload that takes malloc",
  absent(jemalloc, "libjemalloc.so.2"),
  async () => {
    const of = async (list: string): Promise<string[]> =>
      textOf((await checkPreload(list, null, own)).findings);
    assert.deepEqual(await of("libjemalloc.so.2"), [
      `warn  LD_PRELOAD    libjemalloc.so.2 is without hakmem; put ${preloadLibrary} first`,
    ]);
    assert.deepEqual(await of(`${preloadLibrary}:libjemalloc.so.2`), [
      `ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`,
      `warn  LD_PRELOAD    ${jemalloc} has a malloc too, which hakmem's comes before; leave it out`,
    ]);
    const [first = "", ...rest] = await of(`libjemalloc.so.2:${preloadLibrary}`);
    // Which functions jemalloc lacks depends on its version.
    assert.equal(
      first.replace(/ but not [\w, ]+, so that heaps are mixed/, ""),
      `bad   LD_PRELOAD    ${jemalloc} comes before hakmem and takes malloc; put hakmem first, or leave one of them out`,
    );
    assert.deepEqual(rest, [`ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`]);

    const ended = await doctor(["--", program("true")], {
      env: { LD_PRELOAD: `${jemalloc}:${preloadLibrary}` },
    });
    assert.deepEqual(beyondMachine(ended), [
      noSettings,
      first,
      ...rest,
      `ok    program       ${program("true")}: dynamic, glibc, ${Deno.build.arch}`,
      `bad   loaded        true has hakmem loaded, but its malloc is that of ${jemalloc}; put hakmem first in LD_PRELOAD`,
    ]);
    assert.equal(ended.code, 1);
  },
);

testUnless("doctor: a sanitizer's runtime is preloaded", absent(asan, "libasan.so.8"), async () => {
  assert.deepEqual(textOf((await checkPreload(`${asan}:${preloadLibrary}`, null, own)).findings), [
    `bad   LD_PRELOAD    ${asan} is the runtime of a sanitizer; use either it or hakmem`,
    `ok    LD_PRELOAD    hakmem ${own.hakmem}, ${preloadLibrary}`,
  ]);
});

testUnless(
  "doctor: short programs and long ones have hakmem",
  missing("true", "sleep"),
  async () => {
    const arch = Deno.build.arch;
    await says([program("true")], 0, [
      `ok    program       ${program("true")}: dynamic, glibc, ${arch}`,
      "ok    loaded        malloc is hakmem's in true",
    ]);
    await says(["true"], 0, [
      `ok    program       ${program("true")}: dynamic, glibc, ${arch}`,
      "ok    loaded        malloc is hakmem's in true",
    ]);
    await says(["sleep", "1000"], 0, [
      `ok    program       ${program("sleep")}: dynamic, glibc, ${arch}`,
      "ok    loaded        malloc is hakmem's in sleep",
      "ok    end           still running after 1 s, so it was ended; --for watches longer",
    ], { args: ["--for", "1"] });
  },
);

testUnless("doctor: LD_PRELOAD as it stands is kept", missing("true"), async () => {
  const program_ = program("true");
  const wrong = await doctor(["--", program_], { env: { LD_PRELOAD: "/nowhere/hakmem.so" } });
  assert.deepEqual(beyondMachine(wrong), [
    noSettings,
    "bad   LD_PRELOAD    /nowhere/hakmem.so does not exist; the loader goes on without it: correct it",
    `ok    program       ${program_}: dynamic, glibc, ${Deno.build.arch}`,
    "ok    loaded        malloc is hakmem's in true",
  ]);
  assert.equal(wrong.code, 1);
  await inFolder(async (folder) => {
    const copy = join(folder, "copy.so");
    await Deno.copyFile(preloadLibrary, copy);
    const ended = await doctor(["--", program_], { env: { LD_PRELOAD: copy } });
    assert.deepEqual(beyondMachine(ended).slice(1), [
      `warn  LD_PRELOAD    hakmem ${own.hakmem}, ${copy} is another copy than this checkout's; which is ${preloadLibrary}`,
      `ok    program       ${program_}: dynamic, glibc, ${Deno.build.arch}`,
      "ok    loaded        malloc is hakmem's in true",
    ]);
    assert.equal(ended.code, 0);
  });
});

testUnless(
  "doctor: a static program, also where a script starts it",
  missing("sh"),
  () =>
    inFolder(async (folder) => {
      const path = join(folder, "static");
      await zigCompile(`${Deno.build.arch}-linux-musl -static`, "wait.c", path);
      const why =
        "is statically linked, so there is no loader to read LD_PRELOAD; link it dynamically";
      await says([path], 1, [
        `bad   program       ${path} ${why}`,
        "ok    end           still running after 0.5 s, so it was ended; --for watches longer",
      ], { args: ["--for=0.5"] });
      const script = join(folder, "script");
      await Deno.writeTextFile(script, `#!${program("sh")} -e\n${path}\n`, { mode: 0o755 });
      await says(["./script"], 1, [
        `ok    script        ${script} is run by ${program("sh")} -e`,
        `ok    program       ${program("sh")}: dynamic, glibc, ${Deno.build.arch}`,
        "ok    loaded        malloc is hakmem's in sh",
        `bad   loaded        ${path} ${why}`,
        "ok    end           still running after 3 s, so it was ended; --for watches longer",
      ], { args: ["--for", "3"], cwd: folder });
    }),
);

testUnless(
  "doctor: programs for musl and for another machine",
  missing(),
  () =>
    inFolder(async (folder) => {
      const { arch } = Deno.build;
      const musl = join(folder, "musl");
      await zigCompile(`${arch}-linux-musl -dynamic -shared`, "wait.c", musl);
      assert.equal(readObject(musl)?.libc, "musl");
      assert.equal(own.libc, "glibc");
      await zigCompile(`${arch}-linux-musl -dynamic`, "wait.c", musl);
      const ended = await doctor(["--for", "0.2", "--", musl]);
      // What becomes of it depends on whether musl is installed.
      assert.equal(
        ended.lines.find((line) => line.slice(6).startsWith("program")),
        `bad   program       ${musl} is a musl program (/lib/ld-musl-${arch}.so.1), and hakmem is built for glibc; use a glibc build of it`,
      );
      assert.equal(ended.code, 1);
      const other = arch === "x86_64" ? "aarch64" : "x86_64";
      const foreign = join(folder, "foreign");
      await zigCompile(`${other}-linux-gnu`, "wait.c", foreign);
      await says([foreign], 1, [
        `bad   program       ${foreign} is built for ${other}, and hakmem for ${arch}; use builds for one machine`,
      ]);
    }),
);

testUnless(
  "doctor: a program with a malloc of its own",
  missing("gcc"),
  () =>
    inFolder(async (folder) => {
      const path = join(folder, "own");
      await compile(["gcc", "-fno-builtin"], "own_malloc.c", path);
      await says([path], 1, [
        `bad   program       ${path} has a malloc of its own (malloc, calloc, realloc, free), and what a program defines comes before any preload; build it without its allocator`,
      ]);
      // Started by another program it is found out by what the loader bound.
      await says([program("env"), path], 1, [
        `ok    program       ${program("env")}: dynamic, glibc, ${Deno.build.arch}`,
        "ok    loaded        malloc is hakmem's in env",
        "bad   loaded        own has hakmem loaded, but uses the malloc that it defines itself; build it without its allocator",
      ]);
    }),
);

testUnless(
  "doctor: a program that only lends its entry for malloc has hakmem",
  missing("gcc", "bash"),
  () =>
    inFolder(async (folder) => {
      const path = join(folder, "lends");
      await compile(["gcc", "-fno-pie", "-no-pie"], "is_active.c", path);
      await says([path], 0, [
        `ok    program       ${path}: dynamic, glibc, ${Deno.build.arch}`,
        "ok    loaded        malloc is hakmem's in lends",
      ]);
      // As long as nobody calls the entry, the loader does not say where it leads, but the file does.
      const hakmem = new Hakmem([preloadLibrary]);
      const image = { pid: 1, program: path, libraries: new Set([preloadLibrary]), malloc: path };
      assert.equal(obstacleToImage(image, hakmem, new Set()), null);
      const bash = program("bash");
      const start = `ok    program       ${bash}: dynamic, glibc, ${Deno.build.arch}`;
      // Under another name its file is not found, but what the loader bound is.
      await says([bash, "-c", `exec -a ./renamed ${path}`], 0, [
        start,
        "ok    loaded        malloc is hakmem's in bash, renamed",
      ]);
      await compile(["gcc", "-fno-builtin"], "own_malloc.c", path);
      assert.match(obstacleToImage(image, hakmem, new Set())?.why ?? "", /defines itself$/);
      await says([bash, "-c", `exec -a ./renamed ${path}`], 1, [
        start,
        "ok    loaded        malloc is hakmem's in bash",
        "bad   loaded        renamed has hakmem loaded, but uses the malloc that it defines itself; build it without its allocator",
      ]);
    }),
);

testUnless(
  "doctor: a program that is built with a sanitizer",
  missing("gcc") ?? absent(asan, "libasan.so.8"),
  () =>
    inFolder(async (folder) => {
      const path = join(folder, "checked");
      await compile(["gcc", "-fsanitize=address"], "is_active.c", path);
      const ended = await doctor(["--", path]);
      assert.deepEqual(beyondMachine(ended).slice(2, 3), [
        `bad   program       ${path} is built with a sanitizer (libasan.so.8), which brings a malloc of its own; run it without hakmem`,
      ]);
      assert.equal(ended.code, 1);
    }),
);

testUnless("doctor: Valgrind", missing(), () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "valgrind"), "#!/bin/sh\n", { mode: 0o755 });
    await says(["./valgrind", "true"], 1, [
      `ok    script        ${folder}/valgrind is run by /bin/sh`,
      "bad   program       ./valgrind is Valgrind, which puts a malloc of its own in place of any other; use either it or hakmem",
    ], { cwd: folder });
  }));

testUnless(
  "doctor: a setuid program of one's own",
  missing("true"),
  () =>
    inFolder(async (folder) => {
      const path = await copyOf("true", folder, 0o4755);
      await says([path], 0, [
        `ok    program       ${path}: dynamic, glibc, ${Deno.build.arch}`,
        `warn  program       ${path} is setuid, but gains nothing by it for this user: for others the loader drops LD_PRELOAD; do not rely on it`,
        "ok    loaded        malloc is hakmem's in true",
      ]);
    }),
);

testUnless(
  "doctor: a setuid or setgid program of somebody else's",
  missing("true", "sleep") ?? (Deno.uid() === 0 ? null : "only root can make one"),
  () =>
    inFolder(async (folder) => {
      const dropped =
        "so the loader drops LD_PRELOAD, and hakmem heeds no HAKMEM_* variable; run it as the user whose rights it needs, from a copy without the privilege";
      const setuid = await copyOf("true", folder, 0o755);
      await Deno.chown(setuid, 65534, 65534);
      await Deno.chmod(setuid, 0o4755);
      await says([setuid], 1, [
        `ok    program       ${setuid}: dynamic, glibc, ${Deno.build.arch}`,
        `bad   program       ${setuid} is setuid, ${dropped}`,
      ]);
      await Deno.chmod(setuid, 0o2755);
      await says([setuid], 1, [
        `ok    program       ${setuid}: dynamic, glibc, ${Deno.build.arch}`,
        `bad   program       ${setuid} is setgid, ${dropped}`,
      ]);
      const sleeper = await copyOf("sleep", folder, 0o755);
      await Deno.chown(sleeper, 65534, 65534);
      await Deno.chmod(sleeper, 0o4755);
      await says([program("env"), sleeper, "1000"], 1, [
        `ok    program       ${program("env")}: dynamic, glibc, ${Deno.build.arch}`,
        "ok    loaded        malloc is hakmem's in env",
        `bad   loaded        ${sleeper} gained privileges at its start, so the loader dropped LD_PRELOAD; run it as the user whose rights it needs`,
        "ok    end           still running after 3 s, so it was ended; --for watches longer",
      ], { args: ["--for", "3"] });
    }),
);

testUnless(
  "doctor: a program with file capabilities",
  missing("true", "setcap") ?? (Deno.uid() === 0 ? null : "only root can give them"),
  () =>
    inFolder(async (folder) => {
      const path = await copyOf("true", folder, 0o755);
      const { success } = await new Deno.Command("setcap", { args: ["cap_net_raw+ep", path] })
        .output();
      assert.ok(success, "setcap failed");
      await says([path], 0, [
        `ok    program       ${path}: dynamic, glibc, ${Deno.build.arch}`,
        `warn  program       ${path} is given capabilities, but gains nothing by it for this user: for others the loader drops LD_PRELOAD; do not rely on it`,
        "ok    loaded        malloc is hakmem's in true",
      ]);
    }),
);

const nobody = 65534;

/** Why "nobody" cannot ask the doctor here: the checkout or Deno may lie where only root gets. */
async function nobodyCannot(): Promise<string | null> {
  if (Deno.uid() !== 0) return "only root can be somebody else";
  let reason: string | null = "nobody cannot run Deno here";
  await inFolder(async (folder) => {
    await Deno.chown(folder, nobody, nobody);
    const env = { DENO_DIR: folder, HOME: folder };
    const ended = await doctor(["--help"], { uid: nobody, env })
      .catch((error: Error) => ({ code: 1, message: error.message }));
    if (ended.code === 0) reason = null;
  });
  return reason;
}

testUnless(
  "doctor: what may be looked into, or ended, only by root",
  missing("env", "sleep", "gcc") ?? await nobodyCannot(),
  () =>
    inFolder(async (folder) => {
      const sleeper = await copyOf("sleep", folder, 0o4755);
      const home = join(folder, "home");
      await Deno.mkdir(home);
      await Deno.chown(home, nobody, nobody);
      await says([program("env"), sleeper, "1000"], 0, [
        `ok    program       ${program("env")}: dynamic, glibc, ${Deno.build.arch}`,
        "ok    loaded        malloc is hakmem's in env",
        "warn  loaded        sleep may not be looked into: if it gained privileges, the loader dropped LD_PRELOAD; ask the doctor as root",
        "ok    end           still running after 3 s, so it was ended; --for watches longer",
      ], { args: ["--for", "3"], uid: nobody, env: { DENO_DIR: home, HOME: home } });
      const waiter = join(folder, "wait");
      await compile(["gcc"], "wait.c", waiter);
      await Deno.chmod(waiter, 0o4755);
      try {
        await says([waiter], 1, [
          `ok    program       ${waiter}: dynamic, glibc, ${Deno.build.arch}`,
          `bad   program       ${waiter} is setuid, so the loader drops LD_PRELOAD, and hakmem heeds no HAKMEM_* variable; run it as the user whose rights it needs, from a copy without the privilege`,
          "warn  end           still running after 0.5 s, with more rights than ours; end it yourself",
        ], { args: ["--for", "0.5"], uid: nobody, env: { DENO_DIR: home, HOME: home } });
      } finally {
        endProgram(waiter);
      }
    }),
);

/** Ends every process of a program; the doctor could not. */
function endProgram(path: string): void {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readLinkSync(`/proc/${name}/exe`) === path) Deno.kill(Number(name), "SIGKILL");
    } catch (error) {
      // A kernel thread has no program, any process may end meanwhile, and in a container some are hidden from root.
      const other = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied;
      if (!other) throw error;
    }
  }
}

async function copyOf(name: string, folder: string, mode: number): Promise<string> {
  const path = join(folder, name);
  await Deno.copyFile(program(name), path);
  await Deno.chmod(folder, 0o755);
  await Deno.chmod(path, mode);
  return path;
}

testUnless("doctor: the environment is lost on the way", missing("env", "sleep"), async () => {
  const env = program("env");
  const end = "ok    end           still running after 3 s, so it was ended; --for watches longer";
  const start = `ok    program       ${env}: dynamic, glibc, ${Deno.build.arch}`;
  const loaded = "ok    loaded        malloc is hakmem's in env";
  const sleep = await Deno.realPath(program("sleep"));
  const args = ["--for", "3"];
  await says([env, "-i", sleep, "1000"], 1, [
    start,
    loaded,
    `bad   loaded        ${sleep} was started without LD_PRELOAD, since something on the way dropped the environment; set LD_PRELOAD in the configuration of what starts it`,
    end,
  ], { args });
  await says([env, "-u", "LD_DEBUG", "LD_PRELOAD=", sleep, "1000"], 1, [
    start,
    loaded,
    `bad   loaded        ${sleep} was started with LD_PRELOAD= and is without hakmem; look at what changes LD_PRELOAD on the way, and at the loader's complaints`,
    end,
  ], { args });
  await says([env, "LD_PRELOAD=/nowhere/hakmem.so", program("true")], 1, [
    start,
    "bad   loader        object '/nowhere/hakmem.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file); correct LD_PRELOAD, or the file that it names",
    loaded,
    "bad   loaded        true was loaded without hakmem; look whether something changes LD_PRELOAD on the way, and at the loader's complaints",
  ]);
});

testUnless("doctor: how a program fails", missing("sh"), async () => {
  const start = [
    `ok    program       ${program("sh")}: dynamic, glibc, ${Deno.build.arch}`,
    "ok    loaded        malloc is hakmem's in sh",
  ];
  await says(["sh", "-c", "echo out; echo one >&2; printf 'tw\\033[1mo\\n' >&2; exit 3"], 0, [
    ...start,
    "warn  end           it ended with status 3 and wrote last: tw [1mo; run it without LD_PRELOAD too, to compare",
  ]);
  await says(["sh", "-c", "kill -SEGV $$"], 1, [
    ...start,
    "bad   end           it ended by SIGSEGV and wrote no error; run it without LD_PRELOAD too, to compare",
  ]);
});

Deno.test("doctor: --json has the same findings", async () => {
  const args = ["--", "true"];
  const text = await doctor(args);
  const json = await doctor(["--json", ...args]);
  const report = JSON.parse(json.lines.join("\n")) as DoctorReport;
  const { schema, version, object, command, ok, findings } = report;
  assert.deepEqual(Object.keys(report), [
    ...["schema", "version", "object", "command", "ok", "findings"],
  ]);
  assert.deepEqual(
    { schema, version, object, command, ok },
    {
      schema: "hakmem.doctor/1",
      version: own.hakmem,
      object: preloadLibrary,
      command: ["true"],
      ok: true,
    },
  );
  assert.deepEqual(textOf(findings), text.lines);
  const bad = await doctor(["--json"], { env: { HAKMEM_CHECK: "2" } });
  assert.equal(bad.code, 1);
  assert.equal((JSON.parse(bad.lines.join("\n")) as DoctorReport).ok, false);
});

Deno.test("doctor: bad usage is one line and status 2", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "data"), "x", { mode: 0o644 });
    await Deno.writeTextFile(join(folder, "script"), "#! /nowhere/sh\n", { mode: 0o755 });
    const cases: [args: string[], line: string][] = [
      [["--"], "no program after --: name one, as in hak doctor -- ls"],
      [
        ["ls"],
        'unexpected argument "ls": a program comes after --, as in hak doctor -- ls',
      ],
      [["--jsn"], 'unknown option "--jsn": it takes --json, --for SECONDS and -- PROGRAM'],
      [["--for"], "--for : it takes seconds, above 0 and up to 86400, as in --for 20"],
      [["--for", "0"], "--for 0: it takes seconds, above 0 and up to 86400, as in --for 20"],
      [["--for=1e9"], "--for 1e9: it takes seconds, above 0 and up to 86400, as in --for 20"],
      [["--", "no-such"], 'no program "no-such" to run: it is not on PATH'],
      [["--", "./no"], `no program ${folder}/no to run: there is no such file`],
      [["--", folder], `cannot run ${folder}: it is no file`],
      [["--", "./data"], `cannot run ${folder}/data: it is not executable (chmod +x makes it so)`],
      [
        ["--", "./script"],
        `no program /nowhere/sh that ${folder}/script asks for: there is no such file`,
      ],
    ];
    for (const [args, line] of cases) {
      const { code, lines, stderr } = await doctor(args, { cwd: folder });
      assert.deepEqual({ code, lines, stderr }, {
        code: 2,
        lines: [""],
        stderr: `hak doctor: ${line}\n`,
      });
    }
  }));

Deno.test("doctor: --help is the doctor's before --, and the program's after it", async () => {
  const help = await doctor(["--help", "--", "true"]);
  assert.match(help.lines[0] ?? "", /^hak doctor \[--json\]/);
  const run = await doctor(["--", "true", "--help"]);
  assert.equal(run.lines.at(-1), "ok    loaded        malloc is hakmem's in true");
});

testUnless(
  "elf: exports, libraries and versions are what readelf finds",
  missing("readelf"),
  async () => {
    const readelf = async (path: string, ...args: string[]): Promise<string> => {
      const { stdout } = await new Deno.Command(program("readelf"), { args: ["-W", ...args, path] })
        .output();
      return new TextDecoder().decode(stdout);
    };
    const libc = /\S*\/libc\.so\.6$/m.exec(await Deno.readTextFile("/proc/self/maps"))?.[0] ?? "";
    for (const path of [preloadLibrary, ffiLibrary, libc, Deno.execPath(), program("readelf")]) {
      const elf = readElf(path);
      assert.ok(elf !== null);
      const symbols = await readelf(path, "--dyn-syms");
      const names = [...symbols.matchAll(
        /: \w+ +\w+ \w+ +(?:GLOBAL|WEAK|UNIQUE) +(?:DEFAULT|PROTECTED) +(?:\d+|ABS) +([^@\s]+)/g,
      )].map((match) => match[1] ?? "");
      assert.deepEqual([...elf.exports].sort(), [...new Set(names)].sort(), path);
      assert.ok(names.length > 0 || path === program("readelf"), path);
      const dynamic = await readelf(path, "-d");
      assert.deepEqual(
        elf.needed,
        [...dynamic.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]),
      );
      const [, needs = ""] = (await readelf(path, "-V")).split("Version needs section");
      const versions = [...needs.matchAll(/Name: GLIBC_2\.(\d+)/g)];
      assert.equal(elf.glibcNeeded, `2.${Math.max(...versions.map((match) => Number(match[1])))}`);
      const interpreter = /interpreter: (.*)\]/.exec(await readelf(path, "-l"))?.[1] ?? null;
      assert.equal(elf.interpreter, interpreter);
    }
  },
);
