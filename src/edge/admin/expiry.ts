// Old messages: those whose time is over go, and with hours that somebody names, whatever is older.
import { parseTopic, roomObject, wireTopic } from "../../protocol/topics.ts";
import { forEachAtOnce } from "../at-once.ts";
import { openConnections } from "./connections.ts";
import type { AdminPorts } from "./ports.ts";

/**
 * Deletes messages from the database, and answers how many. Without `hours` each goes at its own time, or `ttl` seconds
 * after it was sent. With `hours` it is whatever is older, and the rings of its channels forget it too, as do those of the
 * open channels that somebody is in. Throws what the store throws.
 */
export async function expireMessages(ports: AdminPorts, hours: number | undefined, ttl: number): Promise<number> {
  if (hours === undefined) return (await ports.store.messages.expire(ttl, false)).deleted;
  const before = Date.now() - hours * 3_600_000;
  const { deleted, topics } = await ports.store.messages.expire(hours * 3_600, true);
  const inUse = (await openConnections(ports)).flatMap(({ channels }) => channels);
  await forEachAtOnce([...new Set([...topics, ...inUse])].filter(isRoom), (topic) =>
    Promise.all([true, false].map((side) => ports.channel(roomObject(topic, side)).forget(before))),
  );
  return deleted;
}

/** Rows may name any topic. */
function isRoom(sub: string): boolean {
  const topic = parseTopic(wireTopic(sub));
  return "kind" in topic && topic.kind === "room";
}
