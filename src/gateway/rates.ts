// Rates: how often a session may join, send and track. Who is over is told, and nobody else is touched (protocol.md §16).
import { Bucket } from "../protocol/bucket.ts";
import type { ChannelLimits, Limits } from "../protocol/limits.ts";

/** At most this often a client that waits for no answer is told that it is over a limit, milliseconds. */
const TELL_EVERY_MS = 1_000;

/** One rate limit. */
export class Rate {
  readonly #bucket: Bucket | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;

  /** `perMinute` 0 is no limit. */
  constructor(perMinute: number, now: number) {
    this.#bucket = perMinute === 0 ? undefined : new Bucket(perMinute, now);
  }

  take(now: number): boolean {
    return this.#bucket === undefined || this.#bucket.take(now);
  }

  /** Whole seconds until the next one is allowed. */
  waitSeconds(now: number): number {
    return Math.max(1, Math.ceil((this.#bucket?.waitMs(now) ?? 0) / 1_000));
  }

  get perMinute(): number {
    return this.#bucket?.perMinute ?? 0;
  }

  /** Whether it is time to tell again that this limit is reached. */
  tells(now: number): boolean {
    if (now < this.#toldAt + TELL_EVERY_MS) return false;
    this.#toldAt = now;
    return true;
  }
}

/** The rates of one socket over all its channels. */
export interface SessionRates {
  readonly joins: Rate;
  readonly messages: Rate;
  readonly presence: Rate;
}

/** Servers are not limited: their key is theirs alone. */
export function sessionRates(limits: Limits, role: string, now: number): SessionRates {
  const of = (perMinute: number): Rate => new Rate(role === "service_role" ? 0 : perMinute, now);
  return {
    joins: of(limits.joinsPerMinute),
    messages: of(limits.messagesPerMinute),
    presence: of(limits.presencePerMinute),
  };
}

/** The rates of one membership: those of its socket, but for what its channel sets for itself. */
export function membershipRates(
  { messages, presence }: SessionRates,
  own: Partial<ChannelLimits>,
  role: string,
  now: number,
): Pick<SessionRates, "messages" | "presence"> {
  const of = (perMinute: number | undefined, shared: Rate): Rate =>
    perMinute === undefined || role === "service_role" ? shared : new Rate(perMinute, now);
  return { messages: of(own.messagesPerMinute, messages), presence: of(own.presencePerMinute, presence) };
}
