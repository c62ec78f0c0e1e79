// Reads what became visible since a place: the difference of two snapshots, in stateless statements.
//
// "Visible now and not then" loses nothing to sequence gaps, waits for no unrelated long transaction, and keeps
// the order in which writers could see each other: a reader of `seq > last` does none of the three.
import type pg from "pg";
import { type Change, isOp, keysInList, type Place, parseSnapshot } from "./changes.ts";
import { endOfField, endOfLine } from "./separators.ts";

/** The most of one round: changes, and bytes of their images. An image larger than `image` is not read at all. */
const most = { changes: 10_000, bytes: 8_000_000, image: 64_000_000 } as const;

/** Characters of a round that its changes may share. */
const mostShared = 100_000;

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
  snapshot: string;
  epoch: string;
  more: boolean;
  lines: string | null;
}

const columns = "seq, xid, relid, op, at, new, old";

/** Bytes of an image as text. Only one that is compressed has to be read for that. */
const bytesOf = (image: string) => `
  coalesce(case when pg_column_compression(${image}) is null then pg_column_size(${image})
    else octet_length(${image}::text) end, 0)`;

const sizes = `
  case when op in ('i', 'u', 'd') then ${keysInList} else 1 end as changes,
  ${bytesOf("new")} as new_bytes, ${bytesOf("old")} as old_bytes`;

const imageOf = (image: string) => `case when ${image}_bytes <= ${most.image} then ${image}::text end`;

// One long text costs a third of what so many rows and columns would.
const linesOf = `
  string_agg(concat(seq, chr(31), xid, chr(31), relid, chr(31), op, chr(31), date_part('epoch', at), chr(31),
    ${imageOf("new")}, chr(31), ${imageOf("old")}), chr(30))`;

const head = `
  pg_current_snapshot()::text as snapshot, (select epoch from realtime.cdc_consumers where name = 'edge') as epoch`;

/** The whole difference, or none of its rows where that is more than one round bears. */
const whole = `
  with unread as (
    (select ${columns} from realtime.changes_a where xid >= $1::xid8 limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_b where xid >= $1::xid8 limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_a where xid = any ($2::xid8[]) limit ${most.changes + 1})
    union all (select ${columns} from realtime.changes_b where xid = any ($2::xid8[]) limit ${most.changes + 1})
    limit ${most.changes + 1}
  ), page as (
    select *, ${sizes} from unread
  ), total as (
    select coalesce(sum(changes) > ${most.changes} or sum(new_bytes + old_bytes) > ${most.bytes}, false) as more from page
  )
  select ${head}, more, case when not more then (select ${linesOf} from page) end as lines from total`;

const slotPage = (slot: string) => `
  (select ${columns} from realtime.${slot}
   where seq > $3::bigint and pg_visible_in_snapshot(xid, $2::pg_snapshot)
     and not pg_visible_in_snapshot(xid, $1::pg_snapshot)
   order by seq limit ${most.changes + 1})`;

/** A page of the difference: each slot is read from there on in the order of its index, so that no page sorts the rest. */
const paged = `
  with unread as (
    ${slotPage("changes_a")} union all ${slotPage("changes_b")} order by seq limit ${most.changes + 1}
  ), page as (
    select *, sum(changes) over so_far - changes < ${most.changes}
      and sum(new_bytes + old_bytes) over so_far - new_bytes - old_bytes < ${most.bytes} as fits
    from (select *, ${sizes} from unread) measured
    window so_far as (order by seq rows unbounded preceding)
  )
  select ${head}, coalesce(bool_or(not fits), false) as more, (select ${linesOf} from page where fits) as lines from page`;

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
  const { rows } = await client.query<Row>({ name, text, values });
  const [row] = rows;
  if (row === undefined) throw new Error("the outbox answered without a snapshot");
  const lines = row.lines ?? "";
  // A part of a text keeps all of it in memory: of a long one images are copied, since one change may wait for hours.
  const image = lines.length > mostShared ? copied : (part: string) => part;
  const changes = lines === "" ? [] : lines.split(endOfLine).map((line) => changeOf(line, image));
  changes.sort((a, b) => Number(a.seq) - Number(b.seq));
  return { changes, more: row.more, snapshot: row.snapshot, epoch: Number(row.epoch) };
}

function changeOf(line: string, imageOf: (part: string) => string): Change {
  const [seq = "", xid = "", relid = "", op = "", seconds, image = "", old = ""] = line.split(endOfField);
  if (!isOp(op)) throw new Error(`the outbox holds a change of an unknown kind: ${op}`);
  const microseconds = Math.round(Number(seconds) * 1e6);
  const at = new Date(Math.floor(microseconds / 1e3)).toISOString();
  return { seq, xid, relid, op, at, new: imageOf(image) || null, old: imageOf(old) || null };
}

function copied(part: string): string {
  return Buffer.from(part).toString();
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
