// A parcel: messages that go down every link together, encoded for the wire at most once.
import { encodeLink, type Message } from "../protocol/link.ts";
import { fitting } from "../protocol/messages.ts";
import type { Link } from "./ports.ts";

export class Parcel {
  /** In order; at least one. */
  readonly messages: readonly Message[];
  #wire: string | Uint8Array | undefined;

  constructor(messages: readonly Message[]) {
    this.messages = messages;
  }

  /** All messages, in as few parcels as hold them. */
  static *of(messages: readonly Message[]): Generator<Parcel> {
    for (let rest = messages; rest.length > 0; ) {
      const count = fitting(rest);
      yield new Parcel(rest.slice(0, count));
      rest = rest.slice(count);
    }
  }

  /** The link message as it goes over a socket. */
  get wire(): string | Uint8Array {
    const [first] = this.messages;
    this.#wire ??=
      this.messages.length === 1 && first !== undefined
        ? encodeLink({ t: "message", ...first })
        : encodeLink({ t: "messages", messages: this.messages });
    return this.#wire;
  }
}

/** Sends messages down every link, in as few parcels as hold them. */
export function deliver(messages: readonly Message[], links: ReadonlyMap<string, Link>): void {
  if (links.size === 0) return;
  for (const parcel of Parcel.of(messages)) for (const link of links.values()) link.deliver(parcel);
}
