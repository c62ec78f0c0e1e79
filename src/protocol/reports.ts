// Reports: what the listener posts of our own tables, in the form of row changes (migrations/0011).
import * as z from "zod";
import { fromBase64 } from "./base64.ts";
import { cutMembers, type JsonText, parseJson } from "./json.ts";
import { MAX_TOPIC_LENGTH, parseTopic, wireTopic } from "./topics.ts";

/** A row of `realtime.messages` that is to be sent. */
export interface StoredBroadcast {
  readonly id: string;
  /** The channel's name, without the prefix `realtime:`. */
  readonly topic: string;
  readonly event: string;
  readonly private: boolean;
  readonly payload: JsonText | Uint8Array;
}

/** A row that nobody can be sent, by its id (or that of the change, where the row was too large to come). */
export interface Unsent {
  readonly id: string;
  readonly reason: string;
}

const lineSchema = z.object({ id: z.string() });
const messageSchema = z.object({
  new: z.object({
    id: z.string(),
    topic: z.string(),
    event: z.string().nullable(),
    private: z.boolean(),
    bytes: z.string().nullable(),
  }),
});
const membersSchema = z.object({ new: z.object({ slug: z.string(), users: z.array(z.string()).nullable() }) });
const slugSchema = z.object({ new: z.object({ slug: z.string() }) });

/**
 * Reads the lines of a batch of `realtime.messages`. A payload is cut out as PostgreSQL wrote it, so that no digit is
 * lost. What cannot be sent is told apart and never refused: it would be as bad the next time.
 */
export function parseBroadcasts(lines: readonly string[]): { broadcasts: StoredBroadcast[]; unsent: Unsent[] } {
  const broadcasts: StoredBroadcast[] = [];
  const left: Unsent[] = [];
  for (const line of lines) {
    const parsed = parseBroadcast(line);
    if ("reason" in parsed) left.push(parsed);
    else broadcasts.push(parsed);
  }
  return { broadcasts, unsent: left };
}

function parseBroadcast(line: string): StoredBroadcast | Unsent {
  const content = parseJson(line);
  const row = messageSchema.safeParse(content).data?.new;
  if (row === undefined) {
    return { id: lineSchema.safeParse(content).data?.id ?? "", reason: "it is too large to be carried" };
  }
  const { id, topic, event, private: isPrivate, bytes } = row;
  if (!isRoom(topic)) return unsent(row, "its topic names no room");
  if (event === null) return unsent(row, "it has no event");
  const payload = bytes === null ? payloadOf(line) : fromBase64(bytes);
  if (payload === undefined) return unsent(row, "it has no payload, or one that is too large");
  return { id, topic, event, private: isPrivate, payload };
}

/** Says of a row that nobody can be sent it. */
export function unsent({ id, topic }: { id: string; topic: string }, reason: string): Unsent {
  return { id, reason: `${reason} (topic ${JSON.stringify(topic.slice(0, MAX_TOPIC_LENGTH))})` };
}

function payloadOf(line: string): JsonText | undefined {
  const { payload = "null" } = cutMembers(cutMembers(line, ["new"]).new ?? "{}", ["payload"]);
  return payload === "null" ? undefined : payload;
}

function isRoom(sub: string): boolean {
  const topic = parseTopic(wireTopic(sub));
  return "kind" in topic && topic.kind === "room";
}

/** Reads the lines of a batch of `realtime.channels`: slugs that rooms can have, once each. */
export function parseSlugs(lines: readonly string[]): string[] {
  const slugs = lines.flatMap((line) => slugSchema.safeParse(parseJson(line)).data?.new.slug ?? []);
  return [...new Set(slugs)].filter(isRoom);
}

/** Reads the lines of a batch of `realtime.channel_members`: by slug the users concerned, undefined for all. */
export function parseMembers(lines: readonly string[]): Map<string, string[] | undefined> {
  const members = new Map<string, string[] | undefined>();
  for (const line of lines) {
    const change = membersSchema.safeParse(parseJson(line)).data?.new;
    if (change === undefined || !isRoom(change.slug)) continue;
    const { slug, users } = change;
    const known = members.has(slug) ? members.get(slug) : [];
    members.set(slug, users === null || known === undefined ? undefined : [...known, ...users]);
  }
  return members;
}
