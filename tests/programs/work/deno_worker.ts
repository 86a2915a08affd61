// One worker: buffers of every size, strings, objects, compression, text coding, structured clones.
import { createHash } from "node:crypto";

/** What a worker sends: parts to be dropped by the receiver, at last the digest of its own work. */
export type Message =
  | { readonly digest: string }
  | { readonly digest?: undefined; readonly passed: ArrayBuffer; readonly text: string };

const rounds = 60;

function randomNumbers(seed: number): (limit: number) => number {
  let state = seed * 2654435761 + 1;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * limit);
  };
}

async function packAndUnpack(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  const unpacked = packed.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

async function work(
  seed: number,
  send: (message: Message, moved: Transferable[]) => void,
): Promise<void> {
  const random = randomNumbers(seed);
  const digest = createHash("sha256");
  const held: unknown[] = [];
  for (let round = 0; round < rounds; round++) {
    const rows = Array.from({ length: 300 }, (_, id) => ({
      id,
      name: "n".repeat(random(60)) + random(1e6),
      values: Array.from({ length: random(20) }, () => random(1e9)),
    }));
    const text = JSON.stringify(structuredClone(rows));
    digest.update(await packAndUnpack(new TextEncoder().encode(text)));
    for (let size = 1; size < 1 << 20; size = size * 2 + random(7)) {
      const block = new Uint8Array(size).fill(round);
      digest.update(block);
      held[random(64)] = block;
    }
    held[64 + random(8)] = new Map(rows.map((row) => [row.name, row]));
    const passed = new ArrayBuffer(1000 + random(100_000));
    new Uint8Array(passed).fill(random(256));
    send({ passed, text: text.slice(0, 1000) }, [passed]);
  }
  send({ digest: digest.digest("hex") }, []);
}

const scope = self as unknown as Worker;
scope.onmessage = ({ data }: MessageEvent<number>): void => {
  work(data, (message, moved) => scope.postMessage(message, moved));
};
