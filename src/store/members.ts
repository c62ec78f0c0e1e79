// Members of registered channels: rows of `realtime.channel_members`.
import * as z from "zod";
import type { Query } from "./database.ts";

/** What a member may do: a moderator deletes messages and removes members, an admin does everything. */
export const MEMBER_ROLES = ["member", "moderator", "admin"] as const;
export type MemberRole = (typeof MEMBER_ROLES)[number];

const row = z.object({ user_id: z.string(), role: z.enum(MEMBER_ROLES), joined_at: z.date() });
export type Member = z.infer<typeof row>;

/** Where a page of members begins: after this one. */
export type MemberCursor = Pick<Member, "user_id" | "joined_at">;

/** The part of the store that holds members. Each call throws what `Query` throws. */
export function memberStore(query: Query) {
  return {
    /** Members of a channel, newest first. */
    async list(channelId: string, limit: number, after?: MemberCursor): Promise<Member[]> {
      return query(
        row,
        `select user_id, role, date_trunc('milliseconds', joined_at) as joined_at from realtime.channel_members
         where channel_id = $1::uuid and ($3::timestamptz is null
           or (date_trunc('milliseconds', joined_at), user_id) < ($3::timestamptz, $4))
         order by 3 desc, 1 desc limit $2`,
        [channelId, limit, after?.joined_at.toISOString() ?? null, after?.user_id ?? null],
      );
    },

    /**
     * Adds a member, or gives one that is there a new date and, if one is named, a new role. Throws StatementRefused
     * (NS010) when the channel is full.
     */
    async put(channelId: string, user: string, role?: MemberRole): Promise<(Member & { added: boolean }) | undefined> {
      const [put] = await query(
        row.extend({ added: z.boolean() }),
        `insert into realtime.channel_members as m (channel_id, user_id, role) values ($1::uuid, $2, coalesce($3, 'member'))
         on conflict (channel_id, user_id) do update set role = coalesce($3, m.role), joined_at = now()
         returning user_id, role, joined_at, xmax = 0 as added`,
        [channelId, user, role ?? null],
      );
      return put;
    },

    /** The roles that these users have in a channel; who is no member is not in the answer. */
    async roles(channelId: string, users: readonly string[]): Promise<Map<string, MemberRole>> {
      const rows = await query(
        row.pick({ user_id: true, role: true }),
        "select user_id, role from realtime.channel_members where channel_id = $1::uuid and user_id = any($2::text[])",
        [channelId, users],
      );
      return new Map(rows.map(({ user_id, role }) => [user_id, role]));
    },

    /** Removes a member. Undefined when there was none. */
    async remove(channelId: string, user: string, role?: MemberRole): Promise<Member | undefined> {
      const [removed] = await query(
        row,
        `delete from realtime.channel_members
         where channel_id = $1::uuid and user_id = $2 and ($3::text is null or role = $3)
         returning user_id, role, joined_at`,
        [channelId, user, role ?? null],
      );
      return removed;
    },

    /** Whether a user is in the presence channel of a topic, or gets in by joining it. */
    async enter(topic: string, user: string | null, entering: boolean): Promise<boolean> {
      const [answer] = await query(z.object({ entered: z.boolean() }), "select realtime.enter($1, $2, $3) as entered", [
        topic,
        user,
        entering,
      ]);
      return answer?.entered ?? false;
    },
  };
}
