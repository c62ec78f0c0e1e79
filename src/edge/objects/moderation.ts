// Moderation: what members do to their channel, each as much as their role allows.
import * as z from "zod";
import { MEMBER_ROLES, type MemberRole } from "../../store/members.ts";
import {
  type ActPorts,
  type Done,
  deleteChannel,
  deleteMessage,
  putMember,
  removeMember,
  setMetadata,
} from "../acts.ts";
import { channelMetadata, name, parse } from "../admin/input.ts";
import { Problem, problemOf } from "../admin/problem.ts";
import type { Moderator, Unmoderated } from "./rpc.ts";

const act = z.discriminatedUnion(
  "event",
  [
    z.object({ event: z.literal("delete_message"), payload: z.object({ id: z.guid() }) }),
    z.object({ event: z.literal("remove_member"), payload: z.object({ user: name }) }),
    z.object({ event: z.literal("set_role"), payload: z.object({ user: name, role: z.enum(MEMBER_ROLES) }) }),
    z.object({ event: z.literal("set_metadata"), payload: z.object({ metadata: channelMetadata }) }),
    z.object({ event: z.literal("delete_channel") }),
  ],
  {
    error: ({ code }) =>
      code === "invalid_union"
        ? "must be delete_message, remove_member, set_role, set_metadata or delete_channel"
        : undefined,
  },
);
type Act = z.infer<typeof act>;

/**
 * Does what somebody asks to be done to the channel of a topic, if they may: that is asked of the database now, and
 * without an answer nothing is done. Never throws.
 */
export async function moderate(
  ports: ActPorts,
  topic: string,
  by: Moderator,
  asked: unknown,
): Promise<Unmoderated | Done<unknown>> {
  try {
    const wish = parse(act, asked);
    const channel = await ports.store.channels.findSlug(topic);
    if (channel === undefined) throw new Problem("not_found", `"${topic}" is not registered: nobody moderates it`);
    const target = "payload" in wish && "user" in wish.payload ? wish.payload.user : null;
    const may = await rightOf(ports, channel.id, by, target);
    const { outcome, tell } = await perform(ports, channel, wish, may);
    return { outcome, tell: () => tell().catch((error: unknown) => logFailure(topic, error)) };
  } catch (error) {
    const { code, message } = problemOf(error);
    if (code === "internal") logFailure(topic, error);
    return { code, reason: message };
  }
}

/** Where a room could not be told, the listener will tell it: the database has it. */
function logFailure(channel: string, error: unknown): void {
  console.error(JSON.stringify({ event: "moderation failed", channel, reason: String(error) }));
}

/** As what somebody acts, and on whom: the roles that both have in the channel now. */
interface Right {
  readonly user: string | null;
  readonly role: MemberRole | undefined;
  readonly target: MemberRole | undefined;
}

/** The service may do what admins may. */
async function rightOf(
  { store }: ActPorts,
  channelId: string,
  { role, user }: Moderator,
  target: string | null,
): Promise<Right> {
  if (role === "service_role") return { user, role: "admin", target: undefined };
  if (user === null) return { user, role: undefined, target: undefined };
  const roles = await store.members.roles(channelId, target === null ? [user] : [user, target]);
  return { user, role: roles.get(user), target: target === null ? undefined : roles.get(target) };
}

type Channel = Parameters<typeof deleteChannel>[1];

async function perform(ports: ActPorts, channel: Channel, wish: Act, may: Right): Promise<Done<unknown>> {
  const { user, role } = may;
  if (role === undefined) throw new Problem("not_allowed", "Unauthorized: only members may do this");
  switch (wish.event) {
    case "delete_message":
      // What members have said themselves, they may take back.
      return deleteMessage(ports, channel, wish.payload.id, role === "member" ? (user ?? "") : undefined);
    case "remove_member": {
      const isOwn = wish.payload.user === user;
      const mayRemove = role === "admin" || isOwn || (role === "moderator" && may.target === "member");
      if (!mayRemove) throw new Problem("not_allowed", `Unauthorized: a ${role} may not remove this member`);
      // Whoever has been given another role meanwhile is not a moderator's to remove.
      const only = role === "moderator" && !isOwn ? "member" : undefined;
      const done = await removeMember(ports, channel, wish.payload.user, only);
      if (!done.outcome.removed) throw new Problem("not_found", `"${wish.payload.user}" is no member`);
      return done;
    }
    case "set_role":
      requireAdmin(role);
      return putMember(ports, channel, wish.payload.user, wish.payload.role);
    case "set_metadata":
      requireAdmin(role);
      return setMetadata(ports, channel, wish.payload.metadata);
    case "delete_channel":
      requireAdmin(role);
      return deleteChannel(ports, channel);
  }
}

function requireAdmin(role: MemberRole): void {
  if (role !== "admin") throw new Problem("not_allowed", `Unauthorized: only an admin may do this, not a ${role}`);
}
