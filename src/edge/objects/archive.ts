// The archive of a channel: PostgreSQL, where messages are kept beyond the ring.
import type { Archive } from "../../channel/ports.ts";
import type { Body, Message } from "../../protocol/link.ts";
import { StoreUnavailable } from "../../store/database.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";

export class DatabaseArchive implements Archive {
  readonly #env: Env;
  readonly #object: string;
  readonly #sub: string;

  /** Of the channel whose object has this name; `sub` is its topic without `realtime:`. */
  constructor(env: Env, object: string, sub: string) {
    this.#env = env;
    this.#object = object;
    this.#sub = sub;
  }

  /** The message was sent and is in the ring, so a database that is away is only noted. */
  async persist({ id, name, body }: { id: string; name: string; body: Body }, seconds: number): Promise<boolean> {
    try {
      await openStore(this.#env).messages.persist({ id, topic: this.#sub, event: name, body }, seconds);
      return true;
    } catch (error) {
      this.#log("not persisted", { id, reason: String(error) });
      return false;
    }
  }

  async keep(channel: string, messages: readonly Message[]): Promise<void> {
    try {
      await openStore(this.#env).messages.keep(channel, messages);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.#log("not kept yet", { reason: String(error) });
      throw error;
    }
  }

  lost(count: number): void {
    this.#log("messages lost to the history", { count });
  }

  #log(event: string, details: Record<string, unknown>): void {
    console.warn(JSON.stringify({ event, channel: this.#object, ...details }));
  }
}
