// Writes that come twice: with the same Idempotency-Key, the second has the answer of the first.
import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import * as z from "zod";
import type { Once } from "../objects/rpc.ts";
import type { AdminEnv } from "./ports.ts";
import { Problem } from "./problem.ts";

/** Request header (draft-ietf-httpapi-idempotency-key-header); a key counts for one method and path. */
export const IDEMPOTENCY_HEADER = "Idempotency-Key";

export const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/)
  .meta({ description: "Any text that is new with each write, such as a UUID. Sent again, nothing is done twice." });

const kept = z.object({ status: z.number(), headers: z.record(z.string(), z.string()), body: z.string() });

/** The key of a request, with what it was given for; undefined when it has none. Throws `invalid_request`. */
export async function onceOf(c: Context): Promise<Once | undefined> {
  const given = c.req.header(IDEMPOTENCY_HEADER);
  if (given === undefined) return undefined;
  if (!idempotencyKey.safeParse(given).success) {
    throw new Problem("invalid_request", `${IDEMPOTENCY_HEADER}: must be 1 to 255 letters, digits or marks, no blanks`);
  }
  const { method, url } = c.req;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(await c.req.text()));
  const body = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { key: `${method} ${c.req.path} ${given}`, request: `${new URL(url).search} ${body}` };
}

/** Throws the problem of a key that came with another request before. */
export function refuseReuse(): never {
  throw new Problem("key_reused", `this ${IDEMPOTENCY_HEADER} came with another body before`);
}

/** Has the directory keep what was answered to a write with a key, and answers the same key from there. */
export const idempotency = createMiddleware<AdminEnv>(async (c, next) => {
  const once = c.req.method === "GET" ? undefined : await onceOf(c);
  if (once === undefined) return next();
  const directory = c.var.ports.directory();
  const begun = await directory.begin(once);
  if (begun === "key_reused") refuseReuse();
  if (begun === "under_way") throw new Problem("under_way", "the first request with this key is not done yet");
  if (begun !== "new") {
    const { status, headers, body } = kept.parse(JSON.parse(begun.answer));
    return new Response(body, { status, headers });
  }
  await next();
  await directory.finish(once, c.res.ok ? await answerOf(c.res) : null).catch((error: unknown) => {
    // What was done is done: whoever asks again has it done again, which nothing that comes by here minds.
    console.warn(JSON.stringify({ event: "answer not kept", path: c.req.path, reason: String(error) }));
  });
  return undefined;
});

async function answerOf(response: Response): Promise<string> {
  const answer: z.infer<typeof kept> = {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.clone().text(),
  };
  return JSON.stringify(answer);
}
