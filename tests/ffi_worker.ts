/**
 * A worker that opens the binding by itself and does what it is told, for tests of blocks that move between
 * threads. It must not be imported.
 *
 * @module
 */
import { Hakmem } from "../mod.ts";

/** What a worker can be told to do. It answers each with a list of addresses. */
export type Order =
  /** Allocate blocks, fill each with a byte, and answer with their addresses. */
  | { kind: "allocate"; count: number; size: number; fill: number }
  /** Check that blocks are filled with a byte, and free them. */
  | { kind: "free"; addresses: bigint[]; size: number; fill: number }
  /** Allocate and free, and keep nothing. */
  | { kind: "churn"; rounds: number }
  /** Allocate and free until terminated. */
  | { kind: "churn forever" }
  /** Close the library, or leave it open, and end. */
  | { kind: "end"; close: boolean };

declare const self: DedicatedWorkerGlobalScope;

interface DedicatedWorkerGlobalScope {
  onmessage: ((event: MessageEvent<Order>) => void) | null;
  postMessage(addresses: bigint[]): void;
  close(): void;
}

const hak = Hakmem.open();

self.onmessage = ({ data: order }) => {
  switch (order.kind) {
    case "allocate":
      return self.postMessage(Array.from({ length: order.count }, () => {
        const block = hak.malloc(order.size);
        view(block, order.size).fill(order.fill);
        return BigInt(Deno.UnsafePointer.value(block));
      }));
    case "free":
      for (const address of order.addresses) {
        const block = Deno.UnsafePointer.create(address);
        if (block === null || view(block, order.size).some((byte) => byte !== order.fill)) {
          throw new Error(`block ${address.toString(16)} does not hold ${order.fill}`);
        }
        hak.free(block);
      }
      return self.postMessage([]);
    case "churn":
      for (let i = 0; i < order.rounds; i++) churn(i);
      return self.postMessage([]);
    case "churn forever":
      churnForever();
      return self.postMessage([]);
    case "end":
      if (order.close) hak.close();
      self.postMessage([]);
      return self.close();
  }
};

function churn(round: number): void {
  const blocks = [16, 64, 500, 3000, 70_000].map((size) => hak.malloc(size + round % 64));
  for (const block of blocks) hak.free(block);
}

/** Deno cannot stop a worker inside a loop, so this one is left now and then. */
function churnForever(): void {
  for (let i = 0; i < 1000; i++) churn(i);
  setTimeout(churnForever);
}

function view(block: Deno.PointerObject, size: number): Uint8Array {
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(block, size));
}
