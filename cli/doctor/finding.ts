/**
 * What the doctor finds: one line each.
 *
 * @module
 */

/** `bad` is wrong, `warn` works but deserves a look. */
export type Level = "ok" | "warn" | "bad";

/** One thing that was looked at. */
export interface Finding {
  /** Whether it is as it should be. */
  level: Level;
  /** What was looked at: a word or two. */
  topic: string;
  /** What was found. */
  found: string;
  /** How to mend it; null where there is nothing to mend. */
  mend: string | null;
}

/** All is well. */
export function ok(topic: string, found: string): Finding {
  return { level: "ok", topic, found, mend: null };
}

/** It works, but the caller should know. */
export function warn(topic: string, found: string, mend: string): Finding {
  return { level: "warn", topic, found, mend };
}

/** It does not work. */
export function bad(topic: string, found: string, mend: string): Finding {
  return { level: "bad", topic, found, mend };
}

/** A finding as a line for people. */
export function renderFinding({ level, topic, found, mend }: Finding): string {
  const text = mend === null ? found : `${found}; ${mend}`;
  // What a program wrote or a variable holds may have line breaks, and bytes that move the cursor.
  // deno-lint-ignore no-control-regex
  const line = text.replaceAll(/[\x00-\x1f\x7f]+/g, " ");
  return `${level.padEnd(4)}  ${topic.padEnd(12)}  ${line}`;
}
