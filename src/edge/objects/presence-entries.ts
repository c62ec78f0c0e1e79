// Presence as the admin API shows it: a line a user, from tracked members and from last sights.
import type { MemberRow, SightRow } from "../../channel/ports.ts";
import { whoIs, withoutRefs } from "../../channel/presence.ts";
import { isObject, parseJson } from "../../protocol/json.ts";
import type { PresenceEntry, PresenceStatus } from "./rpc.ts";

type Member = Omit<MemberRow, "meta"> & { readonly meta: Record<string, unknown> };

/** Words that sockets use for "here, but not now" (nself: away). */
const AWAY = ["away", "busy", "dnd", "idle"];

/** Lists everybody who is or was tracked. A user with several members counts once, as the most present of them. */
export function presenceEntries(
  channel: string,
  members: readonly Member[],
  sights: readonly SightRow[],
  now: number,
): PresenceEntry[] {
  const entries = new Map<string, PresenceEntry>();
  for (const { user, metadata, seenAt } of sights) {
    const { status: _, ...rest } = objectOf(parseJson(metadata));
    entries.set(user, { key: user, channel, status: "offline", metadata: rest, lastSeen: seenAt });
  }
  for (const member of members) {
    const { session, meta, seenAt } = member;
    const { status: said, ...metadata } = withoutRefs(meta);
    const status = statusOf(said);
    const name = whoIs(member);
    if (entries.get(name)?.status === "online" && status !== "online") continue;
    // Whose socket is open is here now; others were here when they last said so.
    entries.set(name, { key: name, channel, status, metadata, lastSeen: session === null ? seenAt : now });
  }
  return [...entries.values()];
}

function statusOf(said: unknown): PresenceStatus {
  if (said === "offline") return "offline";
  return typeof said === "string" && AWAY.includes(said) ? "away" : "online";
}

function objectOf(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {};
}
