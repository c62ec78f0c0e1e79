// Starts everything on one machine and keeps it running until it is told to stop: what `npm start` runs.

import { once } from "node:events";
import pg from "pg";
import { MigrationError, migrate } from "../listener/migrate.ts";
import { NO_DATABASE } from "../settings/database.ts";
import { tuning } from "../settings/edge.ts";
import { Children } from "./children.ts";
import { type Config, edgeUrl, portsOf, readConfig, usage } from "./config.ts";
import { preparePublicSchema, requireDatabase } from "./database.ts";
import { bundleEdge, edgeChild } from "./edge.ts";
import { StackError } from "./errors.ts";
import { Guard } from "./guard.ts";
import { claimHome } from "./home.ts";
import { listenerChild, sqlUrl } from "./listener.ts";
import { LogFile } from "./log-file.ts";
import { openFiles, socketsFor } from "./open-files.ts";
import { isFree, requireFree } from "./ports.ts";
import { embeddedUrl, postgresChild } from "./postgres.ts";
import { Report } from "./report.ts";
import { loadSecrets, type Secrets } from "./secrets.ts";
import { removeStackFile, type StackFile, writeStackFile } from "./stack-file.ts";

/** One Ctrl+C may arrive more than once, from the terminal and from the processes above us; later ones are meant. */
const SIGNAL_ECHO_MS = 500;

/**
 * One process runs all its objects on one thread: a second gateway would add links and no strength, so one takes as many
 * sockets as the platform lets an object have.
 */
const ONE_GATEWAY = { REALTIME_GATEWAYS: "1", REALTIME_GATEWAY_SOCKETS: "32000" };

const report = new Report();
const stopping = new AbortController();

try {
  const config = readConfig(process.argv.slice(2));
  if (config === "help") process.stdout.write(`${usage}\n`);
  else await runStack(config);
} catch (error) {
  // Whatever fails because we are told to stop has not failed.
  if (!stopping.signal.aborted) {
    report.error(explain(error));
    process.exitCode = 1;
  }
}

/** What is meant for people goes without a stack trace; anything else is a fault of ours and keeps its own. */
function explain(error: unknown): string {
  if (error instanceof StackError || error instanceof MigrationError) return error.message;
  if (error instanceof pg.DatabaseError) return `PostgreSQL refused: ${error.message}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Starts, waits for the signal to stop, and stops what it started in reverse order, however far it came. */
async function runStack(config: Config): Promise<void> {
  const { signal } = stopping;
  await using guard = new Guard();
  const children = new Children(guard, report);
  stopOnSignals(children);

  using claim = claimHome(config.home);
  report.keepIn(new LogFile(config.home));
  for (const { name, meant } of config.unknown) {
    const hint = meant === undefined ? "See npm start -- --help" : `Did you mean ${meant}?`;
    report.warn(`${name} is no setting and is ignored. ${hint}`);
  }
  await requireFree(portsOf(config), claim.afterKill);
  const secrets = await loadSecrets(config);
  const databaseUrl = config.databaseUrl ?? embeddedUrl(config.postgresPort.number, secrets.postgresPassword);

  await using _postgres = await startDatabase(config, databaseUrl, secrets, children);
  const withDatabase = databaseUrl !== NO_DATABASE;
  if (withDatabase) await prepareDatabase(config, databaseUrl);

  await report.step("edge bundled", () => bundleEdge(config.home));
  const bindings = { ...ONE_GATEWAY, ...boundSockets(config), ...edgeBindings(config, databaseUrl, secrets) };
  const ports = await edgePorts(config);
  const taken =
    config.formerPort === undefined || ports.includes(config.formerPort) ? "" : ` (${config.formerPort} is taken)`;
  await using _edge = await report.step(`edge on port ${ports.join(" and ")}${taken}`, () =>
    children.start(edgeChild(config, bindings, ports), signal),
  );
  await using _listener = withDatabase ? await startListener(config, databaseUrl, secrets, children) : undefined;

  const stack: StackFile = {
    url: edgeUrl(config),
    port: config.edgePort.number,
    anonKey: secrets.anonKey,
    serviceKey: secrets.serviceKey,
    jwtSecret: secrets.jwtSecret,
    databaseUrl,
    pid: process.pid,
    args: process.argv.slice(2),
  };
  signal.throwIfAborted();
  writeStackFile(config.home, stack);
  report.ready(stack, config);
  await once(signal, "abort");
  removeStackFile(config.home);
}

function stopOnSignals(children: Children): void {
  let firstAt = 0;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (!stopping.signal.aborted) {
        firstAt = Date.now();
        report.note("Stopping…");
        stopping.abort();
      } else if (Date.now() - firstAt > SIGNAL_ECHO_MS) {
        children.kill();
      }
    });
  }
}

async function prepareDatabase(config: Config, databaseUrl: string): Promise<void> {
  const warnings: string[] = [];
  const onWarning = (warning: string): void => void warnings.push(warning);
  await report.step("migrations", () => migrate(databaseUrl, { signal: stopping.signal, onWarning }));
  for (const warning of warnings) report.warn(warning);
  if (config.databaseUrl === undefined) await preparePublicSchema(databaseUrl);
}

function startListener(
  config: Config,
  databaseUrl: string,
  secrets: Secrets,
  children: Children,
): Promise<AsyncDisposable> {
  return report.step(`listener on port ${config.listenerPort.number}`, () =>
    children.start(listenerChild(config, databaseUrl, secrets.listenerSecret), stopping.signal),
  );
}

/** @returns the embedded PostgreSQL, or undefined beside a database that is somebody else's to start and stop */
async function startDatabase(
  config: Config,
  databaseUrl: string,
  secrets: Secrets,
  children: Children,
): Promise<AsyncDisposable | undefined> {
  if (config.databaseUrl === NO_DATABASE) return undefined;
  if (config.databaseUrl !== undefined) {
    await report.step("database of DATABASE_URL", () => requireDatabase(databaseUrl));
    return undefined;
  }
  const { signal } = stopping;
  return report.step(`PostgreSQL on port ${config.postgresPort.number}`, async () => {
    const port = config.postgresPort.number;
    return children.start(await postgresChild(config.home, port, secrets.postgresPassword, signal), signal);
  });
}

async function edgePorts(config: Config): Promise<number[]> {
  const own = config.edgePort.number;
  const former = config.formerPort;
  return former !== undefined && (await isFree(former, config.host)) ? [own, former] : [own];
}

/**
 * As many sockets as the system's limit of open files bears, where nobody has said how many; who has is warned. Past the
 * limit the edge could open nothing any more, for nobody.
 */
function boundSockets(config: Config): Record<string, string> {
  const files = openFiles();
  const most = files === undefined ? Number.POSITIVE_INFINITY : socketsFor(files);
  const wanted = tuning.parse(config.tuning).REALTIME_MAX_CONNECTIONS;
  if (wanted <= most) return {};
  const limit = `a process may open ${files} files here (ulimit -n), enough for ${most} sockets`;
  if ("REALTIME_MAX_CONNECTIONS" in config.tuning) {
    report.warn(`${limit} and the channels they use: REALTIME_MAX_CONNECTIONS=${wanted} is more`);
    return {};
  }
  report.note(`${limit}: more are not taken`);
  return { REALTIME_MAX_CONNECTIONS: String(most) };
}

/** The text bindings of the Worker that are given or made, by name. */
function edgeBindings(config: Config, databaseUrl: string, secrets: Secrets): Record<string, string> {
  return {
    ...config.tuning,
    DATABASE_URL: databaseUrl,
    REALTIME_JWT_SECRET: secrets.jwtSecret,
    REALTIME_ANON_KEY: secrets.anonKey,
    REALTIME_SERVICE_KEY: secrets.serviceKey,
    REALTIME_LISTENER_SECRET: secrets.listenerSecret,
    REALTIME_SQL_URL: sqlUrl(config),
    ...(config.sqlSecret !== undefined && { REALTIME_SQL_SECRET: config.sqlSecret }),
  };
}
