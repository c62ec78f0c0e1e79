// The listener's life: connect, win the lease, capture; and again after whatever ends it.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { Bell } from "./bell.ts";
import { Capture, LeadershipLost } from "./capture.ts";
import type { Config } from "./config.ts";
import { Counters } from "./counters.ts";
import { releaseLease, takeLease } from "./lease.ts";
import type { Log } from "./log.ts";
import type { Alarm } from "./outbox.ts";
import { newSession, prepareSessions } from "./session.ts";

/** Milliseconds; after a loss the other listener is given time to take over. */
const reconnect = { first: 100, last: 5_000, afterLoss: 2_000 } as const;
const standbyPause = 500;
const drainPatience = 3_500;
const farewellPatience = 1_000;

/** Larger than any seq: a database that is compared with it has fallen behind. */
const largestSeq = "9223372036854775807";

export interface Status {
  ok: boolean;
  state: "connecting" | "standby" | "active" | "arming" | "armed" | "polling" | "draining";
  leaseHolder: boolean;
  epoch: number | null;
  /** Changes fetched and not yet acknowledged by the edge; more may wait in the outbox. */
  backlog: number;
  lastAckAt: string | null;
  /** Since when, and why, the edge has not taken what it was sent. */
  edgeFailing: { since: string; reason: string; feed: string } | null;
  /** Why row changes are polled for, and not told by NOTIFY; null: they are told. */
  polling: string | null;
  /** What waits in PostgreSQL, bytes, and whether that is near or at its bound. */
  outbox: { bytes: number; limit: number; alarm: Alarm };
  /** Changes of feeds that the edge does not keep up with or does not take. */
  parked: { feed: string; changes: number }[];
  error: string | null;
}

/** Of parked feeds so many are named. */
const mostParkedNamed = 20;

export class Listener {
  #config: Config;
  #log: Log;
  #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #phase: "connecting" | "standby" | "leading" | "draining" = "connecting";
  #current: { capture: Capture; bell: Bell; epoch: number } | null = null;
  #error: string | null = null;
  readonly counters = new Counters();
  /** The newest seq that was read before the last connection ended. */
  #newest: string | null = null;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
  }

  start(): void {
    this.#ended = this.#live();
  }

  /** Finishes what is in flight, stores it, releases the lease: within 5 s. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  status(): Status {
    const current = this.#current;
    const failing = current?.capture.lanes.failing ?? null;
    const { bytes = 0, alarm = "none" as const } = current?.capture.outbox ?? {};
    const parked = [...(current?.capture.parking.feeds ?? [])].slice(0, mostParkedNamed);
    return {
      ok: this.#phase === "standby" || (this.#phase === "leading" && failing === null && alarm !== "stopped"),
      state: this.#phase === "leading" ? (current?.bell.state ?? "connecting") : this.#phase,
      leaseHolder: current !== null,
      epoch: current?.epoch ?? null,
      backlog: current?.capture.progress.changes ?? 0,
      lastAckAt: current?.capture.lastAckAt?.toISOString() ?? null,
      edgeFailing: failing && { since: failing.since.toISOString(), reason: failing.reason, feed: failing.feed },
      polling: current?.bell.pollingReason ?? null,
      outbox: { bytes, limit: this.#config.outboxLimit, alarm },
      parked: parked.map(([feed, { changes }]) => ({ feed, changes })),
      error: this.#error,
    };
  }

  /** Seconds that the oldest change has waited which was read and is not delivered. */
  get lagSeconds(): number {
    const oldest = this.#current?.capture.progress.oldestAt ?? null;
    return oldest === null ? 0 : Math.max(0, Date.now() - oldest) / 1000;
  }

  async #live(): Promise<void> {
    let wait: number = reconnect.first;
    while (!this.#stop.signal.aborted) {
      const startedAt = performance.now();
      try {
        await this.#session();
      } catch (error) {
        this.#error = error instanceof Error ? error.message : String(error);
        if (error instanceof LeadershipLost) {
          this.#log.warn("stopped delivering", { reason: error });
          wait = reconnect.afterLoss;
        } else {
          this.#log.error("lost PostgreSQL; connecting again", { error });
          wait = performance.now() - startedAt > reconnect.last ? reconnect.first : Math.min(reconnect.last, wait * 2);
        }
        this.#phase = "connecting";
        await sleep(wait, undefined, { signal: this.#stop.signal }).catch(() => {});
      }
    }
  }

  /** From connecting to the end of one leadership. Throws what ended it, unless that was `stop`. */
  async #session(): Promise<void> {
    const ended = new AbortController();
    const onStop = () => ended.abort();
    this.#stop.signal.addEventListener("abort", onStop, { once: true });
    const end = (error: Error) => ended.abort(error);
    const clients = [newSession(this.#config, "reader", end), newSession(this.#config, "bell", end)] as const;
    const [reader, ears] = clients;
    try {
      await Promise.all(clients.map((client) => client.connect()));
      const isShared = await prepareSessions(reader, ears);
      const lease = await this.#wait(reader, isShared, ended.signal);
      if (!lease) return;
      // Taking the lease must outlive a crash, or an epoch comes twice; losing a stored place only repeats changes.
      if (!isShared) await reader.query("set synchronous_commit = off");
      if (lease.gap)
        this.#log.error(
          "the database is not on the history that was delivered; subscribers are told that changes may be missing",
        );
      this.#newest = null;
      const bell = new Bell(ears, this.#log);
      await bell.start(isShared, ended.signal);
      const capture = new Capture(reader, ears, lease, bell, this.#config, ended, this.counters, this.#log);
      capture.report = () => {
        const { state, polling, edgeFailing, backlog } = this.status();
        return { state, polling, edgeFailing, backlog };
      };
      this.#current = { capture, bell, epoch: lease.epoch };
      this.#phase = "leading";
      this.#error = null;
      this.#log.info("capturing row changes", { epoch: lease.epoch });
      await capture.run();
      if (!this.#stop.signal.aborted) {
        await capture.lanes.cut();
        if (ended.signal.reason instanceof LeadershipLost) {
          const ours = await releaseLease(reader, lease);
          // The edge has heard a newer epoch than this database ever gave: it was set back, without knowing it.
          if (ours && capture.fenced) this.#newest = largestSeq;
        }
        throw ended.signal.reason;
      }
      this.#phase = "draining";
      await Promise.race([capture.lanes.drain(), sleep(drainPatience)]);
      await capture.lanes.cut();
      await capture.store();
      await bell.stop();
      await releaseLease(reader, lease);
      this.#log.info("drained; the lease is free", { undelivered: capture.progress.changes });
    } finally {
      this.#stop.signal.removeEventListener("abort", onStop);
      this.#newest ??= this.#current?.capture.newest ?? null;
      this.#current = null;
      await Promise.race([Promise.allSettled(clients.map((client) => client.end())), sleep(farewellPatience)]);
    }
  }

  async #wait(reader: pg.Client, isShared: boolean, signal: AbortSignal) {
    while (!signal.aborted) {
      const lease = await takeLease(reader, this.#newest, isShared);
      if (lease) return lease;
      this.#phase = "standby";
      await sleep(standbyPause, undefined, { signal }).catch(() => {});
    }
    if (!this.#stop.signal.aborted) throw signal.reason;
    return null;
  }
}
