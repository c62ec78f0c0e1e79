// Tokens of an expression as PostgreSQL writes policies.

export type Token =
  | { readonly kind: "word"; readonly text: string }
  /** A quoted name, its quotes taken off. */
  | { readonly kind: "name"; readonly text: string }
  | { readonly kind: "string"; readonly text: string }
  | { readonly kind: "number"; readonly text: string }
  | { readonly kind: "symbol"; readonly text: string };

const pattern =
  /\s*(?:([a-z_][a-z0-9_$]*)|"((?:[^"]|"")+)"|'((?:[^'\\]|'')*)'|(\d+)(?![\d.eE])|(::|->>|->|<=|>=|<>|[()[\],.=<>]))/iy;

/** The tokens of a text; undefined where something is in it that is not among them. */
export function tokensOf(text: string): Token[] | undefined {
  const tokens: Token[] = [];
  pattern.lastIndex = 0;
  while (pattern.lastIndex < text.trimEnd().length) {
    const found = pattern.exec(text);
    if (found === null) return undefined;
    const [, word, name, string, number, symbol] = found;
    if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (name !== undefined) tokens.push({ kind: "name", text: name.replaceAll('""', '"') });
    else if (string !== undefined) tokens.push({ kind: "string", text: string.replaceAll("''", "'") });
    else if (number !== undefined) tokens.push({ kind: "number", text: number });
    else if (symbol !== undefined) tokens.push({ kind: "symbol", text: symbol });
  }
  return tokens;
}
