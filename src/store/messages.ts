// Messages kept in `realtime.messages`.
import * as z from "zod";
import type { Body } from "../protocol/link.ts";
import type { Query } from "./database.ts";

/** A broadcast to be kept. */
export interface KeptMessage {
  /** UUID: a message that is kept again is kept once. */
  readonly id: string;
  readonly topic: string;
  readonly event: string;
  readonly body: Body;
}

export type MessageStore = ReturnType<typeof messageStore>;

/** The part of the store that holds messages. Each call throws what `Query` throws. */
export function messageStore(query: Query) {
  return {
    /** Keeps a private broadcast that has been sent already, for so many seconds (protocol.md §6.9). */
    async persist({ id, topic, event, body }: KeptMessage, seconds: number): Promise<void> {
      const [json, hex] = typeof body === "string" ? [body, null] : [null, toHex(body)];
      await query(
        z.object({}),
        `insert into realtime.messages
           (id, topic, event_type, payload, binary_payload, private, skip_broadcast, expires_at)
         values ($1::uuid, $2, $3, $4::jsonb -> 'payload', decode($5, 'hex'), true, true,
           (now() at time zone 'UTC') + make_interval(secs => $6))
         on conflict (id) do nothing`,
        [id, topic, event, json, hex, seconds],
      );
    },
  };
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
