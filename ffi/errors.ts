/**
 * What the binding throws when the library or the system fails. A wrong argument is a `TypeError` or a
 * `RangeError` instead.
 *
 * @module
 */

/**
 * The library or the system failed, or the library is closed. {@linkcode Error.cause} holds the error that
 * Deno or the system gave, where there was one.
 */
export class HakmemError extends Error {
  /** The name under which the error is shown. */
  override name = "HakmemError";
}

/** The system has not enough memory for a request. What was allocated before is as it was. */
export class OutOfMemoryError extends HakmemError {
  /** The name under which the error is shown. */
  override name = "OutOfMemoryError";
  /** The bytes that were asked for, rounded to a `number` where a product is above `2 ** 53`. */
  readonly size: number;

  /**
   * Makes the error, as the binding does.
   *
   * @param size The bytes that were asked for.
   */
  constructor(size: number) {
    super(`Cannot allocate ${size} bytes: the system has not enough memory`);
    this.size = size;
  }
}
