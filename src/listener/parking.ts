// Changes of feeds that cannot keep up, kept in the database so that no other feed waits for them (realtime.cdc_parked).
import type pg from "pg";
import { cutMembers } from "../protocol/json.ts";
import type { Catalogue } from "./catalogue.ts";
import type { Change, Op } from "./changes.ts";
import { changeLine } from "./delivery.ts";
import type { Parcel } from "./lanes.ts";
import type { Lease } from "./lease.ts";
import type { Log } from "./log.ts";

/** Changes of a feed that are read at once. */
const page = 1_000;
/** And bytes: one is read however large it is. */
const pageBytes = 1_000_000;
/** Refused changes that a feed may have set aside: a feed whose every change is refused waits instead for its cause to end. */
const mostRefused = 100;

export interface Parked {
  changes: number;
  bytes: number;
}

interface Row {
  seq: string;
  xid: string;
  relid: string;
  op: Op;
  at: string;
  line: string;
  last: boolean;
  refused: string | null;
}

export class Parking {
  #client: pg.ClientBase;
  #epoch: number;
  #catalogue: Catalogue;
  #log: Log;
  #feeds = new Map<string, Parked>();

  /** `client` is to be the session that stores how far delivery has come: what is parked is written before that. */
  constructor(client: pg.ClientBase, { epoch }: Lease, catalogue: Catalogue, log: Log) {
    this.#client = client;
    this.#epoch = epoch;
    this.#catalogue = catalogue;
    this.#log = log;
  }

  /** What waits, by feed; refused changes that were told of do not. */
  get feeds(): ReadonlyMap<string, Parked> {
    return this.#feeds;
  }

  get bytes(): number {
    let sum = 0;
    for (const { bytes } of this.#feeds.values()) sum += bytes;
    return sum;
  }

  /** Looks at what is parked, also by earlier listeners, and what a person wants tried again. */
  async look(): Promise<void> {
    const { rows } = await this.#client.query<{ feed: string; changes: number; bytes: string }>(
      `select feed, count(*)::int as changes, coalesce(sum(octet_length(line)), 0) as bytes
       from realtime.cdc_parked where refused is null or not told group by feed`,
    );
    this.#feeds = new Map(rows.map(({ feed, changes, bytes }) => [feed, { changes, bytes: Number(bytes) }]));
  }

  /**
   * Keeps changes at the end of their feed. What was kept by a listener that died before it said so stays where it is; of
   * a listener whose time is over nothing is kept, and it will learn that when it stores how far it came.
   */
  async put(feed: string, parcels: readonly Parcel[]): Promise<void> {
    const changes = parcels.map(({ change }) => change);
    await this.#client.query({
      name: "park",
      text: `insert into realtime.cdc_parked (feed, id, xid, relid, op, at, line, last)
        select $1, id, xid, relid, op, at, line, last
        from unnest($2::text[], $3::text[], $4::oid[], $5::"char"[], $6::text[], $7::text[], $8::boolean[])
          with ordinality as n (id, xid, relid, op, at, line, last, number)
        where $9 = (select epoch from realtime.cdc_consumers where name = 'edge')
        order by number on conflict (feed, id) do nothing`,
      values: [
        feed,
        changes.map(({ seq }) => seq),
        changes.map(({ xid }) => xid),
        changes.map(({ relid }) => relid),
        changes.map(({ op }) => op),
        changes.map(({ at }) => at),
        parcels.map(({ line }) => line),
        parcels.map(({ last }) => last),
        this.#epoch,
      ],
    });
    this.#count(feed, parcels.length, bytesOf(parcels));
  }

  /** The next changes of a feed, oldest first; none when nothing of it waits. A refused one comes as the gap that it leaves. */
  async next(feed: string): Promise<Parcel[]> {
    const { rows } = await this.#client.query<Row>({
      name: "parked",
      text: `
        select id as seq, xid, relid::text, op, at, line, last, refused
        from (
          select *, sum(octet_length(line)) over (order by position) - octet_length(line) as bytes_before
          from (select * from realtime.cdc_parked where feed = $1 and (refused is null or not told)
                order by position limit ${page}) waiting
        ) counted
        where bytes_before < ${pageBytes} order by position`,
      values: [feed],
    });
    const tables = await this.#catalogue.describe(new Set(rows.map(({ relid }) => relid)));
    const parcels: Parcel[] = [];
    const unknown: Row[] = [];
    for (const row of rows) {
      const captured = tables.get(row.relid);
      if (captured === undefined) {
        unknown.push(row);
        continue;
      }
      const { line: kept, last, refused, ...rest } = row;
      const images = refused === null ? cutMembers(kept || "{}", ["new", "old"]) : {};
      const op = refused === null ? rest.op : "G";
      const change: Change = { ...rest, op, new: images.new ?? null, old: images.old ?? null };
      const line = change.op === "G" ? changeLine(change, { last }) : kept;
      const bytes = Buffer.byteLength(line);
      parcels.push({ change, line, last, bytes, captured, redelivered: true, shrunk: "not", delivery: null });
    }
    if (unknown.length > 0) {
      this.#log.warn("parked changes of a table that is no longer known were left out", {
        feed,
        changes: unknown.length,
      });
      await this.#drop(
        feed,
        unknown.map(({ seq }) => seq),
      );
      if (parcels.length === 0) return this.next(feed);
    }
    if (parcels.length === 0) this.#feeds.delete(feed);
    return parcels;
  }

  /** They were delivered. A refused change stays, its gap told. */
  async take(feed: string, parcels: readonly Parcel[]): Promise<void> {
    await this.#drop(
      feed,
      parcels.map(({ change }) => change.seq),
    );
    this.#count(feed, -parcels.length, -bytesOf(parcels));
  }

  async #drop(feed: string, ids: string[]): Promise<void> {
    await this.#client.query({
      name: "unpark",
      text: `
        with told as (
          update realtime.cdc_parked set told = true where feed = $1 and id = any ($2::text[]) and refused is not null)
        delete from realtime.cdc_parked where feed = $1 and id = any ($2::text[]) and refused is null`,
      values: [feed, ids],
    });
  }

  /** Sets a change aside that the edge will never take. False where too many of the feed are. */
  async refuse(feed: string, { change }: Parcel, reason: string): Promise<boolean> {
    const { rowCount } = await this.#client.query(
      `update realtime.cdc_parked set refused = $3
       where id = $1 and feed = $2 and (select count(*) from realtime.cdc_parked where feed = $2 and refused is not null) < ${mostRefused}`,
      [change.seq, feed, reason.slice(0, 500)],
    );
    return rowCount === 1;
  }

  /** Gives up all that waits of a feed: a gap in its place is what is left. */
  async giveUp(feed: string): Promise<void> {
    await this.#client.query("select realtime.cdc_give_up($1)", [feed]);
    this.#feeds.set(feed, { changes: 1, bytes: 0 });
  }

  /** Forgets everything: what was parked is of a history that nobody is on any more. */
  async clear(): Promise<void> {
    await this.#client.query("delete from realtime.cdc_parked");
  }

  #count(feed: string, changes: number, bytes: number): void {
    const known = this.#feeds.get(feed) ?? { changes: 0, bytes: 0 };
    this.#feeds.set(feed, {
      changes: Math.max(0, known.changes + changes),
      bytes: Math.max(0, known.bytes + bytes),
    });
  }
}

function bytesOf(parcels: readonly Parcel[]): number {
  return parcels.reduce((sum, { bytes }) => sum + bytes, 0);
}
