// Bans of one channel, kept by its object: they hold while PostgreSQL is away, and for open channels too.
import type { ChannelStore } from "../../channel/ports.ts";

/** One value of the store holds them all. */
const MAX_BANS = 5_000;

export class Bans {
  readonly #store: ChannelStore;
  #until: Map<string, number | null> | undefined;

  constructor(store: ChannelStore) {
    this.#store = store;
  }

  /** By user: unix ms, null: for good. Those that are over are left out. */
  get standing(): Record<string, number | null> {
    return Object.fromEntries([...this.#bans].filter(([, until]) => until === null || until > Date.now()));
  }

  get #bans(): Map<string, number | null> {
    this.#until ??= new Map(Object.entries(JSON.parse(this.#store.get("bans") ?? "{}")));
    return this.#until;
  }

  has(user: string | null): boolean {
    const until = user === null ? undefined : this.#bans.get(user);
    return until === null || (until !== undefined && until > Date.now());
  }

  /** False: there are as many as there may be. */
  add(user: string, until: number | null): boolean {
    const bans = new Map(Object.entries(this.standing));
    if (!bans.has(user) && bans.size >= MAX_BANS) return false;
    this.#keep(bans.set(user, until));
    return true;
  }

  /** False: there was none. */
  delete(user: string): boolean {
    const bans = new Map(Object.entries(this.standing));
    const found = bans.delete(user);
    if (found) this.#keep(bans);
    return found;
  }

  clear(): void {
    if (this.#bans.size > 0) this.#keep(new Map());
  }

  #keep(bans: Map<string, number | null>): void {
    this.#until = bans;
    this.#store.set("bans", JSON.stringify(Object.fromEntries(bans)));
  }
}
