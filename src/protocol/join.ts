// The join payload: what a client asks for when it joins a topic (protocol.md §3.2).
import * as z from "zod";
import {
  defaultLimits,
  MAX_BINDINGS,
  MAX_BINDINGS_LENGTH,
  MAX_KEY_LENGTH,
  MAX_WAIT_MS,
  mostOf,
  WAIT_MS,
} from "./limits.ts";
import type { Position } from "./positions.ts";
import { boundedText } from "./text.ts";

// An invalid payload is not rejected: its valid parts are used, defaults for the rest. Hence a `catch` on every field.
const flag = z
  .union([z.boolean(), z.string().transform((text) => text.toLowerCase() === "true")])
  .catch(false)
  .default(false);
const count = z.number().int().nonnegative();

const replaySchema = z.object({
  since: count.default(0),
  limit: count.default(defaultLimits.replay).transform((limit) => Math.min(Math.max(limit, 1), mostOf.replay)),
});
const positionSchema = z.object({ epoch: boundedText(0, 64), seq: count });

/** `wait` holds the reply until the row-change subscriptions stand (protocol.md §8.3). */
const waitSchema = z
  .object({ wait: flag, timeout: z.number().positive().catch(WAIT_MS).default(WAIT_MS) })
  .transform(({ wait, timeout }) => (wait ? Math.round(Math.min(timeout, MAX_WAIT_MS)) : undefined))
  .optional()
  .catch(undefined);

const broadcastSchema = z
  .object({
    self: flag,
    ack: flag,
    replay: z.union([replaySchema.nullish(), z.unknown().transform(() => "invalid" as const)]).optional(),
    replication_ready: flag,
    resume: positionSchema.optional().catch(undefined),
  })
  .catch({ self: false, ack: false, replication_ready: false });

const presenceSchema = z
  .object({
    key: z
      .union([z.string(), z.number().transform(String)])
      // A presence_state with a key `ids` breaks stock clients (protocol.md §0 rule 6): such a key counts as none.
      .transform((key) => (key === "ids" ? "" : key.slice(0, MAX_KEY_LENGTH)))
      .catch(""),
    enabled: flag,
  })
  .catch({ key: "", enabled: false });

const configSchema = z
  .object({
    private: flag,
    broadcast: broadcastSchema.default({ self: false, ack: false, replication_ready: false }),
    presence: presenceSchema.default({ key: "", enabled: false }),
    postgres_changes: z
      .array(z.unknown())
      .transform((entries) => entries.filter((entry) => entry !== null))
      .catch([])
      .default([]),
    postgres_changes_options: waitSchema,
  })
  .catch({
    private: false,
    broadcast: { self: false, ack: false, replication_ready: false },
    presence: { key: "", enabled: false },
    postgres_changes: [],
  });

const payloadSchema = z.object({
  config: configSchema.optional(),
  access_token: z.string().optional().catch(undefined),
  user_token: z.string().optional().catch(undefined),
});

/** What a join asks for, all defaults filled in. */
export interface JoinRequest {
  readonly private: boolean;
  /** The sender also receives its own messages. */
  readonly self: boolean;
  /** Every broadcast is answered. */
  readonly ack: boolean;
  /** Wants to hear when what the database sends is delivered (§4). */
  readonly replicationReady: boolean;
  /** Deliver the newest `limit` messages that are not older than `since`, unix ms. */
  readonly replay: { readonly since: number; readonly limit: number } | "invalid" | undefined;
  /** Deliver everything after this position. */
  readonly resume: Position | undefined;
  /** The presence key; empty: the server makes one up. */
  readonly presenceKey: string;
  readonly presenceEnabled: boolean;
  /** The row-change subscriptions as the client wrote them: they are echoed verbatim. */
  readonly postgresChanges: readonly unknown[];
  /** How long the reply may be held until those stand, milliseconds; undefined: it is not. */
  readonly wait: number | undefined;
  /** There was no `config`: the topic itself may name a table (protocol.md §3.6). */
  readonly legacy: boolean;
  /** The token of this join; undefined: the one that opened the socket. Opaque `sb_…` keys count as none. */
  readonly token: string | undefined;
}

/** As many of the entries, from the first on, as one join may have. */
function bounded(entries: readonly unknown[]): readonly unknown[] {
  let length = 0;
  return entries.slice(0, MAX_BINDINGS).filter((entry) => {
    length += JSON.stringify(entry).length;
    return length <= MAX_BINDINGS_LENGTH;
  });
}

/** Reads a join payload, never failing: an invalid part counts as absent, row-change entries beyond the limits are cut. */
export function parseJoin(payload: unknown): JoinRequest {
  const parsed = payloadSchema.safeParse(payload);
  const { config, access_token, user_token } = parsed.success ? parsed.data : payloadSchema.parse({});
  const wanted = config ?? configSchema.parse({});
  const token = user_token ?? access_token;
  return {
    private: wanted.private,
    self: wanted.broadcast.self,
    ack: wanted.broadcast.ack,
    replicationReady: wanted.broadcast.replication_ready,
    replay: wanted.broadcast.replay ?? undefined,
    resume: wanted.broadcast.resume,
    presenceKey: wanted.presence.key,
    presenceEnabled: wanted.presence.enabled,
    postgresChanges: bounded(wanted.postgres_changes),
    wait: wanted.postgres_changes_options,
    legacy: config === undefined,
    token: token === undefined || token === "" || token.startsWith("sb_") ? undefined : token,
  };
}
