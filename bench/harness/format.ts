/**
 * Numbers as people read them in messages, tables and reports.
 *
 * @module
 */

const kibi = 1024;

/** A number of blocks, short: 1k, 2.5M. */
export function formatCount(count: number): string {
  if (count >= 1e6) return `${trimZeros(count / 1e6)}M`;
  if (count >= 1e3) return `${trimZeros(count / 1e3)}k`;
  return String(count);
}

/** A number of bytes with its unit: 512 B, 15.3 MiB. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= kibi && unit < units.length - 1) {
    value /= kibi;
    unit += 1;
  }
  const sign = bytes < 0 ? "-" : "";
  return `${sign}${unit === 0 ? trimZeros(value) : value.toPrecision(3)} ${units[unit]}`;
}

/** Bytes in MiB without the unit, for a column: two decimals. */
export function formatMib(bytes: number): string {
  return noNegativeZero((bytes / kibi / kibi).toFixed(2));
}

/** About three digits that tell something: 0, 0.012, 0.35, 12.3, 2105. */
export function formatFigure(value: number): string {
  const size = Math.abs(value);
  if (size < 0.0005) return "0";
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return value.toFixed(decimals);
}

/** Nanoseconds, of which hundredths mean little: 1.62, 12.3, 139. */
export function formatNs(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** A time in the unit that suits it: 7.41 ns, 21.3 µs, 28.6 ms, 1.25 s. */
export function formatDuration(nanoseconds: number): string {
  const units = ["ns", "µs", "ms", "s"];
  let value = nanoseconds;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${formatNs(value)} ${units[unit]}`;
}

/** A share as percent with as many decimals as tell something. */
export function formatPercent(share: number): string {
  return `${formatFigure(share * 100)} %`;
}

/** Seconds as they are spoken: 8 s, 2 min 05 s. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

function trimZeros(value: number): string {
  return value.toFixed(3).replace(/\.?0+$/, "");
}

function noNegativeZero(text: string): string {
  return /^-0(\.0+)?$/.test(text) ? text.slice(1) : text;
}
