// Reads policies as PostgreSQL writes them. What is not known here is not understood, never guessed.
import type { RowSecurity, TableDescription } from "../../protocol/changes.ts";
import { VOLATILE } from "../../protocol/viewers.ts";
import {
  and,
  boolOfText,
  column,
  combined,
  compare,
  constant,
  intOfText,
  isAmong,
  mapped,
  memberOfJson,
  ofViewer,
  or,
  type Term,
  type Type,
  textOfJson,
  uuidOfText,
} from "./terms.ts";
import { type Token, tokensOf } from "./tokens.ts";

/** What names in a policy stand for. */
export type Scope = Pick<TableDescription, "columns"> & Pick<RowSecurity, "plain" | "known">;

/** Something that is not understood. */
class Unknown extends Error {}

const columnTypes: Record<string, Type> = {
  ...{ bool: "bool", int2: "int", int4: "int", int8: "int", text: "text", varchar: "text", uuid: "uuid" },
  ...{ numeric: "other", float4: "other", float8: "other", bytea: "other", interval: "other" },
  ...{ timestamptz: "other", timestamp: "other", date: "other", time: "other", timetz: "other" },
};
/** The largest value of each integer type, as far as numbers are exact here. */
const largest: Record<string, number> = { smallint: 32_767, integer: 2_147_483_647, bigint: Number.MAX_SAFE_INTEGER };

/** The term of a policy; undefined where it holds anything that is not known here. */
export function parsePolicy(text: string, scope: Scope): Term | undefined {
  const tokens = tokensOf(text);
  if (tokens === undefined) return undefined;
  try {
    const parser = new Parser(tokens, scope);
    const term = parser.expression();
    return parser.isAtEnd && term.type === "bool" ? term : undefined;
  } catch (error) {
    if (error instanceof Unknown) return undefined;
    throw error;
  }
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #scope: Scope;
  #at = 0;

  constructor(tokens: readonly Token[], scope: Scope) {
    this.#tokens = tokens;
    this.#scope = scope;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#tokens.length;
  }

  /** Whether these tokens come next, keywords in upper case; if so they are taken. */
  #takes(...texts: string[]): boolean {
    const fits = texts.every((text, index) => {
      const token = this.#tokens[this.#at + index];
      return (token?.kind === "word" || token?.kind === "symbol") && token.text === text;
    });
    if (fits) this.#at += texts.length;
    return fits;
  }

  #expect(...texts: string[]): void {
    if (!this.#takes(...texts)) throw new Unknown();
  }

  #take<K extends Token["kind"]>(...kinds: K[]): string {
    const token = this.#tokens[this.#at];
    if (token === undefined || !kinds.some((kind) => kind === token.kind)) throw new Unknown();
    this.#at++;
    return token.text;
  }

  expression(): Term {
    const terms = [this.#conjunction()];
    while (this.#takes("OR")) terms.push(this.#conjunction());
    return terms.length === 1 ? this.#one(terms) : or(terms.map(bool));
  }

  #conjunction(): Term {
    const terms = [this.#negation()];
    while (this.#takes("AND")) terms.push(this.#negation());
    return terms.length === 1 ? this.#one(terms) : and(terms.map(bool));
  }

  #one([term]: readonly Term[]): Term {
    if (term === undefined) throw new Unknown();
    return term;
  }

  #negation(): Term {
    if (!this.#takes("NOT")) return this.#comparison();
    return mapped("bool", bool(this.#negation()), (value) => !value);
  }

  #comparison(): Term {
    const left = this.#json();
    if (this.#takes("IS")) return this.#test(left);
    const operator = ["=", "<>", "<=", ">=", "<", ">"].find((symbol) => this.#takes(symbol));
    if (operator === undefined) return left;
    const isAny = operator === "=" && this.#takes("ANY");
    if (isAny || (operator === "<>" && this.#takes("ALL"))) return known(isAmong(left, this.#list(), !isAny));
    return known(compare(operator, left, this.#json()));
  }

  #test(left: Term): Term {
    const negated = this.#takes("NOT");
    if (this.#takes("DISTINCT", "FROM")) {
      const right = this.#json();
      known(compare("=", left, right));
      return combined(
        "bool",
        [left, right],
        (row, viewer) => (left.value(row, viewer) === right.value(row, viewer)) === negated,
      );
    }
    const wanted = this.#takes("NULL") ? null : this.#takes("TRUE") ? true : this.#takes("FALSE") ? false : undefined;
    if (wanted === undefined || left.type === "json" || left.type === "claims") throw new Unknown();
    if (wanted !== null) bool(left);
    return combined("bool", [left], (row, viewer) => (left.value(row, viewer) === wanted) !== negated);
  }

  /** `(ARRAY[…])`, or the same cast to an array of texts. */
  #list(): Term[] {
    this.#expect("(");
    if (this.#takes("(")) {
      const terms = this.#array();
      this.#expect(")", "::", "text", "[", "]", ")");
      return terms.map((term) => (term.type === "text" ? term : unknown()));
    }
    const terms = this.#array();
    this.#expect(")");
    return terms;
  }

  #array(): Term[] {
    this.#expect("ARRAY", "[");
    const terms = [this.#json()];
    while (this.#takes(",")) terms.push(this.#json());
    this.#expect("]");
    return terms;
  }

  #json(): Term {
    let term = this.#cast();
    for (;;) {
      const asText = this.#takes("->>");
      if (!asText && !this.#takes("->")) return term;
      const key = this.#take("string");
      this.#expect("::", "text");
      if (term.type !== "json" || VOLATILE.has(key)) throw new Unknown();
      const member = mapped("json", term, (value) => memberOfJson(value, key));
      term = asText ? mapped("text", member, textOfJson) : member;
    }
  }

  #cast(): Term {
    let term = this.#primary();
    while (this.#takes("::")) term = cast(term, this.#type());
    return term;
  }

  #type(): string {
    const name = this.#take("word");
    if (name !== "character") return name;
    this.#expect("varying");
    return "character varying";
  }

  #primary(): Term {
    if (this.#takes("(", "SELECT")) {
      const term = this.expression();
      this.#expect("AS");
      this.#take("word", "name");
      this.#expect(")");
      return term;
    }
    if (this.#takes("(")) {
      const term = this.expression();
      this.#expect(")");
      return term;
    }
    const token = this.#tokens[this.#at];
    if (token?.kind === "string") return this.#literal();
    if (token?.kind === "number") {
      const value = Number(this.#take("number"));
      return Number.isSafeInteger(value) ? constant("int", value) : unknown();
    }
    if (this.#takes("true")) return constant("bool", true);
    if (this.#takes("false")) return constant("bool", false);
    if (this.#takes("auth", ".")) return this.#authFunction();
    if (this.#takes("current_setting", "(")) return this.#setting();
    return this.#column(this.#take("word", "name"));
  }

  #literal(): Term {
    const text = this.#take("string");
    this.#expect("::");
    const type = this.#type();
    // Of an array or a type with a modifier more would come.
    if (this.#takes("[") || this.#takes("(")) throw new Unknown();
    if (type === "character varying" || type === "text") return constant("text", text);
    return settled(cast(constant("text", text), type));
  }

  #authFunction(): Term {
    const name = this.#take("word");
    this.#expect("(", ")");
    if (!this.#scope.known.includes(name)) throw new Unknown();
    // The others may be written by means of it.
    if (name !== "jwt" && !this.#scope.known.includes("jwt")) throw new Unknown();
    if (name === "jwt") return ofViewer("json", ({ claims }) => claims);
    if (name === "role") return ofViewer("text", ({ role }) => role);
    if (name !== "uid") throw new Unknown();
    return ofViewer("uuid", ({ claims }) => {
      const sub = memberOfJson(claims, "sub");
      return sub === null ? null : uuidOfText(sub);
    });
  }

  #setting(): Term {
    const name = this.#take("string");
    this.#expect("::", "text", ",", "true", ")");
    if (name !== "request.jwt.claims") throw new Unknown();
    return ofViewer("claims", ({ claims }) => claims);
  }

  #column(name: string): Term {
    const found = this.#scope.columns.find((one) => one.name === name);
    const type = found && columnTypes[found.type];
    return type && this.#scope.plain.includes(name) ? column(type, name) : unknown();
  }
}

function cast(term: Term, type: string): Term {
  const most = largest[type];
  const ofText = term.type === "text" && !term.reads.row;
  switch (type) {
    case "json":
    case "jsonb":
      return term.type === "claims" || term.type === "json" ? mapped("json", term, (value) => value) : unknown();
    case "text":
      return ["text", "uuid", "int"].includes(term.type) ? mapped("text", term, String) : unknown();
    case "uuid":
      return ofText ? mapped("uuid", term, uuidOfText) : unknown();
    case "boolean":
      return ofText ? mapped("bool", term, boolOfText) : unknown();
  }
  if (most === undefined) throw new Unknown();
  if (ofText) return mapped("int", term, (value) => intOfText(value, most));
  // A wider column is not made narrower: what does not fit would be an error.
  return term.type === "int" && type === "bigint" ? term : unknown();
}

/** A constant with the value that it has; not understood if it has none. */
function settled(term: Term): Term {
  try {
    return constant(term.type, term.value({}, { key: "", role: "", claims: {} }));
  } catch {
    throw new Unknown();
  }
}

function bool(term: Term): Term {
  return term.type === "bool" ? term : unknown();
}

function known(term: Term | undefined): Term {
  return term ?? unknown();
}

function unknown(): never {
  throw new Unknown();
}
