// The link protocol: what a gateway and a channel say over the socket between them. Version 1.
//
// A link message is a header, one line of JSON, and for messages and publishes a body that is passed on unparsed:
// text after a newline, or bytes after the header's length in two bytes. Several messages have a list of headers.
import { reasonOf } from "./errors.ts";
import type { JsonText } from "./json.ts";
import type { ChannelLimits } from "./limits.ts";
import { decodeMessages, encodeMessages } from "./messages.ts";
import type { Position } from "./positions.ts";
import type { Rights } from "./rights.ts";
import type { Table } from "./tables.ts";

/** Told with every link, so that a channel of a later deploy knows in which version it is spoken to. */
export const LINK_VERSION = 1;

/** The body of a message: the payload of its frame as JSON text, or the bytes of a binary broadcast. */
export type Body = JsonText | Uint8Array;

/** The body of a broadcast whose payload is JSON text, or bytes that go as they are. */
export function broadcastBody(event: string, payload: JsonText | Uint8Array): Body {
  return typeof payload === "string"
    ? `{"type":"broadcast","event":${JSON.stringify(event)},"payload":${payload}}`
    : payload;
}

/** Who may see a row, whole roles of them and single viewers by their keys, of whatever role they are. */
export interface Sight {
  readonly readers: readonly string[];
  /** Those whom row-level security shows it; absent where it has not been asked viewer by viewer. */
  readonly visible?: readonly string[];
}

/** Who may see a row change: its row, the new one or that of a DELETE, and how much of it. */
export interface Access extends Sight {
  /** Of an UPDATE, who may see the row as it was, where they are not the same. */
  readonly before?: Sight;
  /** The key of the table, which is all that others get of the row as it was. */
  readonly key?: readonly string[];
  /** What roles may read that may not read every column. */
  readonly columns?: Readonly<Record<string, readonly string[]>>;
  /** Roles that may not read the key: they hear that there is a change, and nothing of it (protocol.md §8.6). */
  readonly unauthorized?: readonly string[];
}

/** The transaction of a row change, and whether it is the last of it that this feed gets. */
export interface Transaction {
  readonly id: string;
  readonly last: boolean;
}

/** A message of a channel as it goes down every link, encoded once for all its subscribers. */
export interface Message {
  readonly seq: number;
  readonly id: string;
  /** Unix milliseconds. */
  readonly at: number;
  /** The session that sent it; null when it came by HTTP or from the database. */
  readonly from: string | null;
  /** The user who sent it, as their token says; null when nobody is known. */
  readonly sender: string | null;
  /** `broadcast`, or the operation of a row change. */
  readonly event: string;
  /** The user's event name. For a row change, the operation again. */
  readonly name: string;
  readonly body: Body;
  /** It is in `realtime.messages`: it came from there. */
  readonly stored?: true;
  readonly access?: Access;
  readonly tx?: Transaction;
}

/** Who joins: the claims that decide, and who they are in presence. */
export interface Joiner {
  readonly session: string;
  readonly role: string;
  readonly user: string | null;
  /** What policies are asked with; only a private room has any. */
  readonly principal?: Principal;
  /** What the policies of tables are asked with; only a feed asks them. */
  readonly viewer?: Viewer;
}

/** A principal of feeds: the role and the claims whose row-level security decides which rows are seen. */
export interface Viewer {
  /** The same for the same role and claims, and for no others. */
  readonly key: string;
  readonly role: string;
  readonly claims: Readonly<Record<string, unknown>>;
}

/** A distinct set of claims, with the headers of the request that brought them, whose row-level security decides. */
export interface Principal {
  readonly claims: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
}

/** Why a feed cannot be joined whose table nobody has subscribed. */
export const NOT_CAPTURED = reasonOf(
  "TableNotCaptured",
  "No changes of this table are captured, run `nself realtime subscribe` first",
);

/** What a gateway says to a channel. A `call` is answered by `joined` or `done` with the same number. */
export type Up =
  | {
      readonly t: "hello";
      /** This gateway was linked before: its members need the state of presence, which may have changed. */
      readonly again: boolean;
      /** The last position this gateway has delivered; absent on a first opening. */
      readonly since?: Position;
      /** The sessions joined through this link, so that the channel can drop the presence of others. */
      readonly sessions: readonly string[];
      /** Of a feed: all viewers that its subscribers here have. */
      readonly viewers?: readonly Viewer[];
    }
  /** All viewers that the subscribers of a feed have here, asked for. */
  | { readonly t: "viewers"; readonly viewers: readonly Viewer[] }
  /** Nobody here sees a feed as these viewers any more. */
  | { readonly t: "unview"; readonly keys: readonly string[] }
  | {
      readonly t: "join";
      readonly call: number;
      readonly joiner: Joiner;
      readonly presence: boolean;
      readonly replay?: { readonly since: number; readonly limit: number };
      readonly resume?: Position;
    }
  /** Asks what a member may do now: its claims have changed, or its rights may have since `notBefore` (unix ms). */
  | {
      readonly t: "admit";
      readonly call: number;
      readonly joiner: Joiner;
      readonly notBefore: number;
      /** Wants the state of presence if it may have it. */
      readonly presence: boolean;
    }
  | { readonly t: "leave"; readonly session: string }
  | {
      readonly t: "publish";
      readonly id: string;
      readonly session: string;
      readonly sender: string | null;
      readonly name: string;
      readonly body: Body;
      /** Answer with `stored` once the message is durable in the ring. */
      readonly ack: boolean;
      /** Sent before on a link that broke: drop it if its id is known. */
      readonly again: boolean;
      /** To be kept in the database for so many seconds. */
      readonly persist?: number;
    }
  | {
      readonly t: "track";
      readonly call: number;
      readonly session: string;
      readonly user: string | null;
      readonly key: string;
      readonly meta: Record<string, unknown>;
    }
  | { readonly t: "untrack"; readonly call: number; readonly session: string }
  /** A member asks for something to be done to the channel: unparsed, as the client wrote it. */
  | {
      readonly t: "moderate";
      readonly call: number;
      readonly by: Pick<Joiner, "role" | "user">;
      readonly act: { readonly event: unknown; readonly payload: unknown };
    };

/** Presence as clients see it: key → metas. */
export type PresenceState = Record<string, { metas: Record<string, unknown>[] }>;

export interface PresenceDiff {
  readonly joins: PresenceState;
  readonly leaves: PresenceState;
}

/** Whether somebody may be in a channel. */
export type Admission =
  | {
      readonly ok: true;
      /** Absent: all of them. */
      readonly rights?: Rights;
      /** Those that the channel sets for itself. */
      readonly limits?: Partial<ChannelLimits>;
    }
  | Refusal;

export interface Refusal {
  readonly ok: false;
  readonly reason: string;
  /** The name is registered as the other kind of room: join there instead. */
  readonly moved?: "public" | "private";
}

/** The answer to a join. */
export type Joined =
  | (Extract<Admission, { ok: true }> & {
      readonly position: Position;
      /** Present when the join asked to resume: whether all that was missed follows. */
      readonly recovered?: boolean;
      /** If so: how many messages that is. Those deleted since are not among them. */
      readonly missed?: number;
      /** Of a feed: its table. */
      readonly table?: Table;
    })
  | Refusal;

/** What a channel says to a gateway. */
export type Down =
  /** The link stands. What was missed since `hello.since` went before, or `recovered` is false and part of it is lost. */
  | { readonly t: "welcome"; readonly position: Position; readonly recovered: boolean }
  | ({ readonly t: "message" } & Message)
  /** What came together goes together. */
  | { readonly t: "messages"; readonly messages: readonly Message[] }
  /** A message of the past for one session that has just joined. */
  | ({ readonly t: "replay"; readonly session: string } & Message)
  | { readonly t: "joined"; readonly call: number; readonly result: Joined }
  /** The state of presence for one session, or (null) for all of the gateway's. */
  | { readonly t: "state"; readonly session: string | null; readonly state: PresenceState }
  | ({ readonly t: "diff" } & PresenceDiff)
  | { readonly t: "admitted"; readonly call: number; readonly result: Admission }
  /** A feed that has slept asks for its viewers. */
  | { readonly t: "viewers" }
  /** The rights of these users, or of everybody, may have changed: ask again. */
  | { readonly t: "reauthorize"; readonly users?: readonly string[] }
  /** A publish that asked for an ack is durable, in the database too if it is `persisted`, or was refused. */
  | { readonly t: "stored"; readonly id: string; readonly persisted?: true; readonly error?: string }
  | { readonly t: "done"; readonly call: number; readonly error?: string }
  /** Everybody is put out of the channel; with `rejoin` they may come back at once. */
  | { readonly t: "gone"; readonly reason: string; readonly rejoin: boolean };

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const BODY_FROM = 2;

/** Encodes a link message. */
export function encodeLink(message: Up | Down): string | Uint8Array {
  if (message.t === "messages") return encodeMessages(message.messages);
  if (!("body" in message)) return JSON.stringify(message);
  const { body, ...rest } = message;
  const header = JSON.stringify(rest);
  if (typeof body === "string") return `${header}\n${body}`;
  const head = encoder.encode(header);
  const bytes = new Uint8Array(BODY_FROM + head.length + body.length);
  new DataView(bytes.buffer).setUint16(0, head.length);
  bytes.set(head, BODY_FROM);
  bytes.set(body, BODY_FROM + head.length);
  return bytes;
}

/** Decodes what a channel says. Both ends are ours, so its shape is trusted. */
export function decodeDown(data: string | ArrayBuffer): Down {
  if (typeof data === "string" && data.startsWith("[")) return { t: "messages", messages: decodeMessages(data) };
  return decode(data);
}

/** Decodes what a gateway says, likewise. */
export function decodeUp(data: string | ArrayBuffer): Up {
  return decode(data);
}

function decode<T extends Up | Down>(data: string | ArrayBuffer): T {
  if (typeof data === "string") {
    const end = data.indexOf("\n");
    if (end < 0) return JSON.parse(data);
    return { ...JSON.parse(data.slice(0, end)), body: data.slice(end + 1) };
  }
  const bytes = new Uint8Array(data);
  const end = BODY_FROM + new DataView(data).getUint16(0);
  return { ...JSON.parse(decoder.decode(bytes.subarray(BODY_FROM, end))), body: bytes.subarray(end) };
}
