// Registered channels: rows of `realtime.channels`, their members counted.
import * as z from "zod";
import type { Query } from "./database.ts";

/** The types a channel may have. `direct` is private with at most two members. */
export const CHANNEL_TYPES = ["public", "private", "presence", "direct"] as const;
export type ChannelType = (typeof CHANNEL_TYPES)[number];

/** A row of `realtime.channels`. */
export interface RegisteredChannel {
  id: string;
  slug: string;
  name: string;
  type: ChannelType;
  metadata: Record<string, unknown>;
  created_at: Date;
  updated_at: Date;
}

export interface ListedChannel extends RegisteredChannel {
  members: number;
}

/** Where a page of channels begins: after this one. */
export type ChannelCursor = Pick<RegisteredChannel, "created_at" | "slug">;

/** What a new channel is made of. `metadata` absent: none for a new channel, unchanged for one that is there. */
export interface ChannelDraft {
  slug: string;
  name: string;
  type: ChannelType;
  metadata?: Record<string, unknown>;
}

const row = z.object({
  id: z.string(),
  slug: z.string(),
  name: z.string(),
  type: z.enum(CHANNEL_TYPES),
  metadata: z.record(z.string(), z.unknown()),
  created_at: z.date(),
  updated_at: z.date(),
});
const listed = row.extend({ members: z.number() });
const count = z.object({ count: z.number() });

const COLUMNS = "c.id, c.slug, c.name, c.type, c.metadata, c.created_at, c.updated_at";
const MEMBERS = "(select count(*)::int from realtime.channel_members m where m.channel_id = c.id) as members";

export type ChannelStore = ReturnType<typeof channelStore>;

/** The part of the store that holds channels. Each call throws what `Query` throws. */
export function channelStore(query: Query) {
  return {
    /** Makes a channel. Undefined when the slug is taken. */
    async create(draft: ChannelDraft): Promise<RegisteredChannel | undefined> {
      const [created] = await query(
        row,
        `insert into realtime.channels as c (slug, name, type, metadata) values ($1, $2, $3, $4::jsonb)
         on conflict (slug) do nothing returning ${COLUMNS}`,
        [draft.slug, draft.name, draft.type, JSON.stringify(draft.metadata ?? {})],
      );
      return created;
    },

    /** Overwrites name, type and (when given) metadata of the channel with this slug. Undefined when there is none. */
    async update(draft: ChannelDraft): Promise<RegisteredChannel | undefined> {
      const [updated] = await query(
        row,
        `update realtime.channels as c
         set name = $2, type = $3, metadata = coalesce($4::jsonb, c.metadata), updated_at = now()
         where c.slug = $1 returning ${COLUMNS}`,
        [draft.slug, draft.name, draft.type, draft.metadata === undefined ? null : JSON.stringify(draft.metadata)],
      );
      return updated;
    },

    /** Replaces the metadata of a channel. Undefined when there is none. */
    async setMetadata(id: string, metadata: Record<string, unknown>): Promise<RegisteredChannel | undefined> {
      const [updated] = await query(
        row,
        `update realtime.channels as c set metadata = $2::jsonb, updated_at = now()
         where c.id = $1::uuid returning ${COLUMNS}`,
        [id, JSON.stringify(metadata)],
      );
      return updated;
    },

    /** Finds a channel by id, slug or exact name, in this order: no name can hide another channel's id or slug. */
    async find(reference: string): Promise<ListedChannel | undefined> {
      const [found] = await query(
        listed,
        `select ${COLUMNS}, ${MEMBERS} from realtime.channels c
         where c.id = $1::uuid or c.slug = $2 or c.name = $2
         order by c.id is not distinct from $1::uuid desc, c.slug = $2 desc, c.created_at limit 1`,
        [z.guid().safeParse(reference).success ? reference : null, reference],
      );
      return found;
    },

    /** The channel of exactly this slug: what a topic names. */
    async findSlug(slug: string): Promise<RegisteredChannel | undefined> {
      const [found] = await query(row, `select ${COLUMNS} from realtime.channels c where c.slug = $1`, [slug]);
      return found;
    },

    /** The channels of these slugs, as many as there are. */
    async findSlugs(slugs: readonly string[]): Promise<RegisteredChannel[]> {
      return query(row, `select ${COLUMNS} from realtime.channels c where c.slug = any($1::text[])`, [slugs]);
    },

    /** Channels, or those of one type, newest first. */
    async list(type: ChannelType | undefined, limit: number, after?: ChannelCursor): Promise<ListedChannel[]> {
      return query(
        listed,
        `select ${COLUMNS}, ${MEMBERS}, date_trunc('milliseconds', c.created_at) as created_at from realtime.channels c
         where ($1::text is null or c.type = $1) and ($3::timestamptz is null
           or date_trunc('milliseconds', c.created_at) < $3
           or date_trunc('milliseconds', c.created_at) = $3 and c.slug > $4)
         order by date_trunc('milliseconds', c.created_at) desc, c.slug limit $2`,
        [type ?? null, limit, after?.created_at.toISOString() ?? null, after?.slug ?? null],
      );
    },

    /** How many channels there are of each type. */
    async countByType(): Promise<Record<ChannelType, number>> {
      const counts = { public: 0, private: 0, presence: 0, direct: 0 };
      const rows = await query(
        count.extend({ type: z.enum(CHANNEL_TYPES) }),
        "select type, count(*)::int as count from realtime.channels group by type",
      );
      for (const { type, count } of rows) counts[type] = count;
      return counts;
    },

    /** Deletes a channel with its members, messages and presence. False when it was gone already. */
    async delete(id: string): Promise<boolean> {
      const gone = await query(
        z.object({ id: z.string() }),
        "delete from realtime.channels where id = $1::uuid returning id",
        [id],
      );
      return gone.length > 0;
    },

    /** Counts the members of a channel (null: of all, each user once) who are not among `users`. */
    async countMembersBesides(channelId: string | null, users: string[]): Promise<number> {
      const [row] = await query(
        count,
        `select count(distinct m.user_id)::int as count from realtime.channel_members m
         where ($1::uuid is null or m.channel_id = $1) and not m.user_id = any($2::text[])`,
        [channelId, users],
      );
      return row?.count ?? 0;
    },
  };
}
