// Fan-out: what comes from a channel, made into frames once and sent to everybody in the room who may have it.
import { encodeFrame } from "../protocol/codec.ts";
import type { PresenceDiff, PresenceState } from "../protocol/link.ts";
import type { Timers } from "../protocol/timers.ts";
import type { Binding, Selection } from "./bindings.ts";
import type { Membership } from "./membership.ts";
import type { Frame, Outgoing } from "./outgoing.ts";
import { Packs } from "./packs.ts";
import type { Deliveries, Room } from "./room.ts";
import type { Session } from "./session.ts";
import type { Tally } from "./tally.ts";

export class FanOut implements Deliveries {
  readonly #send: (session: Session, frame: Frame) => boolean;
  readonly #timers: Timers;
  readonly #tally: Tally;

  readonly #undecided: (membership: Membership) => void;
  readonly #packs = new Packs();

  /**
   * `send` answers whether the session still is there. `undecided` hears of members of whom could not be found out in time
   * whether their filters let a change through.
   */
  constructor(
    send: (session: Session, frame: Frame) => boolean,
    undecided: (membership: Membership) => void,
    timers: Timers,
    tally: Tally,
  ) {
    this.#send = send;
    this.#undecided = undecided;
    this.#timers = timers;
    this.#tally = tally;
  }

  messages(room: Room, batch: readonly Outgoing[]): void {
    const now = this.#timers.now();
    for (const { message } of batch) this.#tally.timed(now - message.at);
    for (const membership of room.members.values()) {
      const { session } = membership;
      if (membership.rights.read.broadcast !== "granted") continue;
      for (const outgoing of batch) {
        if (outgoing.message.from === session.id && !membership.self) continue;
        const share = outgoing.shareOf(membership.viewer);
        if (share !== undefined) this.#offer(session, outgoing.frame(session.version, membership.topic, share));
      }
    }
    if (room.subscriptions.size > 0) for (const outgoing of batch) this.#change(room, outgoing);
    for (const [session, pack, count] of this.#packs.takeAll()) this.#deliver(session, pack, count);
  }

  /** A row change, to everybody with a subscription that it is for: one frame for each selection of columns. */
  #change(room: Room, outgoing: Outgoing): void {
    const undecided = (membership: Membership): void => {
      if (outgoing.shareOf(membership.viewer) !== undefined) this.#undecided(membership);
    };
    for (const [membership, bindings] of room.subscriptions.matching(outgoing, undecided)) {
      const share = outgoing.shareOf(membership.viewer);
      if (share === undefined) continue;
      const { session, topic } = membership;
      if (bindings.some(({ record }) => record.bare))
        this.#offer(session, outgoing.bare(session.version, topic, share));
      for (const [selection, ids] of idsBySelection(bindings)) {
        this.#offer(session, outgoing.change(session.version, topic, ids, share, selection));
      }
    }
  }

  #offer(session: Session, frame: Frame | undefined): void {
    if (frame === undefined) return;
    if (!session.packed) return this.#deliver(session, frame, 1);
    if (typeof frame === "string") return this.#packs.add(session, frame);
    // Bytes cannot be packed, and nothing may overtake.
    for (const [pack, count] of this.#packs.take(session)) this.#deliver(session, pack, count);
    this.#deliver(session, frame, 1);
  }

  #deliver(session: Session, frame: Frame, messages: number): void {
    this.#tally.delivered(this.#send(session, frame), messages);
  }

  replay(room: Room, id: string, outgoing: Outgoing): void {
    const membership = room.members.get(id);
    const share = membership && outgoing.shareOf(membership.viewer);
    if (membership === undefined || share === undefined) return;
    const { session, topic, joinRef } = membership;
    const frame = outgoing.replayed(session.version, topic, joinRef, share);
    if (frame !== undefined) this.#deliver(session, frame, 1);
  }

  state(room: Room, session: string | null, state: PresenceState): void {
    const payload = JSON.stringify(state);
    const send = ({ session: to, topic, joinRef }: Membership): boolean =>
      this.#send(to, encodeFrame(to.version, joinRef, null, topic, "presence_state", payload));
    if (session === null) {
      for (const member of room.members.values()) if (member.presenceEnabled && seesPresence(member)) send(member);
      return;
    }
    const member = room.members.get(session);
    if (member !== undefined && seesPresence(member)) send(member);
  }

  diff(room: Room, diff: PresenceDiff): void {
    const payload = JSON.stringify(diff);
    const isPublic = room.object.startsWith("public:");
    const frames = new Map<string, string>();
    for (const member of room.members.values()) {
      // Public channels send diffs to everybody, private ones to who takes part (protocol.md §7.3).
      if (!seesPresence(member) || (!isPublic && !member.presenceEnabled)) continue;
      const { session, topic } = member;
      const { version } = session;
      const frame = frames.get(version) ?? encodeFrame(version, null, null, topic, "presence_diff", payload);
      frames.set(version, frame);
      this.#send(session, frame);
    }
  }
}

function seesPresence({ rights }: Membership): boolean {
  return rights.read.presence === "granted";
}

function idsBySelection(bindings: readonly Binding[]): Iterable<readonly [Selection | undefined, number[]]> {
  const groups = new Map<string, [Selection | undefined, number[]]>();
  for (const { selection, record } of bindings) {
    if (record.bare) continue;
    const key = selection?.key ?? "";
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [selection, [record.id]]);
    // Equal subscriptions have equal ids.
    else if (!group[1].includes(record.id)) group[1].push(record.id);
  }
  return groups.values();
}
