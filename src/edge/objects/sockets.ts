// Sockets as the cores see them, over the platform's WebSockets.
import * as z from "zod";
import type { Link } from "../../channel/ports.ts";
import type { ChannelLink, LinkEvents, Socket } from "../../gateway/ports.ts";
import { type Down, decodeDown, encodeLink, LINK_VERSION, type Up } from "../../protocol/link.ts";

/** What a socket carries through hibernation: whose client it is, or which gateway's link. */
const clientSchema = z.object({
  session: z.string(),
  /** Unix ms of a frame of the client, the last one or one at most `NOTED_MS` before it. */
  seenAt: z.number(),
});
const attachmentSchema = z.union([clientSchema, z.object({ gateway: z.string(), greeted: z.boolean() })]);
export type ClientAttachment = z.infer<typeof clientSchema>;
export type Attachment = z.infer<typeof attachmentSchema>;

/** How often a client's frame is noted on its socket: each note is a write. */
const NOTED_MS = 20_000;

export function attach(ws: WebSocket, attachment: Attachment): void {
  ws.serializeAttachment(attachment);
}

/** Reads what a socket carries. Deserialising costs, so callers keep the result while the object lives. */
export function attachmentOf(ws: WebSocket): Attachment {
  return attachmentSchema.parse(ws.deserializeAttachment());
}

/** The same, where all sockets are clients'. */
export function clientAttachmentOf(ws: WebSocket): ClientAttachment {
  return clientSchema.parse(ws.deserializeAttachment());
}

/** The sockets that outlived the object's last life, with what they carry. The platform lists closing ones as well. */
export function* openSockets(ctx: DurableObjectState): Generator<[WebSocket, Attachment]> {
  for (const ws of ctx.getWebSockets()) if (ws.readyState === WebSocket.OPEN) yield [ws, attachmentOf(ws)];
}

/** Notes on a client's socket that a frame came, for the next life of its object. Answers what it carries now. */
export function noteFrame(ws: WebSocket, attachment: ClientAttachment): ClientAttachment {
  const now = Date.now();
  if (now < attachment.seenAt + NOTED_MS) return attachment;
  const noted = { ...attachment, seenAt: now };
  attach(ws, noted);
  return noted;
}

/** The platform throws for a socket that is closing; to the cores such a socket just takes nothing any more. */
function sendQuietly(ws: WebSocket, data: string | Uint8Array): void {
  if (ws.readyState === WebSocket.OPEN) ws.send(data);
}

function closeQuietly(ws: WebSocket, code: number, reason: string): void {
  if (ws.readyState === WebSocket.OPEN) ws.close(code, reason);
}

/**
 * Answers the other side's close, which the platform leaves to the object. A code is echoed where it is one that an
 * application may send; 1005, 1006 and their like stand for what never was on the wire.
 */
export function answerClose(ws: WebSocket, code: number): void {
  if (ws.readyState === WebSocket.CLOSED || code === LOST) return;
  ws.close(code >= 3000 && code < 5000 ? code : 1000, "");
}

/** A client's socket. A frame may have come after the last note, and nobody is to be cut off too early. */
export function clientSocket(ws: WebSocket, { seenAt }: ClientAttachment): Socket {
  return {
    seenAt: Math.min(seenAt + NOTED_MS, Date.now()),
    send: (frame) => sendQuietly(ws, frame),
    close: (code, reason) => closeQuietly(ws, code, reason),
  };
}

/** The channel's end of a link. */
export function channelEnd(ws: WebSocket, gateway: string): Link {
  return {
    gateway,
    send: (message: Down) => sendQuietly(ws, encodeLink(message)),
    deliver: (parcel) => sendQuietly(ws, parcel.wire),
    close: (code, reason) => closeQuietly(ws, code, reason),
  };
}

/** The code of a close that never came: the connection just ended. */
export const LOST = 1006;

/** How a gateway closes a link that it needs no more: any other end of a link is an accident. */
export const UNUSED = { code: 1000, reason: "unused" };

/** Opens the gateway's end of a link. Rejects when the channel object does not take it. */
export async function openLink(
  namespace: DurableObjectNamespace,
  object: string,
  gateway: string,
  events: LinkEvents,
): Promise<ChannelLink> {
  const url = `http://channel/link?v=${LINK_VERSION}&gateway=${encodeURIComponent(gateway)}`;
  const response = await namespace.getByName(object).fetch(url, { headers: { upgrade: "websocket" } });
  const ws = response.webSocket;
  if (ws === null) throw new Error(`the channel answered ${response.status}`);
  ws.binaryType = "arraybuffer";
  let open = true;
  const closed = (): void => {
    if (!open) return;
    open = false;
    events.closed();
  };
  ws.addEventListener("message", ({ data }) => {
    if (open) events.message(decodeDown(data));
  });
  ws.addEventListener("close", closed);
  ws.addEventListener("error", closed);
  ws.accept();
  return {
    send: (message: Up) => sendQuietly(ws, encodeLink(message)),
    close: () => {
      // After our own close no event comes, so nothing is to be told (workerd#4327).
      open = false;
      closeQuietly(ws, UNUSED.code, UNUSED.reason);
    },
  };
}
