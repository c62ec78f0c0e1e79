// The command listen: row changes of a table, or messages of a channel, as they come.
import { type Command, InvalidArgumentError, Option } from "commander";
import { feedName, feedTopic, wireTopic } from "../../protocol/topics.ts";
import { text } from "../arguments.ts";
import { CliError, EXIT } from "../errors.ts";
import { type Followed, follow } from "../follow.ts";
import { jsonLine, line, openChannel, progress, warning } from "../output.ts";
import { admin, answer, findServer, rows, type Server, segment } from "../server.ts";
import { stamp } from "../time.ts";

const DEFAULT_SECONDS = 60;
/** The longest that a timer takes. */
const MAX_SECONDS = 2_147_483;
const CHANNEL = "channel:";
const FORMATS = ["text", "raw", "json"] as const;
type ListenFormat = (typeof FORMATS)[number];

/** What is listened to: its topic, and how one message of it is shown. */
interface Target {
  label: string;
  topic: string;
  show(format: ListenFormat, message: Followed): void;
}

/** Adds listen. */
export function listenCommand(realtime: Command): void {
  realtime
    .command("listen")
    .description("show the row changes of a table, or the messages of a channel, as they come")
    .argument("<table>", "schema.table, table (of schema public) or channel:<name>", text)
    .argument(
      "[seconds]",
      `how long; 0: until Ctrl+C (default: at a terminal until Ctrl+C, else ${DEFAULT_SECONDS})`,
      duration,
    )
    .option("--forever", "until Ctrl+C")
    .addOption(
      new Option("--format <format>", "form of a line; raw: as psql shows a notification")
        .choices(FORMATS)
        .default("text"),
    )
    .addOption(new Option("--json", "the same as --format json").implies({ format: "json" }))
    .action(listen);
}

function duration(value: string): number {
  if (!/^\d{1,7}$/.test(value) || Number(value) > MAX_SECONDS) {
    throw new InvalidArgumentError(`It must be a whole number of seconds from 0 to ${MAX_SECONDS}.`);
  }
  return Number(value);
}

async function listen(
  name: string,
  seconds: number | undefined,
  { format, forever }: { format: ListenFormat; forever?: boolean },
): Promise<void> {
  const server = findServer();
  const target = await (name.startsWith(CHANNEL)
    ? channelTarget(server, name.slice(CHANNEL.length))
    : tableTarget(server, name));
  const limit = forever ? 0 : (seconds ?? (process.stdout.isTTY ? 0 : DEFAULT_SECONDS));
  const end = new AbortController();
  const stop = () => end.abort();
  const timer = limit === 0 ? undefined : setTimeout(stop, limit * 1000);
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  try {
    const joined = () => {
      // Programs that read JSON get nothing else on stdout.
      if (format === "json") progress(`Listening to ${target.label}...`, process.stderr);
      else line(`Listening to ${target.label}...`);
      progress(limit === 0 ? "until Ctrl+C" : `for ${limit} s`, process.stderr);
    };
    const message = (message: Followed) => target.show(format, message);
    await follow(server, target.topic, { joined, message, notice: warning }, end.signal).catch((error: unknown) => {
      // All tables of its schema are captured, and it is none of them.
      if (!(error instanceof CliError) || error.code !== "TableNotCaptured") throw error;
      throw new CliError(`there is no table ${target.label} that is captured${channelHint(name)}`);
    });
  } finally {
    clearTimeout(timer);
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}

async function tableTarget(server: Server, name: string): Promise<Target> {
  const { schema, table } = parseTable(name);
  if (table === "*") throw new CliError(`${name} names many tables: listen to one of them`, { exit: EXIT.usage });
  const { subscriptions } = admin(server);
  const captured = new Set((await rows((query) => subscriptions.$get({ query }))).map(({ table_name }) => table_name));
  // As it is spelled, then as SQL would read it without quotes.
  const spellings = [
    { schema, table },
    { schema: schema.toLowerCase(), table: table.toLowerCase() },
  ];
  const found =
    spellings.find(({ schema, table }) => captured.has(`${schema}.${table}`)) ??
    spellings.find(({ schema }) => captured.has(`${schema}.*`));
  if (found === undefined) {
    throw new CliError(`${name} is not captured; run: nself realtime subscribe ${name}${channelHint(name)}`);
  }
  const topic = wireTopic(feedTopic(feedName(found.schema, found.table)));
  return { label: `${found.schema}.${found.table}`, topic, show: showChange };
}

/** A name without a schema may have been meant as a channel's. */
function channelHint(name: string): string {
  return name.includes(".") ? "" : `; for the channel of that name: nself realtime listen ${CHANNEL}${name}`;
}

/** Reads `schema.table`, or `table` of schema public; a part may be quoted as in SQL. */
function parseTable(name: string): { schema: string; table: string } {
  const [, schema, table] = /^(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^"]+)$/.exec(name) ?? [];
  if (table === undefined)
    throw new CliError(`${name} is no name of a table: write schema.table`, { exit: EXIT.usage });
  return { schema: schema === undefined ? "public" : unquoted(schema), table: unquoted(table) };
}

function unquoted(part: string): string {
  return part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part;
}

async function channelTarget(server: Server, name: string): Promise<Target> {
  const reference = { param: { channel: segment(name) } };
  const slug = await answer(admin(server).channels[":channel"].$get(reference)).then(
    (channel) => channel.slug,
    (error: unknown) => {
      // A name that nobody registered is an open channel: it can be followed all the same.
      if (!(error instanceof CliError) || error.code !== "not_found") throw error;
      progress(openChannel(name), process.stderr);
      return name;
    },
  );
  const topic = wireTopic(slug);
  return { label: `${CHANNEL}${slug}`, topic, show: (format, message) => showMessage(format, topic, message) };
}

function showChange(format: ListenFormat, { event, payload }: Followed): void {
  const { schema, table, commit_timestamp: at, record, old_record: old } = payload;
  const time = Date.parse(String(at));
  const envelope = { timestamp: Math.floor(time / 1000), operation: event, schema, table, new: record, old };
  // A TRUNCATE has no row.
  const row = record ?? old ?? {};
  if (format === "text") line(`[${stamp(time)}] ${event}: ${JSON.stringify(row)}`);
  else showEnvelope(format, `realtime:table:${schema}.${table}`, envelope);
}

function showMessage(format: ListenFormat, topic: string, { payload }: Followed): void {
  const { event, payload: body, meta } = payload;
  const at = typeof meta === "object" && meta !== null && "at" in meta ? Number(meta.at) : Date.now();
  if (format === "text") line(`[${stamp(at)}] ${event}: ${JSON.stringify(body)}`);
  else showEnvelope(format, topic, { timestamp: Math.floor(at / 1000), event, payload: body });
}

function showEnvelope(format: "raw" | "json", channel: string, envelope: object): void {
  if (format === "json") {
    jsonLine(envelope);
  } else {
    // psql's words; no one backend sent it, hence PID 0.
    line(`Asynchronous notification "${channel}" received from server process with PID 0.`);
    line(`Payload: ${JSON.stringify(envelope)}`);
  }
}
