// Commands on messages: broadcast, messages, replay.
import type { Command } from "commander";
import type { CHANNEL_HEADER } from "../../edge/admin/messages.ts";
import { positive, type ReadOptions, reading, readPayload, text } from "../arguments.ts";
import { CliError, EXIT } from "../errors.ts";
import { line, openChannel, progress, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { stamp } from "../time.ts";
import { deleteOlder, showStatistics } from "./events.ts";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1000;
const channelHeader: typeof CHANNEL_HEADER = "realtime-channel";

/** Adds broadcast, messages and replay. */
export function messageCommands(realtime: Command): void {
  realtime
    .command("broadcast")
    .description("send a message to everybody on a channel; without an event, show what was sent there")
    .argument("<channel>", "slug, id or name", text)
    .argument("[event]", "any text, such as user.joined", text)
    .argument("[payload]", "JSON of at most 1 MB, or - to read it from standard input", text)
    .argument("[sender]", "id of the user who sends it", text)
    .addHelpText("after", "\n`broadcast cleanup <hours>` deletes the messages of all channels that are older.")
    .option("--json", "show what was sent as JSON")
    .option("-y, --yes", "with cleanup: do not ask")
    .action(broadcast);
  reading(
    realtime
      .command("messages")
      .description("show the newest messages of a channel, newest first")
      .argument("<channel>", "slug, id or name", text)
      .argument("[limit]", `how many, at most ${MAX_LIMIT} (default: ${DEFAULT_LIMIT})`, (value) =>
        value === "json" ? value : positive(value),
      ),
    "table",
  ).action(messages);
  reading(
    realtime
      .command("replay")
      .description("show the messages of a channel since a time, oldest first")
      .argument("<channel>", "slug, id or name", text)
      .argument("<time>", "ISO 8601, unix seconds (10 digits) or milliseconds (13 digits)", text),
    "table",
  ).action(replay);
}

async function broadcast(
  channel: string,
  event: string | undefined,
  payload: string | undefined,
  sender: string | undefined,
  { json, yes }: { json?: true; yes?: true },
): Promise<void> {
  if (event === undefined) return showStatistics(channel, json ? "json" : "text");
  if (payload === undefined) {
    if (channel === "cleanup" && /^\d+$/.test(event)) return deleteOlder(Number(event), yes);
    throw new CliError("missing required argument 'payload'", { exit: EXIT.usage });
  }
  const pending = admin().channels[":channel"].messages.$post({
    param: { channel: segment(channel) },
    json: { event, payload: await readPayload(payload), ...(sender === undefined ? {} : { sender }) },
  });
  const sent = await answer(pending);
  tellIfOpen(channel, await pending);
  success(`Message sent to ${channel}`);
  line(sent.id);
}

/** A name that nobody registered may be a slip, even where the open channel of that name is meant. */
function tellIfOpen(channel: string, { headers }: Pick<Response, "headers">): void {
  if (headers.get(channelHeader) === "open") progress(openChannel(channel), process.stderr);
}

async function messages(
  channel: string,
  limit: string | undefined,
  _json: unknown,
  { format }: ReadOptions,
): Promise<void> {
  if (Number(limit) > MAX_LIMIT) warning(`limit ${limit} lowered to ${MAX_LIMIT}, the most that is shown`);
  const most = limit === undefined ? DEFAULT_LIMIT : Math.min(Number(limit), MAX_LIMIT);
  await showMessages(format, channel, { limit: String(most) }, most);
}

async function replay(channel: string, since: string, _json: unknown, { format }: ReadOptions): Promise<void> {
  await showMessages(format, channel, { since });
}

async function showMessages(
  format: ReadOptions["format"],
  channel: string,
  query: { limit?: string; since?: string },
  most?: number,
): Promise<void> {
  const { messages } = admin().channels[":channel"];
  const param = { channel: segment(channel) };
  let told = false;
  const value = await rows(async (page) => {
    const response = await messages.$get({ param, query: { ...query, ...page } });
    if (!told) tellIfOpen(channel, response);
    told = true;
    return response;
  }, most);
  show(format, {
    value,
    keys: ["id", "event_type", "payload", "sender_id", "sent_at"],
    text: () => {
      for (const { id, event_type, payload, sender_id, sent_at } of value) {
        line(`[${stamp(sent_at)}] ${event_type}: ${JSON.stringify(payload)} from ${sender_id ?? "-"} (${id})`);
      }
    },
  });
}
