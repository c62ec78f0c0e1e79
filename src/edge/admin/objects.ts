// Registered channels and their objects: which object holds a channel, and how it is told.
import { roomObject } from "../../protocol/topics.ts";
import type { ListedChannel, RegisteredChannel } from "../../store/channels.ts";
import type { ChannelRpc } from "../objects/rpc.ts";
import type { AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";

/** True when only members (and the service) may join: the channel lives in the private room of its name. */
export function isPrivate(channel: RegisteredChannel): boolean {
  return channel.type === "private" || channel.type === "direct";
}

/** The object that holds a registered channel. */
export function objectOf(ports: AdminPorts, channel: RegisteredChannel): ChannelRpc {
  return ports.channel(roomObject(channel.slug, isPrivate(channel)));
}

/** Tells both rooms of a name that it is registered, or no more: the one that is not the channel refuses joins. */
export async function configureRooms(ports: AdminPorts, channel: RegisteredChannel, deleted: boolean): Promise<void> {
  const { id, slug, name, type, metadata } = channel;
  const config = deleted ? null : { id, slug, name, type, metadata };
  await Promise.all([true, false].map((side) => ports.channel(roomObject(slug, side)).configure(config)));
}

/** Finds a channel by slug, id or name. Throws the problem `not_found`. */
export async function findChannel(ports: AdminPorts, reference: string): Promise<ListedChannel> {
  const found = await ports.store.channels.find(reference);
  if (found === undefined) {
    throw new Problem(
      "not_found",
      `there is no channel "${reference}"; make it with \`nself realtime channel create\``,
    );
  }
  return found;
}
