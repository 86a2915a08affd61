/**
 * CSV as RFC 4180 says.
 *
 * @module
 */

/** What a field may hold; what is absent is an empty field. */
export type Field = string | number | boolean | null | undefined;

/** Writes lines of fields. */
export function renderFields(lines: readonly (readonly Field[])[]): string {
  return lines.map((fields) => fields.map(quote).join(",") + "\r\n").join("");
}

function quote(value: Field): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
