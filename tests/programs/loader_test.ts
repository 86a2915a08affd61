import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { preloadLibrary } from "../../cli/paths.ts";
import { testUnless } from "../skip.ts";
import { missingCompiler, preloadLibraries, runPreloaded, withCompiled } from "./compile.ts";
import {
  missing,
  program,
  pythonInterpreter,
  sameWithAndWithout,
  withPreload,
  workDirectory,
} from "./preload.ts";

testUnless("LD_PRELOAD: /bin/true, bound lazily and at once", missing("true"), async () => {
  await sameWithAndWithout(async (side) => [
    await side.run(program("true"), []),
    await side.run(program("true"), [], { env: { LD_BIND_NOW: "1" } }),
  ]);
});

testUnless("LD_PRELOAD: ls -R", missing("ls"), async () => {
  await sameWithAndWithout(async (side) => {
    for (let i = 0; i < 40; i++) {
      const directory = join(side.directory, `d${i % 5}`, `e${i % 7}`, `f${i}`);
      await Deno.mkdir(directory, { recursive: true });
      for (let j = 0; j < 25; j++) await Deno.writeTextFile(join(directory, `file ${j * i}`), "");
    }
    return await side.run(program("ls"), ["-R", side.directory]);
  });
});

testUnless("LD_PRELOAD: set by env -i for a program", missing("sh", "env", "sort"), async () => {
  const stdin = new TextEncoder().encode("c\nb\na\n");
  // All that is left of the environment is the library and the loader's log.
  const kept = ["LD_PRELOAD", "LD_DEBUG", "LD_DEBUG_OUTPUT"].map((name) => `${name}="$${name}"`);
  const command = `exec env -i ${kept.join(" ")} "$0"`;
  await sameWithAndWithout((side) =>
    side.run(program("sh"), ["-c", command, program("sort")], {
      stdin,
      programs: ["sh", "env", "sort"],
    })
  );
});

testUnless(
  "LD_PRELOAD: inherited through a chain of shells, exec, and pipes",
  missing("sh", "python3", "sort", "head", "env"),
  async () => {
    const python = await pythonInterpreter();
    const count = "print(*sorted(str(n * 7919 % 1000) for n in range(3000)), sep='\\n')";
    const nested = `exec env sh -c '"$0" -c "$1" | sort -n | head -n 50' "$0" "$1"`;
    await sameWithAndWithout((side) =>
      side.run(program("sh"), ["-c", nested, python, count], {
        programs: ["sh", "env", basename(python), "sort", "head"],
      })
    );
  },
);

testUnless("LD_PRELOAD: a thread whose first call is free", missingCompiler(), async () => {
  await withCompiled(["free_only_thread.c"], [], async (executable) => {
    await sameWithAndWithout((side) => side.run(executable, []));
  });
});

testUnless(
  "LD_PRELOAD: allocating before main, as threads end, and at exit",
  missingCompiler(),
  async () => {
    await withCompiled(["thread_ends.c"], [], async (executable) => {
      await sameWithAndWithout((side) => side.run(executable, []));
    });
  },
);

testUnless("LD_PRELOAD: a program that goes into the background", missingCompiler(), async () => {
  await withCompiled(["daemon.c"], [], async (executable) => {
    await sameWithAndWithout(async (side) => {
      const output = await side.run(executable, []);
      assert.match(output.stdout, /the daemon ended\n$/, `the daemon did not end well (${side})`);
      return output;
    });
  });
});

testUnless(
  "LD_PRELOAD: forks while other threads read lines and flush all files",
  missingCompiler(),
  async () => {
    await withCompiled(["fork_stdio.c"], [], async (executable) => {
      await sameWithAndWithout((side) => side.run(executable, []));
    });
  },
);

testUnless(
  "LD_PRELOAD: another thread calls exit in the middle of a fork",
  missingCompiler(),
  async () => {
    await withCompiled(["exit_during_fork.c"], ["-shared", "-fPIC"], async (beside) => {
      await withCompiled(["exit_during_fork_main.c"], [], async (executable) => {
        const { code, stdout } = await new Deno.Command(executable, {
          env: { LD_PRELOAD: `${preloadLibrary} ${beside}` },
          signal: AbortSignal.timeout(60_000),
        }).output();
        assert.equal(new TextDecoder().decode(stdout), "allocated\n");
        assert.equal(code, 7);
      });
    });
  },
);

testUnless(
  "LD_PRELOAD: a handler of SIGABRT that forks and allocates when a double free is noticed",
  missingCompiler(),
  async () => {
    await withCompiled(["abort_handler.c"], [], async (executable) => {
      for (const library of preloadLibraries) {
        const { code, stderr } = await runPreloaded(executable, [], library);
        assert.match(stderr, /^hakmem: double free: 0x[0-9a-f]+ [^\n]+\n$/);
        assert.equal(code, 3);
      }
    });
  },
);

testUnless("LD_PRELOAD: a program that opens and closes plugins", missingCompiler(), async () => {
  await withCompiled(["plugin.c"], ["-shared", "-fPIC"], async (plugin) => {
    await withCompiled(["plugin_host.c"], [], async (host) => {
      await sameWithAndWithout((side) => side.run(host, [plugin]));
    });
  });
});

testUnless(
  "LD_PRELOAD: a plugin bound to libc's malloc, beside a program bound to ours",
  missingCompiler(),
  async () => {
    await withCompiled(["plugin.c"], ["-shared", "-fPIC"], async (plugin) => {
      await withCompiled(["plugin_host.c"], [], async (host) => {
        await sameWithAndWithout((side) => side.run(host, [plugin, "deep"], { beside: plugin }));
      });
    });
  },
);

testUnless(
  "LD_PRELOAD: beside an audit library that allocates",
  missingCompiler() ?? missing("sort"),
  async () => {
    await withCompiled(["audit.c"], ["-shared", "-fPIC"], async (audit) => {
      const stdin = new TextEncoder().encode("b\na\n".repeat(1000));
      await sameWithAndWithout((side) =>
        side.run(program("sort"), ["--parallel=2"], {
          stdin,
          env: { LD_AUDIT: audit },
          libraries: ["audit"],
        })
      );
    });
  },
);

testUnless(
  "LD_PRELOAD: beside the library of stdbuf, which adds itself to the list",
  missing("stdbuf", "sort"),
  async () => {
    const stdin = new TextEncoder().encode("b\na\n".repeat(1000));
    await sameWithAndWithout((side) =>
      side.run(program("stdbuf"), ["-oL", program("sort")], {
        stdin,
        programs: ["stdbuf", "sort"],
        libraries: ["libstdbuf.so"],
      })
    );
  },
);

for (const first of [true, false]) {
  testUnless(
    `LD_PRELOAD: ${first ? "before" : "after"} libc's memusage library, which also takes malloc`,
    missing("sort", "python3") ?? (memusageLibrary() === null ? "libmemusage.so not found" : null),
    async () => {
      const python = await pythonInterpreter();
      const memusage = memusageLibrary() ?? "";
      const list = first ? [preloadLibrary, memusage] : [memusage, preloadLibrary];
      // What memusage writes to stderr at the end differs from run to run by its nature.
      await sameWithAndWithout(async (side) => {
        const { stdout, stderr } = await side.run(
          python,
          ["-B", join(workDirectory, "python_json.py")],
          {
            env: { PYTHONMALLOC: "malloc", PYTHONHASHSEED: "0" },
            preload: list.join(":"),
            beside: memusage,
          },
        );
        assert.equal(stderr.includes("Memory usage summary"), side.preloaded);
        return stdout;
      });
    },
  );
}

testUnless(
  "LD_PRELOAD: with an address space limited to 1 GiB",
  missing("sh", "python3"),
  async () => {
    const python = await pythonInterpreter();
    await sameWithAndWithout((side) =>
      side.run(
        program("sh"),
        [
          "-c",
          'ulimit -v 1048576 && exec "$@"',
          "sh",
          python,
          "-B",
          join(workDirectory, "python_json.py"),
        ],
        { env: { PYTHONMALLOC: "malloc", PYTHONHASHSEED: "0" } },
      )
    );
  },
);

testUnless("a library that the loader cannot preload fails the test", missing("true"), async () => {
  await withPreload(async (side) => {
    const preload = join(side.directory, "absent.so");
    await assert.rejects(side.run(program("true"), [], { preload }), /ran without the library/);
    // Here the loader does not even warn.
    await assert.rejects(side.run(program("true"), [], { preload: "" }), /ran without \//);
  });
});

testUnless(
  "a program that hangs is killed with its children",
  missing("sh", "sleep", "setsid"),
  async () => {
    await withPreload(async (side) => {
      const hang = side.run(program("sh"), ["-c", "echo begun; sleep 1000 | setsid sleep 1000"], {
        timeLimitSeconds: 1,
      });
      await assert.rejects(hang, (error: Error) => {
        assert.match(error.message, /had not ended after 1 s and was killed/);
        assert.match(error.message, /thread \d+ sleep: state S/);
        assert.match(error.message, /stdout: begun/);
        return true;
      });
    });
  },
);

/** A preload library that comes with glibc, beside libc itself. */
function memusageLibrary(): string | null {
  const libc = /\S*\/libc\.so\.6$/m.exec(Deno.readTextFileSync("/proc/self/maps"))?.[0];
  if (libc === undefined) return null;
  const path = join(dirname(libc), "libmemusage.so");
  return [...Deno.readDirSync(dirname(path))].some(({ name }) => name === basename(path))
    ? path
    : null;
}
