// A client of the admin API that knows nothing but its OpenAPI document, and holds the server to it.
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { expect } from "vitest";
import type { Document, OperationObject, Schema } from "../../src/edge/admin/openapi.ts";
import type { TestStack } from "./stack.ts";

export interface Wish {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

type Validate = ReturnType<Ajv2020["compile"]>;

export class DescribedClient {
  /** What has been called, and with which status it answered. */
  readonly seen = new Map<string, Set<number>>();
  readonly document: Document;
  readonly #stack: Pick<TestStack, "url" | "serviceKey">;
  readonly #operations: Map<string, { method: string; path: string; operation: OperationObject }>;
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #validators = new Map<string, Validate>();

  constructor(stack: Pick<TestStack, "url" | "serviceKey">, document: Document) {
    formats.default(this.#ajv);
    this.#stack = stack;
    this.document = document;
    this.#operations = new Map(
      Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, operation]) => [
          operation.operationId,
          { method: method.toUpperCase(), path, operation },
        ]),
      ),
    );
  }

  get operationIds(): string[] {
    return [...this.#operations.keys()];
  }

  /** Calls an operation. Fails when the answer is not one that the document names, in status, type or body. */
  async call(id: string, { params = {}, query = {}, body, headers = {} }: Wish = {}): Promise<Answered> {
    const found = this.#operations.get(id);
    if (found === undefined) throw new Error(`the document has no operation ${id}`);
    const { method, path, operation } = found;
    const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ""));
    const response = await fetch(`${this.#stack.url}/admin/v1${url}?${new URLSearchParams(query)}`, {
      method,
      headers: { apikey: this.#stack.serviceKey, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const answer = { status: response.status, headers: response.headers, body: await response.json() };
    const what = `${id} ${answer.status}`;
    const documented = operation.responses[String(answer.status)];
    if (documented === undefined) throw new Error(`${what} is not in the document: ${JSON.stringify(answer.body)}`);
    const type = response.headers.get("content-type") ?? "";
    const schema = documented.content[type.replace(/;.*/, "")]?.schema;
    if (schema === undefined) throw new Error(`${what} is not answered as ${type} in the document`);
    this.#expectValid(what, schema, answer.body);
    this.seen.set(id, (this.seen.get(id) ?? new Set()).add(answer.status));
    return answer;
  }

  #expectValid(what: string, schema: Schema, body: unknown): void {
    let validate = this.#validators.get(what);
    if (validate === undefined) {
      // References of the schema are into the document.
      const { components } = this.document;
      validate = this.#ajv.compile(closed({ ...schema, components: { schemas: components.schemas } }));
      this.#validators.set(what, validate);
    }
    validate(body);
    expect({ what, body, errors: validate.errors }).toEqual({ what, body, errors: null });
  }
}

/** The document lets answers grow; what they have today must all be in it. */
function closed(schema: object): object {
  const text = JSON.stringify(schema, (_, value: unknown) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
    const isObject = "type" in value && value.type === "object" && "properties" in value;
    return isObject && !("additionalProperties" in value) ? { ...value, additionalProperties: false } : value;
  });
  return JSON.parse(text);
}
