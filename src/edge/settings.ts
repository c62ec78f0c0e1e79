// The edge's settings that a person tunes, with their bounds: free of the platform, so that a start can check them first.
import * as z from "zod";
import { parseKeySet } from "../auth/key-set.ts";
import { parseJson } from "../protocol/json.ts";
import { defaultLimits, type Limits, MAX_GATEWAY_SOCKETS, mostOf } from "../protocol/limits.ts";

const CLAIMS_ERROR = 'must be a JSON object of text, numbers and booleans: {"iss":"https://example.com"}';
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;
const text = z.string();
const claim = z.union([z.string(), z.number(), z.boolean()], { error: CLAIMS_ERROR });

/** Settings arrive as text. Outside these bounds each is refused, never adjusted. */
export const tuning = z.object({
  /** Gateways of one location. */
  REALTIME_GATEWAYS: whole(1, 1_000).default(4),
  /** Sockets on one gateway. */
  REALTIME_GATEWAY_SOCKETS: whole(1, 32_000).default(MAX_GATEWAY_SOCKETS),
  /** Sockets of one location, shared out among its gateways. */
  REALTIME_MAX_CONNECTIONS: whole(1, 10_000_000).default(10_000),
  /** Seconds until a user tracked without a socket is offline. */
  REALTIME_PRESENCE_TIMEOUT: whole(1, 86_400).default(300),
  /** Seconds for which a message can be had again. */
  REALTIME_MESSAGE_TTL: whole(1, 31_536_000).default(86_400),
  // The limits, see protocol/limits.ts. A rate of 0 is none.
  REALTIME_MESSAGES_PER_MINUTE: whole(0, mostOf.perMinute).default(defaultLimits.messagesPerMinute),
  REALTIME_PRESENCE_PER_MINUTE: whole(0, mostOf.perMinute).default(defaultLimits.presencePerMinute),
  REALTIME_JOINS_PER_MINUTE: whole(0, mostOf.perMinute).default(defaultLimits.joinsPerMinute),
  REALTIME_MAX_CHANNELS: whole(1, 10_000).default(defaultLimits.channels),
  REALTIME_MAX_PAYLOAD: whole(1, mostOf.payloadBytes).default(defaultLimits.payloadBytes),
  REALTIME_MAX_PRESENCE: whole(1, mostOf.presenceBytes).default(defaultLimits.presenceBytes),
  REALTIME_MAX_FRAME: whole(1_000, 30_000_000).default(defaultLimits.frameBytes),
  REALTIME_MAX_REPLAY: whole(1, mostOf.replay).default(defaultLimits.replay),
  /** Seconds. */
  REALTIME_IDLE_TIMEOUT: whole(5, 86_400).default(defaultLimits.idleMs / 1_000),
  /** Keys that verify tokens, a JSON Web Key Set. */
  REALTIME_JWKS: text
    .transform((given) => parseKeySet(parseJson(given)))
    .refine((keys) => keys !== undefined, 'must be a key set as JSON: {"keys":[…]}, of 100 keys at most')
    .optional(),
  /** Where such a set is published. */
  REALTIME_JWKS_URL: text
    .refine(isKeySetUrl, "must be an https URL without user or password; http is for this machine alone")
    .optional(),
  /** Claims that every token must have exactly so. */
  REALTIME_JWT_CLAIMS: text
    .transform(parseJson)
    .pipe(z.record(z.string(), claim, { error: CLAIMS_ERROR }))
    .optional(),
  /** Connections that one address may open a minute; 0: as many as it likes. */
  REALTIME_CONNECTIONS_PER_MINUTE: whole(0, mostOf.perMinute).default(100),
  /** The header in which a proxy in front says whose request it is. */
  REALTIME_IP_HEADER: text.regex(/^[a-zA-Z0-9-]+$/, "must be the name of a header").optional(),
});

function isKeySetUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== "" || url.password !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}

/** A number in digits alone: nothing at all is no zero. */
function whole(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  const digits = text.regex(/^\d+$/, { error }).transform(Number);
  return digits.pipe(z.number().min(least, { error }).max(most, { error }));
}

/** The limits that the settings make. */
export function limitsFrom(settings: z.infer<typeof tuning>): Limits {
  return {
    messagesPerMinute: settings.REALTIME_MESSAGES_PER_MINUTE,
    presencePerMinute: settings.REALTIME_PRESENCE_PER_MINUTE,
    joinsPerMinute: settings.REALTIME_JOINS_PER_MINUTE,
    channels: settings.REALTIME_MAX_CHANNELS,
    payloadBytes: settings.REALTIME_MAX_PAYLOAD,
    presenceBytes: settings.REALTIME_MAX_PRESENCE,
    frameBytes: settings.REALTIME_MAX_FRAME,
    replay: settings.REALTIME_MAX_REPLAY,
    idleMs: settings.REALTIME_IDLE_TIMEOUT * 1_000,
  };
}
