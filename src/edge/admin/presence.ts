// Admin API: who is there, in one channel or in all.
import { Hono } from "hono";
import * as z from "zod";
import { PRESENCE_STATUSES, type PresenceEntry, type PresenceStatus } from "../objects/rpc.ts";
import { cursorIn, MAX_PAGE, pageFields, pageOf, sizeOf, tellNext } from "./cursor.ts";
import { body, metadata, path, query, reference, time, userId, userPath } from "./input.ts";
import { findRoom } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { secondsSince } from "./time.ts";

/** A year. */
const MAX_SECONDS = 31_536_000;

const tracked = z.strictObject({
  status: z.enum(PRESENCE_STATUSES, { error: "must be online, away or offline" }).optional(),
  metadata: metadata.optional(),
});
const filter = z.strictObject({
  channel: reference.optional(),
  user: userId.optional(),
  present: z.literal("true").meta({ description: "Only who is online or away." }).optional(),
  ...pageFields(MAX_PAGE),
});
const scope = z.strictObject({ channel: reference.optional() });
const place = path(z.object({ channel: reference, user: userId }));
const presencePlace = z.tuple([z.string(), z.string()]);

const status = z.enum(PRESENCE_STATUSES);
const entry = z
  .object({
    user_id: z.string(),
    channel: z.string(),
    status,
    metadata: z.record(z.string(), z.unknown()),
    last_seen_at: time,
    seconds_since_seen: z.number().int(),
  })
  .meta({ id: "PresenceEntry" });
const counts = z.object({
  online: z.number().int(),
  away: z.number().int(),
  offline: z.number().int(),
});
const counted = counts.extend({ total: z.number().int() }).meta({ id: "PresenceCount" });
const statistics = counts
  .extend({ total_users: z.number().int(), total_channels: z.number().int(), average_per_channel: z.number().int() })
  .meta({ id: "PresenceStatistics" });

const operations = {
  list: operation({
    id: "listPresence",
    tag: "Presence",
    summary: "List who is there, in one channel or in all",
    description: "By channels and users.",
    answers: { 200: z.array(entry) },
    problems: ["not_found"],
    commands: ["presence get", "presence online"],
  }),
  count: operation({
    id: "countPresence",
    tag: "Presence",
    summary: "Count who is online, away and offline",
    description: "Each user once. A member who was never seen is offline.",
    answers: { 200: counted },
    problems: ["not_found"],
    commands: ["presence count"],
  }),
  statistics: operation({
    id: "getPresenceStatistics",
    tag: "Presence",
    summary: "Show how many users are tracked, and where",
    answers: { 200: statistics },
    commands: ["presence stats"],
  }),
  cleanup: operation({
    id: "expirePresence",
    tag: "Presence",
    summary: "Mark users offline who were tracked without a socket and have been silent",
    answers: { 200: z.object({ cleaned: z.number().int() }) },
    commands: ["presence cleanup"],
  }),
  leave: operation({
    id: "setOffline",
    tag: "Presence",
    summary: "Say that a user is offline in every channel",
    description: "What an open socket of theirs tracks stays.",
    answers: { 200: z.object({ user_id: z.string(), channels: z.number().int() }) },
    commands: ["presence offline"],
  }),
  track: operation({
    id: "trackPresence",
    tag: "Presence",
    summary: "Say that a user is online, away or offline in a channel",
    description: "Without `metadata`, what was there stays.",
    answers: { 200: z.object({ user_id: z.string(), channel: z.string(), status }) },
    problems: ["not_found"],
    commands: ["presence track", "presence offline"],
  }),
};

export const presence = new Hono<AdminEnv>()
  .get("/presence", operations.list, query(filter), async (c) => {
    const { ports } = c.var;
    const { channel, user, present: only, ...paging } = c.req.valid("query");
    if (channel !== undefined) {
      const { entries } = await present(ports, channel);
      const wanted = entries.filter(
        ({ key, status }) => (user === undefined || key === user) && (only === undefined || status !== "offline"),
      );
      return c.json(pageOf(c, wanted, paging, ({ key }) => [key]).map(presenceView));
    }
    const { entries, next } = await ports.directory().presencePage({
      limit: sizeOf(paging),
      user,
      present: only !== undefined,
      after: paging.cursor === undefined ? undefined : cursorIn(paging.cursor, presencePlace),
    });
    if (next !== undefined) tellNext(c, next);
    return c.json(entries.map(presenceView));
  })
  .get("/presence/count", operations.count, query(scope), async (c) => {
    const { ports } = c.var;
    const { entries, members } = await present(ports, c.req.valid("query").channel);
    const counts = countByStatus(entries);
    // A member who was never seen is offline as well, so that the total is everybody who belongs here.
    const seen = [...new Set(entries.map(({ key }) => key))];
    if (members !== undefined) counts.offline += await ports.store.channels.countMembersBesides(members, seen);
    return c.json({ ...counts, total: counts.online + counts.away + counts.offline });
  })
  .get("/presence/stats", operations.statistics, async (c) => {
    const entries = await c.var.ports.directory().presence({});
    const counts = countByStatus(entries);
    const total = counts.online + counts.away + counts.offline;
    const channels = new Set(entries.map(({ channel }) => channel)).size;
    const average = channels === 0 ? 0 : Math.round(total / channels);
    return c.json({ ...counts, total_users: total, total_channels: channels, average_per_channel: average });
  })
  .post(
    "/presence/cleanup",
    operations.cleanup,
    body(z.strictObject({ seconds: z.number().int().min(0).max(MAX_SECONDS).optional() })),
    async (c) => {
      const seconds = c.req.valid("json").seconds ?? c.var.ports.settings.REALTIME_PRESENCE_TIMEOUT;
      return c.json({ cleaned: await c.var.ports.directory().expirePresence(seconds * 1_000) });
    },
  )
  .delete("/presence/:user", operations.leave, userPath, async (c) => {
    const { user } = c.req.valid("param");
    return c.json({ user_id: user, channels: await c.var.ports.directory().setOffline(user) });
  })
  .put("/channels/:channel/presence/:user", operations.track, place, body(tracked), async (c) => {
    const { ports } = c.var;
    const { channel: reference, user } = c.req.valid("param");
    const { status = "online", metadata } = c.req.valid("json");
    const { registered, object } = await findRoom(ports, reference);
    await object.track({
      user,
      status,
      ...(metadata === undefined ? {} : { metadata }),
    });
    return c.json({ user_id: user, channel: registered?.slug ?? reference, status });
  });

/**
 * Presence of one channel (which must be there) or of all. `members` says whose members belong there too: those of the
 * channel, of all (null), or nobody (undefined), for an open channel has none.
 */
async function present(ports: AdminPorts, reference?: string) {
  if (reference === undefined) return { members: null, entries: await ports.directory().presence({}) };
  const { registered, object } = await findRoom(ports, reference);
  return { members: registered?.id, entries: await object.presence() };
}

/** Users by status, each once. */
export function countByStatus(entries: readonly PresenceEntry[]): Record<PresenceStatus, number> {
  const byUser = new Map<string, PresenceStatus>();
  for (const { key, status } of entries) byUser.set(key, stronger(byUser.get(key), status));
  const counts = { online: 0, away: 0, offline: 0 };
  for (const status of byUser.values()) counts[status]++;
  return counts;
}

/** A user in several channels is online if any says so, else away if any says so. */
function stronger(a: PresenceStatus | undefined, b: PresenceStatus): PresenceStatus {
  return a !== undefined && PRESENCE_STATUSES.indexOf(a) < PRESENCE_STATUSES.indexOf(b) ? a : b;
}

function presenceView({ key, channel, status, metadata, lastSeen }: PresenceEntry): z.infer<typeof entry> {
  return {
    user_id: key,
    channel,
    status,
    metadata,
    last_seen_at: new Date(lastSeen).toISOString(),
    seconds_since_seen: secondsSince(lastSeen),
  };
}
