// Moderation over HTTP: what a `moderate` frame asks for, by members who have no socket.
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { refusalFor } from "../gateway/control.ts";
import { Blocks } from "../protocol/blocks.ts";
import { roomObject } from "../protocol/topics.ts";
import { openStore } from "../store/store.ts";
import { isPrivate } from "./admin/objects.ts";
import { answerProblem, Problem } from "./admin/problem.ts";
import { type Counted, limitMessages, RATE_HEADERS, spend, tooMany } from "./allowance.ts";
import { requireToken } from "./authenticate.ts";

/** Room for metadata at its largest, however it is written. */
const MAX_BODY_BYTES = 400_000;

export const moderation = new Hono<Counted>();
moderation.onError(answerProblem);
moderation.use(cors({ origin: "*", exposeHeaders: [...RATE_HEADERS, "retry-after"] }));
moderation.use(requireToken);
moderation.use(limitMessages);
moderation.use(bodyLimit({ maxSize: MAX_BODY_BYTES, onError: tooLarge }));

function tooLarge(): never {
  throw new Problem("too_large", `the body is larger than ${MAX_BODY_BYTES} bytes`);
}

/** `{ "event", "payload" }` as in a frame, on a registered channel by its slug, id or name. */
moderation.post("/:channel", async (c) => {
  const { env } = c;
  const { claims } = c.var;
  if (!spend(c, 1)) return tooMany(c, "Too many requests");
  // No gateway has kept out who is banned.
  const blocks = new Blocks();
  blocks.set({ revision: 1, blocks: await env.DIRECTORY.getByName("directory").blocks() });
  const block = blocks.of(claims, Date.now());
  if (block !== undefined) throw new Problem("not_allowed", `Unauthorized: ${refusalFor(block)}`);
  const act: unknown = await c.req.json().catch(() => undefined);
  const reference = c.req.param("channel");
  const channel = await openStore(env).channels.find(reference);
  if (channel === undefined) throw new Problem("not_found", `there is no channel "${reference}"`);
  const room = env.CHANNEL.getByName(roomObject(channel.slug, isPrivate(channel)));
  const refusal = await room.moderate({ role: claims.role, user: claims.user }, act);
  if (refusal !== null) throw new Problem(refusal.code, refusal.reason);
  return c.json({});
});
