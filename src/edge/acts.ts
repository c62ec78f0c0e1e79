// Acts: what is done to a registered channel, by whoever may. Each is written before anybody is told of it.
import type { RegisteredChannel } from "../store/channels.ts";
import type { Member, MemberRole } from "../store/members.ts";
import { archived, configureRooms, objectOf } from "./admin/objects.ts";
import type { AdminPorts } from "./admin/ports.ts";
import { Problem } from "./admin/problem.ts";

export type ActPorts = Pick<AdminPorts, "channel" | "store">;

/** What an act has come to. */
export interface Done<Outcome> {
  readonly outcome: Outcome;
  /** Has the rooms act on it, which may put out who is in, whoever has done it too. */
  tell(): Promise<void>;
}

/**
 * Deletes a message, or (with `sender`) only one of this user's: from the database, the ring, and thereby every replay.
 * Throws `not_found`.
 */
export async function deleteMessage(
  ports: ActPorts,
  channel: RegisteredChannel,
  id: string,
  sender?: string,
): Promise<Done<{ id: string }>> {
  // What is still to be written there would come back.
  await archived(ports, channel);
  const wasKept = await ports.store.messages.delete(channel.id, id, sender);
  const wasHeld = await objectOf(ports, channel).erase(id, sender);
  if (!wasKept && !wasHeld) throw new Problem("not_found", `there is no message "${id}" to delete`);
  return { outcome: { id }, tell: async () => {} };
}

/** Adds a member, or changes the role of one. */
export async function putMember(
  ports: ActPorts,
  channel: RegisteredChannel,
  user: string,
  role: MemberRole | undefined,
): Promise<Done<Member & { added: boolean }>> {
  const outcome = await ports.store.members.put(channel.id, user, role);
  if (outcome === undefined) throw new Problem("internal", `the database made no member "${user}"`);
  return { outcome, tell: () => objectOf(ports, channel).reauthorize([user]) };
}

/** Removes a member (with `role`: only one of that role), who is out at once where only members are in. The outcome says whether there was one. */
export async function removeMember(
  ports: ActPorts,
  channel: RegisteredChannel,
  user: string,
  role?: MemberRole,
): Promise<Done<{ removed: boolean }>> {
  const removed = await ports.store.members.remove(channel.id, user, role);
  return { outcome: { removed: removed !== undefined }, tell: () => objectOf(ports, channel).reauthorize([user]) };
}

/** Replaces a channel's metadata. */
export async function setMetadata(
  ports: ActPorts,
  { id, slug }: RegisteredChannel,
  metadata: Record<string, unknown>,
): Promise<Done<RegisteredChannel>> {
  const outcome = await ports.store.channels.setMetadata(id, metadata);
  if (outcome === undefined) throw new Problem("not_found", `there is no channel "${slug}"`);
  return { outcome, tell: () => configureRooms(ports, outcome, false) };
}

/**
 * Deletes a channel with all that belongs to it. The row goes first: a socket that is dropped and comes back at once must
 * not find the channel registered.
 */
export async function deleteChannel(ports: ActPorts, channel: RegisteredChannel): Promise<Done<RegisteredChannel>> {
  await ports.store.channels.delete(channel.id);
  return { outcome: channel, tell: () => configureRooms(ports, channel, true) };
}
