// The doorbell: when to fetch next. While changes come thick the listener polls and no writer notifies; when they
// come seldom it sleeps, and writers ring with an empty NOTIFY.
//
// A NOTIFY in every transaction would make commits queue behind one lock, so the bell is armed only in quiet times.
// A writer reads "armed or not" after it has a transaction number: one that saw "not" is in progress for a snapshot
// taken after arming. Polling goes on until those are over, and then no change can come unheard.
import type pg from "pg";
import { parseSnapshot } from "./changes.ts";
import type { Round } from "./fetch.ts";
import type { Log } from "./log.ts";

const channel = "realtime:cdc";
/**
 * From the beginning of a round to that of the next, milliseconds. Each round has a price, here and at the edge, that many
 * changes share better than few: the faster they come, the fewer the rounds, and the more is left for the writers.
 */
const pauses = { least: 4, aChange: 0.2, most: 40 } as const;
const pollPause = 10;
const longestSleep = 1_000;
const rateWindow = 500;
const rearmAfter = 30_000;
const selfTestPatience = 1_000;
/** Seconds for which writers ring without being asked again: what a listener that dies costs them. */
const armedFor = 60;
/**
 * This many transactions with changes within the window are "thick": 60 a second. Rounds would not do: under load they are
 * few and large, and the bell would be armed when it costs most.
 */
const thick = 30;
/** A round this large is followed by the next at once. */
const largeRound = 1_000;

type State =
  | { name: "active"; since: number }
  | { name: "arming"; until: bigint; armedAt: number; pause: number }
  | { name: "armed"; armedAt: number }
  /** Notifications do not reach us, or would break prepared transactions: poll for good. */
  | { name: "polling"; reason: string };

export class Bell {
  #client: pg.Client;
  #log: Log;
  #state: State = { name: "active", since: performance.now() };
  /** The rounds of the window that had changes, and of how many transactions. */
  #rounds: { at: number; transactions: number }[] = [];
  #rung = false;
  #wake: (() => void) | null = null;

  /** `client` is a session of its own: it must never sit in a transaction, or NOTIFY blocks for everyone. */
  constructor(client: pg.Client, log: Log) {
    this.#client = client;
    this.#log = log;
  }

  get state(): State["name"] {
    return this.#state.name;
  }

  /** Why row changes are polled for; null: they are not. */
  get pollingReason(): string | null {
    return this.#state.name === "polling" ? this.#state.reason : null;
  }

  /** Listens, and finds out whether notifications arrive at all (through some poolers they do not). */
  async start(isShared: boolean, signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.ring(), { once: true });
    if (isShared) {
      this.#poll("a pooler shares sessions among transactions, so that LISTEN does not work; give a direct connection");
      return;
    }
    this.#client.on("notification", () => this.ring());
    const { rows } = await this.#client.query<{ allowed: boolean }>(
      "select current_setting('max_prepared_transactions') = '0' as allowed",
    );
    if (!rows[0]?.allowed) {
      this.#poll("max_prepared_transactions is set, and a transaction that notifies cannot be prepared");
      return;
    }
    await this.#client.query(`listen "${channel}"`);
    await this.#client.query("select pg_notify($1, '')", [channel]);
    const heard = await this.#sleep(selfTestPatience);
    if (!heard) this.#poll("notifications do not arrive; give a direct connection instead of a pooler");
  }

  /** Ends the present or the next sleep. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Waits until it is time to fetch again after `round`, whose fetch began at `startedAt` (performance.now). */
  async rest(round: Round, startedAt: number): Promise<void> {
    const busy = this.#isBusy(round);
    const elapsed = performance.now() - startedAt;
    switch (this.#state.name) {
      case "polling":
        return this.#pause(Math.max(pollPause, pauseAfter(round.changes.length)) - elapsed);
      case "active":
        if (!busy && performance.now() - this.#state.since > rateWindow) await this.#arm();
        return this.#pause(pauseAfter(round.changes.length) - elapsed);
      case "arming": {
        if (busy) return this.#disarm();
        const { until, armedAt, pause } = this.#state;
        if (parseSnapshot(round.snapshot).xmin >= until) {
          this.#state = { name: "armed", armedAt };
          return;
        }
        if (performance.now() - armedAt > rearmAfter) await this.#arm();
        else this.#state.pause = Math.min(pollPause, pause + 1);
        return this.#pause(pause);
      }
      case "armed":
        if (busy) return this.#disarm();
        if (performance.now() - this.#state.armedAt > rearmAfter) {
          this.#state.armedAt = performance.now();
          await this.#setRinging(armedFor);
        }
        await this.#sleep(longestSleep);
    }
  }

  /** Asks writers to stop ringing. */
  async stop(): Promise<void> {
    if (this.#state.name === "arming" || this.#state.name === "armed") await this.#setRinging(0);
  }

  #isBusy(round: Round): boolean {
    const now = performance.now();
    const transactions = new Set(round.changes.map(({ xid }) => xid)).size;
    this.#rounds = this.#rounds.filter(({ at }) => at >= now - rateWindow);
    if (transactions > 0) this.#rounds.push({ at: now, transactions });
    return this.#rounds.reduce((sum, { transactions }) => sum + transactions, 0) >= thick;
  }

  async #arm(): Promise<void> {
    await this.#setRinging(armedFor);
    const { rows } = await this.#client.query<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot");
    const until = parseSnapshot(rows[0]?.snapshot ?? "").xmax;
    this.#state = { name: "arming", until, armedAt: performance.now(), pause: 1 };
  }

  async #disarm(): Promise<void> {
    await this.#setRinging(0);
    this.#state = { name: "active", since: performance.now() };
  }

  async #setRinging(seconds: number): Promise<void> {
    await this.#client.query("select realtime.cdc_ring($1)", [seconds]);
  }

  #poll(reason: string): void {
    this.#state = { name: "polling", reason };
    this.#log.warn("row changes are polled for, every 10 ms or more", { reason });
  }

  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await new Promise((resolve) => setTimeout(resolve, milliseconds));
  }

  /** Sleeps until the bell rings (true), also if it rang already, or the time is over (false). */
  async #sleep(milliseconds: number): Promise<boolean> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
    const heard = this.#rung;
    this.#rung = false;
    return heard;
  }
}

function pauseAfter(changes: number): number {
  return changes >= largeRound ? 0 : Math.min(pauses.least + pauses.aChange * changes, pauses.most);
}
