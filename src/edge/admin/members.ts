// Admin API: members of registered channels. What changes here is in force at once: the rooms judge anew who is in.
import { Hono } from "hono";
import * as z from "zod";
import { MEMBER_ROLES, type Member, type MemberCursor } from "../../store/members.ts";
import { putMember, removeMember } from "../acts.ts";
import { PRESENCE_STATUSES, type PresenceEntry } from "../objects/rpc.ts";
import { cursorIn, cut, MAX_PAGE, pageFields, sizeOf } from "./cursor.ts";
import { body, channelPath, path, query, reference, time, userId } from "./input.ts";
import { findChannel, objectOf } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv } from "./ports.ts";

const role = z.enum(MEMBER_ROLES, { error: "must be member, moderator or admin" });
const member = path(z.object({ channel: reference, user: userId }));
const page = z.strictObject(pageFields(MAX_PAGE));
const cursorSchema = z.tuple([time.transform((text) => new Date(text)), z.string()]);

const listed = z
  .object({
    user_id: z.string(),
    name: z.string().nullable().meta({ description: "As the user gives it in their presence." }),
    role: z.enum(MEMBER_ROLES),
    status: z.enum(PRESENCE_STATUSES),
    joined_at: time,
    last_seen_at: time.nullable(),
  })
  .meta({ id: "Member" });
const put = z
  .object({ user_id: z.string(), channel: z.string(), role: z.enum(MEMBER_ROLES), joined_at: time, added: z.boolean() })
  .meta({ id: "PutMember" });
const removed = z.object({ user_id: z.string(), channel: z.string(), removed: z.boolean() });

const operations = {
  list: operation({
    id: "listMembers",
    tag: "Members",
    summary: "List the members of a channel, newest first",
    answers: { 200: z.array(listed) },
    problems: ["not_found"],
    commands: ["channel members"],
  }),
  put: operation({
    id: "putMember",
    tag: "Members",
    summary: "Add a member, or change the role of one",
    answers: { 201: put, 200: put },
    problems: ["not_found", "full"],
    commands: ["channel join"],
  }),
  remove: operation({
    id: "removeMember",
    tag: "Members",
    summary: "Remove a member: they are out at once",
    answers: { 200: removed },
    problems: ["not_found"],
    commands: ["channel leave"],
  }),
};

export const members = new Hono<AdminEnv>()
  .get("/:channel/members", operations.list, channelPath, query(page), async (c) => {
    const { ports } = c.var;
    const { cursor, ...paging } = c.req.valid("query");
    const size = sizeOf(paging);
    const channel = await findChannel(ports, c.req.valid("param").channel);
    const [found, presence] = await Promise.all([
      ports.store.members.list(channel.id, size + 1, cursor === undefined ? undefined : startOf(cursor)),
      objectOf(ports, channel).presence(),
    ]);
    const rows = cut(c, found, size, ({ joined_at, user_id }) => [joined_at.toISOString(), user_id]);
    const byUser = new Map(presence.map((entry) => [entry.key, entry]));
    return c.json(rows.map((row) => memberView(row, byUser.get(row.user_id))));
  })
  .put(
    "/:channel/members/:user",
    operations.put,
    member,
    body(z.strictObject({ role: role.optional() })),
    async (c) => {
      const { ports } = c.var;
      const { channel: reference, user } = c.req.valid("param");
      const channel = await findChannel(ports, reference);
      const { outcome, tell } = await putMember(ports, channel, user, c.req.valid("json").role);
      await tell();
      const { added, role, joined_at } = outcome;
      const view = { user_id: user, channel: channel.slug, role, joined_at: joined_at.toISOString(), added };
      return c.json(view, added ? 201 : 200);
    },
  )
  .delete("/:channel/members/:user", operations.remove, member, async (c) => {
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

function memberView(row: Member, seen: PresenceEntry | undefined): z.infer<typeof listed> {
  const { user_id, role, joined_at } = row;
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
