// What only PostgreSQL knows of a channel, kept by its object so that few joins have to ask.
import type { Ban, ChannelAccess, ChannelStore, Registration } from "../../channel/ports.ts";
import { limitsOf } from "../../protocol/limits.ts";
import type { Joiner } from "../../protocol/link.ts";
import { allRights, noRights, type Rights } from "../../protocol/rights.ts";
import type { Table } from "../../protocol/tables.ts";
import type { ObjectName } from "../../protocol/topics.ts";
import { parseFeedName } from "../../protocol/topics.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";
import { Bans } from "./bans.ts";
import { patiently } from "./patience.ts";
import { RightsCache } from "./rights-cache.ts";
import type { ChannelConfig } from "./rpc.ts";

/** How long "it is not registered", "it is captured" and the like hold before PostgreSQL is asked again. */
const FRESH_MS = 30_000;
/** A table may be unsubscribed, and nobody tells its feed: not for long is it said to be captured. */
const CAPTURED_MS = 3_000;
/** A feed that is not captured may be in a moment: the user is just about to subscribe it. */
const NOT_CAPTURED_MS = 1_000;

/** A registration as it is kept, or told; null: the name is not registered. */
type Registered = Pick<ChannelConfig, "id" | "type" | "metadata"> | null;

export class CachedAccess implements ChannelAccess {
  readonly #name: ObjectName;
  readonly #env: Env;
  readonly #store: ChannelStore;
  #registration: { readonly value: Registration | null; readonly until: number } | undefined;
  #asking: Promise<Registration | null> | undefined;
  /** How often a registration was told: what PostgreSQL was asked for before counts less than what was told since. */
  #tellings = 0;
  /** What an earlier life has left of it. */
  #kept: { readonly value: Registration | null } | undefined;
  readonly bans: Bans;
  readonly #ask = patiently();
  readonly #rights = new RightsCache((joiner) => this.#askRights(joiner));
  readonly #entered = new RightsCache((joiner) => this.#askMembership(joiner, true));
  #table: { readonly value: Promise<Table | null>; readonly until: number } | undefined;

  constructor(name: ObjectName, env: Env, store: ChannelStore) {
    this.#name = name;
    this.#env = env;
    this.#store = store;
    this.bans = new Bans(store);
  }

  registration(): Promise<Registration | null> {
    return this.#lookup();
  }

  known(): Registration | null {
    if (this.#registration !== undefined) return this.#registration.value;
    this.#kept ??= { value: parseRegistration(this.#store.get("registration") ?? "null") };
    return this.#kept.value;
  }

  rights(joiner: Joiner, notBefore: number): Promise<Rights> {
    return this.#rights.get(joiner, notBefore);
  }

  membership(joiner: Joiner, entering: boolean): Promise<Rights> {
    return entering ? this.#entered.get(joiner, 0) : this.#askMembership(joiner, false);
  }

  async #askMembership({ user }: Joiner, entering: boolean): Promise<Rights> {
    const isIn = await this.#ask(() => openStore(this.#env).members.enter(this.#name.sub, user, entering));
    return isIn ? allRights : noRights;
  }

  banOf(user: string | null): Ban | undefined {
    return this.bans.of(user);
  }

  forgetRights(users?: readonly string[]): void {
    this.#rights.forget(users);
    this.#entered.forget(users);
  }

  /** One round trip, in which the registration is told too. */
  async #askRights({ role, user, principal }: Joiner): Promise<Rights> {
    const tellings = this.#tellings;
    const { claims, headers } = principal ?? { claims: {}, headers: {} };
    const question = { topic: this.#name.sub, role, user, claims, headers };
    const { channel, fault, ...rights } = await this.#ask(() => openStore(this.#env).rights.ask(question));
    if (this.#tellings === tellings) this.#remember(channel);
    if (fault !== null)
      console.warn(JSON.stringify({ event: "policy failed", channel: this.#name.sub, role, reason: fault }));
    return rights;
  }

  /** Joins that come at once ask once. */
  async table(): Promise<Table | null> {
    if (this.#table === undefined || Date.now() >= this.#table.until) {
      const asked = { value: this.#askTable(), until: Date.now() + CAPTURED_MS };
      this.#table = asked;
      asked.value.then(
        (table) => {
          if (table === null) this.#table = { ...asked, until: Date.now() + NOT_CAPTURED_MS };
        },
        () => {
          this.#table = undefined;
        },
      );
    }
    return this.#table.value;
  }

  async #askTable(): Promise<Table | null> {
    const names = parseFeedName(this.#name.sub.slice("table:".length));
    return names === undefined
      ? null
      : this.#ask(() => openStore(this.#env).tables.describe(names.schema, names.table));
  }

  /** Takes a registration that somebody who knows has told. */
  set(config: ChannelConfig | null): void {
    this.#tellings++;
    this.forgetRights();
    this.#remember(config);
  }

  #remember(channel: Registered): void {
    const value = channel && { type: channel.type, limits: limitsOf(channel.metadata) };
    this.#registration = { value, until: Date.now() + FRESH_MS };
    // An open channel keeps nothing; what was once registered is known even while PostgreSQL is away.
    if (value !== null || this.#store.get("registration") !== undefined) {
      this.#store.set("registration", JSON.stringify(value));
    }
  }

  /** The registration, from what is kept while that is fresh. Joins that come at once ask once. */
  async #lookup(): Promise<Registration | null> {
    if (this.#registration !== undefined && Date.now() < this.#registration.until) return this.#registration.value;
    this.#asking ??= this.#askRegistration().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #askRegistration(): Promise<Registration | null> {
    const tellings = this.#tellings;
    try {
      const found = await this.#ask(() => openStore(this.#env).channels.findSlug(this.#name.sub));
      if (this.#tellings === tellings) this.#remember(found ?? null);
    } catch (error) {
      if (this.#tellings !== tellings) return this.#registration?.value ?? null;
      const kept = this.#store.get("registration");
      if (kept === undefined) throw error;
      this.#registration = { value: parseRegistration(kept), until: Date.now() + FRESH_MS };
    }
    return this.#registration?.value ?? null;
  }
}

/** What an earlier deploy has kept knows no limits. */
function parseRegistration(kept: string): Registration | null {
  const value: (Pick<Registration, "type"> & Partial<Registration>) | null = JSON.parse(kept);
  return value && { limits: {}, ...value };
}
