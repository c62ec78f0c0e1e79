// The directory object: one for all. Knows which objects hold sockets or presence; never on a message's path.
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import type { DirectoryRpc, PresenceEntry } from "./rpc.ts";
import { Tables } from "./tables.ts";

const tables = ["CREATE TABLE IF NOT EXISTS holders (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID"];
/** Channels asked at once for their presence. */
const AT_ONCE = 50;

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  readonly #tables = new Tables(this.ctx.storage.sql, tables);

  /** An object holds something now, or nothing any more. */
  report(kind: "gateway" | "channel", name: string, holds: boolean): void {
    if (holds) this.#tables.write("INSERT OR REPLACE INTO holders (kind, name) VALUES (?, ?)", kind, name);
    else this.#tables.erase("DELETE FROM holders WHERE kind = ? AND name = ?", kind, name);
  }

  async holders(): Promise<{ gateways: string[]; channels: string[] }> {
    return { gateways: this.#names("gateway"), channels: this.#names("channel") };
  }

  #names(kind: "gateway" | "channel"): string[] {
    const rows = this.#tables.read<{ name: string }>("SELECT name FROM holders WHERE kind = ? ORDER BY name", kind);
    return rows.map(({ name }) => name);
  }

  async presence({ user }: { user?: string }): Promise<PresenceEntry[]> {
    const names = this.#names("channel");
    const found: PresenceEntry[] = [];
    for (let at = 0; at < names.length; at += AT_ONCE) {
      const asked = names.slice(at, at + AT_ONCE).map((name) => this.env.CHANNEL.getByName(name).presence());
      found.push(...(await Promise.all(asked)).flat());
    }
    return user === undefined ? found : found.filter(({ key }) => key === user);
  }
}
