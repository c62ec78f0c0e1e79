// Admin API: control over who is connected. Everything is in force at once, at every object that holds sockets.
import { Hono } from "hono";
import * as z from "zod";
import type { Block } from "../../protocol/blocks.ts";
import { roomObject } from "../../protocol/topics.ts";
import { heldBy } from "./connections.ts";
import { body, name, path, query } from "./input.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";

/** Ten years. */
const MAX_SECONDS = 315_360_000;

const user = path(z.object({ user: name }));
const reason = z.string().min(1).max(100).optional();
const seconds = z.number().int().min(1).max(MAX_SECONDS).optional();
const scope = z.strictObject({ channel: name.optional() });

export const control = new Hono<AdminEnv>()
  .delete("/connections/:connection", path(z.object({ connection: name })), async (c) => {
    const { connection } = c.req.valid("param");
    const ended = await heldBy(c.var.ports, (holder) => holder.disconnect(connection));
    if (!ended.includes(true)) throw new Problem("not_found", `there is no connection "${connection}"`);
    return c.json({ connection_id: connection });
  })
  .post("/users/:user/kick", user, body(z.strictObject({ channel: name.optional(), reason })), async (c) => {
    const { ports } = c.var;
    const { channel, reason = "You were removed by an administrator" } = c.req.valid("json");
    const { user } = c.req.valid("param");
    const slug = channel === undefined ? undefined : await slugOf(ports, channel);
    const counts = await heldBy(ports, (holder) => holder.kick(user, slug, reason));
    return c.json({ user_id: user, connections: counts.reduce((sum, count) => sum + count, 0) });
  })
  .put("/users/:user/ban", user, body(z.strictObject({ channel: name.optional(), seconds, reason })), async (c) => {
    const { ports } = c.var;
    const { user } = c.req.valid("param");
    const { channel, seconds, reason = null } = c.req.valid("json");
    const until = seconds === undefined ? null : Date.now() + seconds * 1_000;
    const slug = channel === undefined ? null : await slugOf(ports, channel);
    if (slug === null) await block(ports, { kind: "user", id: user, until, reason });
    else if (!(await eachRoom(ports, slug, (room) => room.ban(user, until))).every(Boolean)) {
      throw new Problem("conflict", `channel "${slug}" has as many bans as it may: lift one first`);
    }
    return c.json({ user_id: user, channel: slug, until: timeOf(until), reason });
  })
  .delete("/users/:user/ban", user, query(scope), async (c) => {
    const { ports } = c.var;
    const { user } = c.req.valid("param");
    const { channel } = c.req.valid("query");
    const slug = channel === undefined ? null : await slugOf(ports, channel);
    const lifted =
      slug === null
        ? [await ports.directory().unblock("user", user)]
        : await eachRoom(ports, slug, (room) => room.unban(user));
    return c.json({ user_id: user, channel: slug, lifted: lifted.includes(true) });
  })
  .get("/bans", query(scope), async (c) => {
    const { ports } = c.var;
    const { channel } = c.req.valid("query");
    if (channel === undefined) return c.json((await ports.directory().blocks()).map(blockView));
    const slug = await slugOf(ports, channel);
    const bans = new Map((await eachRoom(ports, slug, (room) => room.bans())).flatMap((bans) => Object.entries(bans)));
    return c.json([...bans].map(([id, until]) => blockView({ kind: "user", id, until, reason: null })));
  })
  .post("/tokens/revoke", body(z.strictObject({ jti: name, seconds, reason })), async (c) => {
    const { jti, seconds, reason = null } = c.req.valid("json");
    const until = seconds === undefined ? null : Date.now() + seconds * 1_000;
    await block(c.var.ports, { kind: "token", id: jti, until, reason });
    return c.json({ jti, until: timeOf(until), reason });
  });

async function block(ports: AdminPorts, block: Block): Promise<void> {
  switch (await ports.directory().block(block)) {
    case "done":
      return;
    case "full":
      throw new Problem("conflict", "there are as many bans and revoked tokens as there may be: lift one first");
    case "unreached":
      throw new Problem("internal", "it is noted, but an object that holds sockets could not be reached: try again");
  }
}

/** The name under which sockets know a channel, registered or open. */
async function slugOf(ports: AdminPorts, reference: string): Promise<string> {
  return (await ports.store.channels.find(reference))?.slug ?? reference;
}

function eachRoom<Answer>(
  ports: AdminPorts,
  slug: string,
  ask: (room: ReturnType<AdminPorts["channel"]>) => Promise<Answer>,
): Promise<Answer[]> {
  return Promise.all([true, false].map((side) => ask(ports.channel(roomObject(slug, side)))));
}

function timeOf(until: number | null): string | null {
  return until === null ? null : new Date(until).toISOString();
}

function blockView({ kind, id, until, reason }: Block) {
  return { kind, id, until: timeOf(until), reason };
}
