// Admission: who may be in a channel, and do what. The type of a registered channel decides, whatever the join says.
import { withReason } from "../protocol/blocks.ts";
import { reasonOf } from "../protocol/errors.ts";
import { type Admission, type Joiner, NOT_CAPTURED, type Refusal } from "../protocol/link.ts";
import { mayJoin, type Rights } from "../protocol/rights.ts";
import type { ObjectName } from "../protocol/topics.ts";
import type { ChannelAccess, ChannelType } from "./ports.ts";

/** How somebody is judged. */
export interface Asking {
  /** Unix ms, see ChannelAccess. */
  readonly notBefore?: number;
  /** They join: where joining makes a member, they become one. */
  readonly entering?: boolean;
}

/** Whether the joiner may come in: who may read something (protocol.md §12). */
export async function admit(
  name: ObjectName,
  joiner: Joiner,
  access: ChannelAccess,
  asking: Asking = {},
): Promise<Admission> {
  const verdict = await judge(name, joiner, access, asking);
  return verdict.ok && verdict.rights !== undefined && !mayJoin(verdict.rights) ? unauthorized(name.sub) : verdict;
}

/**
 * What somebody may do in a channel. Without an answer from PostgreSQL nobody may do anything in a private room, while
 * public rooms go on: what a private channel says never reaches the public room of its name.
 */
export async function judge(
  { kind }: ObjectName,
  joiner: Joiner,
  access: ChannelAccess,
  { notBefore = 0, entering = false }: Asking = {},
): Promise<Admission> {
  const ban = joiner.role === "service_role" ? undefined : access.banOf(joiner.user);
  if (ban !== undefined) return refuse(reasonOf("Unauthorized", withReason("You are banned from this Channel", ban)));
  try {
    if (kind === "feed") return (await access.table()) !== null ? { ok: true } : refuse(NOT_CAPTURED);
    // First, where it is needed: its answer tells the registration too.
    const rights = await rightsOf(kind, joiner, access, notBefore);
    const registration = await access.registration();
    const isPrivate = registration === null ? kind === "private" : isPrivateType(registration.type);
    if (isPrivate !== (kind === "private")) {
      return { ...refuse("registered otherwise"), moved: isPrivate ? "private" : "public" };
    }
    const limits = registration && { limits: registration.limits };
    if (registration?.type !== "presence" || joiner.role === "service_role") {
      return { ok: true, ...(rights && { rights }), ...limits };
    }
    // Who is in cannot be guessed, public room or not.
    const membership = await access.membership(joiner, entering).catch(() => undefined);
    return membership === undefined ? away : { ok: true, rights: membership, ...limits };
  } catch {
    if (kind === "public" || (kind === "private" && joiner.role === "service_role")) return { ok: true };
    return away;
  }
}

async function rightsOf(
  kind: ObjectName["kind"],
  joiner: Joiner,
  access: ChannelAccess,
  notBefore: number,
): Promise<Rights | undefined> {
  return kind === "public" || joiner.role === "service_role" ? undefined : access.rights(joiner, notBefore);
}

/** Whether channels of a type live in the private room of their name. */
export function isPrivateType(type: ChannelType): boolean {
  return type === "private" || type === "direct";
}

/** The refusal of who cannot be judged. */
export const away = refuse(
  reasonOf("UnableToConnectToProject", "Realtime was unable to connect to the project database"),
);

function refuse(reason: string): Refusal {
  return { ok: false, reason };
}

/** The refusal of who may not read, in the words that applications match (protocol.md §3.5). */
export function unauthorized(sub: string): Refusal {
  return refuse(reasonOf("Unauthorized", `You do not have permissions to read from this Channel topic: ${sub}`));
}
