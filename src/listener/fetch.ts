// Reads what became visible since a place: the difference of two snapshots, in one stateless statement.
//
// "Visible now and not then" loses nothing to sequence gaps, waits for no unrelated long transaction, and keeps
// the order in which writers could see each other: a reader of `seq > last` does none of the three.
import type pg from "pg";
import { type Change, type Op, type Place, parseSnapshot } from "./changes.ts";

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
}

interface Row {
  snapshot: string | null;
  found: string | null;
  seq: string;
  xid: string;
  relid: string;
  op: Op;
  at: string;
  new: string | null;
  old: string | null;
}

const columns = "seq, xid, relid, op, at, new, old";
const statement = `
  with unread as (
    select ${columns} from realtime.changes_a where xid >= $1::xid8
    union all select ${columns} from realtime.changes_b where xid >= $1::xid8
    union all select ${columns} from realtime.changes_a where xid = any ($2::xid8[])
    union all select ${columns} from realtime.changes_b where xid = any ($2::xid8[])
  ), page as (
    select *,
      row_number() over (order by seq) as number,
      coalesce(sum(coalesce(octet_length(new::text), 0) + coalesce(octet_length(old::text), 0))
        over (order by seq rows between unbounded preceding and 1 preceding), 0) as bytes_before
    from unread
    where seq > $3::bigint and ($4::pg_snapshot is null or pg_visible_in_snapshot(xid, $4::pg_snapshot))
    order by seq limit ${most.changes + 1}
  )
  select pg_current_snapshot()::text as snapshot, (select count(*) from page) as found,
    null as seq, null as xid, null as relid, null as op, null as at, null as new, null as old
  union all
  select null, null, seq, xid, relid, op,
    to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    case when octet_length(new::text) <= ${most.image} then new::text end,
    case when octet_length(old::text) <= ${most.image} then old::text end
  from page where number <= ${most.changes} and bytes_before < ${most.bytes}`;

const asText = { getTypeParser: () => (text: string) => text };

/** Fetches the next round from `place`: all of the difference if it is within the limits, else its first page. */
export async function fetchRound(client: pg.ClientBase, place: Place): Promise<Round> {
  const seen = parseSnapshot(place.seen);
  const { rows } = await client.query<Row>({
    name: "fetch",
    text: statement,
    values: [seen.xmax.toString(), seen.inProgress, place.page, place.target],
    types: asText,
  });
  const head = rows.find((row) => row.snapshot !== null);
  if (!head?.snapshot) throw new Error("the outbox answered without a snapshot");
  const changes: Change[] = rows
    .filter((row) => row !== head)
    .map(({ seq, xid, relid, op, at, new: image, old }) => ({ seq, xid, relid, op, at, new: image, old }))
    .sort((a, b) => Number(a.seq) - Number(b.seq));
  const more = Number(head.found) > changes.length;
  const last = changes.at(-1);
  const target = place.target ?? head.snapshot;
  return {
    // A page keeps the order of each row; a whole difference keeps transactions together as well.
    changes: more || place.target !== null ? changes : byTransaction(changes),
    next: more && last ? { seen: place.seen, target, page: last.seq } : { seen: target, target: null, page: "0" },
    more: more || place.target !== null,
    snapshot: head.snapshot,
  };
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
