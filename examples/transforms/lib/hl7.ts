// HL7 v2 text: segments of fields, each segment ended by a carriage return.

const escapes: { [character: string]: string } = {
  "\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\",
};

/** A value as it stands in a field: what would be a delimiter is escaped. */
export function text(value: string): string {
  return value.replace(/[\\|^&~\r\n]/g, (c) => escapes[c]);
}

/** Components of a field; each is escaped. */
export function components(...parts: string[]): string {
  return parts.map(text).join("^");
}

/** A segment from its fields by their number in the standard; others are empty. */
export function segment(name: string, fields: { [number: number]: string }): string {
  const numbers = Object.keys(fields).map(Number);
  const last = Math.max(...numbers);
  const all = [name];
  // Field 1 of MSH is the delimiter itself.
  for (let n = name === "MSH" ? 2 : 1; n <= last; n++) all.push(fields[n] ?? "");
  return all.join("|") + "\r";
}
