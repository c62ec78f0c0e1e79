// Sends changes to whoever LISTENs to `realtime:table:schema.table` in the database itself.
import type pg from "pg";
import { operations } from "../protocol/changes.ts";
import { exceeds, mapMembers } from "../protocol/json.ts";
import type { Table } from "./catalogue.ts";
import type { Change } from "./changes.ts";
import type { Parcel } from "./lanes.ts";
import { endOfField, endOfLine } from "./separators.ts";

/** PostgreSQL's limits, bytes. */
const most = { payload: 7_999, channel: 63 } as const;

// The payloads as one long text, each with the number of its channel.
const statement = `
  select pg_notify(($1::text[])[split_part(line, chr(31), 1)::integer], split_part(line, chr(31), 2))
  from string_to_table($2, chr(30)) as lines (line)`;

/**
 * Notifies of a round in one transaction of this session: the lock that NOTIFY takes at commit is never taken in a
 * user's. At least once; a change without a listener costs nothing later. Rejects with PostgreSQL's error.
 */
export async function notifyListeners(client: pg.ClientBase, parcels: Parcel[]): Promise<void> {
  const tables = [...new Set(parcels.map(({ captured }) => captured))].filter(
    ({ notify, table }) => notify && Buffer.byteLength(channelOf(table)) <= most.channel,
  );
  const numbers = new Map(tables.map((captured, index) => [captured, index + 1]));
  const lines: string[] = [];
  for (const { change, captured } of parcels) {
    const number = numbers.get(captured);
    const payload = number === undefined ? undefined : envelope(change, captured.table);
    if (payload !== undefined) lines.push(`${number}${endOfField}${payload}`);
  }
  if (lines.length === 0) return;
  const values = [tables.map(({ table }) => channelOf(table)), lines.join(endOfLine)];
  await client.query({ name: "notify", text: statement, values });
}

function channelOf({ schema, table }: Table): string {
  return `realtime:table:${schema}.${table}`;
}

/**
 * The documented envelope; where the whole is too long, its beginning and the key, and undefined where even that is. The
 * id keeps equal changes apart.
 */
function envelope(change: Change, table: Table): string | undefined {
  const milliseconds = Date.parse(change.at);
  const head = JSON.stringify({
    timestamp: Math.floor(milliseconds / 1000),
    timestamp_ms: milliseconds,
    operation: operations[change.op],
    schema: table.schema,
    table: table.table,
    id: change.seq,
  }).slice(0, -1);
  const images = image("new", change.new) + image("old", change.old);
  const whole = `${head}${images}${change.error === undefined ? "" : `,"truncated":true`}}`;
  if (fits(whole)) return whole;
  const row = change.new ?? change.old ?? "{}";
  const key = mapMembers(row, (name, value) => (table.primaryKey.includes(name) ? value : undefined));
  const cut = `${head},"truncated":true,"key":${key}}`;
  return fits(cut) ? cut : undefined;
}

function image(name: string, json: string | null): string {
  return json === null ? "" : `,"${name}":${json}`;
}

function fits(payload: string): boolean {
  return !exceeds(payload, most.payload);
}
