// JSON as text: what only passes through is validated once and never parsed again.

/** A string that holds one JSON value. Row images travel as text so that no number loses digits on the way. */
export type JsonText = string;

/** The bytes that a text takes in UTF-8. */
export function utf8Length(text: string): number {
  return encoder.encode(text).byteLength;
}

const encoder = new TextEncoder();

/** True when a text (in UTF-8) or bytes are longer than `limit` bytes; encodes only when the length does not decide. */
export function exceeds(content: string | Uint8Array, limit: number): boolean {
  if (content.length > limit) return true;
  return typeof content === "string" && content.length * 3 > limit && utf8Length(content) > limit;
}

/** Adds a member at the end of the text of a JSON object: `{"a":1}` and `"b"`, `2` give `{"a":1,"b":2}`. */
export function withMember(object: JsonText, key: string, value: JsonText): JsonText {
  const end = object.lastIndexOf("}");
  const head = object.slice(0, end).trimEnd();
  return `${head}${head.endsWith("{") ? "" : ","}${JSON.stringify(key)}:${value}}`;
}

/**
 * The text of a JSON object with its members as `change` gives them back, or without those that it gives nothing for.
 * Values are cut out as text and never re-serialised, so a number keeps its digits. The text must be valid.
 */
export function mapMembers(
  object: JsonText,
  change: (name: string, value: JsonText) => JsonText | undefined,
): JsonText {
  const kept: string[] = [];
  for (const [name, value] of members(object)) {
    const changed = change(name, value);
    if (changed !== undefined) kept.push(`${JSON.stringify(name)}:${changed}`);
  }
  return `{${kept.join(",")}}`;
}

/** The members of the text of a JSON object, in their order, each value as its text. The text must be valid. */
export function* members(object: JsonText): Generator<readonly [name: string, value: JsonText]> {
  let depth = 0;
  let name: string | undefined;
  let start = 0;
  for (let at = 0; at < object.length; at++) {
    const char = object[at];
    if (char === '"') {
      const end = endOfString(object, at);
      if (depth === 1 && name === undefined) {
        name = String(JSON.parse(object.slice(at, end + 1)));
        start = object.indexOf(":", end) + 1;
        at = start - 1;
      } else at = end;
    } else if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]" || char === ",") {
      if (depth === 1 && name !== undefined) {
        yield [name, object.slice(start, at).trim()];
        name = undefined;
      }
      if (char !== ",") depth--;
    }
  }
}

/** Where the string ends that opens at `open`. */
function endOfString(text: string, open: number): number {
  for (let at = text.indexOf('"', open + 1); at > 0; at = text.indexOf('"', at + 1)) {
    let escapes = 0;
    while (text[at - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return at;
  }
  return text.length;
}

/** The texts of some members of the text of a JSON object; one that is not there is not in the answer. */
export function cutMembers<Name extends string>(
  object: JsonText,
  names: readonly Name[],
): Partial<Record<Name, JsonText>> {
  const cut: Partial<Record<Name, JsonText>> = {};
  for (const [name, value] of members(object)) {
    const wanted = names.find((one) => one === name);
    if (wanted !== undefined) cut[wanted] = value;
  }
  return cut;
}

/** Parses JSON; undefined when the text is none (no JSON text parses to undefined). */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether the text of a JSON value is nested deeper than `limit`. A text that has no room for that is not looked at. */
export function isDeeper(json: JsonText, limit: number): boolean {
  if (json.length < 2 * limit) return false;
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const char = json[at];
    if (char === '"') at = endOfString(json, at);
    else if (char === "]" || char === "}") depth--;
    else if ((char === "[" || char === "{") && ++depth > limit) return true;
  }
  return false;
}

/** Narrows a value to a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
