/**
 * Ctrl-C as a wish to end early and keep what was measured.
 *
 * @module
 */

/** The exit status that a shell gives to what Ctrl-C ended. */
export const interruptedStatus = 130;

/** Turns Ctrl-C into an abort signal until it is disposed of. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  /** A terminal and `deno task` each send one Ctrl-C for one press: only a later one is a second wish. */
  readonly #secondWishMs = 1000;
  #pressedAt = 0;

  /** Listens from now on. */
  constructor() {
    Deno.addSignalListener("SIGINT", this.#onInterrupt);
  }

  /** Aborted once Ctrl-C has been pressed. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Listens no more: Ctrl-C ends the process again. */
  [Symbol.dispose](): void {
    Deno.removeSignalListener("SIGINT", this.#onInterrupt);
  }

  readonly #onInterrupt = (): void => {
    if (!this.signal.aborted) {
      this.#pressedAt = performance.now();
      this.#controller.abort();
    } else if (performance.now() - this.#pressedAt > this.#secondWishMs) {
      // Writing what was measured takes a moment; whoever asks again wants out at once.
      Deno.exit(interruptedStatus);
    }
  };
}
