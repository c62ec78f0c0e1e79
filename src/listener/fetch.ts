// Reads what became visible since a place: the difference of two snapshots, in stateless statements.
//
// "Visible now and not then" loses nothing to sequence gaps, waits for no unrelated long transaction, and keeps
// the order in which writers could see each other: a reader of `seq > last` does none of the three.
import type pg from "pg";
import { type Change, keysInList, type Op, type Place, parseSnapshot } from "./changes.ts";

/** PostgreSQL's number of its boolean type. */
const boolean = 16;

/** The most of one round: changes, and bytes of their images. An image larger than `image` is not read at all. */
const most = { changes: 10_000, bytes: 8_000_000, image: 64_000_000 } as const;

export interface Round {
  /** In the order to deliver. */
  changes: Change[];
  /** The place once all of it is delivered. */
  next: Place;
  /** The difference goes on: fetch again at once. */
  more: boolean;
  /** PostgreSQL's snapshot at the fetch. */
  snapshot: string;
  /** Whose lease it was at that moment: what was read under another's is not ours to deliver. */
  epoch: number;
}

interface Row {
  snapshot: string | null;
  epoch: string;
  more: boolean;
  seq: string;
  xid: string;
  relid: string;
  op: Op;
  at: string;
  new: string | null;
  old: string | null;
}

const columns = "seq, xid, relid, op, at, new, old";

// In order of seq, with the changes and the bytes of the images before each row.
const measured = `
  select *,
    coalesce(sum(case when op in ('i', 'u', 'd') then ${keysInList} else 1 end)
      over (order by seq rows between unbounded preceding and 1 preceding), 0) as changes_before,
    coalesce(sum(coalesce(octet_length(new::text), 0) + coalesce(octet_length(old::text), 0))
      over (order by seq rows between unbounded preceding and 1 preceding), 0) as bytes_before`;

const rowsWhere = (chosen: string) => `
  select null, null, null, seq, xid, relid, op,
    to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    case when octet_length(new::text) <= ${most.image} then new::text end,
    case when octet_length(old::text) <= ${most.image} then old::text end
  from page where ${chosen}`;

const head = (more: string) => `
  select pg_current_snapshot()::text as snapshot,
    (select epoch from realtime.cdc_consumers where name = 'edge') as epoch, ${more} as more,
    null as seq, null as xid, null as relid, null as op, null as at, null as new, null as old`;

const over = `exists (select from page where changes_before >= ${most.changes} or bytes_before >= ${most.bytes})`;

/** The whole difference, or none of its rows where that is more than one round bears. */
const whole = `
  with unread as (
    (select ${columns} from realtime.changes_a where xid >= $1::xid8 limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_b where xid >= $1::xid8 limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_a where xid = any ($2::xid8[]) limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_b where xid = any ($2::xid8[]) limit ${most.changes + 1})
    limit ${most.changes + 1}
  ), page as (${measured} from unread)
  ${head(over)}
  union all ${rowsWhere(`not ${over}`)}`;

const slotPage = (slot: string) => `
  (select ${columns} from realtime.${slot}
   where seq > $3::bigint and pg_visible_in_snapshot(xid, $2::pg_snapshot)
     and not pg_visible_in_snapshot(xid, $1::pg_snapshot)
   order by seq limit ${most.changes + 1})`;

/** A page of the difference: each slot is read from there on in the order of its index, so that no page sorts the rest. */
const paged = `
  with unread as (
    ${slotPage("changes_a")} union all ${slotPage("changes_b")} order by seq limit ${most.changes + 1}
  ), page as (${measured} from unread)
  ${head(over)}
  union all ${rowsWhere(`changes_before < ${most.changes} and bytes_before < ${most.bytes}`)}`;

const types = {
  getTypeParser: (oid: number) => (text: string) => (oid === boolean ? text === "t" : text),
};

/** Fetches the next round from `place`: all of the difference if it is within the limits, else its first page. */
export async function fetchRound(client: pg.ClientBase, place: Place): Promise<Round> {
  if (place.target !== null) return fetchPage(client, { ...place, target: place.target });
  const { xmax, inProgress } = parseSnapshot(place.seen);
  const round = await read(client, "fetch", whole, [xmax.toString(), inProgress]);
  if (round.more) return fetchPage(client, { seen: place.seen, target: round.snapshot, page: "0" });
  // A whole difference keeps transactions together, a page those parts of them that it holds.
  return { ...round, changes: byTransaction(round.changes), next: { seen: round.snapshot, target: null, page: "0" } };
}

async function fetchPage(client: pg.ClientBase, place: Place & { target: string }): Promise<Round> {
  const round = await read(client, "fetch page", paged, [place.seen, place.target, place.page]);
  const last = round.changes.at(-1);
  const next = round.more && last ? { ...place, page: last.seq } : { seen: place.target, target: null, page: "0" };
  return { ...round, changes: byTransaction(round.changes), next, more: true };
}

async function read(
  client: pg.ClientBase,
  name: string,
  text: string,
  values: unknown[],
): Promise<Omit<Round, "next">> {
  const { rows } = await client.query<Row>({ name, text, values, types });
  const first = rows.find((row) => row.snapshot !== null);
  if (!first?.snapshot) throw new Error("the outbox answered without a snapshot");
  const changes: Change[] = rows
    .filter((row) => row !== first)
    .map(({ seq, xid, relid, op, at, new: image, old }) => ({ seq, xid, relid, op, at, new: image, old }))
    .sort((a, b) => Number(a.seq) - Number(b.seq));
  return { changes, more: first.more, snapshot: first.snapshot, epoch: Number(first.epoch) };
}

/**
 * Orders transactions by their last seq. If one commits before another changes the same row, every seq of the first
 * is below that change's: so this is an order in which each row's history, and each reader's, holds.
 */
function byTransaction(changes: Change[]): Change[] {
  const groups = new Map<string, Change[]>();
  for (const change of changes) {
    const group = groups.get(change.xid);
    if (group) group.push(change);
    else groups.set(change.xid, [change]);
  }
  const lastSeq = (group: Change[]) => Number(group.at(-1)?.seq);
  return [...groups.values()].sort((a, b) => lastSeq(a) - lastSeq(b)).flat();
}
