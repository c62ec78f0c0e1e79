// One lane a feed: batches in order, one in flight, tried until the edge has it. A lane that holds up the others goes on
// from what is parked in the database.
import { setTimeout as sleep } from "node:timers/promises";
import type { Captured } from "./catalogue.ts";
import type { Change } from "./changes.ts";
import type { Counters } from "./counters.ts";
import type { Answer, Header, Unsent } from "./delivery.ts";
import type { Log } from "./log.ts";
import type { Parking } from "./parking.ts";
import type { Delivery } from "./progress.ts";

const most = { changes: 1_000, bytes: 1_000_000, inFlight: 32 } as const;
/** Of messages that are not sent so many are named in the log. */
const mostNamed = 10;
/** How often the edge may call one change bad before it is set aside. */
const mostRefusals = 5;
/** Milliseconds. */
const backoff = { first: 50, last: 5_000 } as const;
/** Feeds have been taken lately if it was within this time, milliseconds: the edge works, and a lane that stands still is alone. */
const lately = 10_000;
/** A feed of which nothing was taken for so long, milliseconds, may be given up when too much of it waits. */
const deadAfter = 30_000;
/** Between two looks whether a slow feed has made room, milliseconds. */
const roomPause = 200;

const wrongSecret = "the edge refuses our signature: REALTIME_LISTENER_SECRET differs between listener and edge";

/** A change on its way. */
export interface Parcel {
  change: Change;
  /** The change as a line of a batch, and the bytes of that. */
  line: string;
  bytes: number;
  /** Whether it is the last of its transaction on this feed. */
  last: boolean;
  captured: Captured;
  redelivered: boolean;
  /** What it lost to its size: nothing, its large values, all values. */
  shrunk: "not" | "large" | "all";
  /** The round that waits for it; null: it is parked. */
  delivery: Delivery | null;
}

export interface Outlet {
  source: string;
  epoch: number;
  post(header: Header, lines: string[], signal: AbortSignal): Promise<Answer>;
  /** Whether the edge answers at all. */
  edgeAnswers(signal: AbortSignal): Promise<boolean>;
  /** The line of a change that is too large even alone, made smaller; `harder` the second time. */
  shrink(parcel: Parcel, harder: boolean): Promise<string>;
  /** The edge has it, or it is parked. */
  settled(delivery: Delivery, parcel: Parcel): void;
  /** Someone newer delivers: this listener must stop. */
  fenced(): void;
  /** A lane cannot go on. */
  failed(error: unknown): void;
  parking: Parking;
  /** Bytes that may be parked. */
  mostParked: number;
  counters: Counters;
  log: Log;
}

/** Answers after which a batch is sent again as it is, or never. */
type Unanswered = { kind: "fenced" } | { kind: "unauthorized" } | { kind: "failed" };

interface Failure {
  since: Date;
  reason: string;
}

interface Lane {
  readonly feed: string;
  /** In memory: all that waits, or of a parked lane the next page. */
  queue: Parcel[];
  parked: boolean;
  /** Ends once all that was in memory is parked; changes that come later are parked after it. */
  parking: Promise<void>;
  /** Changes that are being parked. */
  arriving: number;
  /** When the edge took the last batch, or the lane began; performance.now. */
  takenAt: number;
  failing: Failure | null;
}

export class Lanes {
  #outlet: Outlet;
  #lanes = new Map<string, Lane>();
  #takenAt = new Map<string, number>();
  #running = new Set<Promise<void>>();
  #batch = 0;
  #inFlight = 0;
  #permitWaiters: (() => void)[] = [];
  /** Ends waiting and new batches; `#cut` ends what is in flight too. */
  #drain = new AbortController();
  #cut = new AbortController();

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
  }

  /** Since when, and why, the edge has not taken what it was sent, of the feed that waits longest; null while all is well. */
  get failing(): (Failure & { feed: string }) | null {
    let first: (Failure & { feed: string }) | null = null;
    for (const { feed, failing } of this.#lanes.values()) {
      if (failing !== null && (first === null || failing.since < first.since)) first = { feed, ...failing };
    }
    return first;
  }

  /** Queues changes of one feed, in order. Of a feed that is parked they are, and too much of a slow one waits for room. */
  async add(feed: string, parcels: Parcel[]): Promise<void> {
    const lane = this.#lanes.get(feed);
    if (!lane) {
      this.#start(feed, [...parcels], false);
    } else if (!lane.parked) {
      lane.queue.push(...parcels);
    } else {
      lane.arriving += 1;
      try {
        await this.#makeParkingRoom();
        await this.#park(lane, parcels);
      } finally {
        lane.arriving -= 1;
      }
    }
  }

  /** Goes on with a feed that has changes parked, by an earlier listener or because a person wants them tried again. */
  wake(feed: string): void {
    if (!this.#lanes.has(feed) && !this.#drain.signal.aborted) this.#start(feed, [], true);
  }

  /**
   * Nothing can be fetched until somebody has been rid of some changes: parks those of the lane that is in the way, if
   * it is that and not the edge. `oldest` is the round that all wait for, null where bytes are what there are too many of.
   */
  async relieve(oldest: Delivery | null): Promise<void> {
    const lanes = [...this.#lanes.values()].filter(({ parked }) => !parked);
    const culprit =
      oldest === null
        ? lanes.sort((a, b) => bytesOf(b) - bytesOf(a))[0]
        : lanes.find(({ queue }) => queue.some(({ delivery }) => delivery === oldest));
    if (culprit === undefined || !(await this.#isAlone(culprit))) return;
    this.#outlet.log.warn("a feed holds up the others: its changes are parked until the edge takes them", {
      feed: culprit.feed,
      changes: culprit.queue.length,
      reason: culprit.failing?.reason ?? "it is slow",
    });
    await this.#parkAll(culprit);
  }

  /** Starts no further batch and resolves when those in flight are answered. */
  async drain(): Promise<void> {
    this.#drain.abort();
    await Promise.allSettled(this.#running);
  }

  /** Ends everything at once; what is in flight counts as not delivered. */
  async cut(): Promise<void> {
    this.#drain.abort();
    this.#cut.abort();
    await Promise.allSettled(this.#running);
  }

  #start(feed: string, queue: Parcel[], parked: boolean): void {
    const lane: Lane = {
      ...{ feed, queue, parked, arriving: 0, failing: null },
      parking: Promise.resolve(),
      takenAt: performance.now(),
    };
    this.#lanes.set(feed, lane);
    const run = this.#run(lane)
      .catch((error: unknown) => this.#outlet.failed(error))
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  async #run(lane: Lane): Promise<void> {
    let limit: number = most.changes;
    let refusals = 0;
    while (!this.#drain.signal.aborted) {
      if (lane.queue.length === 0) {
        // In the same turn that found the lane empty: whoever adds next must not add to a lane that nobody runs.
        if (!lane.parked) break;
        await this.#readParked(lane);
        continue;
      }
      const parcels = lane.queue.slice(0, fitting(lane.queue, limit));
      const answer = await this.#persist(lane, parcels);
      await lane.parking;
      const [only] = parcels.length === 1 ? parcels : [];
      if (answer.kind === "acked") {
        lane.queue.splice(0, parcels.length);
        limit = Math.min(most.changes, limit * 2);
        refusals = 0;
        await this.#settle(lane, parcels);
      } else if (answer.kind === "stopped") {
        return;
      } else if (only === undefined) {
        limit = Math.max(1, Math.floor(parcels.length / 2));
      } else if (answer.kind === "too-large") {
        await this.#shrink(lane, only);
      } else {
        refusals += 1;
        await this.#refused(lane, only, answer.reason, refusals);
      }
    }
    this.#lanes.delete(lane.feed);
  }

  /** Reads what is parked next; without any the lane is an ordinary one again. */
  async #readParked(lane: Lane): Promise<void> {
    lane.queue = await this.#outlet.parking.next(lane.feed);
    if (lane.queue.length > 0 || lane.arriving > 0) return;
    lane.parked = false;
    this.#outlet.log.warn("a feed has caught up: nothing of it is parked any more", { feed: lane.feed });
  }

  /** Posts one batch, the same bytes again and again, until the edge takes it or says that it never will. */
  async #persist(lane: Lane, parcels: Parcel[]): Promise<Exclude<Answer, Unanswered> | { kind: "stopped" }> {
    const { feed } = lane;
    const { counters } = this.#outlet;
    const header = this.#header(feed, parcels);
    const lines = parcels.map((parcel) => parcel.line);
    for (let wait: number = backoff.first; ; wait = Math.min(backoff.last, wait * 2)) {
      const answer = await this.#post(header, lines);
      if (answer.kind === "acked") {
        lane.failing = null;
        lane.takenAt = performance.now();
        this.#takenAt.set(feed, lane.takenAt);
        counters.delivered(parcels);
        if (answer.unsent.length > 0) this.#report(answer.unsent);
      }
      if (answer.kind === "acked" || answer.kind === "too-large" || answer.kind === "refused") return answer;
      if (answer.kind === "fenced") {
        this.#outlet.fenced();
        return { kind: "stopped" };
      }
      if (this.#drain.signal.aborted) return { kind: "stopped" };
      if (answer.kind === "unauthorized") wait = backoff.last;
      const reason = answer.kind === "unauthorized" ? wrongSecret : answer.reason;
      counters.retries += 1;
      this.#fail(lane, reason, { batch: header.batch, wait });
      header.redelivered = true;
      for (const parcel of parcels) parcel.redelivered = true;
      await this.#wait(wait);
      if (this.#drain.signal.aborted) return { kind: "stopped" };
    }
  }

  #fail(lane: Lane, reason: string, details: Record<string, unknown>): void {
    lane.failing = { since: lane.failing?.since ?? new Date(), reason };
    this.#outlet.log.warn("the edge did not take a batch; trying again", { feed: lane.feed, ...details, reason });
  }

  /** Sets a change aside that the edge calls bad again and again, and goes on with the gap in its place. */
  async #refused(lane: Lane, parcel: Parcel, reason: string, refusals: number): Promise<void> {
    const { counters, parking, log } = this.#outlet;
    const { feed } = lane;
    const wait = Math.min(backoff.last, backoff.first * 2 ** refusals);
    parcel.redelivered = true;
    this.#fail(lane, reason, { id: parcel.change.seq, wait });
    if (refusals < mostRefusals) return this.#wait(wait);
    if (!lane.parked) await this.#parkAll(lane);
    // A gap that is refused too is older than this edge knows: nobody can be told of it.
    if (parcel.change.op === "G") {
      log.error("the edge refuses to tell a gap; its subscribers do not learn that changes are missing", {
        feed,
        reason,
      });
      await parking.take(feed, [parcel]);
    } else if (await parking.refuse(feed, parcel, reason)) {
      counters.refused += 1;
      log.error("the edge refuses a change for good: it is set aside, and its feed told of a gap", {
        feed,
        id: parcel.change.seq,
        reason,
        remedy: "select realtime.retry_refused() or realtime.drop_refused()",
      });
    } else {
      return this.#wait(backoff.last);
    }
    lane.queue = [];
  }

  /** Parks what is in memory. What is in flight stays there too, at the head, until it is answered. */
  async #parkAll(lane: Lane): Promise<void> {
    lane.parked = true;
    const parcels = lane.queue;
    const inFlight = fitting(parcels, most.changes);
    lane.queue = parcels.slice(0, inFlight);
    lane.parking = this.#park(lane, parcels);
    await lane.parking;
  }

  async #park(lane: Lane, parcels: Parcel[]): Promise<void> {
    await this.#outlet.parking.put(lane.feed, parcels);
    this.#outlet.counters.parked += parcels.length;
    for (const parcel of parcels) {
      if (parcel.delivery !== null) this.#outlet.settled(parcel.delivery, parcel);
      parcel.delivery = null;
    }
  }

  async #settle(lane: Lane, parcels: Parcel[]): Promise<void> {
    const parked = parcels.filter(({ delivery }) => delivery === null);
    for (const parcel of parcels) if (parcel.delivery !== null) this.#outlet.settled(parcel.delivery, parcel);
    if (parked.length > 0) await this.#outlet.parking.take(lane.feed, parked);
  }

  /** Whether others are well while this lane is not: then it is not the edge that is away. */
  async #isAlone(lane: Lane): Promise<boolean> {
    const now = performance.now();
    for (const [feed, at] of this.#takenAt) if (feed !== lane.feed && now - at < lately) return true;
    return now - lane.takenAt > lately && (await this.#outlet.edgeAnswers(this.#drain.signal));
  }

  /** A feed that the edge takes slowly is waited for; one of which it takes nothing is given up, the largest first. */
  async #makeParkingRoom(): Promise<void> {
    const { parking, mostParked, log } = this.#outlet;
    while (parking.bytes > mostParked && !this.#drain.signal.aborted) {
      const now = performance.now();
      const dead = [...parking.feeds]
        .filter(([feed]) => now - (this.#lanes.get(feed)?.takenAt ?? now) > deadAfter)
        .sort(([, a], [, b]) => b.bytes - a.bytes)[0];
      if (dead === undefined) {
        await this.#wait(roomPause);
        continue;
      }
      const [feed, { changes }] = dead;
      log.error("too many changes of a feed that the edge does not take are parked: they are given up for a gap", {
        feed,
        changes,
      });
      this.#outlet.counters.givenUp += changes;
      await parking.giveUp(feed);
    }
  }

  async #wait(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#drain.signal }).catch(() => {});
  }

  #report(unsent: Unsent[]): void {
    const first = unsent.slice(0, mostNamed);
    this.#outlet.log.warn("some messages were not sent", { messages: unsent.length, first });
  }

  #header(feed: string, parcels: Parcel[]): Header {
    this.#batch += 1;
    return {
      v: 1,
      source: this.#outlet.source,
      epoch: this.#outlet.epoch,
      batch: this.#batch,
      redelivered: parcels.some((parcel) => parcel.redelivered),
      feed,
      tables: Object.fromEntries(parcels.map(({ change, captured }) => [change.relid, captured.table])),
    };
  }

  async #post(header: Header, lines: string[]): Promise<Answer> {
    while (this.#inFlight >= most.inFlight) await new Promise<void>((resolve) => this.#permitWaiters.push(resolve));
    this.#inFlight += 1;
    try {
      return await this.#outlet.post(header, lines, this.#cut.signal);
    } finally {
      this.#inFlight -= 1;
      this.#permitWaiters.shift()?.();
    }
  }

  async #shrink(lane: Lane, parcel: Parcel): Promise<void> {
    const { feed } = lane;
    if (parcel.shrunk === "all") {
      this.#fail(lane, "the edge calls a change too large that has no values left", { id: parcel.change.seq });
      return this.#wait(backoff.last);
    }
    const harder = parcel.shrunk === "large";
    parcel.shrunk = harder ? "all" : "large";
    this.#outlet.log.warn("a change is too large for the edge; its large values are left out", {
      feed,
      id: parcel.change.seq,
    });
    parcel.line = await this.#outlet.shrink(parcel, harder);
  }
}

function bytesOf({ queue }: Lane): number {
  return queue.reduce((sum, { bytes }) => sum + bytes, 0);
}

/**
 * How many parcels of the lane's head make the next batch: within both limits, and always one. A transaction is not split
 * unless it alone is larger than a batch.
 */
function fitting(lane: readonly Parcel[], limit: number): number {
  let bytes = 0;
  let count = 0;
  let whole = 0;
  for (const parcel of lane) {
    bytes += parcel.bytes + 1;
    if (count === limit || (count > 0 && bytes > most.bytes)) return whole > 0 ? whole : count;
    count += 1;
    if (parcel.last) whole = count;
  }
  return count;
}
