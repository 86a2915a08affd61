/**
 * What is checked before a number goes to native code.
 *
 * Deno checks an integer argument in its slow path and cuts it silently in its fast one, so the same call
 * would throw at first and corrupt memory later: nothing may reach native code unchecked.
 *
 * @module
 */

/** Returns a number of bytes, or a count, as native code takes it. Throws unless it is a safe integer ≥ 0. */
export function toUsize(value: number, name: string): bigint {
  if (!Number.isSafeInteger(value) || value < 0) throw wrongInteger(value, name);
  return BigInt(value);
}

/** The same for an alignment, which must also be a power of two. */
export function toAlignment(value: number): bigint {
  const bits = toUsize(value, "alignment");
  if (bits === 0n || (bits & (bits - 1n)) !== 0n) {
    throw new RangeError(`Cannot use ${value} as alignment: it must be a power of two`);
  }
  return bits;
}

/** Throws unless `value` is an integer from 0 up to and without `count`. */
export function checkIndex(value: number, name: string, count: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw wrongInteger(value, name);
  if (value >= count) {
    throw new RangeError(`Cannot use ${value} as ${name}: it must be from 0 to ${count - 1}`);
  }
}

/** Throws unless `value` is an array of addresses. */
export function checkAddresses(value: BigUint64Array<ArrayBuffer>): void {
  if (!(value instanceof BigUint64Array)) {
    throw new TypeError(`Cannot use ${shown(value)} as blocks: it must be a BigUint64Array`);
  }
  if (value.buffer.detached) {
    throw new TypeError(
      "Cannot use an array as blocks: it is detached, its addresses are elsewhere",
    );
  }
}

function wrongInteger(value: unknown, name: string): Error {
  const message = `Cannot use ${
    shown(value)
  } as ${name}: it must be an integer from 0 to 2 ** 53 - 1`;
  return typeof value === "number" ? new RangeError(message) : new TypeError(message);
}

/** A value in an error message: short, and whatever it is, without calling code of its own. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
    case "bigint":
      return `the bigint ${value}`;
    case "object":
    case "function":
      return value === null ? "null" : `a value of type ${typeof value}`;
    case "symbol":
      return "a symbol";
    default:
      return String(value);
  }
}
