// Admin API: members of registered channels. What changes here is in force at once: the rooms judge anew who is in.
import { Hono } from "hono";
import * as z from "zod";
import { MEMBER_ROLES, type Member, type MemberCursor } from "../../store/members.ts";
import { putMember, removeMember } from "../acts.ts";
import type { PresenceEntry } from "../objects/rpc.ts";
import { cursorIn, cursorOf, NEXT_HEADER, pageLimit } from "./cursor.ts";
import { body, name, path, query } from "./input.ts";
import { findChannel, objectOf } from "./objects.ts";
import type { AdminEnv } from "./ports.ts";

const MAX_PAGE = 10_000;

const role = z.enum(MEMBER_ROLES, { error: "must be member, moderator or admin" });
const member = path(z.object({ channel: name, user: name }));
const page = z.strictObject({ limit: pageLimit(MAX_PAGE).optional(), cursor: z.string().max(1_000).optional() });
const cursorSchema = z.tuple([z.iso.datetime().transform((text) => new Date(text)), z.string()]);

export const members = new Hono<AdminEnv>()
  .get("/:channel/members", path(z.object({ channel: name })), query(page), async (c) => {
    const { ports } = c.var;
    const { limit, cursor } = c.req.valid("query");
    const most = Number(limit ?? MAX_PAGE);
    const channel = await findChannel(ports, c.req.valid("param").channel);
    const [found, presence] = await Promise.all([
      ports.store.members.list(channel.id, most, cursor === undefined ? undefined : startOf(cursor)),
      objectOf(ports, channel).presence(),
    ]);
    const last = found.at(-1);
    if (found.length === most && last !== undefined) {
      c.header(NEXT_HEADER, cursorOf([last.joined_at.toISOString(), last.user_id]));
    }
    const byUser = new Map(presence.map((entry) => [entry.key, entry]));
    return c.json(found.map((row) => memberView(row, byUser.get(row.user_id))));
  })
  .put("/:channel/members/:user", member, body(z.strictObject({ role: role.optional() })), async (c) => {
    const { ports } = c.var;
    const { channel: reference, user } = c.req.valid("param");
    const channel = await findChannel(ports, reference);
    const { outcome, tell } = await putMember(ports, channel, user, c.req.valid("json").role);
    await tell();
    const { added, role, joined_at } = outcome;
    const view = { user_id: user, channel: channel.slug, role, joined_at: joined_at.toISOString(), added };
    return c.json(view, added ? 201 : 200);
  })
  .delete("/:channel/members/:user", member, async (c) => {
    const { ports } = c.var;
    const { channel: reference, user } = c.req.valid("param");
    const channel = await findChannel(ports, reference);
    const { outcome, tell } = await removeMember(ports, channel, user);
    await tell();
    return c.json({ user_id: user, channel: channel.slug, ...outcome });
  });

function startOf(cursor: string): MemberCursor {
  const [joined_at, user_id] = cursorIn(cursor, cursorSchema);
  return { joined_at, user_id };
}

function memberView({ user_id, role, joined_at }: Member, seen: PresenceEntry | undefined) {
  const said = seen?.metadata.name;
  return {
    user_id,
    name: typeof said === "string" ? said : null,
    role,
    status: seen?.status ?? "offline",
    joined_at: joined_at.toISOString(),
    last_seen_at: seen === undefined ? null : new Date(seen.lastSeen).toISOString(),
  };
}
