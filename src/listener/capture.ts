// Capture while this listener leads: fetches rounds, hands them to the lanes, stores how far they came.

import pg from "pg";
import { feedName } from "../protocol/topics.ts";
import type { Bell } from "./bell.ts";
import { type Captured, Catalogue, isOwn } from "./catalogue.ts";
import { type Change, isKeyList } from "./changes.ts";
import type { Config } from "./config.ts";
import { changeLine, type Edge, postBatch, postPolicies, shrink } from "./delivery.ts";
import { fetchRound } from "./fetch.ts";
import { rowsOf } from "./key-lists.ts";
import { Lanes, type Parcel } from "./lanes.ts";
import { type Lease, renewLease, settleGap } from "./lease.ts";
import type { Log } from "./log.ts";
import { notifyListeners } from "./notify.ts";
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
  renew: 3_000,
  reconcile: 2_000,
  reconcileAfterFailure: 5_000,
  policies: 2_000,
  rotate: 60_000,
} as const;

export class Capture {
  readonly progress: Progress;
  readonly lanes: Lanes;
  /** When the edge last acknowledged a change. */
  lastAckAt: Date | null = null;
  #client: pg.Client;
  #lease: Lease;
  #edge: Edge;
  #bell: Bell;
  #log: Log;
  #catalogue: Catalogue;
  #ended: AbortController;
  #notify: boolean;
  /** The newest seq that was read. */
  newest: string | null = null;
  /** The edge has heard from a newer listener. */
  fenced = false;
  /** What subscribers are told of a gap, until they have been. */
  #gap: Delivery | null = null;

  /** `client` serves fetching and storing alone; `ended` ends capture from outside, and is aborted by failures here. */
  constructor(client: pg.Client, lease: Lease, bell: Bell, config: Config, ended: AbortController, log: Log) {
    const edge = { url: config.edgeUrl, secret: config.secret };
    this.#edge = edge;
    this.#notify = config.notify;
    this.#client = client;
    this.#lease = lease;
    this.#bell = bell;
    this.#log = log;
    this.#ended = ended;
    this.#catalogue = new Catalogue(client);
    this.progress = new Progress(lease.place);
    ended.signal.addEventListener("abort", () => this.progress.end(), { once: true });
    this.lanes = new Lanes({
      source: lease.source,
      epoch: lease.epoch,
      post: (header, lines, signal) => postBatch(edge, header, lines, signal),
      shrink: async ({ change }, harder) => changeLine(shrink(change, harder ? 0 : keptValue)),
      settled: (parcel) => {
        this.lastAckAt = new Date();
        this.progress.settle(parcel.delivery, parcel.bytes);
      },
      fenced: () => {
        this.fenced = true;
        ended.abort(new LeadershipLost("the edge has heard from a newer listener"));
      },
      failed: (error) => ended.abort(error),
      log,
    });
  }

  /** Runs until `ended`; throws the reason unless it ended without one. */
  async run(): Promise<void> {
    const fail = (error: unknown) => this.#ended.abort(error);
    if (this.#lease.gap) await this.#announceGap().catch(fail);
    const loops = [this.#fetchLoop(), this.#keepLoop(), this.#followLoop(), this.#policyLoop()];
    await Promise.all(loops.map((loop) => loop.catch(fail)));
  }

  /** Stores how far delivery has come and keeps the lease. Throws LeadershipLost when it is no longer ours. */
  async store(): Promise<void> {
    if (!(await renewLease(this.#client, this.#lease, this.progress.acked))) {
      throw new LeadershipLost(lost);
    }
  }

  async #fetchLoop(): Promise<void> {
    const { signal } = this.#ended;
    let place = this.#lease.place;
    // What an earlier owner read and did not store, the edge may have had: all of the first difference.
    let redelivered = true;
    while (!signal.aborted) {
      await this.progress.room();
      if (signal.aborted) return;
      const startedAt = performance.now();
      const round = await fetchRound(this.#client, place);
      if (round.epoch !== this.#lease.epoch) throw new LeadershipLost(lost);
      for (const { seq } of round.changes) if (Number(seq) > Number(this.newest)) this.newest = seq;
      await this.#dispatch(round.changes, round.next, redelivered);
      place = round.next;
      if (round.more) continue;
      redelivered = false;
      await this.#bell.rest(round, startedAt);
    }
  }

  async #dispatch(changes: Change[], next: Progress["acked"], redelivered: boolean): Promise<void> {
    const tables = await this.#catalogue.describe(new Set(changes.map((change) => change.relid)));
    const wanted = changes.filter((change) => !isPartOfTruncate(change, changes, tables));
    const delivery = this.progress.open(next, wanted.length);
    const deliver = (some: Change[]) => this.#deliver(some, delivery, tables, redelivered);
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
      for await (const rows of rowsOf(this.#client, change, failed)) {
        this.progress.extend(delivery, rows.length);
        await deliver(rows);
        await this.progress.room();
        if (this.#ended.signal.aborted) return;
      }
      this.progress.settle(delivery, 0);
    }
    await deliver(plain);
  }

  async #deliver(
    changes: Change[],
    delivery: Delivery,
    tables: Map<string, Captured>,
    redelivered: boolean,
  ): Promise<void> {
    const known: Parcel[] = [];
    for (const change of changes) {
      const captured = tables.get(change.relid);
      const line = changeLine(change);
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
      known.push({ change, line, bytes, captured, redelivered, shrunk: "not", delivery });
    }
    const byFeed = Map.groupBy(known, ({ captured: { table } }) => feedName(table.schema, table.table));
    for (const [feed, parcels] of byFeed) this.lanes.add(feed, parcels);
    if (this.#notify) await this.#notifyListeners(known.filter(({ captured }) => !isOwn(captured.table)));
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

  /** Stores progress, renews the lease, empties the outbox. */
  async #keepLoop(): Promise<void> {
    const { signal } = this.#ended;
    let stored = this.progress.acked;
    let renewAt = 0;
    let rotateAt = performance.now() + every.rotate;
    while (!signal.aborted) {
      const now = performance.now();
      const { acked } = this.progress;
      if (acked !== stored || now >= renewAt) {
        await this.store();
        stored = acked;
        renewAt = now + every.renew;
      }
      if (this.#gap?.waiting === 0) {
        await settleGap(this.#client, this.#lease);
        this.#gap = null;
      }
      if (now >= rotateAt) {
        await this.#client.query("select realtime.cdc_rotate()");
        rotateAt = now + every.rotate;
      }
      await pause(every.store, signal);
    }
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

  /** Every feed hears that changes may be missing, before it hears any. */
  async #announceGap(): Promise<void> {
    await this.#follow();
    const { rows } = await this.#client.query<{ relid: string }>(
      "select distinct root_relid::text as relid from realtime.cdc_tables where dropped_at is null",
    );
    const tables = await this.#catalogue.describe(new Set(rows.map(({ relid }) => relid)));
    const gap = { xid: "", op: "G", at: new Date().toISOString(), new: null, old: null } as const;
    const changes = [...tables.keys()].map((relid): Change => ({ ...gap, seq: `gap-${this.#lease.epoch}`, relid }));
    this.#gap = this.progress.open(this.#lease.place, changes.length);
    await this.#deliver(changes, this.#gap, tables, true);
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
