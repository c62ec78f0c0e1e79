// Messages kept in `realtime.messages`.
import * as z from "zod";
import type { Body, Message } from "../protocol/link.ts";
import { type Query, refusesValues } from "./database.ts";

/** A broadcast to be kept. */
export interface KeptMessage {
  /** UUID: a message that is kept again is kept once. */
  readonly id: string;
  readonly topic: string;
  readonly event: string;
  readonly body: Body;
}

const row = z.object({
  id: z.string(),
  event_type: z.string().nullable(),
  payload: z.unknown(),
  sender_id: z.string().nullable(),
  sent_at: z.date(),
});
export type ArchivedMessage = z.infer<typeof row>;

/** A message's place among those of its channel: when it was sent, to the microsecond, its number there, and its id. */
export const messagePlace = z.tuple([z.string(), z.string(), z.guid()]);
export type MessagePlace = z.infer<typeof messagePlace>;

/** Which messages of a channel a page is of. */
export interface MessagePage {
  readonly order: "newest" | "oldest";
  readonly limit: number;
  /** None that was sent earlier, unix ms. */
  readonly since?: number | undefined;
  /** The page begins after this place. */
  readonly after?: MessagePlace | undefined;
}

/** A page ends with the message that goes past this, bytes of JSON. */
const MAX_PAGE_BYTES = 8_000_000;
const FIRST_BATCH = 64;
const placed = row.extend({ place: messagePlace, size: z.number() });

/** Totals of messages. */
export const messageTotals = z.object({
  total_messages: z.number(),
  messages_last_hour: z.number(),
  messages_last_day: z.number(),
  unique_event_types: z.number(),
  unique_senders: z.number(),
});
const eventCount = z.object({ event_type: z.string(), count: z.number(), last_sent: z.date() });
const expired = z.object({ deleted: z.coerce.number(), topics: z.array(z.string()) });

/** Deleted in one statement: it must be done long before its time is over. */
const MAX_EXPIRED = 10_000;
/** Where a page of events begins: after this one. */
export type EventCursor = Pick<z.infer<typeof eventCount>, "event_type" | "count">;

/** Of the channel $1, what can still be had when messages can for $2 seconds. */
const HELD = `m.channel_id = $1::uuid and m.extension = 'broadcast'
  and realtime.goes_at(m.sent_at, m.expires_at, make_interval(secs => $2)) > now()`;

export type MessageStore = ReturnType<typeof messageStore>;

/** The part of the store that holds messages. Each call throws what `Query` throws. */
export function messageStore(query: Query) {
  const keep = (channelId: string, messages: readonly Message[]) =>
    query(z.object({}), "select realtime.keep_messages($1::uuid, $2::json)", [
      channelId,
      JSON.stringify(messages.map(entry)),
    ]);

  /** So many messages, up to the one that goes past so many bytes. */
  const some = (channelId: string, ttl: number, { order, limit, since, after }: MessagePage, bytes: number) => {
    const [beyond, direction] = order === "newest" ? ["<", "desc"] : [">", "asc"];
    const [sentAt, seq, id] = after ?? [null, null, null];
    return query(
      placed,
      `with batch as (
         select m.id, m.event_type, m.payload, m.sender_id, m.sent_at, coalesce(m.seq, 0) as seq,
           coalesce(octet_length(m.payload::text), 0) as size
         from realtime.messages m
         where ${HELD} and ($4::timestamptz is null or m.sent_at >= $4) and ($5::timestamptz is null
           or m.sent_at ${beyond}= $5 and (m.sent_at, coalesce(m.seq, 0), m.id) ${beyond} ($5, $6::bigint, $7::uuid))
         order by m.sent_at ${direction}, 6 ${direction}, m.id ${direction} limit $3
       )
       select id, event_type, payload, sender_id, sent_at, size, json_build_array(sent_at::text, seq::text, id) as place
       from (select *, row_number() over place as n, sum(size) over (place rows unbounded preceding) - size as before
         from batch window place as (order by sent_at ${direction}, seq ${direction}, id ${direction})) numbered
       where before < $8 order by n`,
      [channelId, ttl, limit, isoTime(since), sentAt, seq, id, bytes],
    );
  };

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

    /**
     * Keeps messages that a registered channel has sent. One that PostgreSQL cannot hold is left out and logged: it would
     * be as bad the next time. Rejects with whatever has nothing to do with the messages, and may be over soon.
     */
    async keep(channelId: string, messages: readonly Message[]): Promise<void> {
      try {
        await keep(channelId, messages);
      } catch (error) {
        if (!refusesValues(error)) throw error;
        if (messages.length > 1) {
          const middle = Math.ceil(messages.length / 2);
          await this.keep(channelId, messages.slice(0, middle));
          return this.keep(channelId, messages.slice(middle));
        }
        console.warn(JSON.stringify({ event: "not kept", channelId, id: messages[0]?.id, reason: String(error) }));
      }
    },

    /**
     * A page of a channel's messages: as many as were asked for, or about 8 MB of them. `ttl`: for how many seconds a
     * message can be had. `next`: where the next page begins, if there is one.
     */
    async page(
      channelId: string,
      ttl: number,
      { order, limit, since, after }: MessagePage,
    ): Promise<{ messages: ArchivedMessage[]; next: MessagePlace | undefined }> {
      const found: z.infer<typeof placed>[] = [];
      let bytes = MAX_PAGE_BYTES;
      // To know how large a message is PostgreSQL must unpack it: few at first, more when they prove to be small.
      for (let batch = FIRST_BATCH; found.length <= limit && bytes > 0; batch *= 4) {
        const most = Math.min(batch, limit + 1 - found.length);
        const rows = await some(
          channelId,
          ttl,
          { order, limit: most, since, after: found.at(-1)?.place ?? after },
          bytes,
        );
        found.push(...rows);
        bytes -= rows.reduce((sum, { size }) => sum + size, 0);
        if (rows.length < most && bytes > 0) return { messages: found, next: undefined };
      }
      const messages = found.slice(0, limit);
      return { messages, next: messages.at(-1)?.place };
    },

    /** Deletes a message of a channel, or (with `sender`) only one of this user's. False: there is none. */
    async delete(channelId: string, id: string, sender?: string): Promise<boolean> {
      const gone = await query(
        z.object({ id: z.string() }),
        `delete from realtime.messages
         where channel_id = $1::uuid and id = $2::uuid and ($3::text is null or sender_id = $3) returning id`,
        [channelId, id, sender ?? null],
      );
      return gone.length > 0;
    },

    /**
     * Totals of one channel, or (null) of all: of what can be had, and of what is gone for at most 30 days, by whole hours.
     * Senders are those of the last day. What is older than that is only counted, which an index does: it may be millions.
     */
    async statistics(channelId: string | null): Promise<z.infer<typeof messageTotals>> {
      const [totals] = await query(
        messageTotals,
        `with recent as (
           select m.event_type, m.sender_id, count(*) as day,
             count(*) filter (where m.sent_at >= now() - interval '1 hour') as hour
           from realtime.messages m
           where m.extension = 'broadcast' and m.channel_id is not null and ($1::uuid is null or m.channel_id = $1)
             and m.sent_at >= now() - interval '1 day'
           group by 1, 2
         ), older as (
           select count(*) as total from realtime.messages m
           where m.channel_id is not null and ($1::uuid is null or m.channel_id = $1)
             and m.sent_at < now() - interval '1 day'
         ), gone as (
           select k.event_type, sum(k.count) as total,
             sum(k.count) filter (where k.last_sent >= now() - interval '1 day') as day,
             sum(k.count) filter (where k.last_sent >= now() - interval '1 hour') as hour
           from realtime.message_counts k where $1::uuid is null or k.channel_id = $1 group by 1
         ), counted as (
           select event_type, day as total, day, hour from recent union all select * from gone
         )
         select (coalesce(sum(total), 0) + (select total from older))::float8 as total_messages,
           coalesce(sum(hour), 0)::float8 as messages_last_hour, coalesce(sum(day), 0)::float8 as messages_last_day,
           count(distinct event_type)::int as unique_event_types,
           (select count(distinct sender_id)::int from recent) as unique_senders
         from counted`,
        [channelId],
      );
      if (totals === undefined) throw new Error("an aggregate has answered no row");
      return totals;
    },

    /** How often each event was sent in the last hours, most often first; of messages that are gone, by whole hours. */
    async events(
      channelId: string | null,
      hours: number,
      limit: number,
      after?: EventCursor,
    ): Promise<z.infer<typeof eventCount>[]> {
      return query(
        eventCount,
        `select event_type, sum(count)::int as count, max(last_sent) as last_sent from (
           select m.event_type, count(*) as count, max(m.sent_at) as last_sent from realtime.messages m
           where m.extension = 'broadcast' and m.event_type is not null and m.channel_id is not null
             and ($1::uuid is null or m.channel_id = $1) and m.sent_at >= now() - make_interval(hours => $2)
           group by 1
           union all
           select k.event_type, k.count, k.last_sent from realtime.message_counts k
           where ($1::uuid is null or k.channel_id = $1) and k.last_sent >= now() - make_interval(hours => $2)
         ) counts group by 1
         having $4::bigint is null or sum(count) < $4 or sum(count) = $4 and event_type > $5
         order by 2 desc, 1 limit $3`,
        [channelId, hours, limit, after?.count ?? null, after?.event_type ?? null],
      );
    },

    /**
     * Deletes what is older than so many seconds, and answers how many messages that were, and of which topics. With
     * `explicit` it does not matter that a message was to be kept longer.
     */
    async expire(seconds: number, explicit: boolean): Promise<{ deleted: number; topics: ReadonlySet<string> }> {
      const total = { deleted: 0, topics: new Set<string>() };
      for (let more = true; more; ) {
        const [answer] = await query(
          expired,
          "select deleted, topics from realtime.expire_messages(make_interval(secs => $1), $2, $3)",
          [seconds, explicit, MAX_EXPIRED],
        );
        if (answer === undefined) throw new Error("realtime.expire_messages has answered nothing");
        total.deleted += answer.deleted;
        for (const topic of answer.topics) total.topics.add(topic);
        more = answer.deleted >= MAX_EXPIRED;
      }
      return total;
    },
  };
}

function isoTime(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}

function entry({ id, seq, name, body, sender, at }: Message) {
  return { id, seq, event: name, sender, at, ...(typeof body === "string" ? { body } : { hex: toHex(body) }) };
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
