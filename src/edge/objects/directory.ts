// The directory object: one for all. Knows which objects hold sockets or presence; never on a message's path.
import { DurableObject } from "cloudflare:workers";
import { openStore } from "../../store/store.ts";
import { type Env, settingsOf } from "../env.ts";
import type { ChannelRpc, DirectoryRpc, PresenceEntry } from "./rpc.ts";
import { Tables } from "./tables.ts";
import { objectTimers } from "./timers.ts";

const tables = ["CREATE TABLE IF NOT EXISTS holders (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID"];
/** Channels asked at once. */
const AT_ONCE = 50;
const HOUR_MS = 3_600_000;

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  readonly #timers = objectTimers(this.ctx);
  readonly #tables = new Tables(this.ctx.storage.sql, tables);

  /** An object holds something now, or nothing any more. */
  report(kind: "gateway" | "channel", name: string, holds: boolean): void {
    if (holds) this.#timers.alarm(Date.now() + HOUR_MS);
    if (holds) this.#tables.write("INSERT OR REPLACE INTO holders (kind, name) VALUES (?, ?)", kind, name);
    else this.#tables.erase("DELETE FROM holders WHERE kind = ? AND name = ?", kind, name);
  }

  /** Once an hour, while anything lives: messages whose time is over. */
  override async alarm(): Promise<void> {
    if (this.#names("gateway").length + this.#names("channel").length > 0) this.#timers.alarm(Date.now() + HOUR_MS);
    try {
      await openStore(this.env).messages.expire(settingsOf(this.env).messageTtlMs / 1_000, false);
    } catch (error) {
      // An hour later there is another try.
      console.warn(JSON.stringify({ event: "old messages stay", reason: String(error) }));
    }
  }

  async holders(): Promise<{ gateways: string[]; channels: string[] }> {
    return { gateways: this.#names("gateway"), channels: this.#names("channel") };
  }

  #names(kind: "gateway" | "channel"): string[] {
    const rows = this.#tables.read<{ name: string }>("SELECT name FROM holders WHERE kind = ? ORDER BY name", kind);
    return rows.map(({ name }) => name);
  }

  async presence({ user }: { user?: string }): Promise<PresenceEntry[]> {
    const found = (await this.#askChannels((channel) => channel.presence())).flat();
    return user === undefined ? found : found.filter(({ key }) => key === user);
  }

  async expirePresence(ms: number): Promise<number> {
    return sum(await this.#askChannels((channel) => channel.expirePresence(ms)));
  }

  async setOffline(user: string): Promise<number> {
    const set = await this.#askChannels(async (channel) => {
      const entry = (await channel.presence()).find(({ key }) => key === user);
      if (entry === undefined || entry.status === "offline") return 0;
      await channel.track({ user, status: "offline" });
      return 1;
    });
    return sum(set);
  }

  /** Asks every channel that holds presence or sockets. */
  async #askChannels<Answer>(ask: (channel: ChannelRpc) => Promise<Answer>): Promise<Answer[]> {
    const names = this.#names("channel");
    const answers: Answer[] = [];
    for (let at = 0; at < names.length; at += AT_ONCE) {
      const some = names.slice(at, at + AT_ONCE);
      answers.push(...(await Promise.all(some.map((name) => ask(this.env.CHANNEL.getByName(name))))));
    }
    return answers;
  }
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
