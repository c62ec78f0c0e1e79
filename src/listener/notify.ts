// Sends changes to whoever LISTENs to `realtime:table:schema.table` in the database itself.
import type pg from "pg";
import { operations } from "../protocol/changes.ts";
import { mapMembers } from "../protocol/json.ts";
import type { Parcel } from "./lanes.ts";

/** PostgreSQL's limits, bytes. */
const most = { payload: 7_999, channel: 63 } as const;

const statement = "select pg_notify(channel, payload) from unnest($1::text[], $2::text[]) as n (channel, payload)";

/**
 * Notifies of a round in one transaction of this session: the lock that NOTIFY takes at commit is never taken in a
 * user's. At least once; a change without a listener costs nothing later. Rejects with PostgreSQL's error.
 */
export async function notifyListeners(client: pg.ClientBase, parcels: Parcel[]): Promise<void> {
  const named = parcels
    .filter(({ captured }) => captured.notify)
    .map((parcel) => ({ channel: channelOf(parcel), payload: envelope(parcel) }))
    .filter(({ channel, payload }) => Buffer.byteLength(channel) <= most.channel && fits(payload));
  if (named.length === 0) return;
  const values = [named.map(({ channel }) => channel), named.map(({ payload }) => payload)];
  await client.query({ name: "notify", text: statement, values });
}

function fits(payload: string): boolean {
  return Buffer.byteLength(payload) <= most.payload;
}

function channelOf({ captured: { table } }: Parcel): string {
  return `realtime:table:${table.schema}.${table.table}`;
}

/** The documented envelope; where the whole is too long, its beginning and the key. The id keeps equal changes apart. */
function envelope({ change, captured: { table } }: Parcel): string {
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
  const whole = `${head}${images.join("")}${change.error === undefined ? "" : `,"truncated":true`}}`;
  if (fits(whole)) return whole;
  const row = change.new ?? change.old ?? "{}";
  const key = mapMembers(row, (name, value) => (table.primaryKey.includes(name) ? value : undefined));
  return `${head},"truncated":true,"key":${key}}`;
}
