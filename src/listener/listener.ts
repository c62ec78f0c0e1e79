// The listener's life: connect, win the lease, capture; and again after whatever ends it.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Bell } from "./bell.ts";
import { Capture, LeadershipLost } from "./capture.ts";
import type { Config } from "./config.ts";
import { releaseLease, takeLease } from "./lease.ts";
import type { Log } from "./log.ts";

/** Milliseconds; after a loss the other listener is given time to take over. */
const reconnect = { first: 100, last: 5_000, afterLoss: 2_000 } as const;
const standbyPause = 500;
const drainPatience = 3_500;
const queryPatience = 20_000;
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
  edgeFailing: { since: string; reason: string } | null;
  error: string | null;
}

export class Listener {
  #config: Config;
  #log: Log;
  #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #phase: "connecting" | "standby" | "leading" | "draining" = "connecting";
  #current: { capture: Capture; bell: Bell; epoch: number } | null = null;
  #error: string | null = null;
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
    return {
      ok: this.#phase === "standby" || (this.#phase === "leading" && failing === null),
      state: this.#phase === "leading" ? (current?.bell.state ?? "connecting") : this.#phase,
      leaseHolder: current !== null,
      epoch: current?.epoch ?? null,
      backlog: current?.capture.progress.changes ?? 0,
      lastAckAt: current?.capture.lastAckAt?.toISOString() ?? null,
      edgeFailing: failing && { since: failing.since.toISOString(), reason: failing.reason },
      error: this.#error,
    };
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
    const clients = [this.#client("reader", ended), this.#client("bell", ended)] as const;
    const [reader, ears] = clients;
    try {
      await Promise.all(clients.map((client) => client.connect()));
      // The search_path of a database or a role is not ours to trust: whoever may create in it could pose as what we call.
      await Promise.all(clients.map((client) => client.query("set search_path = ''")));
      // Fresh tables have no statistics; the indexes are right for every fetch. A lock on a user's table is asked
      // for so briefly that writers behind us do not notice.
      // Without sequential scans a plan looks costly enough to be compiled, which would take longer than it runs.
      await reader.query("set enable_seqscan = off; set jit = off; set lock_timeout = '200ms'");
      const lease = await this.#wait(reader, ended.signal);
      if (!lease) return;
      // Taking the lease must outlive a crash, or an epoch comes twice; losing a stored place only repeats changes.
      await reader.query("set synchronous_commit = off");
      if (lease.gap)
        this.#log.error(
          "the database is not on the history that was delivered; subscribers are told that changes may be missing",
        );
      this.#newest = null;
      const bell = new Bell(ears, this.#log);
      await bell.start(ended.signal);
      const capture = new Capture(reader, lease, bell, this.#config, ended, this.#log);
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

  async #wait(reader: pg.Client, signal: AbortSignal) {
    while (!signal.aborted) {
      const lease = await takeLease(reader, this.#newest);
      if (lease) return lease;
      this.#phase = "standby";
      await sleep(standbyPause, undefined, { signal }).catch(() => {});
    }
    if (!this.#stop.signal.aborted) throw signal.reason;
    return null;
  }

  #client(part: string, ended: AbortController): pg.Client {
    const client = new pg.Client({
      connectionString: this.#config.databaseUrl,
      application_name: `nself-realtime ${part}`,
      connectionTimeoutMillis: 5_000,
      query_timeout: queryPatience,
      keepAlive: true,
    });
    client.on("error", (error) => ended.abort(error));
    return client;
  }
}
