// Topics: the wire name of a channel (`realtime:<sub-topic>`) and the name of the object behind it.
import { reasonOf } from "./errors.ts";

const PREFIX = "realtime:";
const FEED_PREFIX = "table:";

/** Longest topic accepted, in UTF-16 units: object names end at 1,024 bytes, and a topic is at most 3 bytes a unit. */
export const MAX_TOPIC_LENGTH = 300;

/** What a topic names: a room for messages and presence, or the feed of one table's row changes. */
export type Topic =
  | { readonly kind: "room"; readonly sub: string }
  | { readonly kind: "feed"; readonly sub: string; readonly feed: string };

/**
 * Reads a wire topic. Answers the reason, in the words of protocol.md §3.5, when it names no channel.
 * `realtime:table:public.users` is the feed of that table; everything else is a room.
 */
export function parseTopic(wire: string): Topic | { readonly reason: string } {
  if (!wire.startsWith(PREFIX)) return { reason: "unmatched topic" };
  const sub = wire.slice(PREFIX.length);
  if (sub === "") return { reason: reasonOf("TopicNameRequired", "You must provide a topic name") };
  if (wire.length > MAX_TOPIC_LENGTH)
    return { reason: reasonOf("TopicTooLong", `A topic holds at most ${MAX_TOPIC_LENGTH} characters`) };
  if (!sub.startsWith(FEED_PREFIX)) return { kind: "room", sub };
  const names = parseFeedName(sub.slice(FEED_PREFIX.length));
  if (names === undefined) return { reason: reasonOf("TopicNameRequired", "A feed is named table:<schema>.<table>") };
  // One table has one feed, whether or not its name was quoted without need.
  const feed = feedName(names.schema, names.table);
  return { kind: "feed", sub: feedTopic(feed), feed };
}

/**
 * What the topic of a room says of tables: `<schema>:<table>`, as old clients name them, and in a legacy join
 * `schema[:table[:filter]]` (protocol.md §3.6). Whether there is such a table is for others to say.
 */
export function namesInTopic(
  { kind, sub }: Topic,
  legacy: boolean,
): [schema: string, table: string | undefined, filter: string | undefined] | undefined {
  const [, schema, table, filter] = /^([^:]+)(?::([^:]+)(?::(.*))?)?$/s.exec(kind === "room" ? sub : "") ?? [];
  if (schema === undefined) return undefined;
  return legacy || (table !== undefined && filter === undefined) ? [schema, table, filter] : undefined;
}

/** The wire name of a sub-topic. */
export function wireTopic(sub: string): string {
  return PREFIX + sub;
}

/** The sub-topic of a feed. */
export function feedTopic(feed: string): string {
  return FEED_PREFIX + feed;
}

/** The name of a table's feed, `public.users`. A part that holds a dot or a quote is quoted: `a."b.c"` is not `"a.b".c`. */
export function feedName(schema: string, table: string): string {
  return `${feedPart(schema)}.${feedPart(table)}`;
}

function feedPart(name: string): string {
  return /[."]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
}

/** The schema and table that a feed's name stands for: the inverse of `feedName`. `*` stands for all. */
export function parseFeedName(feed: string): { schema: string; table: string } | undefined {
  const [, schema, table] = /^("(?:[^"]|"")+"|[^".]+)\.("(?:[^"]|"")+"|[^".]+)$/.exec(feed) ?? [];
  return schema === undefined || table === undefined
    ? undefined
    : { schema: unquotePart(schema), table: unquotePart(table) };
}

function unquotePart(part: string): string {
  return part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part;
}

/** Name of the object of a room. Public and private rooms of one name are apart (protocol.md §6.3). */
export function roomObject(sub: string, isPrivate: boolean): string {
  return `${isPrivate ? "private" : "public"}:${sub}`;
}

/** Whether an object is that of a private room. */
export function isPrivateObject(object: string): boolean {
  return object.startsWith("private:");
}

/** Whether an object is that of a feed. */
export function isFeedObject(object: string): boolean {
  return object.startsWith("feed:");
}

/** Name of the object of a feed. */
export function feedObject(feed: string): string {
  return `feed:${feed}`;
}

/** What an object's name says of it: the inverse of `roomObject` and `feedObject`. */
export interface ObjectName {
  readonly kind: "public" | "private" | "feed";
  readonly sub: string;
}

/** Reads an object's name; undefined for a name that none of ours has. */
export function parseObjectName(name: string): ObjectName | undefined {
  const colon = name.indexOf(":");
  const kind = name.slice(0, colon);
  const rest = name.slice(colon + 1);
  if (rest === "") return undefined;
  if (kind === "public" || kind === "private") return { kind, sub: rest };
  return kind === "feed" ? { kind, sub: feedTopic(rest) } : undefined;
}
