// One lane a feed: batches in order, one in flight, tried until the edge has it.
import { setTimeout as sleep } from "node:timers/promises";
import type { Captured } from "./catalogue.ts";
import type { Change } from "./changes.ts";
import type { Answer, Header, Unsent } from "./delivery.ts";
import type { Log } from "./log.ts";
import type { Delivery } from "./progress.ts";

const most = { changes: 1_000, bytes: 1_000_000, inFlight: 32 } as const;
/** Of messages that are not sent so many are named in the log. */
const mostNamed = 10;
const backoff = { first: 50, last: 5_000 } as const;

const wrongSecret = "the edge refuses our signature: REALTIME_LISTENER_SECRET differs between listener and edge";

/** A change on its way. */
export interface Parcel {
  change: Change;
  /** The change as a line of a batch, and the bytes of that. */
  line: string;
  bytes: number;
  captured: Captured;
  redelivered: boolean;
  /** What it lost to its size: nothing, its large values, all values. */
  shrunk: "not" | "large" | "all";
  delivery: Delivery;
}

export interface Outlet {
  source: string;
  epoch: number;
  post(header: Header, lines: string[], signal: AbortSignal): Promise<Answer>;
  /** The line of a change that is too large even alone, made smaller; `harder` the second time. */
  shrink(parcel: Parcel, harder: boolean): Promise<string>;
  settled(parcel: Parcel): void;
  /** Someone newer delivers: this listener must stop. */
  fenced(): void;
  /** A lane cannot go on. */
  failed(error: unknown): void;
  log: Log;
}

export class Lanes {
  #outlet: Outlet;
  #lanes = new Map<string, Parcel[]>();
  #running = new Set<Promise<void>>();
  #batch = 0;
  #inFlight = 0;
  #permitWaiters: (() => void)[] = [];
  /** Ends waiting and new batches; `#cut` ends what is in flight too. */
  #drain = new AbortController();
  #cut = new AbortController();
  /** Since when, and why, the edge has not taken what it was sent; null while all is well. */
  failing: { since: Date; reason: string } | null = null;

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
  }

  /** Queues changes of one feed, in order. */
  add(feed: string, parcels: Parcel[]): void {
    const lane = this.#lanes.get(feed);
    if (lane) {
      lane.push(...parcels);
      return;
    }
    const fresh = [...parcels];
    this.#lanes.set(feed, fresh);
    const run = this.#run(feed, fresh)
      .catch((error: unknown) => this.#outlet.failed(error))
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
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

  async #run(feed: string, lane: Parcel[]): Promise<void> {
    let limit: number = most.changes;
    while (lane.length > 0 && !this.#drain.signal.aborted) {
      const parcels = lane.slice(0, fitting(lane, limit));
      const answer = await this.#persist(feed, parcels);
      if (answer === "acked") {
        lane.splice(0, parcels.length);
        limit = Math.min(most.changes, limit * 2);
        for (const parcel of parcels) this.#outlet.settled(parcel);
      } else if (answer === "too-large") {
        limit = Math.max(1, Math.floor(parcels.length / 2));
        const [only] = parcels;
        if (parcels.length === 1 && only) await this.#shrink(feed, only);
      } else {
        return;
      }
    }
    // In the same turn that found the lane empty: whoever adds next must not add to a lane that nobody runs.
    this.#lanes.delete(feed);
  }

  /** Posts one batch, the same bytes again and again, until the edge takes it or says that it never will. */
  async #persist(feed: string, parcels: Parcel[]): Promise<"acked" | "too-large" | "stopped"> {
    const header = this.#header(feed, parcels);
    const lines = parcels.map((parcel) => parcel.line);
    for (let wait: number = backoff.first; ; wait = Math.min(backoff.last, wait * 2)) {
      const answer = await this.#post(header, lines);
      if (answer.kind === "acked") {
        this.failing = null;
        if (answer.unsent.length > 0) this.#report(answer.unsent);
      }
      if (answer.kind === "acked" || answer.kind === "too-large") return answer.kind;
      if (answer.kind === "fenced") {
        this.#outlet.fenced();
        return "stopped";
      }
      if (this.#drain.signal.aborted) return "stopped";
      if (answer.kind === "unauthorized") wait = backoff.last;
      const reason = answer.kind === "unauthorized" ? wrongSecret : answer.reason;
      this.failing = { since: this.failing?.since ?? new Date(), reason };
      this.#outlet.log.warn("the edge did not take a batch; trying again", { feed, batch: header.batch, wait, reason });
      header.redelivered = true;
      for (const parcel of parcels) parcel.redelivered = true;
      await sleep(wait, undefined, { signal: this.#drain.signal }).catch(() => {});
      if (this.#drain.signal.aborted) return "stopped";
    }
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

  async #shrink(feed: string, parcel: Parcel): Promise<void> {
    if (parcel.shrunk === "all") {
      const reason = "the edge calls a change too large that has no values left";
      this.failing = { since: this.failing?.since ?? new Date(), reason };
      this.#outlet.log.warn("the edge did not take a change; trying again", { feed, id: parcel.change.seq, reason });
      await sleep(backoff.last, undefined, { signal: this.#drain.signal }).catch(() => {});
      return;
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

/** How many parcels of the lane's head make the next batch: within both limits, and always one. */
function fitting(lane: Parcel[], limit: number): number {
  let bytes = 0;
  let count = 0;
  for (const parcel of lane) {
    bytes += parcel.bytes + 1;
    if (count === limit || (count > 0 && bytes > most.bytes)) break;
    count += 1;
  }
  return count;
}
