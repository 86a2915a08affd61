/**
 * Tests that cannot run on every machine.
 *
 * @module
 */

/**
 * Registers a test, or, given a reason, one that is ignored and carries the reason in its name, from where
 * `./hak test` lists it.
 *
 * @param name What the test shows.
 * @param reason Why it cannot run here ("redis-server is not installed"), or `null` to run it.
 * @param fn The test.
 */
export function testUnless(
  name: string,
  reason: string | null,
  fn: (t: Deno.TestContext) => Promise<void> | void,
): void {
  if (reason === null) {
    Deno.test(name, fn);
  } else {
    Deno.test({ name: `${name} [skipped: ${reason}]`, ignore: true, fn });
  }
}
