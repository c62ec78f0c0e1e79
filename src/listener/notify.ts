// Sends changes to whoever LISTENs to `realtime:table:schema.table` in the database itself.
import type pg from "pg";
import type { Parcel } from "./lanes.ts";

/** PostgreSQL's limits, bytes. */
const most = { payload: 7_999, channel: 63 } as const;

const operations = { I: "INSERT", U: "UPDATE", D: "DELETE", T: "TRUNCATE", G: "GAP" } as const;

// Where the whole does not fit, the key goes: taken from the image by PostgreSQL, so that its digits stay exact.
const statement = `
  select pg_notify(n.channel, payload)
  from unnest($1::text[], $2::text[], $3::boolean[], $4::xid8[], $5::bigint[], $6::json[])
    as n (channel, body, whole, xid, seq, key)
  cross join lateral (select case when n.whole then n.body else n.body || ',"truncated":true,"key":' || coalesce((
    select json_object_agg(i.key, i.value)::text
    from (select seq, new, old from realtime.changes_a where xid = n.xid
          union all select seq, new, old from realtime.changes_b where xid = n.xid) c,
      json_each(coalesce(c.new, c.old)) i
    where c.seq = n.seq and i.key in (select json_array_elements_text(n.key))), '{}') || '}' end as payload) p
  where octet_length(payload) <= ${most.payload}`;

/**
 * Notifies of a round in one transaction of this session: the lock that NOTIFY takes at commit is never taken in a
 * user's. At least once; a change without a listener costs nothing later. Rejects with PostgreSQL's error.
 */
export async function notifyListeners(client: pg.ClientBase, parcels: Parcel[]): Promise<void> {
  const named = parcels
    .map((parcel) => ({ parcel, channel: channelOf(parcel) }))
    .filter(({ channel }) => Buffer.byteLength(channel) <= most.channel);
  if (named.length === 0) return;
  const bodies = named.map(({ parcel }) => envelope(parcel));
  await client.query({
    name: "notify",
    text: statement,
    values: [
      named.map(({ channel }) => channel),
      bodies.map(({ body }) => body),
      bodies.map(({ whole }) => whole),
      named.map(({ parcel }) => parcel.change.xid),
      named.map(({ parcel }) => parcel.change.seq),
      named.map(({ parcel }) => JSON.stringify(parcel.captured.table.primaryKey)),
    ],
  });
}

function channelOf({ captured: { table } }: Parcel): string {
  return `realtime:table:${table.schema}.${table.table}`;
}

/** The documented envelope, or its beginning where the whole is too long. The id keeps equal changes apart. */
function envelope({ change, captured: { table } }: Parcel): { body: string; whole: boolean } {
  const milliseconds = Date.parse(change.at);
  const head = JSON.stringify({
    timestamp: Math.floor(milliseconds / 1000),
    timestamp_ms: milliseconds,
    operation: operations[change.op],
    schema: table.schema,
    table: table.table,
    id: change.seq,
  }).slice(0, -1);
  const images = (["new", "old"] as const).map((name) => (change[name] === null ? "" : `,"${name}":${change[name]}`));
  const body = `${head}${images.join("")}}`;
  return Buffer.byteLength(body) <= most.payload ? { body, whole: true } : { body: head, whole: false };
}
