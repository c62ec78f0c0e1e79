// Commands of control: disconnect, kick, ban, unban, bans, revoke.
import { type Command, InvalidArgumentError } from "commander";
import { type ReadOptions, reading, text } from "../arguments.ts";
import { heading, line, list, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { count } from "../time.ts";

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

interface Terms {
  for?: number;
  reason?: string;
}

/** Adds disconnect, kick, ban, unban, bans and revoke. */
export function controlCommands(realtime: Command): void {
  realtime
    .command("disconnect")
    .description("end a connection; its client may come back")
    .argument("<connection>", "its id, as `connections` shows it", text)
    .action(disconnect);
  realtime
    .command("kick")
    .description("end all connections of a user and what they joined on others', or put them out of one channel")
    .argument("<user>", "id of the user", text)
    .argument("[channel]", "slug, id or name (default: everywhere)", text)
    .option("--reason <text>", "what they are told", text)
    .action(kick);
  terms(
    realtime
      .command("ban")
      .description("keep a user out, everywhere or of one channel")
      .argument("<user>", "id of the user", text)
      .argument("[channel]", "slug, id or name (default: everywhere)", text),
  ).action(ban);
  realtime
    .command("unban")
    .description("let a user in again")
    .argument("<user>", "id of the user", text)
    .argument("[channel]", "slug, id or name (default: everywhere)", text)
    .action(unban);
  reading(
    realtime
      .command("bans")
      .description("list who is banned everywhere and which tokens were revoked, or who is banned from one channel")
      .argument("[channel]", "slug, id or name (default: those that hold everywhere)", text),
  ).action(bans);
  terms(
    realtime
      .command("revoke")
      .description("have a token count no more; its connections end")
      .argument("<jti>", "the token's claim jti", text),
  ).action(revoke);
}

function terms(command: Command): Command {
  return command
    .option("--for <time>", "for how long, such as 90s, 10m, 24h, 7d (default: for good)", seconds)
    .option("--reason <text>", "what they are told", text);
}

function seconds(value: string): number {
  const [, number, unit = "s"] = /^(\d{1,6})([smhd]?)$/.exec(value) ?? [];
  const found = Number(number) * (UNITS[unit || "s"] ?? 1);
  if (found >= 1) return found;
  throw new InvalidArgumentError("It must be a time such as 90s, 10m, 24h or 7d.");
}

async function disconnect(connection: string): Promise<void> {
  await answer(admin().connections[":connection"].$delete({ param: { connection: segment(connection) } }));
  success(`Disconnected: ${connection}`);
}

async function kick(user: string, channel: string | undefined, { reason }: { reason?: string }): Promise<void> {
  const json = { ...(channel === undefined ? {} : { channel }), ...(reason === undefined ? {} : { reason }) };
  const kicked = await answer(admin().users[":user"].kick.$post({ param: { user: segment(user) }, json }));
  const ended = `${count(kicked.connections)} ${kicked.connections === 1 ? "connection" : "connections"}`;
  const done = [
    ...(kicked.connections > 0 || kicked.channels.length === 0 ? [ended] : []),
    ...(kicked.channels.length > 0 ? [`put out of ${kicked.channels.join(", ")}`] : []),
  ];
  success(`Kicked: ${user} (${done.join(", ")})`);
}

async function ban(user: string, channel: string | undefined, given: Terms): Promise<void> {
  const json = { ...(channel === undefined ? {} : { channel }), ...wish(given) };
  const made = await answer(admin().users[":user"].ban.$put({ param: { user: segment(user) }, json }));
  success(`Banned: ${user}${channel === undefined ? "" : ` from ${made.channel}`}, ${end(made.until)}`);
  if (!made.used) warning(`no channel "${made.channel}" is registered, and nobody uses an open one of that name`);
}

function wish({ for: seconds, reason }: Terms) {
  return { ...(seconds === undefined ? {} : { seconds }), ...(reason === undefined ? {} : { reason }) };
}

function end(until: string | null): string {
  return until === null ? "for good" : `until ${until}`;
}

async function unban(user: string, channel: string | undefined): Promise<void> {
  const query = channel === undefined ? {} : { channel };
  const { lifted } = await answer(admin().users[":user"].ban.$delete({ param: { user: segment(user) }, query }));
  if (lifted) success(`Ban lifted: ${user}`);
  else warning(`${user} was not banned${channel === undefined ? "" : ` from ${channel}`}`);
}

async function bans(channel: string | undefined, _json: unknown, { format }: ReadOptions): Promise<void> {
  const { bans } = admin();
  const value = await rows((page) => bans.$get({ query: { ...page, ...(channel === undefined ? {} : { channel }) } }));
  show(format, {
    value,
    keys: ["kind", "id", "until", "reason"],
    text: () => {
      heading(channel === undefined ? `Bans: ${count(value.length)}` : `Bans from ${channel}: ${count(value.length)}`);
      line();
      list(
        value.map(({ kind, id, until, reason }) => [kind, id, end(until), reason ?? ""]),
        [5, 13],
      );
      if (channel === undefined) {
        line();
        line("These hold everywhere. Who is banned from one channel alone: bans <channel>");
      }
    },
  });
}

async function revoke(jti: string, given: Terms): Promise<void> {
  const { until } = await answer(admin().tokens.revoke.$post({ json: { jti, ...wish(given) } }));
  success(`Token revoked: ${jti}, ${end(until)}`);
}
