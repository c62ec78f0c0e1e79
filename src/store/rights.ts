// Rights in private channels, as membership and policies say: one question answers for a channel and a principal.
import * as z from "zod";
import { type Rights, rightsSchema } from "../protocol/rights.ts";
import { CHANNEL_TYPES, type ChannelType } from "./channels.ts";
import type { Query } from "./database.ts";

/** Who asks, and with what their policies are asked. */
export interface RightsQuestion {
  readonly topic: string;
  readonly role: string;
  /** Who may be a member. */
  readonly user: string | null;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
}

/** What they may do, and as what the channel is registered; null: it is not. */
export interface RightsAnswer extends Rights {
  readonly channel: { id: string; type: ChannelType; metadata: Record<string, unknown> } | null;
  /** The error that a policy raised, in PostgreSQL's words: for the operator, not for who asks. */
  readonly fault: string | null;
}

/** Longest time that policies may take, milliseconds. */
const PATIENCE_MS = 2_000;

const answer = rightsSchema.extend({
  channel: z
    .object({ id: z.string(), type: z.enum(CHANNEL_TYPES), metadata: z.record(z.string(), z.unknown()) })
    .nullable(),
  fault: z
    .string()
    .nullish()
    .transform((fault) => fault ?? null),
});

/** The part of the store that asks for rights. Throws what `Query` throws. */
export function rightsStore(query: Query) {
  return {
    async ask({ topic, role, user, claims, headers }: RightsQuestion): Promise<RightsAnswer> {
      const [row] = await query(
        z.object({ answer }),
        "select realtime.authorize($1, $2, $3, $4::jsonb, $5::jsonb) as answer",
        [topic, role, user, JSON.stringify(claims), JSON.stringify(headers)],
        { statementTimeoutMs: PATIENCE_MS },
      );
      if (row === undefined) throw new Error("realtime.authorize has answered nothing");
      return row.answer;
    },
  };
}
