// Admin API: who is there, in one channel or in all.
import { Hono } from "hono";
import * as z from "zod";
import { tuning } from "../../settings/edge.ts";
import type { PresenceEntry, PresenceStatus } from "../objects/rpc.ts";
import { body, metadata, name, path, query } from "./input.ts";
import { findRoom } from "./objects.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { secondsSince } from "./time.ts";

const STATUSES = ["online", "away", "offline"] as const satisfies PresenceStatus[];

/** A year. */
const MAX_SECONDS = 31_536_000;

const tracked = z.strictObject({
  status: z.enum(STATUSES, { error: "must be online, away or offline" }).optional(),
  metadata: metadata.optional(),
});
const filter = z.strictObject({ channel: name.optional(), user: name.optional() });
const scope = z.strictObject({ channel: name.optional() });

export const presence = new Hono<AdminEnv>()
  .get("/presence", query(filter), async (c) => {
    const { channel, user } = c.req.valid("query");
    const { entries } = await present(c.var.ports, channel, user);
    return c.json(entries.toSorted((a, b) => b.lastSeen - a.lastSeen).map(presenceView));
  })
  .get("/presence/count", query(scope), async (c) => {
    const { ports } = c.var;
    const { entries, members } = await present(ports, c.req.valid("query").channel);
    const counts = countByStatus(entries);
    // A member who was never seen is offline as well, so that the total is everybody who belongs here.
    const seen = [...new Set(entries.map(({ key }) => key))];
    if (members !== undefined) counts.offline += await ports.store.channels.countMembersBesides(members, seen);
    return c.json({ ...counts, total: counts.online + counts.away + counts.offline });
  })
  .get("/presence/stats", async (c) => {
    const entries = await c.var.ports.directory().presence({});
    const counts = countByStatus(entries);
    const total = counts.online + counts.away + counts.offline;
    const channels = new Set(entries.map(({ channel }) => channel)).size;
    const average = channels === 0 ? 0 : Math.round(total / channels);
    return c.json({ ...counts, total_users: total, total_channels: channels, average_per_channel: average });
  })
  .post(
    "/presence/cleanup",
    body(z.strictObject({ seconds: z.number().int().min(0).max(MAX_SECONDS).optional() })),
    async (c) => {
      const seconds = c.req.valid("json").seconds ?? tuning.parse(c.env).REALTIME_PRESENCE_TIMEOUT;
      return c.json({ cleaned: await c.var.ports.directory().expirePresence(seconds * 1_000) });
    },
  )
  .delete("/presence/:user", path(z.object({ user: name })), async (c) => {
    const { user } = c.req.valid("param");
    return c.json({ user_id: user, channels: await c.var.ports.directory().setOffline(user) });
  })
  .put("/channels/:channel/presence/:user", path(z.object({ channel: name, user: name })), body(tracked), async (c) => {
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
 * Presence of one channel (which must be there) or of all, of one user or of everybody. `members` says whose members belong
 * there too: those of the channel, of all (null), or nobody (undefined), for an open channel has none.
 */
async function present(ports: AdminPorts, reference?: string, user?: string) {
  if (reference === undefined) {
    return { members: null, entries: await ports.directory().presence(user === undefined ? {} : { user }) };
  }
  const { registered, object } = await findRoom(ports, reference);
  const entries = await object.presence();
  return { members: registered?.id, entries: user === undefined ? entries : entries.filter(({ key }) => key === user) };
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
  return a !== undefined && STATUSES.indexOf(a) < STATUSES.indexOf(b) ? a : b;
}

function presenceView({ key, channel, status, metadata, lastSeen }: PresenceEntry) {
  return {
    user_id: key,
    channel,
    status,
    metadata,
    last_seen_at: new Date(lastSeen).toISOString(),
    seconds_since_seen: secondsSince(lastSeen),
  };
}
