// Several messages as one text: a row of the ring, and what goes down a link when many come at once.
import { fromBase64, toBase64 } from "./base64.ts";
import type { Body, Message } from "./link.ts";

const MOST = { messages: 100, length: 64_000 };

/** A message without its body, which follows all headers: `length` UTF-16 units long, base64 if it is bytes. */
type Header = Omit<Message, "body"> & { readonly length: number; readonly binary?: true };

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
export function encodeMessages(messages: readonly Message[]): string {
  const bodies = messages.map(({ body }) => (typeof body === "string" ? body : toBase64(body)));
  const headers = messages.map(({ body, ...rest }, index): Header => {
    const length = bodies[index]?.length ?? 0;
    return typeof body === "string" ? { ...rest, length } : { ...rest, length, binary: true };
  });
  return `${JSON.stringify(headers)}\n${bodies.join("")}`;
}

/** Reads what `encodeMessages` wrote: its shape is trusted. */
export function decodeMessages(text: string): Message[] {
  let offset = text.indexOf("\n") + 1;
  return headersOf(text).map(({ length, binary, ...rest }) => {
    const part = text.slice(offset, offset + length);
    offset += length;
    const body: Body = binary ? fromBase64(part) : part;
    return { ...rest, body };
  });
}

/** The ids of the messages; no body is decoded for them. */
export function idsOf(text: string): string[] {
  return headersOf(text).map(({ id }) => id);
}

function headersOf(text: string): Header[] {
  return JSON.parse(text.slice(0, text.indexOf("\n")));
}
