// Admin API: control over who is connected. Everything is in force at once, at every object that holds sockets.
import { Hono } from "hono";
import * as z from "zod";
import type { Block } from "../../protocol/blocks.ts";
import { roomObject } from "../../protocol/topics.ts";
import { StoreNotReady, StoreUnavailable } from "../../store/database.ts";
import { heldBy } from "./connections.ts";
import { MAX_PAGE, pageFields, pageOf } from "./cursor.ts";
import { body, name, path, query, reference, time, userPath } from "./input.ts";
import { isUsed } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";

/** Ten years. */
const MAX_SECONDS = 315_360_000;

const reason = z.string().min(1).max(100).optional();
const seconds = z.number().int().min(1).max(MAX_SECONDS).optional();
const scope = z.strictObject({ channel: reference.optional() });
const page = scope.extend(pageFields(MAX_PAGE));

const answers = {
  ban: z.object({
    user_id: z.string(),
    channel: z.string().nullable(),
    used: z.boolean().meta({ description: "false: nobody knows a channel of that name, it may be a slip" }),
    until: time.nullable().meta({ description: "null: for good" }),
    reason: z.string().nullable(),
  }),
  kick: z.object({
    user_id: z.string(),
    connections: z.number().int().meta({ description: "How many connections were ended." }),
    channels: z
      .array(z.string())
      .meta({ description: "What they were put out of on connections that go on, each channel once." }),
  }),
  block: z
    .object({
      kind: z.enum(["user", "token"]),
      id: z.string(),
      until: time.nullable().meta({ description: "null: for good" }),
      reason: z.string().nullable(),
    })
    .meta({ id: "Block", description: "A user or a token that is kept out." }),
};

const operations = {
  disconnect: operation({
    id: "disconnect",
    tag: "Control",
    summary: "End a connection; its client may come back",
    answers: { 200: z.object({ connection_id: z.string() }) },
    problems: ["not_found"],
    commands: ["disconnect"],
  }),
  kick: operation({
    id: "kickUser",
    tag: "Control",
    summary: "End all connections of a user, or put them out of one channel",
    description:
      "Of a connection that somebody else has opened, or nobody, a user is put out of the channels that they joined there.",
    answers: { 200: answers.kick },
    commands: ["kick"],
  }),
  ban: operation({
    id: "banUser",
    tag: "Control",
    summary: "Keep a user out, everywhere or of one channel",
    answers: { 200: answers.ban },
    problems: ["conflict"],
    commands: ["ban"],
  }),
  unban: operation({
    id: "unbanUser",
    tag: "Control",
    summary: "Let a user in again",
    answers: { 200: z.object({ user_id: z.string(), channel: z.string().nullable(), lifted: z.boolean() }) },
    commands: ["unban"],
  }),
  bans: operation({
    id: "listBans",
    tag: "Control",
    summary: "List who is banned, and which tokens were revoked",
    description:
      "Those that hold everywhere; with `channel` those of this channel alone, which it keeps itself and no list has.",
    answers: { 200: z.array(answers.block) },
    commands: ["bans"],
  }),
  revoke: operation({
    id: "revokeToken",
    tag: "Control",
    summary: "Have a token count no more; its connections end",
    answers: { 200: z.object({ jti: z.string(), until: time.nullable(), reason: z.string().nullable() }) },
    problems: ["conflict"],
    commands: ["revoke"],
  }),
};

export const control = new Hono<AdminEnv>()
  .delete("/connections/:connection", operations.disconnect, path(z.object({ connection: name })), async (c) => {
    const { connection } = c.req.valid("param");
    const ended = await heldBy(c.var.ports, (holder) => holder.disconnect(connection));
    if (!ended.includes(true)) throw new Problem("not_found", `there is no connection "${connection}"`);
    return c.json({ connection_id: connection });
  })
  .post(
    "/users/:user/kick",
    operations.kick,
    userPath,
    body(z.strictObject({ channel: reference.optional(), reason })),
    async (c) => {
      const { ports } = c.var;
      const { channel, reason = "You were removed by an administrator" } = c.req.valid("json");
      const { user } = c.req.valid("param");
      const { slug } = await scopeOf(ports, channel);
      const kicked = await heldBy(ports, (holder) => holder.kick(user, slug ?? undefined, reason));
      const connections = kicked.reduce((sum, { connections }) => sum + connections, 0);
      const channels = [...new Set(kicked.flatMap(({ channels }) => channels))].sort();
      return c.json({ user_id: user, connections, channels });
    },
  )
  .put(
    "/users/:user/ban",
    operations.ban,
    userPath,
    body(z.strictObject({ channel: reference.optional(), seconds, reason })),
    async (c) => {
      const { ports } = c.var;
      const { user } = c.req.valid("param");
      const { channel, seconds, reason = null } = c.req.valid("json");
      const until = seconds === undefined ? null : Date.now() + seconds * 1_000;
      const { slug, isRegistered } = await scopeOf(ports, channel);
      // A ban may well come before its channel; a name that nobody knows is more likely a slip, which should show.
      const used = slug === null || isRegistered || (await mayBeUsed(ports, slug));
      if (slug === null) await block(ports, { kind: "user", id: user, until, reason });
      else if (!(await eachRoom(ports, slug, (room) => room.ban(user, { until, reason }))).every(Boolean)) {
        throw new Problem("conflict", `channel "${slug}" has as many bans as it may: lift one first`);
      }
      return c.json({ user_id: user, channel: slug, used, until: timeOf(until), reason });
    },
  )
  .delete("/users/:user/ban", operations.unban, userPath, query(scope), async (c) => {
    const { ports } = c.var;
    const { user } = c.req.valid("param");
    const { channel } = c.req.valid("query");
    const { slug } = await scopeOf(ports, channel);
    const lifted =
      slug === null
        ? [await ports.directory().unblock("user", user)]
        : await eachRoom(ports, slug, (room) => room.unban(user));
    return c.json({ user_id: user, channel: slug, lifted: lifted.includes(true) });
  })
  .get("/bans", operations.bans, query(page), async (c) => {
    const { ports } = c.var;
    const { channel, ...paging } = c.req.valid("query");
    const blocks = channel === undefined ? await ports.directory().blocks() : await bansOf(ports, channel);
    return c.json(pageOf(c, blocks, paging, ({ kind, id }) => [kind, id]).map(blockView));
  })
  .post("/tokens/revoke", operations.revoke, body(z.strictObject({ jti: name, seconds, reason })), async (c) => {
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

/** What a command is about: a channel, registered or open, by the name under which sockets know it; or (null) everything. */
interface Scope {
  readonly slug: string | null;
  readonly isRegistered: boolean;
}

/** Bans hold in the channels' own objects: while PostgreSQL is away they are made too, by slug alone. */
async function scopeOf(ports: AdminPorts, channel: string | undefined): Promise<Scope> {
  if (channel === undefined) return { slug: null, isRegistered: false };
  try {
    const found = await ports.store.channels.find(channel);
    return { slug: found?.slug ?? channel, isRegistered: found !== undefined };
  } catch (error) {
    if (!(error instanceof StoreUnavailable || error instanceof StoreNotReady)) throw error;
    return { slug: channel, isRegistered: false };
  }
}

/** Whether somebody uses an open channel; where that cannot be said, it is no slip. */
function mayBeUsed(ports: AdminPorts, slug: string): Promise<boolean> {
  return isUsed(ports, slug, ports.channel(roomObject(slug, false))).catch(() => true);
}

async function bansOf(ports: AdminPorts, reference: string): Promise<Block[]> {
  const { slug } = await scopeOf(ports, reference);
  const bans = new Map(
    (await eachRoom(ports, slug ?? reference, (room) => room.bans())).flatMap((bans) => Object.entries(bans)),
  );
  return [...bans].map(([id, ban]) => ({ kind: "user", id, ...ban }));
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

function blockView({ kind, id, until, reason }: Block): z.infer<typeof answers.block> {
  return { kind, id, until: timeOf(until), reason };
}
