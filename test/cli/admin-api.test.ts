// The admin API at its door: who may come in, and what is said to input that is wrong.
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
  await call("POST", "/channels", { name: "general" });
});
afterAll(() => stack?.stop());

const problemDocument = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: z.string(),
});
const idOf = async (response: Response) => z.object({ id: z.string() }).parse(await response.json()).id;

const headers = (key: string) => ({ authorization: `Bearer ${key}`, "content-type": "application/json" });

/** Calls the admin API with the service key; a string is sent as it is, anything else as JSON. */
function call(method: string, path: string, body?: unknown): Promise<Response> {
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  const init = { method, headers: headers(stack.serviceKey) };
  return fetch(`${stack.url}/admin/v1${path}`, text === undefined ? init : { ...init, body: text });
}

async function problem(response: Response): Promise<{ status: number; code: string; detail: string }> {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const document = problemDocument.parse(await response.json());
  expect(document).toMatchObject({ type: `urn:nself:realtime:problem:${document.code}`, status: response.status });
  return document;
}

test("AC-208: only the service role comes in", async () => {
  const { status, detail } = await problem(await fetch(`${stack.url}/admin/v1/status`));
  expect({ status, detail }).toEqual({ status: 401, detail: expect.stringContaining("in the header apikey") });
  for (const key of [stack.anonKey, "nonsense"]) {
    const response = await fetch(`${stack.url}/admin/v1/channels`, { headers: headers(key) });
    expect([401, 403]).toContain(response.status);
  }
});

test.each([
  ["no JSON", "POST", "/channels", "{not json", "JSON"],
  ["no object", "POST", "/channels", [1], "must be an object"],
  ["an unknown key", "POST", "/channels", { name: "x", colour: 1 }, '"colour": not known here'],
  ["no name", "POST", "/channels", {}, "name: must be given"],
  ["an endless name", "POST", "/channels", { name: "x".repeat(201) }, "name: must be at most 200 characters"],
  ["an empty name", "POST", "/channels", { name: "" }, "name: must not be empty"],
  ["a name that is no text", "POST", "/channels", { name: 7 }, "name: must be a text"],
  ["too many hours", "POST", "/cleanup", { hours: 1e9 }, "hours: must be at most 876000"],
  ["a wrong type", "POST", "/channels", { name: "x", type: "secret" }, "type: must be public"],
  ["metadata that is no object", "POST", "/channels", { name: "x", metadata: [] }, "metadata: must be a JSON object"],
  [
    "too much metadata",
    "POST",
    "/channels",
    { name: "x", metadata: { a: "é".repeat(60_000) } },
    "metadata: must not be larger",
  ],
  ["the character NUL", "POST", "/channels", { name: "x", metadata: { a: "\0" } }, "cannot hold"],
  ["no payload", "POST", "/channels/general/messages", { event: "e" }, "payload: must be given"],
  ["no event", "POST", "/channels/general/messages", { payload: 1 }, "event: must be given"],
  [
    "a bad limit",
    "GET",
    "/channels/general/messages?limit=1001",
    undefined,
    "limit: must be a whole number from 1 to 1000",
  ],
  ["a bad time", "GET", "/channels/general/messages?since=notatime", undefined, "ISO 8601"],
  ["an unknown parameter", "GET", "/channels?colour=red", undefined, "colour"],
  ["a parameter given twice", "GET", "/presence?user=a&user=b", undefined, "user: "],
  ["a bad status", "PUT", "/channels/general/presence/u", { status: "asleep" }, "status: must be online"],
  ["no events", "POST", "/subscriptions", { table: "users", events: [] }, "events: must not be empty"],
  ["a bad table", "POST", "/subscriptions", { table: "a.b.c" }, "not the name of a table"],
])("%s is a bad request, and named", async (_what, method, path, body, reason) => {
  const { status, detail } = await problem(await call(method, path, body));
  expect({ status, detail }).toEqual({ status: 400, detail: expect.stringContaining(reason) });
});

test("a body that is not sent as JSON is refused", async () => {
  const init = { method: "POST", headers: { authorization: `Bearer ${stack.serviceKey}` }, body: '{"name":"x"}' };
  const { status, detail } = await problem(await fetch(`${stack.url}/admin/v1/channels`, init));
  expect({ status, detail }).toEqual({ status: 400, detail: expect.stringContaining("application/json") });
});

test("AC-117: a payload or a body over the limit is refused by the limit's name", async () => {
  for (const size of [1_000_000, 3_000_000]) {
    const response = await call("POST", "/channels/general/messages", { event: "e", payload: "x".repeat(size) });
    expect(await problem(response)).toMatchObject({
      status: 413,
      code: "too_large",
      detail: expect.stringContaining("1 MB"),
    });
  }
  const fits = await call("POST", "/channels/general/messages", { event: "e", payload: "x".repeat(999_998) });
  expect(fits.status).toBe(201);
});

test("what is not there is not found", async () => {
  for (const [method, path] of [
    ["GET", "/channels/nosuch"],
    ["DELETE", "/channels/nosuch"],
    ["GET", "/channels/nosuch/messages"],
    ["GET", "/presence?channel=nosuch"],
    ["DELETE", "/subscriptions/public.nosuch"],
    ["GET", "/nosuch"],
  ] as const) {
    expect(await problem(await call(method, path))).toMatchObject({ status: 404, code: "not_found" });
  }
  expect(await problem(await call("POST", "/subscriptions", { table: "public.nosuch" }))).toMatchObject({
    status: 404,
  });
});

test("a channel is made with 201, found with 200, and in conflict with 409", async () => {
  const made = await call("POST", "/channels", { name: "Once" });
  const again = await call("POST", "/channels", { name: "once" });
  expect([made.status, again.status]).toEqual([201, 200]);
  expect(await idOf(again)).toBe(await idOf(made));
  expect(await problem(await call("POST", "/channels", { name: "once", type: "private" }))).toMatchObject({
    status: 409,
    code: "conflict",
  });
});
