// JSON read so that no number loses digits: a row's bigint is shown as it is stored.

declare global {
  // Part of the language since 2025, and of Node 22; the compiler's library does not know it yet.
  interface JSON {
    parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown;
    rawJSON(text: string): object;
  }
}

/** Parses JSON. A number that JavaScript would write differently stays its own text, for `JSON.stringify` to write. */
export function parseExact(text: string): unknown {
  return JSON.parse(text, (_key, value, { source }) =>
    typeof value === "number" && source !== undefined && String(value) !== source ? JSON.rawJSON(source) : value,
  );
}
