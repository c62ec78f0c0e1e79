// Several messages as one text: a row of the ring, and what goes down a link when many come at once.
import { fromBase64, toBase64 } from "./base64.ts";
import type { Body, Message } from "./link.ts";

const MOST = { messages: 100, length: 64_000 };

/** A message, or what is left of one that was deleted: its number and id, by which it is known if it comes again. */
export type Kept = Message & { readonly deleted?: true };

/** A message without its body, which follows all headers: `length` UTF-16 units long, base64 if it is bytes. */
type Header = Omit<Kept, "body"> & { readonly length: number; readonly binary?: true };

/** How many of these messages, from the first on, go into one text: up to 100 or 64,000 characters, and always one. */
export function fitting(messages: readonly Message[]): number {
  let length = 0;
  const end = messages.findIndex(({ body }, count) => {
    length += body.length;
    return count > 0 && (count >= MOST.messages || length > MOST.length);
  });
  return end < 0 ? messages.length : end;
}

/** Encodes messages: a line with a JSON list of their headers, then their bodies. */
export function encodeMessages(messages: readonly Kept[]): string {
  const bodies = messages.map(({ body }) => (typeof body === "string" ? body : toBase64(body)));
  // Member by member: what is undefined is left out of JSON, and copying the rest would cost more than all else here.
  const headers = messages.map(
    (message, index) =>
      ({
        seq: message.seq,
        id: message.id,
        at: message.at,
        from: message.from,
        sender: message.sender,
        event: message.event,
        name: message.name,
        stored: message.stored,
        access: message.access,
        tx: message.tx,
        deleted: message.deleted,
        length: bodies[index]?.length ?? 0,
        binary: typeof message.body === "string" ? undefined : true,
      }) satisfies Record<keyof Header, unknown>,
  );
  return `${JSON.stringify(headers)}\n${bodies.join("")}`;
}

/** Reads what `encodeMessages` wrote: its shape is trusted. */
export function decodeMessages(text: string): Kept[] {
  let offset = text.indexOf("\n") + 1;
  return headersOf(text).map(({ length, binary, ...rest }) => {
    const part = text.slice(offset, offset + length);
    offset += length;
    const body: Body = binary ? fromBase64(part) : part;
    return { ...rest, body };
  });
}

/** Those of them that are not deleted. */
export function messagesOf(text: string): Message[] {
  return decodeMessages(text).filter(isThere);
}

export function isThere({ deleted }: Kept): boolean {
  return deleted === undefined;
}

/** All but the bodies, none of which is decoded for that. */
export function headersOf(text: string): Header[] {
  return JSON.parse(text.slice(0, text.indexOf("\n")));
}
