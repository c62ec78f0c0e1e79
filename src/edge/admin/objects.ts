// Registered channels and their objects: which object holds a channel, and how it is told.
import { parseTopic, roomObject, wireTopic } from "../../protocol/topics.ts";
import type { ListedChannel, RegisteredChannel } from "../../store/channels.ts";
import type { ChannelConfig, ChannelRpc } from "../objects/rpc.ts";
import { openConnections } from "./connections.ts";
import type { AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";

type Rooms = Pick<AdminPorts, "channel">;

/** True when only members (and the service) may join: the channel lives in the private room of its name. */
export function isPrivate(channel: RegisteredChannel): boolean {
  return channel.type === "private" || channel.type === "direct";
}

/** The object that holds a registered channel. */
export function objectOf(ports: Rooms, channel: RegisteredChannel): ChannelRpc {
  return ports.channel(roomObject(channel.slug, isPrivate(channel)));
}

/** Tells both rooms of a name that it is registered, or no more: the one that is not the channel refuses joins. */
export async function configureRooms(ports: Rooms, channel: RegisteredChannel, deleted: boolean): Promise<void> {
  const config = deleted ? null : configOf(channel);
  await Promise.all([true, false].map((side) => ports.channel(roomObject(channel.slug, side)).configure(config)));
}

/** A registered channel as its objects know it. */
export function configOf({ id, slug, name, type, metadata }: RegisteredChannel): ChannelConfig {
  return { id, slug, name, type, metadata };
}

/** Has all that a channel has said so far in the database. Throws what the store throws. */
export async function archived<Found extends RegisteredChannel>(ports: Rooms, channel: Found): Promise<Found> {
  if (await objectOf(ports, channel).archive(configOf(channel))) return channel;
  throw new Problem("store_unavailable", "PostgreSQL does not take what was sent last: it is not in it yet");
}

/** Finds a channel by slug, id or name. Throws the problem `not_found`. */
export async function findChannel(ports: AdminPorts, reference: string): Promise<ListedChannel> {
  const found = await ports.store.channels.find(reference);
  if (found === undefined) throw new Problem("not_found", `there is no channel "${reference}"`);
  return found;
}

/**
 * Finds the object of a registered channel, or else of the open channel of that name, which is there once it has been
 * used: a name that nobody knows is more likely a slip. `registered` is undefined for the open one. Throws `not_found`.
 */
export async function findRoom(
  ports: AdminPorts,
  reference: string,
): Promise<{ registered: ListedChannel | undefined; object: ChannelRpc }> {
  const registered = await ports.store.channels.find(reference);
  if (registered !== undefined) return { registered, object: objectOf(ports, registered) };
  const topic = parseTopic(wireTopic(reference));
  if ("kind" in topic && topic.kind === "room") {
    const object = ports.channel(roomObject(topic.sub, false));
    if (await isUsed(ports, topic.sub, object)) return { registered, object };
  }
  const advice = ports.store.hasDatabase
    ? "make it with `nself realtime channel create`"
    : "it is there once somebody joins it (`nself realtime listen channel:<name>`)";
  throw new Problem(
    "not_found",
    `there is no channel "${reference}", and nobody uses an open one of that name; ${advice}`,
  );
}

/** Whether an open channel has been used: it holds messages, or somebody is in it. */
export async function isUsed(ports: AdminPorts, sub: string, object: ChannelRpc): Promise<boolean> {
  const { messages: said } = await object.history({ limit: 1, order: "newest" });
  return said.length > 0 || (await openConnections(ports)).some(({ channels }) => channels.includes(sub));
}
