// The outbox's size: kept within its bound, emptied in turn, and capture started again after it was stopped.
import type pg from "pg";
import type { Log } from "./log.ts";

/** From this part of the bound on an alarm is raised. */
const alarmFrom = 0.5;
/** The slot that is not written is emptied so often, milliseconds, or from so many bytes or such a part of the bound on. */
const rotate = { every: 60_000, bytes: 64_000_000, part: 1 / 8 } as const;

export type Alarm = "none" | "half" | "stopped";

export class Outbox {
  readonly limit: number;
  /** As it was at the last look. */
  bytes = 0;
  alarm: Alarm = "none";
  #client: pg.ClientBase;
  #log: Log;
  #rotatedAt = performance.now();

  constructor(client: pg.ClientBase, limit: number, log: Log) {
    this.#client = client;
    this.limit = limit;
    this.#log = log;
  }

  /** Looks at the outbox and does what is due. `drained`: all that was captured is delivered. */
  async watch(report: Record<string, unknown>, drained: boolean): Promise<void> {
    const { rows } = await this.#client.query<{ bytes: string; stopped: boolean }>({
      name: "watch",
      text: "select bytes, stopped from realtime.cdc_watch($1, $2)",
      values: [this.limit, JSON.stringify(report)],
    });
    const [now] = rows;
    if (!now) throw new Error("realtime.cdc_watch has answered nothing");
    this.bytes = Number(now.bytes);
    const half = this.bytes >= this.limit * alarmFrom;
    this.#raise(now.stopped ? "stopped" : half ? "half" : "none");
    if (now.stopped) return drained ? this.#resume() : undefined;
    const isLarge = this.bytes >= Math.min(rotate.bytes, this.limit * rotate.part);
    if (!isLarge && performance.now() - this.#rotatedAt < rotate.every) return;
    this.#rotatedAt = performance.now();
    await this.#client.query("select realtime.cdc_rotate()");
  }

  async #resume(): Promise<void> {
    const { rows } = await this.#client.query<{ resumed: boolean }>("select realtime.cdc_resume() as resumed");
    if (!rows[0]?.resumed) return;
    this.#log.error("row changes are captured again; all feeds are told that changes are missing");
    this.alarm = "none";
  }

  #raise(alarm: Alarm): void {
    if (alarm === this.alarm) return;
    this.alarm = alarm;
    const size = { bytes: this.bytes, limit: this.limit };
    if (alarm === "stopped") {
      this.#log.error("the outbox is full: row changes are not captured until what waits is delivered", size);
    } else if (alarm === "half") {
      this.#log.error("the outbox is half full: at its limit row changes are no longer captured", size);
    } else {
      this.#log.warn("the outbox is less than half full again", size);
    }
  }
}
