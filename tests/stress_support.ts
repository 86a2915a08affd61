/**
 * Registers the tests that run `hak-stress` in one mode at every door.
 *
 * @module
 */
import assert from "node:assert/strict";
import { checked, type Door, guarded, hak, libc, preload, runNative } from "./native_support.ts";

/** The doors that every mode is run at, the control first. */
export const stressDoors: Door[] = [libc, preload, checked, guarded, hak];

/** How much of a mode is run. */
export interface Amount {
  /** Threads at the same time. */
  threads: number;
  /** Operations in the sense of the mode. */
  operations: number;
  /** The same for libc, which only has to show that the test itself is sound, and for the slow guarded door. */
  control: number;
}

/** One test a door, with a seed of its own in every run. A failure says how to run the same again. */
export function stressTests(mode: string, { threads, operations, control }: Amount): void {
  for (const door of stressDoors) {
    Deno.test(`stress, ${door.name}: ${mode}, ${threads} threads`, async () => {
      const seed = crypto.getRandomValues(new Uint32Array(1))[0];
      const { code, text, command } = await runNative("hak-stress", door, [
        ...["--mode", mode, "--seed", `${seed}`, "--threads", `${threads}`],
        ...[
          "--operations",
          `${door === libc || door === guarded ? control : operations}`,
          "--limit",
          "150",
        ],
      ]);
      assert.match(text, new RegExp(`^seed ${seed}\n`), `${text}\n${command}`);
      assert.match(text, new RegExp(`^ok ${mode}: `, "m"), `${text}\n${command}`);
      assert.equal(code, 0, `${text}\n${command}`);
    });
  }
}
