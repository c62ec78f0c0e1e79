// The directory object: one for all. Knows which objects hold sockets or presence; never on a message's path.
import { DurableObject } from "cloudflare:workers";
import type { Tallied } from "../../gateway/tally.ts";
import { type Block, type BlockList, MAX_BLOCKS } from "../../protocol/blocks.ts";
import { openStore } from "../../store/store.ts";
import { forEachAtOnce } from "../at-once.ts";
import { type Env, settingsOf } from "../env.ts";
import { Answers, answerTables } from "./answers.ts";
import { Counters, counterTables } from "./counters.ts";
import type { ChannelRpc, DirectoryRpc, Once, PresenceEntry, PresencePlace, PresenceQuery, Totals } from "./rpc.ts";
import { Tables } from "./tables.ts";
import { objectTimers } from "./timers.ts";

const tables = [
  "CREATE TABLE IF NOT EXISTS holders (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID",
  `CREATE TABLE IF NOT EXISTS blocks (kind TEXT NOT NULL, id TEXT NOT NULL, until INTEGER, reason TEXT,
     PRIMARY KEY (kind, id)) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS block_revision (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL)",
];
/** Channels asked at once. */
const AT_ONCE = 50;
const HOUR_MS = 3_600_000;
/** A write that is not done after so long never will be: whoever did it is gone. */
const UNDER_WAY_MS = 60_000;

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  readonly #timers = objectTimers(this.ctx);
  readonly #tables = new Tables(this.ctx.storage.sql, [...tables, ...counterTables, ...answerTables]);
  readonly #answers = new Answers(this.#tables);
  /** Writes that are being done, by their keys: since when. */
  readonly #underWay = new Map<string, number>();
  readonly #counters = new Counters(this.#tables);

  /**
   * An object holds something now, or nothing any more. It is told what to keep out, unless it has heard of that revision
   * (null), and from then on every change.
   */
  report(kind: "gateway" | "channel", name: string, holds: boolean, revision: number): BlockList | null {
    if (holds) this.#timers.alarm(Date.now() + HOUR_MS);
    if (holds) this.#tables.write("INSERT OR REPLACE INTO holders (kind, name) VALUES (?, ?)", kind, name);
    else this.#tables.erase("DELETE FROM holders WHERE kind = ? AND name = ?", kind, name);
    return revision === this.#revision ? null : this.#blockList();
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

  /** Takes what an object has counted since it last told. */
  count(name: string, tallied: Tallied): void {
    this.#counters.add(name, tallied, Date.now());
  }

  async totals(): Promise<Totals> {
    return this.#counters.totals(Date.now());
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

  async isRevoked(jti: string): Promise<boolean> {
    const query = "SELECT 1 FROM blocks WHERE kind = 'token' AND id = ? AND (until IS NULL OR until > ?)";
    return this.#tables.read(query, jti, Date.now()).length > 0;
  }

  async presencePage({ limit, user, present = false, after }: PresenceQuery) {
    const found: { entry: PresenceEntry; place: PresencePlace }[] = [];
    const names = this.#names("channel")
      .sort()
      .filter((name) => after === undefined || name >= after[0]);
    for (let at = 0; at < names.length && found.length <= limit; at += AT_ONCE) {
      const pages = names.slice(at, at + AT_ONCE).map(async (name) => {
        const channel: ChannelRpc = this.env.CHANNEL.getByName(name);
        return (await channel.presence())
          .filter(({ key, status }) => (user === undefined || key === user) && !(present && status === "offline"))
          .filter(({ key }) => after === undefined || name > after[0] || key > after[1])
          .sort((a, b) => (a.key < b.key ? -1 : 1))
          .map((entry) => ({ entry, place: [name, entry.key] as const }));
      });
      found.push(...(await Promise.all(pages)).flat());
    }
    const page = found.slice(0, limit);
    return {
      entries: page.map(({ entry }) => entry),
      next: found.length > limit ? page.at(-1)?.place : undefined,
    };
  }

  async begin(once: Once): Promise<{ answer: string } | "new" | "under_way" | "key_reused"> {
    const found = this.#answers.find(once);
    if (found !== undefined) return found;
    const now = Date.now();
    for (const [key, since] of this.#underWay) {
      if (now - since < UNDER_WAY_MS) break;
      this.#underWay.delete(key);
    }
    if (this.#underWay.has(once.key)) return "under_way";
    this.#underWay.set(once.key, now);
    return "new";
  }

  async finish(once: Once, answer: string | null): Promise<void> {
    this.#underWay.delete(once.key);
    if (answer !== null) this.#answers.keep(once, answer);
  }

  async blocks(): Promise<Block[]> {
    return this.#blocks();
  }

  #blocks(): Block[] {
    const query = "SELECT kind, id, until, reason FROM blocks WHERE until IS NULL OR until > ?";
    return this.#tables.read<{ [K in keyof Block]: Block[K] }>(query, Date.now());
  }

  #blockList(): BlockList {
    return { revision: this.#revision, blocks: this.#blocks() };
  }

  get #revision(): number {
    return this.#tables.read<{ revision: number }>("SELECT revision FROM block_revision")[0]?.revision ?? 0;
  }

  /** By the clock, so that it never falls behind what objects have heard: not even if this object's storage is lost. */
  #revise(): void {
    const revision = Math.max(Date.now(), this.#revision + 1);
    this.#tables.write("INSERT OR REPLACE INTO block_revision (id, revision) VALUES (1, ?)", revision);
  }

  async block({ kind, id, until, reason }: Block): Promise<"done" | "full" | "unreached"> {
    this.#tables.erase("DELETE FROM blocks WHERE until <= ?", Date.now());
    const others = this.#blocks().filter((block) => block.kind !== kind || block.id !== id);
    if (others.length >= MAX_BLOCKS) return "full";
    const values = [kind, id, until, reason];
    this.#tables.write("INSERT OR REPLACE INTO blocks (kind, id, until, reason) VALUES (?, ?, ?, ?)", ...values);
    this.#revise();
    return (await this.#tellHolders()) ? "done" : "unreached";
  }

  async unblock(kind: Block["kind"], id: string): Promise<boolean> {
    const found = this.#blocks().some((block) => block.kind === kind && block.id === id);
    this.#tables.erase("DELETE FROM blocks WHERE kind = ? AND id = ?", kind, id);
    if (!found) return false;
    this.#revise();
    // Who is not reached goes on keeping them out until it is told again.
    await this.#tellHolders();
    return true;
  }

  /** False: one could not be reached. */
  async #tellHolders(): Promise<boolean> {
    const blocks = this.#blockList();
    const holders = [
      ...this.#names("gateway").map((name) => () => this.env.GATEWAY.getByName(name).enforce(blocks)),
      ...this.#names("channel").map((name) => () => this.env.CHANNEL.getByName(name).enforce(blocks)),
    ];
    let reached = true;
    // One that fails keeps none of the others from being told.
    await forEachAtOnce(holders, (tell) =>
      tell().catch(() => {
        reached = false;
      }),
    );
    return reached;
  }

  async expirePresence(ms: number): Promise<number> {
    return sum(await this.#askChannels((channel) => channel.expirePresence(ms)));
  }

  async setOffline(user: string): Promise<number> {
    const set = await this.#askChannels(async (channel) => {
      const entry = (await channel.presence()).find(({ key }) => key === user);
      if (entry === undefined || entry.status === "offline") return 0;
      return (await channel.track({ user, status: "offline" })) ? 1 : 0;
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
