// Capture while this listener leads: fetches rounds, hands them to the lanes, stores how far they came.

import pg from "pg";
import type { Bell } from "./bell.ts";
import { type Captured, Catalogue, isOwn } from "./catalogue.ts";
import { type Change, isKeyList } from "./changes.ts";
import type { Config } from "./config.ts";
import type { Counters } from "./counters.ts";
import { changeLine, type Edge, edgeAnswers, postBatch, postPolicies, shrink } from "./delivery.ts";
import { fetchRound } from "./fetch.ts";
import { rowsOf } from "./key-lists.ts";
import { Lanes, type Parcel } from "./lanes.ts";
import { type Lease, renewLease, settleGap, storePlace } from "./lease.ts";
import type { Log } from "./log.ts";
import { notifyListeners } from "./notify.ts";
import { Outbox } from "./outbox.ts";
import { Parking } from "./parking.ts";
import { tellPolicies } from "./policies.ts";
import { type Delivery, Progress } from "./progress.ts";

/** Why capture ended without being asked to. */
export class LeadershipLost extends Error {
  override name = "LeadershipLost";
  readonly code = "lost";
}

const lost = "another listener took the lease";

/** Values that a change keeps which is too large for the edge, bytes: Supabase's number. */
const keptValue = 64;

/** Of tables that fail so many are named in the log. */
const mostNamed = 10;

/** Milliseconds. */
const every = {
  store: 200,
  renew: 1_000,
  reconcile: 2_000,
  reconcileAfterFailure: 5_000,
  policies: 2_000,
  watch: 1_000,
} as const;

/** How long fetching may stand still before a feed that is in the way is parked, milliseconds. */
const fetchPatience = 1_000;

export class Capture {
  readonly progress: Progress;
  readonly lanes: Lanes;
  readonly parking: Parking;
  readonly outbox: Outbox;
  /** When the edge last acknowledged a change. */
  lastAckAt: Date | null = null;
  #client: pg.Client;
  #second: pg.Client;
  #lease: Lease;
  #edge: Edge;
  #bell: Bell;
  #log: Log;
  #catalogue: Catalogue;
  #ended: AbortController;
  #notify: boolean;
  #publication: boolean;
  #counters: Counters;
  /** Nothing was waiting at the last look. */
  #idle = false;
  /** The newest seq that was read. */
  newest: string | null = null;
  /** The edge has heard from a newer listener. */
  fenced = false;
  /** What subscribers are told of a gap, until they have been. */
  #gap: Delivery | null = null;

  /** `client` serves fetching and storing alone, `second` keeps the lease meanwhile; `ended` ends capture from outside, and is aborted by failures here. */
  constructor(
    client: pg.Client,
    second: pg.Client,
    lease: Lease,
    bell: Bell,
    config: Config,
    ended: AbortController,
    counters: Counters,
    log: Log,
  ) {
    const edge = { url: config.edgeUrl, secret: config.secret };
    this.#edge = edge;
    this.#notify = config.notify;
    this.#publication = config.publication;
    this.#client = client;
    this.#second = second;
    this.#lease = lease;
    this.#bell = bell;
    this.#log = log;
    this.#ended = ended;
    this.#catalogue = new Catalogue(client);
    this.#counters = counters;
    this.parking = new Parking(client, lease, this.#catalogue, log);
    this.outbox = new Outbox(client, config.outboxLimit, log);
    this.progress = new Progress(lease.place);
    ended.signal.addEventListener("abort", () => this.progress.end(), { once: true });
    this.lanes = new Lanes({
      source: lease.source,
      epoch: lease.epoch,
      post: (header, lines, signal) => postBatch(edge, header, lines, signal),
      shrink: async ({ change, last }, harder) => changeLine(shrink(change, harder ? 0 : keptValue), { last }),
      edgeAnswers: (signal) => edgeAnswers(edge, signal),
      settled: (delivery, parcel) => {
        this.lastAckAt = new Date();
        this.progress.settle(delivery, parcel.bytes);
      },
      fenced: () => {
        this.fenced = true;
        ended.abort(new LeadershipLost("the edge has heard from a newer listener"));
      },
      failed: (error) => ended.abort(error),
      parking: this.parking,
      mostParked: config.outboxLimit / 4,
      counters,
      log,
    });
  }

  /** Runs until `ended`; throws the reason unless it ended without one. */
  async run(): Promise<void> {
    const fail = (error: unknown) => this.#ended.abort(error);
    await this.#begin().catch(fail);
    const loops = [this.#fetchLoop(), this.#keepLoop(), this.#leaseLoop(), this.#followLoop(), this.#policyLoop()];
    await Promise.all(loops.map((loop) => loop.catch(fail)));
  }

  /** Stores how far delivery has come and keeps the lease. Throws LeadershipLost when it is no longer ours. */
  async store(): Promise<void> {
    if (!(await storePlace(this.#client, this.#lease, this.progress.acked))) {
      throw new LeadershipLost(lost);
    }
  }

  async #fetchLoop(): Promise<void> {
    const { signal } = this.#ended;
    let place = this.#lease.place;
    // What an earlier owner read and did not store, the edge may have had: all of the first difference.
    let redelivered = true;
    while (!signal.aborted) {
      await this.#room();
      if (signal.aborted) return;
      const startedAt = performance.now();
      const round = await fetchRound(this.#client, place);
      if (round.epoch !== this.#lease.epoch) throw new LeadershipLost(lost);
      this.#idle = round.changes.length === 0 && !round.more;
      for (const { seq } of round.changes) if (Number(seq) > Number(this.newest)) this.newest = seq;
      await this.#dispatch(round.changes, round.next, redelivered);
      place = round.next;
      if (round.more) continue;
      redelivered = false;
      await this.#bell.rest(round, startedAt);
    }
  }

  /** Waits until there is room for another round; a feed that is in the way of the others is parked. */
  async #room(): Promise<void> {
    for (let hasRoom = false; !hasRoom; ) {
      hasRoom = await this.progress.room(fetchPatience);
      if (this.progress.congestedFor > fetchPatience) await this.lanes.relieve(this.progress.obstacle);
    }
  }

  async #dispatch(changes: Change[], next: Progress["acked"], redelivered: boolean): Promise<void> {
    const tables = await this.#catalogue.describe(new Set(changes.map((change) => change.relid)));
    const wanted = changes.filter((change) => !isPartOfTruncate(change, changes, tables));
    const delivery = this.progress.open(next, wanted.length, Date.parse(changes[0]?.at ?? "") || Date.now());
    this.#counters.captured += wanted.length;
    const ends = lastOfTransactions(wanted, tables);
    const deliver = (some: Change[]) => this.#deliver(some, delivery, tables, redelivered, ends);
    let plain: Change[] = [];
    for (const change of wanted) {
      if (!isKeyList(change) || !tables.has(change.relid)) {
        plain.push(change);
        continue;
      }
      await deliver(plain);
      plain = [];
      this.progress.hold(0);
      const failed = (error: unknown) => this.#log.warn("rows of a large statement arrive as keys", { error });
      let previous: Change[] = [];
      for await (const rows of rowsOf(this.#client, change, failed)) {
        this.progress.extend(delivery, rows.length);
        await deliver(previous);
        previous = rows;
        await this.#room();
        if (this.#ended.signal.aborted) return;
      }
      const final = previous.at(-1);
      if (final !== undefined && ends.has(change)) ends.add(final);
      await deliver(previous);
      this.progress.settle(delivery, 0);
    }
    await deliver(plain);
  }

  async #deliver(
    changes: Change[],
    delivery: Delivery,
    tables: Map<string, Captured>,
    redelivered: boolean,
    ends: ReadonlySet<Change>,
  ): Promise<void> {
    const known: Parcel[] = [];
    for (const change of changes) {
      const captured = tables.get(change.relid);
      const last = ends.has(change);
      const line = changeLine(change, { last });
      const bytes = Buffer.byteLength(line);
      this.progress.hold(bytes);
      if (!captured) {
        this.#log.warn("a change of a table that is no longer known was left out", {
          id: change.seq,
          relid: change.relid,
        });
        this.progress.settle(delivery, bytes);
        continue;
      }
      known.push({ change, line, last, bytes, captured, redelivered, shrunk: "not", delivery });
    }
    const byFeed = Map.groupBy(known, ({ captured }) => captured.feed);
    for (const [feed, parcels] of byFeed) await this.lanes.add(feed, parcels);
    if (this.#notify) {
      const rows = known.filter(({ change, captured }) => change.op !== "G" && !isOwn(captured.table));
      await this.#notifyListeners(rows);
    }
  }

  /** A full queue of notifications, the fault of some session that listens and never reads, must not end capture. */
  async #notifyListeners(parcels: Parcel[]): Promise<void> {
    try {
      await notifyListeners(this.#client, parcels);
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      this.#log.warn("sessions that LISTEN were not notified of some changes", { changes: parcels.length, error });
    }
  }

  async #leaseLoop(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      if (!(await renewLease(this.#second, this.#lease))) throw new LeadershipLost(lost);
      await pause(every.renew, signal);
    }
  }

  /** Stores progress, keeps the outbox within its bound. */
  async #keepLoop(): Promise<void> {
    const { signal } = this.#ended;
    let stored = this.progress.acked;
    let watchAt = 0;
    while (!signal.aborted) {
      const now = performance.now();
      const { acked } = this.progress;
      if (acked !== stored) {
        await this.store();
        stored = acked;
      }
      if (this.#gap?.waiting === 0) {
        await settleGap(this.#client, this.#lease);
        this.#gap = null;
      }
      if (now >= watchAt) {
        watchAt = now + every.watch;
        await this.outbox.watch(this.report(), this.#idle && this.progress.changes === 0);
        await this.#wakeParked();
      }
      await pause(every.store, signal);
    }
  }

  /** What everybody may know of this listener by asking the database. */
  report: () => Record<string, unknown> = () => ({});

  async #wakeParked(): Promise<void> {
    await this.parking.look();
    for (const feed of this.parking.feeds.keys()) this.lanes.wake(feed);
  }

  /** Apart from the loop that keeps the lease, which must not wait for an edge that does not answer. */
  async #policyLoop(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const reason = await tellPolicies(this.#client, this.#lease, (digest) =>
        postPolicies(this.#edge, digest, signal),
      );
      if (reason !== null && !signal.aborted) {
        this.#log.warn("the edge was not told that policies have changed; trying again", { reason });
      }
      await pause(every.policies, signal);
    }
  }

  /** Makes capture match the subscriptions, apart from the loop that keeps the lease: two thousand tables take seconds. */
  async #followLoop(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const failures = await this.#follow();
      if (failures.length > 0 && !signal.aborted) {
        const first = failures.slice(0, mostNamed);
        this.#log.warn("some tables are not captured as wanted; trying again", { tables: failures.length, first });
      }
      // Perhaps for the lock of a table: asking again at once would stall its writers.
      await pause(failures.length > 0 ? every.reconcileAfterFailure : every.reconcile, signal);
    }
  }

  /** Before anything is fetched: what is fetched of a parked feed goes behind what is parked. */
  async #begin(): Promise<void> {
    if (this.#lease.gap) await this.parking.clear();
    await this.#wakeParked();
    if (this.#lease.gap) await this.#announceGap();
  }

  /** Every feed hears that changes may be missing, before it hears any. */
  async #announceGap(): Promise<void> {
    await this.#follow();
    const { rows } = await this.#client.query<{ relid: string }>(
      "select distinct root_relid::text as relid from realtime.cdc_tables where dropped_at is null",
    );
    const tables = await this.#catalogue.describe(new Set(rows.map(({ relid }) => relid)));
    const gap = { xid: "", op: "G", at: new Date().toISOString(), new: null, old: null } as const;
    const changes = [...tables.keys()].map((relid): Change => ({ ...gap, seq: `gap-${this.#lease.epoch}`, relid }));
    this.#gap = this.progress.open(this.#lease.place, changes.length, Date.now());
    await this.#deliver(changes, this.#gap, tables, true, new Set());
  }

  /** A transaction for each table that differs, so that none is locked for the sake of another; answers what failed. */
  async #follow(): Promise<string[]> {
    const failures: string[] = [];
    const attempt = async <R extends pg.QueryResultRow>(what: string, text: string, values: unknown[] = []) => {
      try {
        return (await this.#client.query<R>(text, values)).rows;
      } catch (error) {
        if (!(error instanceof pg.DatabaseError)) throw error;
        failures.push(`${what}: ${error.message}`);
        return [];
      }
    };
    await attempt("schemas", "select realtime.cdc_grant_schemas()");
    await attempt("publication", "select realtime.cdc_follow_publication($1)", [this.#publication]);
    const tables = await attempt<{ relid: string; name: string }>(
      "subscriptions",
      "select relid, relid::regclass::text as name from realtime.cdc_difference()",
    );
    for (const { relid, name } of tables) {
      if (this.#ended.signal.aborted) break;
      await attempt(name, "select realtime.cdc_follow($1)", [relid]);
    }
    return failures;
  }
}

/**
 * The last change of each transaction on each feed: who follows the feed has its whole part of the transaction then. The
 * changes of a transaction stand together.
 */
function lastOfTransactions(changes: Change[], tables: Map<string, Captured>): Set<Change> {
  const ends = new Set<Change>();
  const byFeed = new Map<string, Change>();
  let xid: string | undefined;
  for (const change of changes) {
    if (change.xid !== xid) {
      for (const end of byFeed.values()) ends.add(end);
      byFeed.clear();
      xid = change.xid;
    }
    const feed = tables.get(change.relid)?.feed;
    if (feed !== undefined) byFeed.set(feed, change);
  }
  for (const end of byFeed.values()) ends.add(end);
  return ends;
}

/** Truncating a partitioned table truncates its partitions too: one change says it. */
function isPartOfTruncate(change: Change, changes: Change[], tables: Map<string, Captured>): boolean {
  const root = tables.get(change.relid)?.root;
  if (change.op !== "T" || root === undefined || root === change.relid) return false;
  return changes.some((other) => other.op === "T" && other.relid === root && other.xid === change.xid);
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
  });
}
