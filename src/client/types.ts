// Types: what an application hands to a channel and gets from it.
import type { Position } from "../protocol/positions.ts";

/** JSON of an application's own; name your type where one can be given instead. */
// biome-ignore lint/suspicious/noExplicitAny: what was sent is the application's to know, `payload.text` without a type must do.
export type Loose = Record<string, any>;

/** Where a message stands in its channel, and who sent it. */
export interface MessageMeta extends Position {
  readonly id: string;
  /** Unix milliseconds. */
  readonly at: number;
  /** The user of the sender's token, where one is known. */
  readonly sender?: string;
  /** It is of the past: it came because this client resumed or asked for a replay. */
  readonly replayed?: true;
}

/** A broadcast as it arrives. */
export interface Broadcast<Payload = Loose> {
  readonly type: "broadcast";
  readonly event: string;
  /** A Uint8Array where bytes were sent. */
  readonly payload: Payload;
  readonly meta: MessageMeta;
}

/** A broadcast to be sent; the payload is an object, or bytes. */
export interface Outgoing {
  readonly type: "broadcast";
  readonly event: string;
  readonly payload?: Loose | Uint8Array | ArrayBuffer;
}

export type RowEvent = "INSERT" | "UPDATE" | "DELETE";

/** A row change. `new` is empty for a DELETE, `old` for an INSERT. */
export interface RowChange<Row = Loose> {
  readonly eventType: RowEvent;
  readonly schema: string;
  readonly table: string;
  readonly commit_timestamp: string;
  readonly new: Row;
  readonly old: Partial<Row>;
  readonly errors: readonly string[] | null;
  readonly meta: MessageMeta;
}

/** Which row changes of a table: as at Supabase. */
export interface RowFilter {
  readonly event: RowEvent | "*";
  readonly schema?: string;
  readonly table?: string;
  /** Such as `id=eq.7`. */
  readonly filter?: string;
  /** Names of columns. */
  readonly select?: readonly string[];
}

/** What the server says of a channel. */
export interface SystemMessage {
  readonly extension: string;
  readonly status: "ok" | "error";
  readonly message: string;
}

/** Messages may be missing: what was sent after `from` and before now cannot be had again. */
export interface Gap {
  readonly from: Position;
  readonly reason: string;
}

/** How a subscription fares: the words of the Supabase client. After CHANNEL_ERROR and TIMED_OUT it is tried again. */
export type SubscribeStatus = "SUBSCRIBED" | "CHANNEL_ERROR" | "TIMED_OUT" | "CLOSED";

/** How a channel is joined: as at Supabase. */
export interface ChannelOptions {
  readonly config?: {
    /** Only who the policies let in, or its members; default false. */
    readonly private?: boolean;
    readonly broadcast?: {
      /** This client hears itself, too; default false. */
      readonly self?: boolean;
      /** `send` resolves when the message is stored; default true. Without, sending is cheaper and a break may lose it. */
      readonly ack?: boolean;
      /** At the first join also the newest `limit` messages not older than `since`, unix ms. */
      readonly replay?: { readonly since: number; readonly limit?: number };
    };
    readonly presence?: {
      /** The key under which this client is present: one for each user. Default: the `user_id` that it tracks. */
      readonly key?: string;
    };
  };
}
