// A page of a channel's history, as the admin API shows it, from the ring.
import type { Channel } from "../../channel/channel.ts";
import { isObject, parseJson } from "../../protocol/json.ts";
import type { Message } from "../../protocol/link.ts";
import type { HistoryPage, HistoryQuery, StoredMessage } from "./rpc.ts";

/** A page ends with the message that goes past this, UTF-16 units of JSON. */
const MAX_HISTORY_LENGTH = 8_000_000;

export function historyPage(core: Channel, { order, limit, since = 0, after }: HistoryQuery): HistoryPage {
  const { epoch } = core.position;
  const messages: StoredMessage[] = [];
  let size = 0;
  for (const message of core.history(order, since, after)) {
    if (messages.length >= limit || size >= MAX_HISTORY_LENGTH) return { messages, more: true };
    messages.push(storedMessage(epoch, message));
    size += message.body.length;
  }
  return { messages, more: false };
}

function storedMessage(epoch: string, { id, seq, at, name, sender, body }: Message): StoredMessage {
  const content = typeof body === "string" ? parseJson(body) : undefined;
  const payload = isObject(content) && "payload" in content ? content.payload : (content ?? null);
  return { id, position: { epoch, seq }, at, event: name, payload, sender };
}
