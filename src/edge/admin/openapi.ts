// The OpenAPI document of the admin API: read from its routes, so that no route can be missing and no schema another one.
import type { RouterRoute } from "hono/types";
import * as z from "zod";
import { type ProblemCode, problems } from "../../protocol/errors.ts";
import { NEXT_HEADER } from "./cursor.ts";
import { IDEMPOTENCY_HEADER, idempotencyKey } from "./idempotency.ts";
import { type Operation, type Part, said, TAGS } from "./operation.ts";
import { problemDocument } from "./problem.ts";

export type Schema = z.core.JSONSchema.BaseSchema;

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description?: string | undefined;
  readonly schema: Schema;
}

interface Content {
  readonly [type: string]: { readonly schema: Schema };
}

export interface Answer {
  readonly description: string;
  readonly content: Content;
  readonly headers?: Readonly<Record<string, { readonly description: string; readonly schema: Schema }>>;
}

export interface OperationObject {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  /** The commands of `nself realtime` that make this call. */
  readonly "x-nself-commands": readonly string[];
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly required: true; readonly content: Content };
  readonly responses: Readonly<Record<string, Answer>>;
}

export interface Document {
  readonly openapi: "3.1.1";
  readonly info: Readonly<Record<"title" | "version" | "description", string>>;
  readonly servers: readonly { readonly url: string }[];
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly securitySchemes: Readonly<Record<string, Readonly<Record<string, string>>>>;
  };
}

const PROBLEM = "application/problem+json";

/** Any operation may end with these. */
const ALWAYS: readonly ProblemCode[] = [
  "invalid_request",
  "unauthorized",
  "forbidden",
  "internal",
  "store_not_ready",
  "store_unavailable",
];
const OF_BODIES: readonly ProblemCode[] = ["too_large"];
const OF_KEYS: readonly ProblemCode[] = ["under_way", "key_reused"];

const DESCRIPTION = `Every command of \`nself realtime\` is one call of this API. It needs a key of the role \`service_role\`,
in the header \`apikey\` or as \`authorization: Bearer <key>\`. A browser that reads the reference asks for it as the password.

Lists come in pages: \`limit\` says how long a page is at most, and while there are more the header \`${NEXT_HEADER}\` has the
\`cursor\` of the next. Errors are problem documents (RFC 9457); a program tests their \`code\`. A write that is sent again
with the same \`${IDEMPOTENCY_HEADER}\` within 24 hours is not done again: it has the first one's answer.`;

/** Writes the document of the routes that are mounted at `url`. Routes that say nothing of themselves are left out. */
export function openApi(routes: readonly RouterRoute[], url: string): Document {
  const schemas: Record<string, Schema> = {};
  const paths: Record<string, Record<string, OperationObject>> = {};
  for (const { method, path, part } of described(routes)) {
    const at = path.replaceAll(/:(\w+)/g, "{$1}");
    paths[at] = { ...paths[at], [method.toLowerCase()]: operationObject(method, part, schemas) };
  }
  return {
    openapi: "3.1.1",
    info: { title: "nself realtime admin API", version: "1", description: DESCRIPTION },
    servers: [{ url }],
    security: [{ bearer: [] }, { apikey: [] }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      schemas,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "The service key, or a JWT of the role service_role." },
        apikey: { type: "apiKey", in: "header", name: "apikey", description: "The same without `Bearer`." },
      },
    },
  };
}

type Described = Part & { readonly operation: Operation };

/** Each route with all that its handlers say of it. */
function* described(routes: readonly RouterRoute[]): Generator<{ method: string; path: string; part: Described }> {
  const found = new Map<string, { method: string; path: string; part: Part }>();
  for (const { method, path, handler } of routes) {
    const key = `${method} ${path}`;
    found.set(key, { method, path, part: { ...found.get(key)?.part, ...said(handler) } });
  }
  for (const { method, path, part } of found.values()) {
    const { operation } = part;
    if (operation !== undefined) yield { method, path, part: { ...part, operation } };
  }
}

function operationObject(method: string, part: Described, schemas: Record<string, Schema>): OperationObject {
  const { id, tag, summary, description, commands, answers, headers = {}, problems: own = [] } = part.operation;
  const write = method !== "GET";
  const parameters = [
    ...parametersOf("path", part.path, schemas),
    ...parametersOf("query", part.query, schemas),
    ...(write ? parametersOf("header", z.object({ [IDEMPOTENCY_HEADER]: idempotencyKey.optional() }), schemas) : []),
  ];
  const paged = parameters.some(({ name }) => name === "cursor");
  const told = { ...headers, ...(paged ? { [NEXT_HEADER]: "The cursor of the next page; absent on the last." } : {}) };
  const content = part.body && { "application/json": { schema: schemaOf(part.body, "input", schemas) } };
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    "x-nself-commands": commands,
    parameters,
    ...(content === undefined ? {} : { requestBody: { required: true, content } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, body]) => [status, answer(status, body, told, schemas)]),
      ),
      ...problemAnswers([...ALWAYS, ...(part.body ? OF_BODIES : []), ...(write ? OF_KEYS : []), ...own], schemas),
    },
  };
}

function answer(
  status: string,
  body: z.ZodType,
  headers: Readonly<Record<string, string>>,
  schemas: Record<string, Schema>,
): Answer {
  const described = Object.entries(headers).map(([name, description]) => [
    name,
    { description, schema: { type: "string" as const } },
  ]);
  return {
    description: status === "201" ? "Made" : "Done",
    content: { "application/json": { schema: schemaOf(body, "output", schemas) } },
    ...(described.length === 0 ? {} : { headers: Object.fromEntries(described) }),
  };
}

/** One answer a status, with the codes that it may have. */
function problemAnswers(codes: readonly ProblemCode[], schemas: Record<string, Schema>): Record<string, Answer> {
  const schema = schemaOf(problemDocument, "output", schemas);
  const byStatus = Map.groupBy(new Set(codes), (code) => problems[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => `\`${code}\`: ${problems[code].title}`).join("; "),
        content: { [PROBLEM]: { schema } },
      },
    ]),
  );
}

function parametersOf(
  place: Parameter["in"],
  schema: z.ZodType | undefined,
  schemas: Record<string, Schema>,
): Parameter[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema, "input", schemas);
  return Object.entries(properties).map(([name, property]) => {
    if (typeof property === "boolean") throw new Error(`the parameter ${name} has no schema`);
    const { description, ...rest } = property;
    return {
      name,
      in: place,
      required: required.includes(name),
      ...(description === undefined ? {} : { description }),
      schema: rest,
    };
  });
}

/** A schema as the document has it; those with an id go into its components. */
function schemaOf(schema: z.ZodType, io: "input" | "output", schemas: Record<string, Schema>): Schema {
  const made = z.toJSONSchema(schema, { io, override: ({ jsonSchema }) => lighten(jsonSchema, io) });
  const text = JSON.stringify(made).replaceAll("#/$defs/", "#/components/schemas/");
  const { $schema: _, $defs = {}, ...rest }: Schema = JSON.parse(text);
  Object.assign(schemas, $defs);
  return rest;
}

/** Leaves out what says nothing to a reader, and lets answers grow: a client must not stumble over a new field. */
function lighten(schema: Schema, io: "input" | "output"): void {
  if (schema.format !== undefined) delete schema.pattern;
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (schema.propertyNames !== undefined) delete schema.propertyNames;
  if (io === "output" && schema.additionalProperties === false) delete schema.additionalProperties;
}
