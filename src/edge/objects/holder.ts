// A holder: an object that the directory has to know, because it holds client sockets or presence.
import type { Env } from "../env.ts";

/** Tells the directory whether this object holds anything, when that changes, and never waits for it. */
export class Holder {
  readonly #ctx: DurableObjectState;
  readonly #env: Env;
  readonly #kind: "gateway" | "channel";
  readonly #name: string;
  #told: boolean | undefined;

  constructor(ctx: DurableObjectState, env: Env, kind: "gateway" | "channel", name: string) {
    this.#ctx = ctx;
    this.#env = env;
    this.#kind = kind;
    this.#name = name;
  }

  tell(holds: boolean): void {
    if (this.#told === holds) return;
    this.#told = holds;
    const report = this.#env.DIRECTORY.getByName("directory").report(this.#kind, this.#name, holds);
    this.#ctx.waitUntil(
      report.catch(() => {
        this.#told = undefined;
      }),
    );
  }
}
