// Broadcasts from clients: checked, given an id, and handed to the channel (protocol.md §6).
import { type ClientFrame, UserBroadcast } from "../protocol/frames.ts";
import { exceeds, isObject } from "../protocol/json.ts";
import { MAX_PAYLOAD_BYTES } from "../protocol/limits.ts";
import { type Body, broadcastBody } from "../protocol/link.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";

/** Handles a `broadcast` frame. Who asked for acks hears of every failure by reply, others by a system message. */
export function handleBroadcast(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const { session, room, claims, ack } = membership;
  const refuse = (code: string, message: string): void => {
    if (ack) gateway.reply(session, frame, "error", { error: code });
    else gateway.system(membership, "broadcast", "error", message);
  };
  if (room.object.startsWith("feed:")) {
    return refuse("unauthorized", "A feed carries row changes only: nothing can be broadcast on it");
  }
  const content = contentOf(frame.payload);
  if (content === undefined) return refuse("invalid_payload", 'A broadcast needs an object with a string "event"');
  if (tooLarge(content.body)) {
    return refuse("payload_size_exceeded", `A broadcast payload holds at most ${MAX_PAYLOAD_BYTES} bytes`);
  }
  const publish = { id: gateway.newId(), session: session.id, sender: claims.user, ...content };
  const stored = (error: string | undefined): void => {
    if (error === undefined) gateway.reply(session, frame, "ok", {});
    else gateway.reply(session, frame, "error", { error });
  };
  if (!room.publish(publish, ack ? stored : undefined)) {
    refuse("channel_unavailable", "The channel cannot be reached: the message was not sent");
  }
}

/** The user's event name and the body that goes on: for text the payload as the sender wrote it, all keys included. */
function contentOf(payload: unknown): { name: string; body: Body } | undefined {
  if (payload instanceof UserBroadcast) {
    return { name: payload.event, body: broadcastBody(payload.event, payload.payload) };
  }
  if (!isObject(payload)) return undefined;
  // `meta` is ours to give; stock clients take any payload with `ids` for a row change and break on it (protocol.md §0).
  const { meta: _ours, ids: _ids, ...rest } = payload;
  const name = rest.event;
  return typeof name === "string" ? { name, body: JSON.stringify(rest) } : undefined;
}

function tooLarge(body: Body): boolean {
  return typeof body === "string" ? exceeds(body, MAX_PAYLOAD_BYTES) : body.length > MAX_PAYLOAD_BYTES;
}
