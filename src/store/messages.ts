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

const statistics = z.object({
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

const COLUMNS = "m.id, m.event_type, m.payload, m.sender_id, m.sent_at";
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

    /** The newest messages of a channel, newest first. `ttl`: for how many seconds a message can be had. */
    async newest(channelId: string, ttl: number, limit: number): Promise<ArchivedMessage[]> {
      return query(
        row,
        `select ${COLUMNS} from realtime.messages m where ${HELD} order by m.sent_at desc, m.seq desc nulls last, m.id desc limit $3`,
        [channelId, ttl, limit],
      );
    },

    /** Messages of a channel since a time (unix ms), oldest first. */
    async since(channelId: string, ttl: number, since: number, limit: number): Promise<ArchivedMessage[]> {
      return query(
        row,
        `select ${COLUMNS} from realtime.messages m where ${HELD} and m.sent_at >= $4::timestamptz
         order by m.sent_at, m.seq, m.id limit $3`,
        [channelId, ttl, limit, new Date(since).toISOString()],
      );
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
    async statistics(channelId: string | null): Promise<z.infer<typeof statistics>> {
      const [totals] = await query(
        statistics,
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
    async events(channelId: string | null, hours: number): Promise<z.infer<typeof eventCount>[]> {
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
         ) counts group by 1 order by 2 desc, 1`,
        [channelId, hours],
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

function entry({ id, seq, name, body, sender, at }: Message) {
  return { id, seq, event: name, sender, at, ...(typeof body === "string" ? { body } : { hex: toHex(body) }) };
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
