/**
 * What the dynamic loader of a platform sees in an object: read from the file, for any platform on any machine.
 *
 * @module
 */
import assert from "node:assert/strict";

const machines: Record<number, string> = { 0x3e: "x86_64", 0xb7: "aarch64" };
const machMachines: Record<number, string> = { 0x0100_0007: "x86_64", 0x0100_000c: "aarch64" };

const segment = { load: 1, dynamic: 2 };
const tag = { end: 0, needed: 1, strings: 5, flags: 30, versions: 0x6fff_fffe, count: 0x6fff_ffff };
const staticTlsFlag = 0x10;

/** What an ELF object for a 64-bit little-endian machine says to the loader. */
export interface DynamicObject {
  machine: string;
  /** Of the segments that are mapped. */
  segmentAlignments: number[];
  /** It wants room that the loader gives out at the start of the process. */
  staticTls: boolean;
  /** The libraries that it names. */
  needed: string[];
  /** The symbol versions that it wants of them. */
  versions: string[];
}

/** Reads an ELF object. */
export async function dynamicObject(path: string): Promise<DynamicObject> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  const number = (at: number): number => Number(view.getBigUint64(at, true));
  const short = (at: number): number => view.getUint16(at, true);
  const word = (at: number): number => view.getUint32(at, true);
  assert.equal(word(0), 0x464c_457f, `${path} is an ELF file`);
  assert.equal(bytes[4], 2, `${path} is for 64 bits`);

  const headers = Array.from({ length: short(56) }, (_, index) => {
    const at = number(32) + index * short(54);
    return {
      kind: word(at),
      offset: number(at + 8),
      address: number(at + 16),
      bytes: number(at + 32),
      alignment: number(at + 48),
    };
  });
  const loads = headers.filter(({ kind }) => kind === segment.load);
  const offsetOf = (address: number): number => {
    const load = loads.find((each) =>
      address >= each.address && address < each.address + each.bytes
    );
    assert(load !== undefined, `${path} has bytes at ${address}`);
    return load.offset + address - load.address;
  };

  const dynamic = headers.find(({ kind }) => kind === segment.dynamic);
  assert(dynamic !== undefined, `${path} is dynamic`);
  const entries: [number, number][] = [];
  for (let at = dynamic.offset; number(at) !== tag.end; at += 16) {
    entries.push([number(at), number(at + 8)]);
  }
  const valueOf = (wanted: number): number => entries.find(([one]) => one === wanted)?.[1] ?? 0;
  const strings = offsetOf(valueOf(tag.strings));
  const text = (start: number): string => textAt(bytes, strings + start);

  const versions: string[] = [];
  let file = valueOf(tag.versions) === 0 ? 0 : offsetOf(valueOf(tag.versions));
  for (let left = valueOf(tag.count); left > 0; left--) {
    let version = file + word(file + 8);
    for (let more = short(file + 2); more > 0; more--) {
      versions.push(text(word(version + 8)));
      version += word(version + 12);
    }
    file += word(file + 12);
  }
  return {
    machine: machines[short(18)] ?? `machine ${short(18)}`,
    segmentAlignments: loads.map(({ alignment }) => alignment),
    staticTls: (valueOf(tag.flags) & staticTlsFlag) !== 0,
    needed: entries.filter(([one]) => one === tag.needed).map(([, value]) => text(value)),
    versions,
  };
}

function textAt(bytes: Uint8Array, start: number): string {
  return new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start)));
}

/** Whether a version such as `GLIBC_2.3.2` is no newer than another. */
export function versionAtMost(version: string, most: string): boolean {
  const [name = "", numbers = ""] = version.split("_");
  const [limitName, limitNumbers = ""] = most.split("_");
  if (name !== limitName) return false;
  const parts = numbers.split(".").map(Number);
  const limits = limitNumbers.split(".").map(Number);
  for (let index = 0; index < Math.max(parts.length, limits.length); index++) {
    const difference = (parts[index] ?? 0) - (limits[index] ?? 0);
    // A part that is no number, as in GLIBC_PRIVATE, is no version to rely on.
    if (Number.isNaN(difference)) return false;
    if (difference !== 0) return difference < 0;
  }
  return true;
}

const command = { symbols: 2, library: 0xc, segment: 0x19 };

/** A Mach-O library for one 64-bit machine. */
export class MachObject {
  readonly machine: string;
  /** The libraries that it names. */
  readonly libraries: string[] = [];
  /** The names that others find in it. */
  readonly exported: string[] = [];
  readonly #sections = new Map<string, number>();

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    const view = new DataView(bytes.buffer);
    const word = (at: number): number => view.getUint32(at, true);
    assert.equal(word(0), 0xfeed_facf, "it is a Mach-O file for 64 bits");
    assert.equal(word(12), 6, "it is a library");
    this.machine = machMachines[word(4)] ?? `machine ${word(4)}`;
    let at = 32;
    for (let left = word(16); left > 0; left--) {
      switch (word(at)) {
        case command.library:
          this.libraries.push(textAt(bytes, at + word(at + 8)));
          break;
        case command.segment:
          for (let index = 0; index < word(at + 64); index++) {
            const section = at + 72 + index * 80;
            const name = new TextDecoder().decode(bytes.subarray(section, section + 16));
            const size = Number(view.getBigUint64(section + 40, true));
            this.#sections.set(name.replace(/\0+$/, ""), size);
          }
          break;
        case command.symbols:
          for (let index = 0; index < word(at + 12); index++) {
            const symbol = word(at + 8) + index * 16;
            const kind = bytes[symbol + 4] ?? 0;
            // External, not private, defined in a section.
            if ((kind & 0x1f) === 0x0f) {
              this.exported.push(textAt(bytes, word(at + 16) + word(symbol)));
            }
          }
          break;
      }
      at += word(at + 4);
    }
  }

  /** The bytes of a section; 0 where there is none. */
  sectionBytes(name: string): number {
    return this.#sections.get(name) ?? 0;
  }
}
