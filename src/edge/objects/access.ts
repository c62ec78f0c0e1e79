// What only PostgreSQL knows of a channel, kept by its object so that few joins have to ask.
import type { ChannelAccess, ChannelStore, ChannelType } from "../../channel/ports.ts";
import type { Table } from "../../protocol/tables.ts";
import type { ObjectName } from "../../protocol/topics.ts";
import { parseFeedName } from "../../protocol/topics.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";
import { patiently } from "./patience.ts";
import type { ChannelConfig } from "./rpc.ts";

/** How long "it is not registered", "it is captured" and the like hold before PostgreSQL is asked again. */
const FRESH_MS = 30_000;
/** A table may be unsubscribed, and nobody tells its feed: not for long is it said to be captured. */
const CAPTURED_MS = 3_000;
/** A feed that is not captured may be in a moment: the user is just about to subscribe it. */
const NOT_CAPTURED_MS = 1_000;

/** The registration as far as access goes; null: the name is not registered. */
type Registration = { readonly id: string; readonly type: ChannelType } | null;

export class CachedAccess implements ChannelAccess {
  readonly #name: ObjectName;
  readonly #env: Env;
  readonly #store: ChannelStore;
  #registration: { readonly value: Registration; readonly until: number } | undefined;
  #asking: Promise<Registration> | undefined;
  /** How often a registration was told: what PostgreSQL was asked for before counts less than what was told since. */
  #tellings = 0;
  readonly #ask = patiently();
  #table: { readonly value: Promise<Table | null>; readonly until: number } | undefined;

  constructor(name: ObjectName, env: Env, store: ChannelStore) {
    this.#name = name;
    this.#env = env;
    this.#store = store;
  }

  async registeredType(): Promise<ChannelType | null> {
    return (await this.#lookup())?.type ?? null;
  }

  async isMember(user: string): Promise<boolean> {
    const registration = await this.#lookup();
    return registration !== null && this.#ask(() => openStore(this.#env).channels.isMember(registration.id, user));
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
    this.#remember(config === null ? null : { id: config.id, type: config.type });
  }

  #remember(value: Registration): void {
    this.#registration = { value, until: Date.now() + FRESH_MS };
    // An open channel keeps nothing; what was once registered is known even while PostgreSQL is away.
    if (value !== null || this.#store.get("registration") !== undefined) {
      this.#store.set("registration", JSON.stringify(value));
    }
  }

  /** The registration, from what is kept while that is fresh. Joins that come at once ask once. */
  async #lookup(): Promise<Registration> {
    if (this.#registration !== undefined && Date.now() < this.#registration.until) return this.#registration.value;
    this.#asking ??= this.#askRegistration().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #askRegistration(): Promise<Registration> {
    const tellings = this.#tellings;
    try {
      const found = await this.#ask(() => openStore(this.#env).channels.findSlug(this.#name.sub));
      if (this.#tellings === tellings) this.#remember(found === undefined ? null : { id: found.id, type: found.type });
    } catch (error) {
      if (this.#tellings !== tellings) return this.#registration?.value ?? null;
      const kept = this.#store.get("registration");
      if (kept === undefined) throw error;
      this.#registration = { value: JSON.parse(kept), until: Date.now() + FRESH_MS };
    }
    return this.#registration?.value ?? null;
  }
}
