// Bans of one channel, kept by its object: they hold while PostgreSQL is away, and for open channels too.
import type { Ban, ChannelStore } from "../../channel/ports.ts";
import { exceeds } from "../../protocol/json.ts";

/** One value of the store holds them all, which may have 2 MB. */
const MAX_BANS = 5_000;
const MAX_BANS_BYTES = 1_500_000;

export class Bans {
  readonly #store: ChannelStore;
  #known: Map<string, Ban> | undefined;

  constructor(store: ChannelStore) {
    this.#store = store;
  }

  /** By user. Those that are over are left out. */
  get standing(): Record<string, Ban> {
    return Object.fromEntries([...this.#bans].filter(([, ban]) => stands(ban)));
  }

  get #bans(): Map<string, Ban> {
    this.#known ??= parseBans(this.#store.get("bans") ?? "{}");
    return this.#known;
  }

  /** The ban of a user; undefined: there is none. */
  of(user: string | null): Ban | undefined {
    const ban = user === null ? undefined : this.#bans.get(user);
    return ban !== undefined && stands(ban) ? ban : undefined;
  }

  /** False: there are as many as there may be. */
  add(user: string, ban: Ban): boolean {
    const bans = new Map(Object.entries(this.standing)).set(user, ban);
    return bans.size <= MAX_BANS && this.#keep(bans);
  }

  /** False: there was none. */
  delete(user: string): boolean {
    const bans = new Map(Object.entries(this.standing));
    return bans.delete(user) && this.#keep(bans);
  }

  clear(): void {
    if (this.#bans.size > 0) this.#keep(new Map());
  }

  /** False: they are too long. */
  #keep(bans: Map<string, Ban>): boolean {
    const text = JSON.stringify(Object.fromEntries(bans));
    if (exceeds(text, MAX_BANS_BYTES)) return false;
    this.#known = bans;
    this.#store.set("bans", text);
    return true;
  }
}

function stands({ until }: Ban): boolean {
  return until === null || until > Date.now();
}

/** An earlier deploy has kept the ends alone. */
function parseBans(kept: string): Map<string, Ban> {
  const entries = Object.entries<Ban | number | null>(JSON.parse(kept));
  return new Map(
    entries.map(([user, ban]) => [user, ban === null || typeof ban === "number" ? { until: ban, reason: null } : ban]),
  );
}
