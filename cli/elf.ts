/**
 * What an ELF file says of itself, as far as the loader cares: the machine, the interpreter, the libraries it
 * needs and the symbols it defines.
 *
 * Only files for machines of 64 bits that store the low byte first are read beyond their header: hakmem runs on no
 * others. A file that was cut off is read as far as it goes.
 *
 * @module
 */

/** An ELF file. */
export interface Elf {
  /** The machine, such as "x86_64"; "32-bit x86" and the like where it is none that hakmem runs on. */
  machine: string;
  /** How it is loaded. */
  kind: "program" | "shared object" | "other";
  /** The loader that a program asks for; null for shared objects, and for programs without one. */
  interpreter: string | null;
  /** The names of the libraries it needs, in order. */
  needed: string[];
  /** The newest version of glibc whose symbols it needs, such as "2.34"; null without any. */
  glibcNeeded: string | null;
  /** The functions and data that it offers to other objects. */
  exports: ReadonlySet<string>;
}

/** Machines by their number in the header. */
const machines: Record<number, string> = {
  3: "x86",
  8: "mips",
  21: "powerpc64",
  22: "s390x",
  40: "arm",
  62: "x86_64",
  183: "aarch64",
  243: "riscv",
  258: "loongarch",
};

const magic = 0x7f454c46;
const headerBytes = 64;
const segmentHeaderBytes = 56;
const dynamicEntryBytes = 16;
const symbolBytes = 24;

/** Kinds of segments. */
const segment = { load: 1, dynamic: 2, interpreter: 3 } as const;

/** Kinds of entries of the dynamic section. */
const tag = {
  needed: 1n,
  hash: 4n,
  strings: 5n,
  symbols: 6n,
  stringBytes: 10n,
  gnuHash: 0x6ffffef5n,
  flags1: 0x6ffffffbn,
  versionsNeeded: 0x6ffffffen,
  versionsNeededCount: 0x6fffffffn,
} as const;

/** A flag of `flags1`: a program that can be loaded anywhere, which has the type of a shared object. */
const pieFlag = 0x08000000n;

/** A part of the file, mapped at an address. */
interface Mapping {
  address: number;
  offset: number;
  bytes: number;
}

/** Reads a file. Returns null if it is not ELF at all; throws what the system says if it cannot be read. */
export function readElf(path: string): Elf | null {
  using file = Deno.openSync(path);
  const header = read(file, 0, headerBytes);
  if (header.byteLength < headerBytes || header.getUint32(0) !== magic) return null;
  const wide = header.getUint8(4) === 2;
  const littleEndian = header.getUint8(5) === 1;
  const number = header.getUint16(18, littleEndian);
  const name = machines[number] ?? `ELF machine ${number}`;
  const type = header.getUint16(16, littleEndian);
  const elf: Elf = {
    machine: wide && littleEndian
      ? name
      : `${wide ? "64" : "32"}-bit ${littleEndian ? "" : "big-endian "}${name}`,
    kind: type === 2 ? "program" : type === 3 ? "shared object" : "other",
    interpreter: null,
    needed: [],
    glibcNeeded: null,
    exports: new Set(),
  };
  if (wide && littleEndian) readSegments(file, header, elf);
  return elf;
}

function readSegments(file: Deno.FsFile, header: DataView, elf: Elf): void {
  const size = header.getUint16(54, true);
  const count = header.getUint16(56, true);
  if (size < segmentHeaderBytes) return;
  const table = read(file, number64(header, 32), size * count);
  const mappings: Mapping[] = [];
  let dynamic: Mapping | null = null;
  for (let at = 0; at + segmentHeaderBytes <= table.byteLength; at += size) {
    const kind = table.getUint32(at, true);
    const mapping = {
      offset: number64(table, at + 8),
      address: number64(table, at + 16),
      bytes: number64(table, at + 32),
    };
    if (kind === segment.load) mappings.push(mapping);
    if (kind === segment.dynamic) dynamic = mapping;
    if (kind === segment.interpreter) {
      elf.interpreter = textAt(read(file, mapping.offset, mapping.bytes), 0);
    }
  }
  if (dynamic === null) return;
  const entries = readDynamic(read(file, dynamic.offset, dynamic.bytes));
  if (((entries.get(tag.flags1)?.[0] ?? 0n) & pieFlag) !== 0n) elf.kind = "program";
  new Dynamic(file, mappings, entries).describe(elf);
}

function readDynamic(section: DataView): Map<bigint, bigint[]> {
  const entries = new Map<bigint, bigint[]>();
  for (let at = 0; at + dynamicEntryBytes <= section.byteLength; at += dynamicEntryBytes) {
    const kind = section.getBigInt64(at, true);
    if (kind === 0n) break;
    entries.set(kind, [...entries.get(kind) ?? [], section.getBigUint64(at + 8, true)]);
  }
  return entries;
}

/** The dynamic section and what its entries point to. */
class Dynamic {
  readonly #file: Deno.FsFile;
  readonly #mappings: readonly Mapping[];
  readonly #entries: Map<bigint, bigint[]>;
  readonly #strings: DataView;

  constructor(file: Deno.FsFile, mappings: readonly Mapping[], entries: Map<bigint, bigint[]>) {
    this.#file = file;
    this.#mappings = mappings;
    this.#entries = entries;
    this.#strings = this.#read(tag.strings, 0, this.#value(tag.stringBytes) ?? 0);
  }

  describe(elf: Elf): void {
    elf.needed = (this.#entries.get(tag.needed) ?? []).map((at) =>
      textAt(this.#strings, Number(at))
    );
    elf.glibcNeeded = this.#glibcNeeded();
    elf.exports = this.#exports();
  }

  #value(kind: bigint): number | null {
    const value = this.#entries.get(kind)?.[0];
    return value === undefined ? null : Number(value);
  }

  /** The bytes that an entry points to, from `skip` bytes on; none if there is no such entry. */
  #read(kind: bigint, skip: number, bytes: number): DataView {
    const address = this.#value(kind);
    const nothing = new DataView(new ArrayBuffer(0));
    if (address === null) return nothing;
    const from = address + skip;
    const mapping = this.#mappings.find((one) =>
      from >= one.address && from < one.address + one.bytes
    );
    if (mapping === undefined) return nothing;
    const rest = mapping.address + mapping.bytes - from;
    return read(this.#file, from - mapping.address + mapping.offset, Math.min(bytes, rest));
  }

  #glibcNeeded(): string | null {
    let newest: string | null = null;
    let at = 0;
    for (let file = this.#value(tag.versionsNeededCount) ?? 0; file > 0; file--) {
      const head = this.#read(tag.versionsNeeded, at, 16);
      if (head.byteLength < 16) break;
      let auxiliary = at + head.getUint32(8, true);
      for (let left = head.getUint16(2, true); left > 0; left--) {
        const one = this.#read(tag.versionsNeeded, auxiliary, 16);
        if (one.byteLength < 16) break;
        const name = textAt(this.#strings, one.getUint32(8, true));
        const version = /^GLIBC_([\d.]+)$/.exec(name)?.[1];
        if (version !== undefined && (newest === null || compareVersions(version, newest) > 0)) {
          newest = version;
        }
        auxiliary += one.getUint32(12, true);
      }
      const next = head.getUint32(12, true);
      if (next === 0) break;
      at += next;
    }
    return newest;
  }

  #exports(): Set<string> {
    const names = new Set<string>();
    const table = this.#read(tag.symbols, 0, this.#symbolCount() * symbolBytes);
    for (let at = 0; at + symbolBytes <= table.byteLength; at += symbolBytes) {
      const binding = table.getUint8(at + 4) >> 4;
      const defined = table.getUint16(at + 6, true) !== 0;
      // Local symbols have binding 0.
      if (binding !== 0 && defined) {
        names.add(textAt(this.#strings, table.getUint32(at, true)));
      }
    }
    return names;
  }

  /** No entry says how many symbols there are; the hash tables do, each in its way. */
  #symbolCount(): number {
    const table = this.#read(tag.hash, 0, 8);
    if (table.byteLength === 8) return table.getUint32(4, true);
    const head = this.#read(tag.gnuHash, 0, 16);
    if (head.byteLength < 16) return 0;
    const bucketCount = head.getUint32(0, true);
    const firstSymbol = head.getUint32(4, true);
    const bucketsAt = 16 + head.getUint32(8, true) * 8;
    const buckets = this.#read(tag.gnuHash, bucketsAt, bucketCount * 4);
    let last = 0;
    for (let at = 0; at + 4 <= buckets.byteLength; at += 4) {
      last = Math.max(last, buckets.getUint32(at, true));
    }
    if (last < firstSymbol) return firstSymbol;
    // The chain of the last bucket ends at the last symbol: its word has the lowest bit set.
    const chain = this.#read(
      tag.gnuHash,
      bucketsAt + bucketCount * 4 + (last - firstSymbol) * 4,
      Infinity,
    );
    for (let at = 0; at + 4 <= chain.byteLength; at += 4, last++) {
      if ((chain.getUint32(at, true) & 1) !== 0) return last + 1;
    }
    return last;
  }
}

/** Which of two versions such as "2.9" and "2.34" is newer: above 0 if the first is. */
export function compareVersions(one: string, other: string): number {
  const [left, right] = [one, other].map((version) => version.split(".").map(Number));
  for (let at = 0; at < Math.max(left?.length ?? 0, right?.length ?? 0); at++) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The bytes at an offset: fewer where the file ends before. */
function read(file: Deno.FsFile, offset: number, bytes: number): DataView {
  const there = Math.max(0, Math.min(bytes, file.statSync().size - offset));
  const buffer = new Uint8Array(there);
  let length = 0;
  if (there > 0) file.seekSync(offset, Deno.SeekMode.Start);
  while (length < there) {
    const count = file.readSync(buffer.subarray(length));
    if (count === null) break;
    length += count;
  }
  return new DataView(buffer.buffer, 0, length);
}

/** A number of 64 bits; beyond a file's size it need not be exact. */
function number64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

/** A text that ends with a zero byte. */
function textAt(view: DataView, at: number): string {
  if (at >= view.byteLength) return "";
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, view.byteLength - at);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
