// Admission: who may join a channel. The type of a registered channel decides, whatever the join says.
import { type Joined, type Joiner, NOT_CAPTURED } from "../protocol/link.ts";
import type { ObjectName } from "../protocol/topics.ts";
import type { ChannelAccess, ChannelType } from "./ports.ts";

type Refusal = Extract<Joined, { ok: false }>;

/**
 * Undefined when the joiner may come in. Without an answer from PostgreSQL nobody is let into a private room, while
 * public rooms go on: what a private channel says never reaches the public room of its name.
 */
export async function admit(
  { kind, sub }: ObjectName,
  { role, user }: Omit<Joiner, "session">,
  access: ChannelAccess,
): Promise<Refusal | undefined> {
  try {
    if (kind === "feed") return (await access.table()) !== null ? undefined : refuse(NOT_CAPTURED);
    const type = await access.registeredType();
    const isPrivate = type === null ? kind === "private" : isPrivateType(type);
    if (isPrivate !== (kind === "private")) {
      return { ...refuse("registered otherwise"), moved: isPrivate ? "private" : "public" };
    }
    if (!isPrivate || role === "service_role") return undefined;
    if (type !== null && user !== null && (await access.isMember(user))) return undefined;
    return refuse(`Unauthorized: You do not have permissions to read from this Channel topic: ${sub}`);
  } catch {
    if (kind === "public" || (kind === "private" && role === "service_role")) return undefined;
    return refuse("UnableToConnectToProject: Realtime was unable to connect to the project database");
  }
}

/** Whether channels of a type live in the private room of their name. */
export function isPrivateType(type: ChannelType): boolean {
  return type === "private" || type === "direct";
}

function refuse(reason: string): Refusal {
  return { ok: false, reason };
}
