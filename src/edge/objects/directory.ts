// The directory object: one for all. Knows which objects hold sockets or presence; never on a message's path.
import { DurableObject } from "cloudflare:workers";
import type { Tallied } from "../../gateway/tally.ts";
import { type Block, type BlockList, MAX_BLOCKS } from "../../protocol/blocks.ts";
import { openStore } from "../../store/store.ts";
import { AT_ONCE, forEachAtOnce, settleAtOnce } from "../at-once.ts";
import { type Env, settingsOf } from "../env.ts";
import { Answers, answerTables } from "./answers.ts";
import { Counters, counterTables } from "./counters.ts";
import { Places, placeTables } from "./places.ts";
import type {
  ChannelRpc,
  DirectoryRpc,
  HolderRpc,
  Once,
  PresenceEntry,
  PresencePlace,
  PresenceQuery,
  Totals,
} from "./rpc.ts";
import { Tables } from "./tables.ts";
import { objectTimers } from "./timers.ts";

const tables = [
  "CREATE TABLE IF NOT EXISTS holders (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID",
  `CREATE TABLE IF NOT EXISTS blocks (kind TEXT NOT NULL, id TEXT NOT NULL, until INTEGER, reason TEXT,
     PRIMARY KEY (kind, id)) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS block_revision (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL)",
];
const HOUR_MS = 3_600_000;
/** How long it is believed that there are no free places. */
const LOOK_EVERY_MS = 1_000;
/** A write that is not done after so long never will be: whoever did it is gone. */
const UNDER_WAY_MS = 60_000;

/** What an object holds: a gateway its sockets, a channel those that came straight to it, or presence. */
type Holding = "gateway" | "channel" | "presence";

export class Directory extends DurableObject<Env> implements DirectoryRpc {
  readonly #timers = objectTimers(this.ctx);
  readonly #tables = new Tables(this.ctx.storage.sql, [...tables, ...counterTables, ...placeTables, ...answerTables]);
  readonly #answers = new Answers(this.#tables);
  /** Writes that are being done, by their keys: since when. */
  readonly #underWay = new Map<string, number>();
  readonly #counters = new Counters(this.#tables);
  readonly #places = new Places(this.#tables);
  /** Unix ms until which free places are not looked for again; no end while they are. */
  #lookedUntil = 0;

  /**
   * An object holds something now, or nothing any more. It is told what to keep out, unless it has heard of that revision
   * (null), and from then on every change. With `revision` null it keeps nobody out.
   */
  report(kind: Holding, name: string, holds: boolean, revision: number | null): BlockList | null {
    if (holds) this.#timers.alarm(Date.now() + HOUR_MS);
    if (holds) this.#tables.write("INSERT OR REPLACE INTO holders (kind, name) VALUES (?, ?)", kind, name);
    else {
      this.#tables.erase("DELETE FROM holders WHERE kind = ? AND name = ?", kind, name);
      this.#counters.forget(`${kind}:${name}`);
    }
    return revision === null || revision === this.#revision ? null : this.#blockList();
  }

  /** Once an hour, while anything lives: counts of what does not, and messages whose time is over. */
  override async alarm(): Promise<void> {
    const lives = this.#tables.read("SELECT 1 FROM holders LIMIT 1").length > 0;
    if (lives) this.#timers.alarm(Date.now() + HOUR_MS);
    this.#counters.forgetDead();
    try {
      await openStore(this.env).messages.expire(settingsOf(this.env).messageTtlMs / 1_000, false);
    } catch (error) {
      // An hour later there is another try.
      console.warn(JSON.stringify({ event: "old messages stay", reason: String(error) }));
    }
  }

  /**
   * Notes that an object holds so many sockets, and gives it places for more if it wants them; answers how many it may
   * hold from now on. Where none are free, the others are asked for those that no socket has.
   */
  async places(kind: "gateway" | "channel", name: string, held: number, more: boolean): Promise<number> {
    const holder = `${kind} ${name}`;
    if (!more) return this.#places.give(holder, held, 0);
    const { maxConnections } = settingsOf(this.env);
    const free = (): number => this.#places.free(holder, held, maxConnections);
    if (free() === 0 && Date.now() >= this.#lookedUntil) {
      await this.#collect(holder);
      this.#lookedUntil = free() === 0 ? Date.now() + LOOK_EVERY_MS : 0;
    }
    return this.#places.give(holder, held, free());
  }

  /** Never twice at a time: an object that is asked may be waiting for an answer itself. */
  async #collect(asker: string): Promise<void> {
    this.#lookedUntil = Number.POSITIVE_INFINITY;
    const others = this.#places.holders().filter((holder) => holder !== asker);
    // One that does not answer keeps what it has.
    await forEachAtOnce(others, (holder) =>
      this.#holder(holder)
        .giveBack()
        .catch(() => {}),
    );
  }

  #holder(holder: string): HolderRpc {
    const [, kind, name = ""] = /^(\w+) (.*)$/s.exec(holder) ?? [];
    return kind === "gateway" ? this.env.GATEWAY.getByName(name) : this.env.CHANNEL.getByName(name);
  }

  /** Takes what an object has counted since it last told. */
  count(kind: "gateway" | "channel", name: string, tallied: Tallied): void {
    this.#counters.add(`${kind}:${name}`, tallied, Date.now());
  }

  async totals(): Promise<Totals> {
    return this.#counters.totals(Date.now());
  }

  async holders(): Promise<{ gateways: string[]; channels: string[] }> {
    return { gateways: this.#names("gateway"), channels: this.#names("channel") };
  }

  #names(kind: Holding): string[] {
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
    const names = this.#names("presence")
      .sort()
      .filter((name) => after === undefined || name >= after[0]);
    for (let at = 0; at < names.length && found.length <= limit; at += AT_ONCE) {
      const answers = await this.#askChannels(
        async (channel, name) => {
          return (await channel.presence())
            .filter(({ key, status }) => (user === undefined || key === user) && !(present && status === "offline"))
            .filter(({ key }) => after === undefined || name > after[0] || key > after[1])
            .sort((a, b) => (a.key < b.key ? -1 : 1))
            .map((entry) => ({ entry, place: [name, entry.key] as const }));
        },
        names.slice(at, at + AT_ONCE),
      );
      found.push(...answers.flat());
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

  /** Asks channels that hold presence, all unless some are named. One that fails is left out and logged. */
  async #askChannels<Answer>(
    ask: (channel: ChannelRpc, name: string) => Promise<Answer>,
    names = this.#names("presence"),
  ): Promise<Answer[]> {
    const { answers, errors } = await settleAtOnce(names, (name) => ask(this.env.CHANNEL.getByName(name), name));
    for (const error of errors) console.error(JSON.stringify({ event: "no answer", reason: String(error) }));
    return answers;
  }
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
