// The edge's settings, with their bounds: free of any platform, so that a start can check them before the edge runs.
import * as z from "zod";
import { parseKeySet } from "../auth/key-set.ts";
import { parseJson } from "../protocol/json.ts";
import { defaultLimits, defaultPace, type Limits, MAX_GATEWAY_SOCKETS, mostOf, type Pace } from "../protocol/limits.ts";
import { httpUrl, isSafeUrl, oneOf, says, secret, text, whole } from "./values.ts";

const CLAIMS_ERROR = 'must be a JSON object of text, numbers and booleans: {"iss":"https://example.com"}';
const claim = z.union([z.string(), z.number(), z.boolean()], { error: CLAIMS_ERROR });
/** An empty key, as an unset variable of a script leaves it, is no key: nobody shows it and comes in. */
const key = text.transform((given) => given.replace(/\s/g, "") || undefined);
const perMinute = whole(0, mostOf.perMinute);

/** What a deployment gives: who may come in, and how the parts know each other. */
export const deployment = z.object({
  REALTIME_JWT_SECRET: secret,
  REALTIME_ANON_KEY: key.optional(),
  REALTIME_SERVICE_KEY: key.optional(),
  REALTIME_LISTENER_SECRET: secret,
  REALTIME_SQL_URL: says(
    httpUrl.optional(),
    "where an edge on Cloudflare sends its SQL, if the database is not Neon: the listener's /sql",
    "none",
  ),
});

/** What a person tunes. */
export const tuning = z
  .object({
    REALTIME_ENABLED: says(
      oneOf(["true", "false"])
        .default("true")
        .transform((given) => given === "true"),
      "false: no sockets and no broadcasts over HTTP; the admin API goes on",
    ),
    REALTIME_MAX_CONNECTIONS: says(
      whole(1, 10_000_000).default(10_000),
      "sockets at once, all together",
      "10000, or fewer where a process may open fewer than 22300 files",
    ),
    REALTIME_GATEWAYS: says(whole(1, 1_000).default(4), "gateways of one location", "1 here, 4 on Cloudflare"),
    REALTIME_GATEWAY_SOCKETS: says(
      whole(1, 32_000).default(MAX_GATEWAY_SOCKETS),
      "sockets on one gateway, and direct ones on one channel",
      `32000 here, ${MAX_GATEWAY_SOCKETS} on Cloudflare`,
    ),
    REALTIME_MESSAGE_TTL: says(whole(1, 31_536_000).default(86_400), "seconds for which a message can be had again"),
    REALTIME_PRESENCE_TIMEOUT: says(
      whole(1, 86_400).default(300),
      "seconds until a user tracked without a socket is offline",
    ),
    REALTIME_HEARTBEAT_INTERVAL: says(
      whole(1, 3_600).default(defaultPace.heartbeatMs / 1_000),
      "seconds between two heartbeats of a client, each of which is answered",
    ),
    REALTIME_RECONNECT_DELAY: says(
      whole(10, 3_600_000).default(defaultPace.reconnectMs),
      "milliseconds, at most, after which a client that lost its socket tries again",
    ),
    REALTIME_IDLE_TIMEOUT: says(
      whole(2, 86_400).optional(),
      "seconds after which a silent socket is closed",
      `${defaultLimits.idleMs / 1_000}, or twice the heartbeat's if that is longer`,
    ),
    // The limits, see protocol/limits.ts. A rate of 0 is none.
    REALTIME_CONNECTIONS_PER_MINUTE: says(perMinute.default(100), "connections of one address a minute; 0: any number"),
    REALTIME_MESSAGES_PER_MINUTE: says(
      perMinute.default(defaultLimits.messagesPerMinute),
      "broadcasts of one socket a minute, and by HTTP of one address; 0: any number",
    ),
    REALTIME_PRESENCE_PER_MINUTE: says(
      perMinute.default(defaultLimits.presencePerMinute),
      "presence calls of one socket a minute; 0: any number",
    ),
    REALTIME_JOINS_PER_MINUTE: says(
      perMinute.default(defaultLimits.joinsPerMinute),
      "joins of one socket a minute; 0: any number",
    ),
    REALTIME_MAX_CHANNELS: says(whole(1, 10_000).default(defaultLimits.channels), "channels on one socket"),
    REALTIME_MAX_PAYLOAD: says(
      whole(1, mostOf.payloadBytes).default(defaultLimits.payloadBytes),
      "bytes of a broadcast's payload",
    ),
    REALTIME_MAX_PRESENCE: says(
      whole(1, mostOf.presenceBytes).default(defaultLimits.presenceBytes),
      "bytes of what is tracked in presence",
    ),
    REALTIME_MAX_FRAME: says(whole(1_000, 30_000_000).default(defaultLimits.frameBytes), "bytes of a client's frame"),
    REALTIME_MAX_REPLAY: says(whole(1, mostOf.replay).default(defaultLimits.replay), "messages that a join may replay"),
    REALTIME_IP_HEADER: says(
      text.regex(/^[a-zA-Z0-9-]+$/, "must be the name of a header").optional(),
      "the header in which a proxy in front appends the client's address",
    ),
    REALTIME_JWKS: says(
      text
        .transform((given) => parseKeySet(parseJson(given)))
        .refine((keys) => keys !== undefined, 'must be a key set as JSON: {"keys":[…]}, of 100 keys at most')
        .optional(),
      "keys that verify tokens, a JSON Web Key Set",
    ),
    REALTIME_JWKS_URL: says(
      text
        .refine(isSafeUrl, "must be an https URL without user or password; http is for this machine alone")
        .optional(),
      "where such a set is published: https, or http on this machine",
    ),
    REALTIME_JWT_CLAIMS: says(
      text
        .transform(parseJson)
        .pipe(z.record(z.string(), claim, { error: CLAIMS_ERROR }))
        .optional(),
      'claims that every token must have: {"iss":"https://example.com"}',
    ),
  })
  .refine(({ REALTIME_IDLE_TIMEOUT: idle, REALTIME_HEARTBEAT_INTERVAL: beat }) => idle === undefined || idle > beat, {
    path: ["REALTIME_IDLE_TIMEOUT"],
    error: "must be longer than REALTIME_HEARTBEAT_INTERVAL: who beats in time would be cut off",
  });
export type Tuning = z.infer<typeof tuning>;

/** The limits that the settings make. */
export function limitsFrom(settings: Tuning): Limits {
  const { REALTIME_IDLE_TIMEOUT: idle } = settings;
  return {
    messagesPerMinute: settings.REALTIME_MESSAGES_PER_MINUTE,
    presencePerMinute: settings.REALTIME_PRESENCE_PER_MINUTE,
    joinsPerMinute: settings.REALTIME_JOINS_PER_MINUTE,
    channels: settings.REALTIME_MAX_CHANNELS,
    payloadBytes: settings.REALTIME_MAX_PAYLOAD,
    presenceBytes: settings.REALTIME_MAX_PRESENCE,
    frameBytes: settings.REALTIME_MAX_FRAME,
    replay: settings.REALTIME_MAX_REPLAY,
    idleMs: idle === undefined ? Math.max(defaultLimits.idleMs, 2 * paceFrom(settings).heartbeatMs) : idle * 1_000,
  };
}

/** The pace that clients are told. */
export function paceFrom(settings: Tuning): Pace {
  return {
    heartbeatMs: settings.REALTIME_HEARTBEAT_INTERVAL * 1_000,
    reconnectMs: settings.REALTIME_RECONNECT_DELAY,
  };
}
