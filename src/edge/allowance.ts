// Allowances: how many messages each address may still send over HTTP, and what it is told of that.
import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import { type Bucket, Buckets } from "../protocol/bucket.ts";
import type { Claims } from "../protocol/claims.ts";
import { MAX_ADDRESSES, originOf } from "./address.ts";
import type { Authenticated } from "./authenticate.ts";
import { type Env, settingsOf } from "./env.ts";

/** What a sender may still send. Whoever is not limited is counted all the same, and reads it in the answer. */
interface Allowance {
  readonly bucket: Bucket;
  readonly limited: boolean;
}

/** A request whose sender is known and counted; without a limit there is nothing to count. */
export type Counted = Authenticated & { Variables: { allowance: Allowance | undefined } };

/** How much each address has sent. Each isolate counts for itself, as it does for connections (`upgrade.ts`). */
const messages = new Buckets(MAX_ADDRESSES);

/** Used, allowed, left (protocol.md §6.6), all in messages of the last minute. */
export const RATE_HEADERS = ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"];

/** Refuses a sender who has nothing left with 429, and tells everybody how much is left. */
export const limitMessages = createMiddleware<Counted>(async (c, next) => {
  const allowance = allowanceOf(c.req.raw, c.env, c.var.claims);
  c.set("allowance", allowance);
  if (allowance === undefined) return next();
  const { bucket, limited } = allowance;
  if (limited && bucket.left(Date.now()) === 0) c.res = tooMany(c, "Too many requests");
  else await next();
  const left = bucket.left(Date.now());
  const figures = [bucket.perMinute - left, bucket.perMinute, left];
  for (const [at, name] of RATE_HEADERS.entries()) c.header(name, String(figures[at]));
});

function allowanceOf(request: Request, env: Env, { role }: Claims): Allowance | undefined {
  const { limits, ipHeader } = settingsOf(env);
  const { messagesPerMinute } = limits;
  if (messagesPerMinute === 0) return undefined;
  const origin = originOf(request, ipHeader) ?? { network: "unknown", local: true };
  const isService = role === "service_role";
  // A server and the browsers beside it, behind one address, do not use up each other's.
  const key = isService ? `service ${origin.network}` : origin.network;
  const bucket = messages.of(key, messagesPerMinute, Date.now());
  return { bucket, limited: !isService && !origin.local };
}

/** Uses the allowance up by so many messages. False: they may not be sent now. */
export function spend({ var: { allowance } }: Context<Counted>, count: number): boolean {
  return allowance === undefined || allowance.bucket.take(Date.now(), count) || !allowance.limited;
}

/** The refusal of so many messages, with the time after which they may be sent, if ever. */
export function tooMany(c: Context<Counted>, message: string, count = 1): Response {
  const waitMs = c.var.allowance?.bucket.waitMs(Date.now(), count) ?? 0;
  const headers = Number.isFinite(waitMs) ? { "retry-after": String(Math.ceil(waitMs / 1000)) } : undefined;
  return c.json({ message }, 429, headers);
}
