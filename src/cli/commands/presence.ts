// Commands on presence: presence track, get, online, count.
import { Argument, type Command } from "commander";
import { jsonObject, positive, type ReadOptions, reading, text } from "../arguments.ts";
import { heading, line, list, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { ago, count, lastSeen, some } from "../time.ts";

const STATUSES = ["online", "away", "offline"] as const;
type Status = (typeof STATUSES)[number];

/** Adds the group presence: track, get, online and count. */
export function presenceCommands(realtime: Command): void {
  const presence = realtime.command("presence").description("who is online, away or offline");
  presence
    .command("track")
    .description("say that a user is online, away or offline in a channel")
    .argument("<user>", "id of the user", text)
    .argument("<channel>", "slug, id or name", text)
    .addArgument(new Argument("[status]", "the user's status (default: online)").choices(STATUSES))
    .argument("[metadata]", "a JSON object; left out: what was there stays", jsonObject)
    .action(track);
  reading(
    presence
      .command("get")
      .description("show a user's presence")
      .argument("<user>", "id of the user", text)
      .argument("[channel]", "slug, id or name (default: all channels)", text),
  ).action(get);
  reading(
    presence
      .command("online")
      .description("list who is online or away, last seen first")
      .argument("[channel]", "slug, id or name (default: all channels)", text),
  ).action(online);
  reading(
    presence
      .command("count")
      .description("count who is online, away and offline")
      .argument("[channel]", "slug, id or name (default: all channels)", text),
  )
    .option("-q, --quiet", "print one number: how many are online or away")
    .action(countUsers);
  presence
    .command("offline")
    .description("say that a user is offline; what an open socket of theirs tracks stays")
    .argument("<user>", "id of the user", text)
    .argument("[channel]", "slug, id or name (default: all channels)", text)
    .action(offline);
  reading(presence.command("stats").description("show how many users are tracked, and where")).action(stats);
  presence
    .command("cleanup")
    .description("mark users offline who were tracked without a socket and have been silent")
    .argument("[seconds]", "for how long (default: REALTIME_PRESENCE_TIMEOUT)", positive)
    .action(cleanup);
}

async function offline(user: string, channel: string | undefined): Promise<void> {
  if (channel !== undefined) return track(user, channel, "offline", undefined);
  const { channels } = await answer(admin().presence[":user"].$delete({ param: { user: segment(user) } }));
  if (channels === 0) return warning(`nothing changed: ${user} was online in no channel without an open socket`);
  success(`${user} is offline (${some(channels, "channel")})`);
}

async function stats(_json: unknown, { format }: ReadOptions): Promise<void> {
  const value = await answer(admin().presence.stats.$get());
  show(format, {
    value,
    keys: ["online", "away", "offline", "total_users", "total_channels"],
    text: () => {
      heading("Presence Statistics:");
      line();
      list(
        [
          ["Total users tracked:", count(value.total_users)],
          ["Currently online:", count(value.online)],
          ["Currently away:", count(value.away)],
          ["Currently offline:", count(value.offline)],
        ],
        [23],
      );
      line();
      list(
        [
          ["Channels with presence:", count(value.total_channels)],
          ["Average presence/channel:", count(value.average_per_channel)],
        ],
        [23],
      );
    },
  });
}

async function cleanup(seconds: string | undefined): Promise<void> {
  const { cleaned } = await answer(
    admin().presence.cleanup.$post({ json: seconds === undefined ? {} : { seconds: Number(seconds) } }),
  );
  success(`Users marked offline: ${count(cleaned)}`);
}

async function track(
  user: string,
  channel: string,
  status: Status | undefined,
  metadata: Record<string, unknown> | undefined,
): Promise<void> {
  const tracked = await answer(
    admin().channels[":channel"].presence[":user"].$put({
      param: { channel: segment(channel), user: segment(user) },
      json: { ...(status === undefined ? {} : { status }), ...(metadata === undefined ? {} : { metadata }) },
    }),
  );
  success(`${user} is ${tracked.status} in ${tracked.channel}`);
}

async function get(user: string, channel: string | undefined, _json: unknown, { format }: ReadOptions): Promise<void> {
  const value = await entries({ user, ...(channel === undefined ? {} : { channel }) });
  show(format, {
    value,
    keys: ["user_id", "channel", "status", "metadata", "last_seen_at", "seconds_since_seen"],
    text: () => {
      if (value.length === 0) return line(`${user} was seen nowhere`);
      heading(`Presence: ${user}`);
      line();
      list(
        value.map((entry) => [entry.channel, entry.status, `Last seen: ${lastSeen(entry.seconds_since_seen)}`]),
        [15, 9],
      );
    },
  });
}

async function online(channel: string | undefined, _json: unknown, { format }: ReadOptions): Promise<void> {
  const present = await entries({ present: "true", ...(channel === undefined ? {} : { channel }) });
  const value = present.map(({ seconds_since_seen, ...entry }) => ({ ...entry, seconds_ago: seconds_since_seen }));
  show(format, {
    value,
    keys: ["user_id", "channel", "status", "metadata", "last_seen_at", "seconds_ago"],
    text: () => {
      // The heading counts users, the list shows each place where one is.
      const users = new Set(value.filter(({ status }) => status === "online").map(({ user_id }) => user_id));
      heading(`Online Users${channel === undefined ? "" : ` (${channel})`}: ${count(users.size)}`);
      line();
      list(
        value.map((entry) => [
          entry.user_id,
          displayName(entry.metadata),
          ...(channel === undefined ? [entry.channel] : []),
          entry.status,
          ago(entry.seconds_ago),
        ]),
        [10, 13, 8],
      );
    },
  });
}

async function countUsers(
  channel: string | undefined,
  _json: unknown,
  { format, quiet }: ReadOptions & { quiet?: boolean },
): Promise<void> {
  const value = await answer(admin().presence.count.$get({ query: channel === undefined ? {} : { channel } }));
  if (quiet) return line(String(value.online + value.away));
  show(format, {
    value,
    keys: ["online", "away", "offline", "total"],
    text: () => {
      line(`Online: ${count(value.online)}`);
      line(`Away: ${count(value.away)}`);
      line(`Offline: ${count(value.offline)}`);
      line(`Total: ${count(value.total)}`);
    },
  });
}

/** Entries of all channels or one, last seen first. */
async function entries(filter: { channel?: string; user?: string; present?: "true" }) {
  const { presence } = admin();
  const found = await rows((page) => presence.$get({ query: { ...page, ...filter } }));
  return found.sort((a, b) => Date.parse(b.last_seen_at) - Date.parse(a.last_seen_at));
}

/** The name that a user gave in their presence, if any. */
function displayName({ name }: Record<string, unknown>): string {
  return typeof name === "string" ? name : "-";
}
