// Rows of large statements: only their keys were captured, and here they are read.
import pg from "pg";
import { type Change, keysInList } from "./changes.ts";

/** What a change says whose row was gone, or could not be read, when its turn came. */
const rowGone = "Error 404: Row Not Found";

const hydrated = `
  select h.number, h.key, h.image, o.value::text as old
  from realtime.cdc_hydrate($1, $2::json, $4) h
  left join json_array_elements($3::json) with ordinality as o (value, number) using (number) order by 1`;

const unread = `
  select n.number::integer, n.value::text as key, null as image, o.value::text as old
  from json_array_elements($1::json) with ordinality as n (value, number)
  left join json_array_elements($2::json) with ordinality as o (value, number) using (number)
  where n.number > $3 order by 1`;

interface Row {
  number: number;
  key: string;
  image: string | null;
  old: string | null;
}

/**
 * The changes that a key list stands for, in its order, a few megabytes at a time. A row is as it is now; where it is
 * gone, or `failed` was told why it cannot be read, its key stands for it. What a row was before an update or a deletion
 * is told by its key alone. Rejects with what ends the session.
 */
export async function* rowsOf(
  client: pg.ClientBase,
  list: Change,
  failed: (error: unknown) => void,
): AsyncGenerator<Change[]> {
  const keys = list.op === "d" ? list.old : list.new;
  let readable = list.op !== "d";
  for (let after = 0; after < keysInList; ) {
    const values = [keys, list.old, after];
    const rows = readable
      ? await read(client, [list.relid, ...values], failed)
      : (await client.query<Row>({ name: "keys", text: unread, values })).rows;
    const last = rows?.at(-1);
    if (rows === null) readable = false;
    else if (last === undefined) return;
    else {
      yield rows.map((row) => changeOf(list, row));
      after = last.number;
    }
  }
}

/** Null where PostgreSQL refuses, which is a matter of the table and not of the session. */
async function read(client: pg.ClientBase, values: unknown[], failed: (error: unknown) => void): Promise<Row[] | null> {
  try {
    return (await client.query<Row>({ name: "hydrate", text: hydrated, values })).rows;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError && error.severity === "ERROR")) throw error;
    failed(error);
    return null;
  }
}

function changeOf(list: Change, { number, key, image, old }: Row): Change {
  const change = { ...list, seq: `${list.seq}.${number}` };
  if (list.op === "d") return { ...change, new: null, old: key };
  const before = list.op === "u" ? (old ?? key) : null;
  return image === null ? { ...change, new: key, old: before, error: rowGone } : { ...change, new: image, old: before };
}
