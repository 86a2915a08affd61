/**
 * The ABI manifest: what a built object says of its own functions, in JSON. The symbol table is made from it
 * (`./hak symbols`), and an object is compared with the table before it is used.
 *
 * @module
 */
import { HakmemError } from "./errors.ts";

/** The form of the manifest that this binding reads. */
export const manifestSchema = "hakmem.abi/1";

/** A function, with its types as C writes them. */
export interface ManifestFunction {
  /** The exported name. */
  name: string;
  /** The C type of the result. */
  result: string;
  /** The parameters in order. */
  parameters: { name: string; type: string }[];
}

/** What an object says of itself. */
export interface Manifest {
  /** The version of the allocator. */
  version: string;
  /** Every `hak_*` function. */
  functions: ManifestFunction[];
  /** `enum hak_result`, in small letters and without its prefix. */
  results: { name: string; value: number }[];
  /** `struct hak_stats`; every field is a `uint64_t`. */
  stats: { bytes: number; fields: { name: string; offset: number }[] };
}

/**
 * Loads an object far enough to ask for its manifest, and calls `use` with the text while it is loaded.
 * Throws what `Deno.dlopen` throws.
 */
export function withManifest<Result>(path: string, use: (text: string) => Result): Result {
  const library = Deno.dlopen(path, {
    hak_abi_manifest: { parameters: [], result: "pointer" },
  });
  try {
    const text = library.symbols.hak_abi_manifest();
    return use(text === null ? "" : Deno.UnsafePointerView.getCString(text));
  } finally {
    library.close();
  }
}

/** Reads a manifest. Throws {@linkcode HakmemError} if it is not one of the form that is known here. */
export function parseManifest(text: string): Manifest {
  let manifest: unknown;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw new HakmemError("Cannot read the ABI manifest: it is not JSON", { cause });
  }
  const schema = isRecord(manifest) ? manifest.schema : undefined;
  if (schema !== manifestSchema) {
    throw new HakmemError(
      `Cannot read the ABI manifest: its schema is ${JSON.stringify(schema)}, ` +
        `and this binding reads ${JSON.stringify(manifestSchema)}`,
    );
  }
  if (!isManifest(manifest)) {
    throw new HakmemError(`Cannot read the ABI manifest: it is not a whole ${manifestSchema}`);
  }
  return manifest;
}

/** A function as C declares it, such as `void *hak_malloc(size_t size)`. */
export function declaration({ name, result, parameters }: ManifestFunction): string {
  const declared = parameters.map((parameter) => declare(parameter.type, parameter.name));
  return `${declare(result, name)}(${declared.join(", ") || "void"})`;
}

/** A name with its type as C writes them, such as `void *block` or `size_t size`. */
export function declare(type: string, name: string): string {
  return type.endsWith("*") ? `${type}${name}` : `${type} ${name}`;
}

/** A C name as TypeScript writes it: `slab_bytes` is `slabBytes`. */
export function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function isManifest(value: unknown): value is Manifest {
  return isRecord(value) && typeof value.version === "string" &&
    isListOf(
      value.functions,
      (one) =>
        typeof one.name === "string" && typeof one.result === "string" &&
        isListOf(
          one.parameters,
          (parameter) => typeof parameter.name === "string" && typeof parameter.type === "string",
        ),
    ) &&
    isListOf(
      value.results,
      (one) => typeof one.name === "string" && typeof one.value === "number",
    ) &&
    isRecord(value.stats) && typeof value.stats.bytes === "number" &&
    isListOf(
      value.stats.fields,
      (one) => typeof one.name === "string" && typeof one.offset === "number",
    );
}

function isListOf(value: unknown, fits: (one: Record<string, unknown>) => boolean): boolean {
  return Array.isArray(value) && value.every((one) => isRecord(one) && fits(one));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
