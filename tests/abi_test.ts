/**
 * The header, the ABI manifest of both objects and the binding's symbol table say the same. The header is
 * read here, by a reader of its own; a comparison that could not fail would be worth nothing, so each is also
 * shown altered texts.
 */
import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { buildIfNeeded } from "../cli/build.ts";
import { generate, symbolsFile } from "../cli/symbols.ts";
import { ffiLibrary, header, preloadLibrary, root } from "../cli/paths.ts";
import { filesBelow } from "../cli/walk.ts";
import { compare } from "../ffi/library.ts";
import {
  camelCase,
  declaration,
  type Manifest,
  manifestSchema,
  parseManifest,
  withManifest,
} from "../ffi/manifest.ts";
import { abi, symbols } from "../ffi/symbols.ts";
import { binding, outputOf, runScript } from "./ffi_support.ts";

const headerSource = join(root, "zig", "include", "hakmem.h");
const headerText = await Deno.readTextFile(headerSource);
const manifestText = withManifest(ffiLibrary, (text) => text);
const manifest = parseManifest(manifestText);

/** What a C header declares, in the words of the manifest. Throws at whatever it does not understand. */
function readHeader(text: string): Omit<Manifest, "version"> {
  const declared: Omit<Manifest, "version"> = {
    functions: [],
    results: [],
    stats: { bytes: 0, fields: [] },
  };
  let rest = text.replaceAll(/\/\*.*?\*\//gs, " ")
    .replaceAll(/^#ifdef __cplusplus\n.*?^#endif\n/gms, "")
    .replaceAll(/^#.*$/gm, "")
    .trim();
  const take = (pattern: RegExp): RegExpExecArray | null => {
    const match = pattern.exec(rest);
    if (match !== null) rest = rest.slice(match[0].length).trimStart();
    return match;
  };
  while (rest !== "") {
    const results = take(/^enum hak_result \{([^}]*)\};/);
    if (results !== null) {
      declared.results = (results[1] ?? "").split(",").map((line) => {
        const [, name, value] = /^HAK_(\w+) = (\d+)$/.exec(line.trim()) ?? [];
        assert(name !== undefined, `a result: ${line}`);
        return { name: name.toLowerCase(), value: Number(value) };
      });
      continue;
    }
    const stats = take(/^struct hak_stats \{([^}]*)\};/);
    if (stats !== null) {
      declared.stats = layOut(
        (stats[1] ?? "").split(";").map((line) => line.trim()).filter(Boolean),
      );
      continue;
    }
    const prototype = take(/^([\w ]+?[ *]+)(hak_\w+)\(([^()]*)\);/);
    assert(prototype !== null, `cannot read the header at: ${rest.slice(0, 60)}`);
    const [, result = "", name = "", parameters = ""] = prototype;
    declared.functions.push({
      name,
      result: result.trim(),
      parameters: parameters === "void" ? [] : parameters.split(",").map(typeAndName),
    });
  }
  return declared;
}

function typeAndName(text: string): { type: string; name: string } {
  const [, type, name] = /^\s*(.*?[ *])(\w+)\s*$/s.exec(text) ?? [];
  assert(type !== undefined && name !== undefined, `a type and a name: ${text}`);
  return { type: type.trim(), name };
}

/**
 * Where the fields of a struct lie, by the rules of the C ABI. Each must be as wide as the manifest's form has
 * it: where fields are padded, offsets alone do not tell.
 */
function layOut(lines: string[]): Manifest["stats"] {
  const bytes = 8;
  const fields = lines.map(typeAndName).map(({ type, name }, position) => {
    assert.equal(type, "uint64_t", `the field ${name}`);
    return { name, offset: position * bytes };
  });
  return { bytes: fields.length * bytes, fields };
}

/** Throws unless a header and a manifest say the same, in the same order. */
function checkHeader(text: string, { functions, results, stats }: Manifest): void {
  const declared = readHeader(text);
  assert.deepEqual(declared.functions.map(declaration), functions.map(declaration));
  assert.deepEqual(declared.results, results);
  assert.deepEqual(declared.stats, stats);
}

/** The table as data, in the words that the manifest has for it. */
function checkTable(text: string, from: Manifest): void {
  assert.equal(text, generate(from));
}

function replaceOnce(text: string, from: string | RegExp, to: string): string {
  const altered = text.replace(from, to);
  assert.notEqual(altered, text, `the text has ${from}`);
  return altered;
}

Deno.test("abi: the header says what libhakmem.so says", () => {
  assert(manifest.functions.length >= 17);
  checkHeader(headerText, manifest);
});

Deno.test("abi: libhakmem_preload.so says what libhakmem.so says", async () => {
  // It is made for LD_PRELOAD, and so it is loaded that way.
  const script = `
    import { withManifest } from ${JSON.stringify(binding.replace(/mod\.ts$/, "ffi/manifest.ts"))};
    console.log(withManifest(${JSON.stringify(preloadLibrary)}, (text) => text));
  `;
  const ended = await runScript(script, { env: { LD_PRELOAD: preloadLibrary } });
  assert.equal(outputOf(ended), manifestText);
});

Deno.test("abi: the installed header is the one in the sources", async () => {
  assert.equal(await Deno.readTextFile(header), headerText);
});

Deno.test("abi: the symbol table is what the generator makes of libhakmem.so", async () => {
  checkTable(await Deno.readTextFile(symbolsFile), manifest);
});

Deno.test("abi: the symbol table has the header's functions, results and stats, in order", () => {
  const declared = readHeader(headerText);
  assert.deepEqual(
    Object.entries(abi.functions),
    declared.functions.map((one) => [one.name, declaration(one)]),
  );
  assert.deepEqual(
    Object.entries(abi.results),
    declared.results.map(({ name, value }) => [camelCase(name), value]),
  );
  assert.deepEqual([...abi.stats], declared.stats.fields.map(({ name }) => camelCase(name)));
});

Deno.test("abi: Deno passes each C type in its own width", () => {
  const widths: Record<string, string[]> = {
    usize: ["size_t"],
    i32: ["int", "enum hak_result"],
    pointer: ["void *", "const char *"],
    buffer: ["void *", "void **"],
    void: ["void"],
  };
  const table: Record<string, { parameters: readonly string[]; result: string }> = symbols;
  for (const { name, result, parameters } of readHeader(headerText).functions) {
    const entry = table[name];
    assert(entry !== undefined, name);
    assert(widths[entry.result]?.includes(result), `${name} gives ${result} as ${entry.result}`);
    assert.equal(entry.parameters.length, parameters.length, name);
    for (const [index, parameter] of parameters.entries()) {
      const type = entry.parameters[index] ?? "";
      assert(widths[type]?.includes(parameter.type), `${name} takes ${parameter.type} as ${type}`);
    }
  }
});

Deno.test("abi: a header that differs in anything is noticed", async (t) => {
  const alterations: [what: string, from: string | RegExp, to: string][] = [
    ["a function is missing", "size_t hak_purge(void);", ""],
    [
      "a function is new",
      "size_t hak_purge(void);",
      "size_t hak_purge(void);\nint hak_new(int a);",
    ],
    ["a function has another name", "hak_purge(void)", "hak_purged(void)"],
    ["a result has another type", "size_t hak_purge(", "int hak_purge("],
    ["a result is const", "void *hak_malloc(", "const void *hak_malloc("],
    ["a parameter is missing", "hak_realloc(void *block, size_t size)", "hak_realloc(void *block)"],
    ["a parameter is new", "hak_free(void *block)", "hak_free(void *block, size_t size)"],
    ["a parameter has another type", "hak_malloc(size_t size)", "hak_malloc(unsigned size)"],
    ["a parameter has one star more", "hak_free(void *block)", "hak_free(void **block)"],
    ["a parameter has another name", "hak_malloc(size_t size)", "hak_malloc(size_t bytes)"],
    [
      "parameters have changed places",
      "size_t alignment, size_t size",
      "size_t size, size_t alignment",
    ],
    [
      "functions have changed places",
      /(void \*hak_calloc[^;]*;)(.*?)(void hak_free[^;]*;)/s,
      "$3$2$1",
    ],
    ["a result value differs", "HAK_OUT_OF_MEMORY = 2", "HAK_OUT_OF_MEMORY = 3"],
    ["a result is missing", /,\s*HAK_OUT_OF_MEMORY = 2/, ""],
    ["a result has another name", "HAK_INVALID_ARGUMENT", "HAK_BAD_ARGUMENT"],
    ["a field is missing", /uint64_t cold_bytes;[^\n]*/, ""],
    ["a field is new", /(uint64_t mapped_bytes;)/, "$1 uint64_t more_bytes;"],
    ["a field has another name", "cold_bytes;", "warm_bytes;"],
    ["a field has another width", "uint64_t slabs;", "uint32_t slabs;"],
    ["the last field has another width", "uint64_t mapped_bytes;", "uint32_t mapped_bytes;"],
    ["fields have changed places", /(uint64_t superslabs;)(.*?)(uint64_t slabs;)/s, "$3$2$1"],
    ["something is not understood", "size_t hak_purge(void);", "typedef int hak_int;"],
  ];
  for (const [what, from, to] of alterations) {
    await t.step(what, () => {
      const altered = replaceOnce(headerText, from, to);
      assert.throws(() => checkHeader(altered, manifest), assert.AssertionError);
    });
  }
});

Deno.test("abi: a symbol table that differs in anything is noticed", async (t) => {
  const table = await Deno.readTextFile(symbolsFile);
  const alterations: [what: string, from: string, to: string][] = [
    ["an entry is missing", '  hak_purge: { parameters: [], result: "usize" },\n', ""],
    ["a type differs", 'hak_malloc: { parameters: ["usize"]', 'hak_malloc: { parameters: ["u32"]'],
    ["a declaration differs", '"void hak_free(void *block)"', '"void hak_free(void *p)"'],
    ["a value differs", "outOfMemory: 2", "outOfMemory: 3"],
    ["a field is missing", '    "coldBytes",\n', ""],
  ];
  for (const [what, from, to] of alterations) {
    await t.step(what, () => {
      const altered = replaceOnce(table, from, to);
      assert.throws(() => checkTable(altered, manifest), assert.AssertionError);
    });
  }
});

/** The manifest as an object might have it that differs in one thing. */
function alteredManifest(alter: (manifest: Manifest) => void): Manifest {
  const altered = structuredClone(manifest);
  alter(altered);
  return altered;
}

Deno.test("abi: the generator makes another table of another manifest", async () => {
  const table = await Deno.readTextFile(symbolsFile);
  const alterations: ((manifest: Manifest) => void)[] = [
    ({ functions }) => functions.pop(),
    ({ functions }) => functions[0]?.parameters.push({ name: "more", type: "int" }),
    ({ functions }) => Object.assign(functions[0] ?? {}, { result: "int" }),
    ({ results }) => Object.assign(results[0] ?? {}, { value: 9 }),
    ({ stats }) => Object.assign(stats.fields[3] ?? {}, { name: "other" }),
  ];
  for (const alter of alterations) {
    assert.throws(() => checkTable(table, alteredManifest(alter)), assert.AssertionError);
  }
});

Deno.test("abi: the generator does not guess at types or layouts that it does not know", () => {
  const unknown: [expected: RegExp, alter: (manifest: Manifest) => void][] = [
    [
      /no Deno type for a parameter double more/,
      ({ functions }) => functions[0]?.parameters.push({ name: "more", type: "double" }),
    ],
    [
      /no Deno type for a result long/,
      ({ functions }) => Object.assign(functions[0] ?? {}, { result: "long" }),
    ],
    [
      /hak_stats\.\w+ lies at 20, not at 16/,
      ({ stats }) => Object.assign(stats.fields[2] ?? {}, { offset: 20 }),
    ],
    [/hak_stats has 999 bytes for \d+ fields/, ({ stats }) => Object.assign(stats, { bytes: 999 })],
  ];
  for (const [expected, alter] of unknown) {
    assert.throws(() => generate(alteredManifest(alter)), expected);
  }
});

Deno.test("abi: an object that only has more than the table is good, any other is not", () => {
  assert.deepEqual(compare(manifest), []);
  const more = alteredManifest(({ functions, results, stats }) => {
    functions.push({ name: "hak_new", result: "double", parameters: [] });
    results.push({ name: "new", value: 77 });
    stats.fields.push({ name: "new_bytes", offset: stats.bytes });
  });
  assert.deepEqual(compare(more), []);

  const bad: [expected: RegExp, alter: (manifest: Manifest) => void][] = [
    [/^hak_malloc: missing$/, ({ functions }) => functions.shift()],
    [
      /^hak_malloc: int hak_malloc\(size_t size\), where the binding has void \*hak_malloc/,
      (one) => Object.assign(one.functions[0] ?? {}, { result: "int" }),
    ],
    [/^result ok: missing$/, ({ results }) => results.shift()],
    [
      /^result ok: 5, where the binding has 0$/,
      ({ results }) => Object.assign(results[0] ?? {}, { value: 5 }),
    ],
    [
      /^offset of stats\.threads: 64, where the binding has 8$/,
      ({ stats }) => Object.assign(stats.fields[1] ?? {}, { offset: 64 }),
    ],
    [/^offset of stats\.hugeCachedBytes: missing$/, ({ stats }) => stats.fields.pop()],
  ];
  for (const [expected, alter] of bad) {
    const differences = compare(alteredManifest(alter));
    assert.equal(differences.length, 1);
    assert.match(differences[0] ?? "", expected);
  }
});

Deno.test("abi: a manifest that is not whole is refused", () => {
  const refused = { name: "HakmemError", message: /^Cannot read the ABI manifest: / };
  const whole = JSON.parse(manifestText) as Record<string, unknown>;
  assert.equal(whole.schema, manifestSchema);
  for (const text of ["", "[]", "null", "5", "{}", manifestText.slice(0, -1)]) {
    assert.throws(() => parseManifest(text), refused);
  }
  for (const name of ["version", "functions", "results", "stats"]) {
    for (const value of [undefined, null, 5, [5], [{}], {}]) {
      assert.throws(() => parseManifest(JSON.stringify({ ...whole, [name]: value })), refused);
    }
  }
});

/** A copy of the checkout in which the build is as fresh as in this one. */
async function copyCheckout(folder: string): Promise<void> {
  const files = ["cli.ts", "deno.json", "deno.lock", "hak"].map((name) => join(root, name));
  for (const part of ["cli", "ffi", "zig", "zig/zig-out"]) {
    for await (const path of filesBelow(join(root, part))) files.push(path);
  }
  files.push(join(root, "zig", "zig-out", ".hak-stamp"));
  const copied = await new Deno.Command("cp", {
    args: ["-a", "--parents", ...new Set(files.map((path) => relative(root, path))), folder],
    cwd: root,
    stderr: "inherit",
  }).output();
  assert(copied.success);
}

Deno.test("abi: hak symbols --check fails on a file that differs, and hak symbols mends it", async () => {
  const folder = await Deno.makeTempDir({ prefix: "hak-abi-" });
  try {
    await buildIfNeeded();
    await copyCheckout(folder);
    const copy = join(folder, relative(root, symbolsFile));
    const made = await Deno.readTextFile(copy);
    const run = async (
      ...args: string[]
    ): Promise<{ code: number; stdout: string; stderr: string }> => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", join(folder, "cli.ts"), "symbols", ...args],
        env: { NO_COLOR: "1" },
      }).output();
      const decoder = new TextDecoder();
      return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
    };
    const good = "hak symbols: ffi/symbols.ts is what the object says\n";
    const differs = "hak symbols: ffi/symbols.ts differs from what the object says: " +
      "hak symbols writes it anew\n";
    assert.deepEqual(await run("--check"), { code: 0, stdout: "", stderr: good });

    const altered = replaceOnce(
      made,
      'hak_free: { parameters: ["pointer"]',
      "hak_free: { parameters: [",
    );
    await Deno.writeTextFile(copy, altered);
    assert.deepEqual(await run("--check"), { code: 1, stdout: "", stderr: differs });
    assert.equal(await Deno.readTextFile(copy), altered, "a check writes nothing");

    const wrote = "hak symbols: wrote ffi/symbols.ts\n";
    assert.deepEqual(await run(), { code: 0, stdout: "", stderr: wrote });
    assert.equal(await Deno.readTextFile(copy), made);

    await Deno.remove(copy);
    assert.deepEqual(await run("--check"), { code: 1, stdout: "", stderr: differs });

    const { code, stderr } = await run("--chekc");
    assert.deepEqual({ code, stderr }, {
      code: 2,
      stderr: 'hak symbols: "--chekc": it takes only --check\n',
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("abi: the symbol table says on its first line that it is generated", async () => {
  const [first] = (await Deno.readTextFile(fileURLToPath(import.meta.resolve("../ffi/symbols.ts"))))
    .split("\n");
  assert.match(first ?? "", /Generated by \.\/hak symbols .* Do not edit/);
});
