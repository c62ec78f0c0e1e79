// A parcel: one message on its way down every link, encoded for the wire at most once.
import { encodeLink, type Message } from "../protocol/link.ts";

export class Parcel {
  readonly message: Message;
  #wire: string | Uint8Array | undefined;

  constructor(message: Message) {
    this.message = message;
  }

  /** The link message as it goes over a socket. */
  get wire(): string | Uint8Array {
    this.#wire ??= encodeLink({ t: "message", ...this.message });
    return this.#wire;
  }
}
