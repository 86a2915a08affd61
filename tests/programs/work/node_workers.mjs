// Worker threads that allocate buffers, strings and objects, compress and hash them, and pass buffers on to
// other threads, which drop them.
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { deflateSync, gunzipSync, gzipSync, inflateSync } from "node:zlib";

const workers = 4;
const rounds = 90;

const randomNumbers = (seed) => {
  let state = seed * 2654435761 + 1;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * limit);
  };
};

const work = (seed) => {
  const random = randomNumbers(seed);
  const digest = createHash("sha256");
  const held = [];
  for (let round = 0; round < rounds; round++) {
    const rows = Array.from({ length: 300 }, (_, id) => ({
      id,
      name: "n".repeat(random(60)) + random(1e6),
      values: Array.from({ length: random(20) }, () => random(1e9)),
    }));
    const text = JSON.stringify(rows);
    const packed = gzipSync(text, { level: 1 + round % 9 });
    digest.update(packed);
    digest.update(gunzipSync(packed));
    digest.update(inflateSync(deflateSync(Buffer.from(text, "utf16le"))));
    for (let size = 1; size < 1 << 20; size = size * 2 + random(7)) {
      const block = Buffer.allocUnsafeSlow(size).fill(round);
      digest.update(block);
      held[random(64)] = block;
    }
    digest.update(Buffer.concat(rows.map((row) => Buffer.from(row.name))));
    const passed = new ArrayBuffer(1000 + random(100_000));
    new Uint8Array(passed).fill(random(256));
    digest.update(new Uint8Array(passed));
    parentPort.postMessage({ passed, rows: rows.slice(0, 20) }, [passed]);
  }
  parentPort.postMessage({ digest: digest.digest("hex") });
};

const runWorker = (seed) => {
  return new Promise((resolve, reject) => {
    const received = createHash("sha256");
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: seed });
    let result;
    worker.on("message", ({ passed, rows, digest }) => {
      if (digest !== undefined) {
        result = digest;
        return;
      }
      received.update(new Uint8Array(passed));
      received.update(JSON.stringify(rows));
    });
    worker.on("error", reject);
    worker.on("exit", (status) => {
      if (status === 0) resolve(`${seed} ${result} ${received.digest("hex")}`);
      else reject(new Error(`worker ${seed} ended with ${status}`));
    });
  });
};

if (isMainThread) {
  const seeds = Array.from({ length: workers }, (_, seed) => seed);
  console.log((await Promise.all(seeds.map(runWorker))).join("\n"));
} else {
  work(workerData);
}
