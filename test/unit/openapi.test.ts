// The OpenAPI document of the admin API: it follows the rules, and nothing is missing in it.
import { Validator } from "@seriousme/openapi-schema-validator";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { adminApi } from "../../src/edge/admin/api.ts";
import { openApi } from "../../src/edge/admin/openapi.ts";

const { routes } = adminApi(() => {
  throw new Error("only the routes are looked at");
});
const document = openApi(routes, "/admin/v1");
const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));

/** What tells of the API, and is told of in words. */
const ITSELF = ["/openapi.json", "/reference"];

test("it is valid by the rules of OpenAPI 3.1", async () => {
  const validator = new Validator();
  const result = await validator.validate(structuredClone({ ...document }));
  expect(result).toEqual({ valid: true });
  expect(validator.version).toBe("3.1");
});

test("every route is in it, with all of its path's parameters", () => {
  const paths = new Map(Object.entries(document.paths));
  const missing = routes
    .filter(({ method, path }) => method !== "ALL" && !ITSELF.includes(path))
    .filter(({ method, path }) => {
      const operation = paths.get(path.replaceAll(/:(\w+)/g, "{$1}"))?.[method.toLowerCase()];
      const named = operation?.parameters.filter((parameter) => parameter.in === "path").map(({ name }) => name);
      return named?.join() !== [...path.matchAll(/:(\w+)/g)].map(([, name]) => name).join();
    });
  expect(missing.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
  expect(operations.length).toBeGreaterThan(30);
});

test("every operation says what it does, what it answers and how it refuses", () => {
  const problem = { schema: { $ref: "#/components/schemas/Problem" } };
  for (const { summary, parameters, responses, requestBody } of operations) {
    expect(summary).not.toBe("");
    const refusals = ["400", "401", "403", "500", "503", ...(requestBody === undefined ? [] : ["413"])];
    for (const status of refusals) expect(responses[status]?.content).toEqual({ "application/problem+json": problem });
    const done = [responses[200], responses[201]].filter((answer) => answer !== undefined);
    expect(done.length).toBeGreaterThan(0);
    for (const { content } of done) expect(content["application/json"]?.schema).not.toEqual({});
    for (const { schema } of parameters) expect(schema.type ?? schema.enum ?? schema.const).toBeDefined();
  }
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
});

test("every list is in pages, and every write takes an Idempotency-Key", () => {
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { parameters, responses }] of Object.entries(methods)) {
      const names = parameters.map(({ name }) => name);
      const isList = responses[200]?.content["application/json"]?.schema.type === "array";
      expect({ path, pages: names.includes("cursor") && names.includes("limit") }).toEqual({ path, pages: isList });
      if (isList) expect(responses[200]?.headers).toHaveProperty("realtime-next-cursor");
      expect({ path, method, key: names.includes("Idempotency-Key") }).toEqual({ path, method, key: method !== "get" });
    }
  }
});

test("every command that asks a server is one call of it", () => {
  // These run on this machine alone, or follow a socket.
  const elsewhere = ["start", "stop", "restart", "logs", "listen"];
  const realtime = buildProgram().commands.find((command) => command.name() === "realtime");
  const commands = realtime === undefined ? [] : leavesOf(realtime, "");
  const called = new Set(operations.flatMap((operation) => operation["x-nself-commands"]));
  expect([...called].sort()).toEqual(commands.filter((name) => !elsewhere.includes(name)).sort());
});

function leavesOf(command: Command, path: string): string[] {
  return command.commands.flatMap((child) => {
    const name = `${path} ${child.name()}`.trim();
    return child.commands.length > 0 ? leavesOf(child, name) : [name];
  });
}

test("a reader learns where the key goes, what the server reads of metadata, and how long a page is", () => {
  expect(document.info.description).toMatch(/in the header `apikey` or as `authorization: Bearer <key>`/);
  const body = document.paths["/channels"]?.post?.requestBody?.content["application/json"]?.schema;
  expect(body).toMatchObject({
    properties: {
      metadata: {
        type: "object",
        additionalProperties: {},
        properties: {
          max_members: { type: "integer", minimum: 1 },
          invite_only: { type: "boolean" },
          limits: { properties: { messages_per_minute: { type: "integer" }, replay: { maximum: 1_000 } } },
        },
      },
    },
  });
  const limitOf = (path: string) => document.paths[path]?.get?.parameters.find(({ name }) => name === "limit");
  expect(limitOf("/channels")?.description).toBe("Rows of the page; left out: 10000.");
  expect(limitOf("/channels/{channel}/messages")?.description).toMatch(/left out: 50, or 1000 with `since`/);
});
