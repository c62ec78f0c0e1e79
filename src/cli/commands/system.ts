// Commands on the whole: init, status, connections.
import type { Command } from "commander";
import { NO_DATABASE } from "../../settings/database.ts";
import { type ReadOptions, reading } from "../arguments.ts";
import { CliError, ToldError } from "../errors.ts";
import { asTyped, bad, heading, line, list, show, success, warning } from "../output.ts";
import { admin, answer, findServer, rows, type Server } from "../server.ts";
import { waiting } from "../spinner.ts";
import { ago, count, secondsSince, some } from "../time.ts";

/** Adds init, status and connections. */
export function systemCommands(realtime: Command): void {
  realtime
    .command("init")
    .description("make the database schema and the default channel; may be repeated")
    .action(init);
  reading(realtime.command("status").description("show the state of the system")).action(status);
  reading(realtime.command("connections").description("list the open sockets, newest first")).action(connections);
}

async function init(): Promise<void> {
  const server = findServer();
  const { databaseUrl } = server;
  if (databaseUrl !== undefined && databaseUrl !== NO_DATABASE) {
    // It may be left from other work in this shell, and have nothing to do with the server.
    if (databaseUrl === process.env.DATABASE_URL) {
      warning(`the schema is made in ${databaseName(databaseUrl)}, which DATABASE_URL names, for ${server.url}`);
    }
    await migrateSchema(databaseUrl);
  }
  const { channel, table } = await answer(admin(server).init.$post());
  success(`WebSocket server running at ${server.url}`);
  success("Presence tracking enabled");
  success(`Default channel: ${channel}`);
  success("Real-time system is ready!");
  line();
  line("Next steps:");
  const steps = [
    `subscribe ${table ?? "<schema.table>"}`,
    "channel create general public",
    "presence track user-123 general online",
    `broadcast general user.joined '{"user_id": "123"}'`,
  ];
  for (const step of steps) line(`  ${asTyped("nself realtime")} ${step}`);
}

/** Where a database is and what it is called, without who logs in. */
function databaseName(databaseUrl: string): string {
  const url = URL.parse(databaseUrl);
  return url === null ? "the database" : `${url.host}${url.pathname}`;
}

async function migrateSchema(databaseUrl: string): Promise<void> {
  // Loaded here alone: most commands need no PostgreSQL client, and each should start at once.
  const { migrate } = await import("../../listener/migrate.ts");
  const work = () =>
    migrate(databaseUrl).catch((cause: unknown) => {
      throw new CliError(`the database schema: ${reasonOf(cause)}`, { cause });
    });
  await waiting("Preparing the database schema...", work, (applied) =>
    applied.length === 0 ? "Database schema up to date" : `Database schema ready (${applied.length} migrations)`,
  );
}

/** Node gives no message, only a code, when each of a host's addresses refused. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || ("code" in error ? String(error.code) : error.name);
}

const NOT_INITIALISED = "Not initialised. Run: nself realtime init";

async function status(_json: unknown, { format }: ReadOptions): Promise<void> {
  const { server, state, away } = await ask();
  const value = {
    server: state === undefined ? "stopped" : state.enabled ? "running" : "disabled",
    url: server?.url ?? null,
    store: state?.store ?? null,
    connections: state?.connections ?? null,
    channels: state?.store === "ready" ? state.channels : null,
    active_subscriptions: state?.active_subscriptions ?? null,
    tables_monitored: state?.store === "ready" ? state.tables_monitored : null,
    row_changes: state?.store === "ready" ? state.row_changes : null,
    limits: state?.limits ?? null,
  };
  show(format, {
    value,
    keys: ["server", "url", "store", "connections", "active_subscriptions", "tables_monitored"],
    text: () => {
      heading("Real-Time System Status");
      line();
      if (state === undefined) return bad(`WebSocket server not running: ${away.message}`);
      if (state.enabled) success("WebSocket server running");
      else bad("WebSocket server disabled (REALTIME_ENABLED=false)");
      success(some(state.connections, "active connection"));
      if (state.store === "ready") {
        const { total, public: open, private: closed, presence } = state.channels;
        success(
          `${some(total, "channel")} (${count(open)} public, ${count(closed)} private, ${count(presence)} presence)`,
        );
      } else if (state.store === "none") {
        success("Open channels only: there is no database (DATABASE_URL=none)");
      } else {
        bad(state.store === "not_initialised" ? NOT_INITIALISED : "PostgreSQL not reachable from the server");
      }
      success(`${some(state.active_subscriptions, "active subscription")} of clients to row changes`);
      success("Presence tracking enabled");
      if (state.store === "ready") for (const alarm of state.row_changes.alarms) bad(`Row changes: ${alarm}`);
      line();
      list(
        [
          ["URL:", server.url],
          ...(state.store === "ready"
            ? [
                ["Tables monitored:", count(state.tables_monitored)],
                [
                  "Outbox bytes:",
                  `${count(state.row_changes.outbox_bytes)} of ${count(state.row_changes.outbox_limit)}`,
                ],
              ]
            : []),
          ...Object.entries(state.limits).map(([name, bound]) => [`${label(name)}:`, count(bound)]),
        ],
        [28],
      );
    },
  });
  if (state === undefined) throw format === "text" ? new ToldError() : away;
  if (state.store === "not_initialised") throw new CliError(NOT_INITIALISED);
  if (state.store === "unavailable") throw new CliError(state.reason);
}

/** A server that is not there is a state to show; any other failure is one of the command. */
async function ask() {
  let server: Server | undefined;
  try {
    server = findServer();
    return { server, state: await answer(admin(server).status.$get()) };
  } catch (error) {
    if (!(error instanceof CliError) || (error.code !== "no_server" && error.code !== "server_away")) throw error;
    return { server, away: error };
  }
}

function label(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

async function connections(_json: unknown, { format }: ReadOptions): Promise<void> {
  const { connections } = admin();
  const value = await rows((query) => connections.$get({ query }));
  show(format, {
    value,
    keys: ["user_id", "connection_id", "status", "connected_at", "seconds_since_seen"],
    text: () => {
      // In a pipe every line is a connection, so that `| wc -l` counts them.
      const title = `Active Connections: ${count(value.length)}`;
      if (process.stdout.isTTY) {
        heading(title);
        line();
      } else {
        process.stderr.write(`${title}\n`);
      }
      list(
        value.map(({ connection_id, users, channels, connected_at }) => [
          connection_id,
          users.join(", ") || "-",
          channels.join(", "),
          `Connected ${ago(secondsSince(connected_at))}`,
        ]),
        [13, 10, 22],
      );
    },
  });
}
