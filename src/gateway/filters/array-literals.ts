// Array literals: the elements of `{a,"b c",NULL}` as PostgreSQL reads them.

/**
 * The elements, null for NULL. Undefined for what is no array of one dimension: nested braces, a quote left open, an
 * element without text.
 */
export function parseArray(literal: string): (string | null)[] | undefined {
  const body = /^\{(.*)\}$/s.exec(literal)?.[1];
  if (body === undefined) return undefined;
  if (BLANK.test(body)) return [];
  const elements: (string | null)[] = [];
  for (let at = 0; ; ) {
    ELEMENT.lastIndex = at;
    const [whole, quoted, bare] = ELEMENT.exec(body) ?? [];
    if (whole === undefined) return undefined;
    elements.push(quoted === undefined ? bareElement(bare ?? "") : withoutEscapes(quoted));
    at += whole.length;
    if (at === body.length) return elements;
    if (body[at] !== ",") return undefined;
    at++;
  }
}

const BLANK = /^[ \t\n\r\v\f]*$/;
/** Blanks around an element are not of it; inside a bare one they are. Every alternative begins differently: no backtracking. */
const ELEMENT =
  /[ \t\n\r\v\f]*(?:"((?:[^"\\]|\\.)*)"|((?:[^",{}\\ \t\n\r\v\f]|\\.)+(?:[ \t\n\r\v\f]+(?:[^",{}\\ \t\n\r\v\f]|\\.)+)*))[ \t\n\r\v\f]*/sy;

function bareElement(text: string): string | null {
  return text.toUpperCase() === "NULL" ? null : withoutEscapes(text);
}

function withoutEscapes(text: string): string {
  return text.replace(/\\(.)/gs, "$1");
}
