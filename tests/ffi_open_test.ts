/**
 * Opening the library: where it is looked for, with which permissions, and what an error says of a file that
 * is missing, forbidden or wrong.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ffiLibrary, preloadLibrary } from "../cli/paths.ts";
import { Hakmem, HakmemError } from "../mod.ts";
import { binding, outputOf, runScript, type ScriptOptions } from "./ffi_support.ts";
import { testUnless } from "./skip.ts";

const printPath = "using hak = Hakmem.open(); hak.free(hak.malloc(64)); console.log(hak.path);";

const printError = `
try {
  Hakmem.open().close();
  console.log("opened");
} catch (error) {
  if (!(error instanceof HakmemError)) throw error;
  console.log(error.message);
}`;

const ffi = ["--allow-ffi"];
const ffiAndEnv = ["--allow-ffi", "--allow-env=HAKMEM_LIB"];
const ffiEnvAndRead = [...ffiAndEnv, "--allow-read"];

/** The message of the error that `HAKMEM_LIB=path` leads to. */
async function errorFor(path: string, options: ScriptOptions = {}): Promise<string> {
  const ended = await runScript(printError, {
    permissions: ffiAndEnv,
    env: { HAKMEM_LIB: path },
    ...options,
  });
  return outputOf(ended);
}

/** A folder with files for a test, away at its end. */
class Folder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<Folder> {
    return new Folder(await Deno.realPath(await Deno.makeTempDir({ prefix: "hak-open-" })));
  }

  async write(name: string, content: Uint8Array): Promise<string> {
    const path = join(this.path, name);
    await Deno.writeFile(path, content);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** The library's bytes with each `from` replaced by a `to` of the same length. */
async function patched(from: string, to: string): Promise<Uint8Array> {
  assert.equal(from.length, to.length);
  // A letter for each byte, whatever the byte means.
  const bytes = await Deno.readFile(ffiLibrary);
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  assert(text.includes(from), `the library holds ${from}`);
  return Uint8Array.from(text.replaceAll(from, to), (letter) => letter.charCodeAt(0));
}

Deno.test("ffi open: the checkout's build opens with --allow-ffi alone", async () => {
  const options = { permissions: ffi, env: { HAKMEM_LIB: "/not/read" } };
  assert.equal(outputOf(await runScript(printPath, options)), ffiLibrary);
});

Deno.test("ffi open: HAKMEM_LIB comes before the checkout's build", async () => {
  await using folder = await Folder.create();
  const path = await folder.write("lib with 100% ä.so", await Deno.readFile(ffiLibrary));
  const options = { permissions: ffiAndEnv, env: { HAKMEM_LIB: path } };
  assert.equal(outputOf(await runScript(printPath, options)), path);
});

Deno.test("ffi open: an empty HAKMEM_LIB is none", async () => {
  const options = { permissions: ffiAndEnv, env: { HAKMEM_LIB: "" } };
  assert.equal(outputOf(await runScript(printPath, options)), ffiLibrary);
});

Deno.test("ffi open: a HAKMEM_LIB that does not open is not passed over in silence", async () => {
  const message = await errorFor("/nowhere/libhakmem.so");
  assert.match(message, /\/nowhere\/libhakmem\.so \(HAKMEM_LIB\): there is no such file/);
  assert(!message.includes(ffiLibrary));
});

Deno.test("ffi open: an error names every place, the machine and the way out", async () => {
  const message = await errorFor("/nowhere/libhakmem.so", { permissions: ffiEnvAndRead });
  assert.equal(
    message,
    `Cannot open libhakmem.so for ${Deno.build.os} ${Deno.build.arch}:
  /nowhere/libhakmem.so (HAKMEM_LIB): there is no such file
Run ./hak build in a checkout of hakmem, or set HAKMEM_LIB to the absolute path of a libhakmem.so (and give --allow-env=HAKMEM_LIB)`,
  );
});

Deno.test("ffi open: a relative HAKMEM_LIB is an error", async () => {
  const message = await errorFor("lib/libhakmem.so");
  assert.match(message, /lib\/libhakmem\.so \(HAKMEM_LIB\): the path must be absolute/);
});

Deno.test("ffi open: without --allow-ffi the error names the flag", async () => {
  const message = outputOf(await runScript(printError, { permissions: [] }));
  assert.match(message, /HAKMEM_LIB: not read, for want of --allow-env=HAKMEM_LIB/);
  assert(
    message.includes(
      `${ffiLibrary} (the checkout's build): Deno may not load it: run with --allow-ffi`,
    ),
    message,
  );
});

Deno.test("ffi open: --allow-ffi with a path is told apart", async () => {
  const options = { permissions: [`--allow-ffi=${ffiLibrary}`] };
  const message = outputOf(await runScript(printError, options));
  assert.match(message, /run with --allow-ffi, without a path/);
});

Deno.test("ffi open: a directory", async () => {
  assert.match(await errorFor("/usr"), /\/usr \(HAKMEM_LIB\): it is a directory/);
});

Deno.test("ffi open: a file that is no shared object", async () => {
  await using folder = await Folder.create();
  const text = await folder.write("text.so", new TextEncoder().encode("not ELF\n".repeat(1000)));
  assert.match(await errorFor(text), /it is not a shared object/);
  const empty = await folder.write("empty.so", new Uint8Array());
  assert.match(await errorFor(empty), /it is not a shared object/);
});

Deno.test("ffi open: a shared object for another machine", async () => {
  await using folder = await Folder.create();
  const bytes = await Deno.readFile(ffiLibrary);
  const wordSize = bytes.slice();
  wordSize[4] = 1;
  const small = await folder.write("small.so", wordSize);
  assert.match(await errorFor(small), /for another machine \(another word size, not /);

  const [machine, number] = Deno.build.arch === "aarch64" ? ["x86_64", 62] : ["aarch64", 183];
  bytes[18] = number;
  const foreign = await folder.write("foreign.so", bytes);
  assert(
    (await errorFor(foreign, { permissions: ffiEnvAndRead })).includes(
      `it is a shared object for another machine (${machine}, not ${Deno.build.arch})`,
    ),
  );
  // Without a look into the file, the loader's word is that it is not there.
  assert.match(
    await errorFor(foreign),
    /there is no such file, or it is for another machine than \w+ \(--allow-read lets/,
  );
});

Deno.test("ffi open: a shared object of someone else", async () => {
  const maps = await Deno.readTextFile("/proc/self/maps");
  const libc = /\/\S*\/libc\.so\S*|\/\S*\/ld-musl\S*/.exec(maps)?.[0];
  assert(libc !== undefined);
  assert.match(await errorFor(libc), /not hakmem's: it has no hak_abi_manifest/);
});

testUnless(
  "ffi open: a file that the system denies",
  await whyNotNobody(),
  async () => {
    await using folder = await Folder.create();
    const path = await folder.write("libhakmem.so", await Deno.readFile(ffiLibrary));
    await Deno.chmod(folder.path, 0o755);
    await Deno.chmod(path, 0o000);
    const options = Deno.uid() === 0 ? { asNobody: true } : {};
    assert.match(await errorFor(path, options), /the system denies access: check the permissions/);
  },
);

/** Why no script can run as a user to whom something is denied. */
async function whyNotNobody(): Promise<string | null> {
  if (Deno.uid() !== 0) return null;
  const ended = await runScript("console.log('ran')", { permissions: [], asNobody: true })
    .catch((error: Error) => ({ stdout: "", stderr: error.message }));
  return ended.stdout === "ran" ? null : "root is denied nothing, and nobody cannot run Deno here";
}

Deno.test("ffi open: an object whose manifest has another form", async () => {
  await using folder = await Folder.create();
  const path = await folder.write("next.so", await patched("hakmem.abi/1", "hakmem.abi/2"));
  const message = await errorFor(path);
  assert(message.startsWith(`Cannot use ${path}: `), message);
  assert.match(message, /its schema is "hakmem\.abi\/2", and this binding reads "hakmem\.abi\/1"/);
  assert.match(message, /\.\/hak build/);

  const broken = await folder.write("broken.so", await patched('{"schema":', '{"schema",'));
  assert.match(await errorFor(broken), /it is not JSON/);
});

Deno.test("ffi open: an object whose functions or stats differ", async () => {
  await using folder = await Folder.create();
  const cases = [
    ['"name":"hak_purge"', '"name":"hak_purgX"', /hak_purge: missing/],
    [
      '"name":"hak_purge","result":"size_t"',
      '"name":"hak_purge","result":"wchar_"',
      /hak_purge: wchar_ hak_purge\(void\), where the binding has size_t hak_purge\(void\)/,
    ],
    ['"invalid_argument","value":1', '"invalid_argument","value":7', /result invalidArgument: 7/],
    ['"name":"cold_bytes"', '"name":"warm_bytes"', /offset of stats\.coldBytes: missing/],
  ] as const;
  for (const [index, [from, to, expected]] of cases.entries()) {
    const path = await folder.write(`other${index}.so`, await patched(from, to));
    const message = await errorFor(path);
    assert.match(message, /Cannot use \S+, hakmem \d+\.\d+\.\d+: its ABI is not this binding's/);
    assert.match(message, expected);
  }
});

Deno.test("ffi open: an object that lacks a function its manifest promises", async () => {
  await using folder = await Folder.create();
  const path = await folder.write("lacks.so", await patched("\0hak_purge\0", "\0hak_purgX\0"));
  assert.match(await errorFor(path), /undefined symbol: hak_purge/);
});

Deno.test("ffi open: under LD_PRELOAD, the preloaded object shows the process's own heap", async () => {
  const script = `
    using hak = Hakmem.open({ path: ${JSON.stringify(preloadLibrary)} });
    const { threads, mappedBytes } = hak.stats();
    hak.free(hak.malloc(64));
    console.log(threads > 1, mappedBytes > 2 ** 20);`;
  const ended = await runScript(script, { env: { LD_PRELOAD: preloadLibrary } });
  assert.equal(outputOf(ended), "true true");
});

Deno.test("ffi open: options.path takes an absolute path or a file: URL, and comes first", async () => {
  await using folder = await Folder.create();
  const path = await folder.write("lib with 100% ä#?.so", await Deno.readFile(ffiLibrary));
  using byPath = Hakmem.open({ path });
  using byUrl = Hakmem.open({ path: pathToFileURL(path) });
  assert.equal(byPath.path, path);
  assert.equal(byUrl.path, path);

  const script = `using hak = Hakmem.open({ path: ${
    JSON.stringify(path)
  } }); console.log(hak.path)`;
  const options = { permissions: ffiAndEnv, env: { HAKMEM_LIB: ffiLibrary } };
  assert.equal(outputOf(await runScript(script, options)), path);
});

Deno.test("ffi open: options.path refuses anything else", () => {
  const refused = { name: "TypeError", message: /^Cannot open / };
  assert.throws(() => Hakmem.open({ path: "lib/libhakmem.so" }), refused);
  assert.throws(() => Hakmem.open({ path: "" }), refused);
  assert.throws(() => Hakmem.open({ path: new URL("https://example.com/libhakmem.so") }), refused);
  for (const path of [5, null, {}, Symbol("path"), ["/lib"]]) {
    assert.throws(() => Hakmem.open({ path: path as unknown as string }), refused);
  }
});

Deno.test("ffi open: an error of the system is the cause", () => {
  assert.throws(() => Hakmem.open({ path: "/nowhere/libhakmem.so" }), (error) => {
    assert(error instanceof HakmemError);
    assert(error.cause instanceof Error);
    assert.match(
      error.message,
      /\/nowhere\/libhakmem\.so \(options\.path\): there is no such file/,
    );
    return true;
  });
});

Deno.test("ffi open: a failure leaves nothing behind, and what is open goes on", () => {
  using hak = Hakmem.open();
  assert.throws(() => Hakmem.open({ path: "/nowhere/libhakmem.so" }), HakmemError);
  hak.free(hak.malloc(64));
});

Deno.test("ffi open: importing the binding does nothing, and needs no permission", async () => {
  const script = `console.log(typeof Hakmem.open);`;
  assert.equal(outputOf(await runScript(script, { permissions: [] })), "function");
});

Deno.test("ffi open: the binding imports nothing from outside ffi/", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", binding],
    stderr: "null",
  }).output();
  const graph = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: { specifier: string }[];
  };
  const specifiers = graph.modules.map(({ specifier }) => specifier);
  const own = binding.replace(/mod\.ts$/, "ffi/");
  assert(specifiers.length > 3);
  const outside = specifiers.filter((one) => one !== binding && !one.startsWith(own));
  assert.deepEqual(outside, []);
});

Deno.test("ffi open: a binding that was fetched from a server says that it has no checkout", async () => {
  const folder = new URL(".", binding);
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      const file = new URL(`.${new URL(request.url).pathname}`, folder);
      return Deno.readTextFile(file).then((text) =>
        new Response(text, { headers: { "content-type": "application/typescript" } })
      );
    },
  );
  const host = `127.0.0.1:${server.addr.port}`;
  const from = `http://${host}/mod.ts`;
  const permissions = [...ffiAndEnv, `--allow-import=${host}`];
  const message = outputOf(await runScript(printError, { from, permissions }));
  assert.match(message, /HAKMEM_LIB: not set/);
  assert.match(
    message,
    /the checkout's build: the binding comes from http:\S+, not from a checkout/,
  );
  const named = await runScript(printPath, { from, permissions, env: { HAKMEM_LIB: ffiLibrary } });
  assert.equal(outputOf(named), ffiLibrary);
});
