// Limits: every bound of the wire in one place, with its reason.
import * as z from "zod";
import { isObject } from "./json.ts";

/** The limits that a channel may have of its own. */
export interface ChannelLimits {
  /** Broadcasts of one socket a minute; 0: any number. A minute's allowance may be sent at once. */
  readonly messagesPerMinute: number;
  /** Calls of track and untrack of one socket a minute; 0: any number. */
  readonly presencePerMinute: number;
  /** Largest broadcast payload, bytes of its JSON text or binary. */
  readonly payloadBytes: number;
  /** Largest tracked presence payload, bytes of JSON. */
  readonly presenceBytes: number;
  /** Most messages that a replay by time delivers to a joining client (protocol.md §6.7). */
  readonly replay: number;
}

/** All limits that can be set; those of a channel hold where it has none of its own. */
export interface Limits extends ChannelLimits {
  /** Channels on one socket (protocol.md §11.1). */
  readonly channels: number;
  /** Joins of one socket a minute; 0: any number. */
  readonly joinsPerMinute: number;
  /** Largest frame taken from a client, bytes; a larger one closes the socket with 1009 (protocol.md §1.5). */
  readonly frameBytes: number;
  /** A socket with no frame from the client for this long is closed with 1000 (protocol.md §1.5). */
  readonly idleMs: number;
}

/** What clients are told when they join: the pace that keeps them, and everybody's server, well. */
export interface Pace {
  /** Between two heartbeats of a client. */
  readonly heartbeatMs: number;
  /** The longest a client that lost its socket waits before it tries again. */
  readonly reconnectMs: number;
}

/** Contract part 5. */
export const defaultPace: Pace = { heartbeatMs: 30_000, reconnectMs: 5_000 };

/** Contract C47 for the rates, AC-117 for the payload, protocol.md §11.1 for the rest. */
export const defaultLimits: Limits = {
  messagesPerMinute: 60,
  presencePerMinute: 10,
  payloadBytes: 1_000_000,
  presenceBytes: 100_000,
  replay: 25,
  channels: 100,
  joinsPerMinute: 600,
  frameBytes: 5_000_000,
  idleMs: 60_000,
};

/** The largest that a limit may be set to: a message shares a few rows of the ring, a replay is read as a whole. */
export const mostOf = {
  payloadBytes: 10_000_000,
  presenceBytes: 1_000_000,
  replay: 1_000,
  perMinute: 1_000_000,
} as const;

const whole = (least: number, most: number) => {
  const error = `must be a whole number from ${least} to ${most}`;
  return z.int({ error }).min(least, { error }).max(most, { error }).optional();
};
const fields = {
  messages_per_minute: whole(0, mostOf.perMinute),
  presence_per_minute: whole(0, mostOf.perMinute),
  payload_bytes: whole(1, mostOf.payloadBytes),
  presence_bytes: whole(1, mostOf.presenceBytes),
  replay: whole(1, mostOf.replay),
};

/** The limits that a channel's metadata may set for itself, under `limits`. */
export const channelLimits = z.strictObject(fields, {
  error: ({ code }) =>
    code === "unrecognized_keys" ? `knows ${Object.keys(fields).join(", ")} alone` : "must be a JSON object",
});

/** The limits that it sets; a value out of bounds, which SQL may have written, counts as not set. */
export function limitsOf(metadata: Readonly<Record<string, unknown>>): Partial<ChannelLimits> {
  const given = isObject(metadata.limits) ? metadata.limits : {};
  const read = (name: keyof typeof fields): number | undefined => fields[name].safeParse(given[name]).data;
  const named = {
    messagesPerMinute: read("messages_per_minute"),
    presencePerMinute: read("presence_per_minute"),
    payloadBytes: read("payload_bytes"),
    presenceBytes: read("presence_bytes"),
    replay: read("replay"),
  };
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
}

/** Deepest nesting of a frame, objects and lists: the platform's own recursion gives up at some thousands. */
export const MAX_DEPTH = 500;
/**
 * How long silence is borne of a client that follows a table by its topic and never sent a heartbeat. Once something
 * is sent to it, a broken connection shows by itself; one that hears nothing either is given up after a day.
 */
export const LISTENER_IDLE_MS = 86_400_000;
/** Row-change subscriptions of one channel. */
export const MAX_BINDINGS = 100;
/** Terms of all filters of one join, and those of them that are regular expressions, which cost the most by far. */
export const MAX_TERMS = 100;
export const MAX_REGEXES = 5;
/** Frames that may wait on one topic while its join runs. */
export const MAX_QUEUED_FRAMES = 100;
/** Bytes sent to a client since its last frame. The platform has no backpressure, so a reader this far behind is cut off. */
export const MAX_UNREAD_BYTES = 64_000_000;
/** Sockets on one gateway object; the next one is tried when it is full. */
export const MAX_GATEWAY_SOCKETS = 4_096;
/** Most messages a resume delivers; a client further behind is told `recovered: false` and fetches anew. */
export const MAX_RESUME = 10_000;
/** Longest presence key, UTF-16 units. */
export const MAX_KEY_LENGTH = 256;
/** How long a join waits for its row-change subscriptions if it asks to, milliseconds, and at most (protocol.md §8.3). */
export const WAIT_MS = 15_000;
export const MAX_WAIT_MS = 20_000;
/** Longest schema or table name, UTF-16 units: PostgreSQL's own limit is 63 bytes. */
export const MAX_NAME_LENGTH = 63;
/** Length of all row-change subscriptions of one join, as JSON: they are kept, and echoed. */
export const MAX_BINDINGS_LENGTH = 64_000;
/** Publishes of one room that may be under way to its channel, and their length together. */
export const MAX_UNDER_WAY = 5_000;
export const MAX_UNDER_WAY_LENGTH = 64_000_000;
/**
 * Row changes of a feed that a listener may deliver again after an earlier one: what waits for the edge, up to 8 MB, a round
 * of 10,000, and what was acknowledged in the 200 ms before a place is stored.
 */
export const MAX_REPEATED = 50_000;
/** Calls of one room that may wait for its channel. */
export const MAX_CALLS = 5_000;
/** Length of all messages that one resume delivers; a client further behind is told `recovered: false`. */
export const MAX_RESUME_LENGTH = 8_000_000;
