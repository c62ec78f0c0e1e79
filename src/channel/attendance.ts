// Attendance: who counts as present while gateways come and go and users fall silent. Gateways hear whatever changes.
import { Due } from "../protocol/due.ts";
import { isObject, parseJson } from "../protocol/json.ts";
import type { PresenceDiff } from "../protocol/link.ts";
import type { ChannelPorts, Link } from "./ports.ts";
import { type Presence, type Tracked, whoIs, withoutRefs } from "./presence.ts";

/** How long a gateway that lost its link may take to come back before its sessions count as gone. */
const GATEWAY_GRACE_MS = 10_000;
/** Before the name of a gateway: the gateway in the life before, whose sockets are dead. */
const FORMER = "former:";
/** How long it is known of who has gone that they were here: 30 days. */
const SIGHT_MS = 2_592_000_000;

export class Attendance {
  readonly #presence: Presence;
  readonly #ports: Pick<ChannelPorts, "store" | "timers" | "presenceTimeoutMs">;
  readonly #links: ReadonlyMap<string, Link>;
  /** Gateways whose sessions are tracked here and whose link is gone, with the time (unix ms) their grace ends. */
  readonly #missing = new Map<string, number>();
  /** When to look at those, and at users tracked without a socket. */
  readonly #due: Due;
  /** An alarm will forget the oldest sight. */
  #forgetsSights = false;

  /** `links` are those that stand, by their gateways. */
  constructor(
    presence: Presence,
    ports: Pick<ChannelPorts, "store" | "timers" | "presenceTimeoutMs">,
    links: ReadonlyMap<string, Link>,
  ) {
    this.#presence = presence;
    this.#ports = ports;
    this.#links = links;
    this.#due = new Due(ports.timers);
    for (const { gateway } of presence.list()) if (gateway !== null && !links.has(gateway)) this.#miss(gateway);
  }

  /** A gateway's link has closed. Its sessions are not gone yet: the gateway may be back in a moment. */
  unlinked(gateway: string): void {
    if (this.#presence.list().some((member) => member.gateway === gateway)) this.#miss(gateway);
  }

  #miss(gateway: string): void {
    const until = this.#ports.timers.now() + GATEWAY_GRACE_MS;
    this.#missing.set(gateway, until);
    this.#due.wish(until);
  }

  /**
   * A gateway is here, with these sessions. Others of it are gone if it was here before (`again`); if it has begun anew,
   * its sockets have died with it, and whoever had one of them may be back in a moment too.
   */
  linked(gateway: string, sessions: readonly string[], again: boolean): void {
    this.#missing.delete(gateway);
    const living = new Set(sessions);
    if (!again) {
      const former = `${FORMER}${gateway}`;
      if (this.#presence.move(gateway, former, living)) this.#miss(former);
      return;
    }
    const gone = this.#presence.drop(
      (member) => member.gateway === gateway && member.session !== null && !living.has(member.session),
      this.#ports.timers.now(),
    );
    this.#tell(gone);
  }

  /** Who comes back through another socket while the one before is missing takes its place, and nobody sees them go. */
  track(entry: Tracked): void {
    const isMissing = ({ gateway, key, user }: Tracked): boolean =>
      gateway !== null && this.#missing.has(gateway) && key === entry.key && user === entry.user;
    // Looked for only while somebody is missing: most of the time nobody is.
    this.#tell(this.#presence.track(entry, this.#ports.timers.now(), this.#missing.size > 0 ? isMissing : undefined));
  }

  untrack(session: string): void {
    this.#tell(this.#presence.drop((member) => member.session === session, this.#ports.timers.now()));
  }

  #tell(diff: PresenceDiff | undefined): void {
    if (diff === undefined) return;
    if (Object.keys(diff.leaves).length > 0) this.#sighted();
    for (const link of this.#links.values()) link.send({ t: "diff", ...diff });
  }

  /** Somebody was seen here for the last time. What has an alarm sooner wishes for the next one itself. */
  #sighted(): void {
    if (this.#forgetsSights) return;
    this.#forgetsSights = true;
    this.#due.wish(this.#ports.timers.now() + SIGHT_MS);
  }

  /** Tracks a user without a socket; without `metadata` what was tracked before stays. */
  trackUser(user: string, status: "online" | "away", metadata: Record<string, unknown> | undefined): void {
    const now = this.#ports.timers.now();
    const meta = { ...(metadata ?? this.#metadataOf(user)), status };
    this.#tell(this.#presence.track({ key: user, user, session: null, gateway: null, meta }, now));
    this.#due.wish(now + this.#ports.presenceTimeoutMs);
  }

  #metadataOf(user: string): Record<string, unknown> {
    const member = this.#presence.list().find((entry) => entry.user === user && entry.session === null);
    if (member !== undefined) return withoutRefs(member.meta);
    const sight = this.#ports.store.sight(user);
    const metadata = sight === undefined ? undefined : parseJson(sight.metadata);
    return isObject(metadata) ? metadata : {};
  }

  /** Marks a user tracked without a socket as offline. False: with a socket open they stay what that says. */
  untrackUser(user: string, metadata: Record<string, unknown> | undefined): boolean {
    const now = this.#ports.timers.now();
    const kept = metadata ?? this.#metadataOf(user);
    this.#tell(this.#presence.drop((member) => member.session === null && member.user === user, now));
    if (this.#presence.list().some((member) => whoIs(member) === user)) return false;
    this.#ports.store.putSight({ user, metadata: JSON.stringify(kept), seenAt: now });
    this.#sighted();
    return true;
  }

  /** Marks those offline who were tracked without a socket and have been silent for so many ms; answers how many. */
  expire(ms: number): number {
    const now = this.#ports.timers.now();
    const before = this.#presence.list().length;
    this.#tell(this.#presence.drop(({ session, seenAt }) => session === null && seenAt <= now - ms, now));
    return before - this.#presence.list().length;
  }

  /** To be called when the alarm rings: sees to what is due. */
  alarm(): void {
    if (this.#due.take()) this.#endSilent();
  }

  /** Ends sessions of gateways that stayed away, users tracked without a socket that fell silent, and old sights. */
  #endSilent(): void {
    const now = this.#ports.timers.now();
    this.expire(this.#ports.presenceTimeoutMs);
    this.#tell(
      this.#presence.drop(
        ({ gateway }) => gateway !== null && (this.#missing.get(gateway) ?? Number.POSITIVE_INFINITY) <= now,
        now,
      ),
    );
    for (const [gateway, until] of this.#missing) if (until <= now) this.#missing.delete(gateway);
    const oldest = this.#ports.store.forgetSights(now - SIGHT_MS);
    this.#forgetsSights = oldest !== undefined;
    const due = [
      ...(oldest === undefined ? [] : [oldest + SIGHT_MS]),
      ...this.#missing.values(),
      ...this.#presence
        .list()
        .filter(({ session }) => session === null)
        .map(({ seenAt }) => seenAt + this.#ports.presenceTimeoutMs),
    ];
    if (due.length > 0) this.#due.wish(due.reduce((first, at) => Math.min(first, at)));
  }
}
