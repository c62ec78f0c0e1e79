// Presence: who is in a channel, by key and ref, and what changed (protocol.md §7).
import { isObject, parseJson } from "../protocol/json.ts";
import type { PresenceDiff, PresenceState } from "../protocol/link.ts";
import type { ChannelStore, MemberRow } from "./ports.ts";

/** One tracked meta: a membership of one session, or a user tracked without a socket. */
interface Member extends Omit<MemberRow, "meta"> {
  /** What clients see: the tracked payload, `phx_ref`, and `phx_ref_prev` after an update. */
  readonly meta: Record<string, unknown>;
  /** The tracked payload as text, to tell an unchanged one. */
  readonly tracked: string;
}

export interface Tracked {
  readonly key: string;
  readonly user: string | null;
  readonly session: string | null;
  readonly gateway: string | null;
  readonly meta: Record<string, unknown>;
}

export class Presence {
  readonly #store: ChannelStore;
  readonly #newRef: () => string;
  /** By owner: a session's id, or `user:<id>` for a user without a socket. One meta an owner (protocol.md §7.2). */
  readonly #members = new Map<string, Member>();

  constructor(store: ChannelStore, newRef: () => string) {
    this.#store = store;
    this.#newRef = newRef;
    for (const row of store.members()) {
      const meta = parseJson(row.meta);
      if (isObject(meta)) this.#members.set(ownerOf(row), { ...row, meta, tracked: JSON.stringify(withoutRefs(meta)) });
    }
  }

  /** All members. */
  list(): readonly Member[] {
    return [...this.#members.values()];
  }

  get state(): PresenceState {
    return stateOf(this.#members.values());
  }

  /**
   * Tracks a payload, in the place of what the session tracked before, or else of a missing member
   * that is the same one. Undefined when the same payload is tracked already: nobody needs to hear of it.
   */
  track(entry: Tracked, now: number, isMissing?: (member: Member) => boolean): PresenceDiff | undefined {
    const owner = ownerOf(entry);
    const tracked = JSON.stringify(entry.meta);
    const missing = isMissing === undefined ? [] : this.list().filter(isMissing);
    // Of two that may have come back, the one that said the same.
    const old = this.#members.get(owner) ?? missing.find((member) => member.tracked === tracked) ?? missing[0];
    if (old !== undefined) this.#members.delete(ownerOf(old));
    if (old !== undefined && old.tracked === tracked && old.key === entry.key) {
      this.#put(owner, { ...old, session: entry.session, gateway: entry.gateway, seenAt: now });
      return undefined;
    }
    const ref = this.#newRef();
    const refs = old === undefined ? { phx_ref: ref } : { phx_ref: ref, phx_ref_prev: old.ref };
    const { meta, ...rest } = entry;
    const member = { ...rest, ref, meta: { ...meta, ...refs }, tracked, seenAt: now };
    if (old !== undefined) this.#store.deleteMember(old.ref);
    this.#put(owner, member);
    return { joins: stateOf([member]), leaves: stateOf(old === undefined ? [] : [old]) };
  }

  /** Has other members of a gateway count as those of another. True: there were some. */
  move(gateway: string, to: string, living: ReadonlySet<string>): boolean {
    const lost = this.list().filter((member) => member.gateway === gateway && !living.has(ownerOf(member)));
    for (const member of lost) this.#put(ownerOf(member), { ...member, gateway: to });
    return lost.length > 0;
  }

  #put(owner: string, member: Member): void {
    this.#members.set(owner, member);
    const { tracked: _, meta, ...row } = member;
    this.#store.putMember({ ...row, meta: JSON.stringify(meta) });
  }

  /** Drops the members that `gone` picks. Undefined when there was none. */
  drop(gone: (member: Member) => boolean, now: number): PresenceDiff | undefined {
    const left: Member[] = [];
    for (const [owner, member] of this.#members) {
      if (!gone(member)) continue;
      this.#members.delete(owner);
      this.#store.deleteMember(member.ref);
      this.#remember(member, now);
      left.push(member);
    }
    return left.length === 0 ? undefined : { joins: {}, leaves: stateOf(left) };
  }

  #remember(member: Member, now: number): void {
    if (member.user === null) return;
    this.#store.putSight({ user: member.user, metadata: member.tracked, seenAt: now });
  }

  clear(): void {
    this.#members.clear();
  }
}

function ownerOf(entry: { session: string | null; user: string | null }): string {
  return entry.session ?? `user:${entry.user}`;
}

/** A tracked payload without what the server added to it. */
export function withoutRefs(meta: Record<string, unknown>): Record<string, unknown> {
  const { phx_ref: _ref, phx_ref_prev: _prev, ...payload } = meta;
  return payload;
}

/** Who a member is: clients that track with an application key say it in what they track. */
export function whoIs({ key, user, meta }: Pick<Tracked, "key" | "user" | "meta">): string {
  const said = meta.user_id;
  return typeof said === "string" && said !== "" ? said : (user ?? key);
}

function stateOf(members: Iterable<Member>): PresenceState {
  // Without a prototype: a key called `__proto__` is a key like any other.
  const state: PresenceState = Object.create(null);
  for (const { key, meta } of members) {
    state[key] ??= { metas: [] };
    state[key].metas.push(meta);
  }
  return state;
}
