// The reader's lease: who may deliver now, under which epoch, and from which place.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { Place } from "./changes.ts";

/** How long a lease holds without renewal, seconds. */
const leaseSeconds = 4;

export interface Lease {
  owner: string;
  /** Grows with every owner; the edge refuses what comes from an older one. */
  epoch: number;
  /** Who this database is to the edge; a change is known by this and its seq. */
  source: string;
  place: Place;
  /** The database is not on the history that subscribers know: they are to be told that changes may be missing. */
  gap: boolean;
}

interface Row {
  epoch: string;
  source: string;
  seen: string;
  target: string | null;
  page_seq: string;
  gap: boolean;
}

const lease = `make_interval(secs => ${leaseSeconds})`;

/**
 * Takes the lease if it is free, expired, or its owner's session is gone; null when another holds it. `client` is to
 * be the session that stores; with `isShared` it is a pooler's, whose end says nothing of ours. Whoever takes the lease is
 * a new owner: batches count from one under a new epoch. `delivered` is the newest seq that this process has read here
 * before: a database that has not come as far has lost its memory.
 */
export async function takeLease(
  client: pg.ClientBase,
  delivered: string | null = null,
  isShared = false,
): Promise<Lease | null> {
  const owner = randomUUID();
  const taken = await client.query(
    `update realtime.cdc_consumers c
     set epoch = c.epoch + 1, owner = $1::uuid,
         lease_until = clock_timestamp() + ${lease}, owner_pid = case when not $2::boolean then me.pid end,
         owner_started = me.backend_start
     from pg_stat_activity me
     where c.name = 'edge' and me.pid = pg_backend_pid()
       and (c.owner is null or c.lease_until < clock_timestamp()
         or c.owner_pid is not null and not exists (select from pg_stat_activity a where a.pid = c.owner_pid
           -- Of another role's session PostgreSQL shows that it is there, and not since when.
           and (a.backend_start is null or a.backend_start = c.owner_started)))`,
    [owner, isShared],
  );
  if (taken.rowCount === 0) return null;
  await client.query("select realtime.cdc_recognise($1)", [delivered]);
  const { rows } = await client.query<Row>(
    `select c.epoch, s.source, c.seen::text, c.target::text, c.page_seq, c.gap
     from realtime.cdc_consumers c, realtime.settings s where c.name = 'edge' and c.owner = $1::uuid`,
    [owner],
  );
  const row = rows[0];
  if (!row) return null;
  const { epoch, source, seen, target, page_seq: page, gap } = row;
  return { owner, epoch: Number(epoch), source, place: { seen, target, page }, gap };
}

/** Notes that subscribers have been told of a gap. */
export async function settleGap(client: pg.ClientBase, { owner, epoch }: Lease): Promise<void> {
  await client.query(
    "update realtime.cdc_consumers set gap = false where name = 'edge' and owner = $1::uuid and epoch = $2",
    [owner, epoch],
  );
}

/** Renews the lease, from a session that never waits long for another statement. False when it is no longer ours. */
export async function renewLease(client: pg.ClientBase, { owner, epoch }: Lease): Promise<boolean> {
  const { rowCount } = await client.query({
    name: "renew",
    text: `update realtime.cdc_consumers set lease_until = clock_timestamp() + ${lease}
      where name = 'edge' and owner = $1::uuid and epoch = $2`,
    values: [owner, epoch],
  });
  return rowCount === 1;
}

/** Stores how far delivery has come, and renews the lease. False when it is no longer ours. */
export async function storePlace(client: pg.ClientBase, { owner, epoch }: Lease, place: Place): Promise<boolean> {
  const { rowCount } = await client.query({
    name: "store",
    text: `update realtime.cdc_consumers
      set seen = $3::pg_snapshot, target = $4::pg_snapshot, page_seq = $5, lease_until = clock_timestamp() + ${lease}
      where name = 'edge' and owner = $1::uuid and epoch = $2`,
    values: [owner, epoch, place.seen, place.target, place.page],
  });
  return rowCount === 1;
}

/** Gives the lease up, so that another may take it at once. False when it was no longer ours. */
export async function releaseLease(client: pg.ClientBase, { owner, epoch }: Lease): Promise<boolean> {
  const { rowCount } = await client.query(
    `update realtime.cdc_consumers set owner = null, lease_until = '-infinity'
     where name = 'edge' and owner = $1::uuid and epoch = $2`,
    [owner, epoch],
  );
  return rowCount === 1;
}
