// Starts workers that allocate, twice over, and prints what they computed; the buffers that they pass are
// dropped here.
import { createHash } from "node:crypto";
import type { Message } from "./deno_worker.ts";

function runWorker(seed: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const received = createHash("sha256");
    const worker = new Worker(new URL("./deno_worker.ts", import.meta.url), { type: "module" });
    worker.onerror = (event): void => reject(event.error);
    worker.onmessage = ({ data }: MessageEvent<Message>): void => {
      if (data.digest === undefined) {
        received.update(new Uint8Array(data.passed)).update(data.text);
        return;
      }
      worker.terminate();
      resolve(`${seed} ${data.digest} ${received.digest("hex")}`);
    };
    worker.postMessage(seed);
  });
}

for (const seeds of [[0, 1, 2, 3], [4, 5]]) {
  console.log((await Promise.all(seeds.map(runWorker))).join("\n"));
}
// Files and child processes go through the runtime's native side.
const path = await Deno.makeTempFile();
await Deno.writeTextFile(path, "line\n".repeat(300_000));
const copy = await Deno.readTextFile(path);
await Deno.remove(path);
const { stdout } = await new Deno.Command("/bin/sh", { args: ["-c", "echo from a child"] })
  .output();
console.log(copy.length, new TextDecoder().decode(stdout).trim());
