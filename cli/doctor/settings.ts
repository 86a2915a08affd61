/**
 * The `HAKMEM_*` variables: which there are, and what they may be.
 *
 * @module
 */
import { whyNotPreloadable } from "../../bench/harness/allocators.ts";
import { bad, type Finding, ok, warn } from "./finding.ts";

/** An environment variable that hakmem heeds. */
export interface Setting {
  /** Its name. */
  readonly name: string;
  /** The values that it may have, or null for the absolute path of a shared object. */
  readonly values: readonly string[] | null;
  /** It may be a number of bytes as well. */
  readonly bytes?: true;
}

/** Every variable there is; docs/SETTINGS.md explains them. */
export const settings: readonly Setting[] = [
  { name: "HAKMEM_CHECK", values: ["0", "1"] },
  { name: "HAKMEM_FOREIGN", values: ["abort", "ignore"] },
  { name: "HAKMEM_FRESH", values: ["auto", "touch", "populate64", "populate256", "huge"] },
  { name: "HAKMEM_LIB", values: null },
  { name: "HAKMEM_LIMIT", values: ["cgroup"], bytes: true },
];

/** A name that is this near to a known one is taken for a slip of the fingers. */
const slipMax = 3;

/** Looks at the variables of an environment that are, or were meant to be, settings. */
export function checkSettings(env: Readonly<Record<string, string>>): Finding[] {
  const findings: Finding[] = [];
  for (const [name, value] of Object.entries(env).sort()) {
    const setting = settings.find((one) => one.name === name);
    if (setting !== undefined) {
      findings.push(checkValue(setting, value));
    } else if (name.toUpperCase().startsWith("HAKMEM_") || nearest(name).distance <= 2) {
      findings.push(unknownName(name));
    }
  }
  return findings.length > 0 ? findings : [ok("settings", "no HAKMEM_* variable is set")];
}

function checkValue(setting: Setting, value: string): Finding {
  const { name } = setting;
  if (value === "") {
    return warn(
      "settings",
      `${name} is empty, which counts as unset`,
      "give it a value, or unset it",
    );
  }
  const fault = whatIsWrong(setting, value);
  if (fault === null) return ok("settings", `${name}=${value}`);
  return bad("settings", `${name}=${value} ${fault}`, `it takes ${wanted(setting)}; or unset it`);
}

function wanted({ values, bytes }: Setting): string {
  if (values === null) return "the absolute path of a libhakmem.so";
  if (bytes) return `${values.join(", ")} or bytes above 0, as 500000000, 512M or 2G`;
  return `one of ${values.join(", ")}`;
}

function whatIsWrong({ values, bytes }: Setting, value: string): string | null {
  if (bytes && isBytes(value)) return null;
  if (values !== null) return values.includes(value) ? null : "is not valid";
  if (!value.startsWith("/")) return "is no absolute path";
  return whyNotPreloadable(value);
}

/** As the allocator reads it: digits, and K, M or G behind them if need be. */
function isBytes(value: string): boolean {
  const [, digits, unit = ""] = /^(\d+)([KMG]?)$/i.exec(value) ?? [];
  if (digits === undefined) return false;
  const bytes = BigInt(digits) << BigInt(10 * (" KMG".indexOf(unit.toUpperCase() || " ")));
  return bytes > 0n && bytes < 1n << 64n;
}

function unknownName(name: string): Finding {
  const near = nearest(name);
  const names = settings.map((one) => one.name).join(", ");
  return bad(
    "settings",
    `${name} is no setting of hakmem`,
    near.distance <= slipMax ? `did you mean ${near.name}?` : `the settings are ${names}`,
  );
}

/** The known name that the fewest changes of one letter lead to, whatever the case. */
function nearest(name: string): { name: string; distance: number } {
  return settings
    .map((one) => ({ name: one.name, distance: distance(name.toUpperCase(), one.name) }))
    .reduce((best, one) => one.distance < best.distance ? one : best);
}

/** How many letters must be put in, taken out or replaced to make one word of another. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (const [line, letter] of [...from].entries()) {
    const next = [line + 1];
    for (const [column, other] of [...to].entries()) {
      next.push(Math.min(
        (row[column] ?? 0) + (letter === other ? 0 : 1),
        (row[column + 1] ?? 0) + 1,
        (next[column] ?? 0) + 1,
      ));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
