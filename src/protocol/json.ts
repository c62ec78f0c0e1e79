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
 * Cuts the texts of some members out of the text of a JSON object, which is known to be valid: what is cut keeps every
 * digit. A member that is not there is not in the answer; names must need no escapes.
 */
export function cutMembers<Name extends string>(
  object: JsonText,
  names: readonly Name[],
): Partial<Record<Name, JsonText>> {
  const cut: Partial<Record<Name, JsonText>> = {};
  let depth = 0;
  let member = "";
  let start = 0;
  for (let at = 0; at < object.length; at++) {
    const char = object[at];
    if (char === '"') {
      const open = at;
      at = endOfString(object, at);
      if (depth === 1 && object[skipBlanks(object, at + 1)] === ":" && member === "") {
        member = object.slice(open + 1, at);
        at = skipBlanks(object, at + 1);
        start = at + 1;
      }
    } else if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]" || char === ",") {
      if (depth === 1) {
        const name = names.find((wanted) => wanted === member);
        if (name !== undefined) cut[name] = object.slice(start, at).trim();
        member = "";
      }
      if (char !== ",") depth--;
    }
  }
  return cut;
}

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (text[at] === " ") at++;
  return at;
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

/** Where the string ends that begins at `open`: by `indexOf`, which passes over long strings faster than a loop. */
function endOfString(json: JsonText, open: number): number {
  let end = json.indexOf('"', open + 1);
  while (end > 0 && isEscaped(json, end)) end = json.indexOf('"', end + 1);
  return end < 0 ? json.length : end;
}

function isEscaped(json: JsonText, at: number): boolean {
  let slashes = 0;
  while (json[at - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}

/** Narrows a value to a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
