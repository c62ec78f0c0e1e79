// The configuration of the stack: from the command line, the environment and the project's `.env`, in this order.

import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, parseEnv } from "node:util";
import { z } from "zod";
import { tuning } from "../edge/settings.ts";
import type { Config as ListenerConfig } from "../listener/config.ts";
import { StackError } from "./errors.ts";

export const project = fileURLToPath(new URL("../..", import.meta.url));

const DEFAULT_PORT = 4000;
const LOOPBACK = "127.0.0.1";
const LEAST_UNPRIVILEGED_PORT = 1024;
/** Where the clients of earlier releases look; served too as long as nobody chose a port. */
const FORMER_PORT = 3100;

export const usage = `Starts everything on this machine: PostgreSQL, the listener and the edge.

usage: npm start -- [--port <port>] [--help]

  --port <port>             the same as REALTIME_PORT
  --help                    this text

Settings, from the environment or from .env in the project directory:

  REALTIME_PORT             where clients connect (${DEFAULT_PORT}, and ${FORMER_PORT} too while it is free)
  REALTIME_HOST             the address to listen on (127.0.0.1)
  REALTIME_LISTENER_PORT    the listener's HTTP port (REALTIME_PORT + 1)
  REALTIME_POSTGRES_PORT    the embedded PostgreSQL's port (REALTIME_PORT + 2)
  DATABASE_URL              a PostgreSQL of your own, instead of the embedded one
  REALTIME_JWT_SECRET       signs and verifies tokens, 32 characters or more (made at the first start)
  REALTIME_ANON_KEY         the key for clients (a token made with the secret)
  REALTIME_SERVICE_KEY      the key for servers and the CLI (a token made with the secret)
  REALTIME_LISTENER_SECRET  between listener and edge, 32 characters or more (made at the first start)
  REALTIME_GATEWAYS         gateways, each with a share of the sockets (1)
  REALTIME_GATEWAY_SOCKETS  sockets on one gateway (32000)
  REALTIME_PRESENCE_TIMEOUT seconds until a user tracked without a socket is offline (300)
  REALTIME_MESSAGE_TTL      seconds for which a message can be had again (86400)
  REALTIME_JWKS             keys that verify tokens, a JSON Web Key Set: {"keys":[…]}
  REALTIME_JWKS_URL         where such a set is published, https, or http on this machine
  REALTIME_JWT_CLAIMS       claims that every token must have: {"iss":"https://example.com"}
  REALTIME_CONNECTIONS_PER_MINUTE
                            connections of one address a minute, 0 for any number (100)
  REALTIME_IP_HEADER        the header in which a proxy in front appends the client's address; without it
                            the limits of addresses leave out this machine's own programs
  REALTIME_MAX_CONNECTIONS  sockets at once (10000)
  REALTIME_MESSAGES_PER_MINUTE
                            broadcasts of one socket a minute, and by HTTP of one address, 0 for any number (60)
  REALTIME_PRESENCE_PER_MINUTE
                            presence calls of one socket a minute, 0 for any number (10)
  REALTIME_JOINS_PER_MINUTE joins of one socket a minute, 0 for any number (600)
  REALTIME_MAX_CHANNELS     channels on one socket (100)
  REALTIME_MAX_PAYLOAD      bytes of a broadcast's payload (1000000)
  REALTIME_MAX_PRESENCE     bytes of what is tracked in presence (100000)
  REALTIME_MAX_FRAME        bytes of a frame from a client (5000000)
  REALTIME_MAX_REPLAY       messages that a join may replay (25)
  REALTIME_IDLE_TIMEOUT     seconds after which a silent socket is closed (60)
  REALTIME_OUTBOX_LIMIT     bytes of row changes that may wait for the edge before capture stops (2000000000)
  REALTIME_SQL_SECRET       the edge's key to SQL over HTTP (made of REALTIME_LISTENER_SECRET)
  REALTIME_SQL_DATABASE_URL a login of its own for the edge's SQL, such as of nself_realtime_edge (DATABASE_URL)
  REALTIME_SQL_SESSIONS     sessions for it (5)
  REALTIME_SQL_TIMEOUT      seconds that one of its statements may take (15)
  REALTIME_NOTIFY           on or off: row changes for plain LISTEN, too (on)
  REALTIME_LOG_LEVEL        what the listener logs: error, warn, info or debug (warn)
  NSELF_HOME                where all state is kept (.nself in the project directory)`;

const port = z.coerce
  .number({ error: "must be a port number" })
  .int({ error: "must be a port number" })
  .min(1, { error: "must be between 1 and 65535" })
  .max(65535, { error: "must be between 1 and 65535" });
const secret = z.string().min(32, { error: "must be at least 32 characters long" });
const key = z.string().regex(/^[\x21-\x7e]+$/, { error: "must not hold spaces or characters beyond ASCII" });

const databaseUrl = z.url({
  protocol: /^postgres(ql)?$/,
  error: "must be a URL such as postgresql://user:password@host:5432/database",
});

const logLevels = ["error", "warn", "info", "debug"] as const satisfies ListenerConfig["logLevel"][];
const amount = z.string().regex(/^[1-9]\d{0,14}$/, { error: "must be a whole number above 0" });
const listenerSettings = z.object({
  REALTIME_OUTBOX_LIMIT: amount.optional(),
  REALTIME_SQL_SECRET: secret.optional(),
  REALTIME_SQL_DATABASE_URL: databaseUrl.optional(),
  REALTIME_SQL_SESSIONS: amount.optional(),
  REALTIME_SQL_TIMEOUT: amount.optional(),
  REALTIME_NOTIFY: z.enum(["on", "off"], { error: "must be on or off" }).optional(),
  REALTIME_LOG_LEVEL: z.enum(logLevels, { error: `must be one of ${logLevels.join(", ")}` }).optional(),
});

const settings = z.object({
  NSELF_HOME: z.string().optional(),
  REALTIME_PORT: port.optional(),
  REALTIME_HOST: z
    .union([z.ipv4(), z.ipv6(), z.literal("localhost")], { error: "must be an IP address or localhost" })
    .default(LOOPBACK),
  REALTIME_LISTENER_PORT: port.optional(),
  REALTIME_POSTGRES_PORT: port.optional(),
  DATABASE_URL: databaseUrl.optional(),
  REALTIME_JWT_SECRET: secret.optional(),
  REALTIME_ANON_KEY: key.optional(),
  REALTIME_SERVICE_KEY: key.optional(),
  REALTIME_LISTENER_SECRET: secret.optional(),
  ...tuning.shape,
  ...listenerSettings.shape,
});

/** One TCP port of the stack, where it listens, and the setting that moves it. */
export interface Port {
  readonly number: number;
  readonly host: string;
  readonly setting: string;
}

export interface Config {
  /** Absolute directory of all state. */
  readonly home: string;
  readonly host: string;
  readonly edgePort: Port;
  /** Listened on as well if it is free, see FORMER_PORT. */
  readonly formerPort: number | undefined;
  readonly listenerPort: Port;
  readonly postgresPort: Port;
  /** Undefined: the stack runs a PostgreSQL of its own. */
  readonly databaseUrl: string | undefined;
  readonly jwtSecret: string | undefined;
  readonly anonKey: string | undefined;
  readonly serviceKey: string | undefined;
  readonly listenerSecret: string | undefined;
  /** Undefined: listener and edge make it of the listener's secret. */
  readonly sqlSecret: string | undefined;
  /** The settings given that are the edge's and the listener's own, checked and handed on as they are. */
  readonly tuning: Readonly<Record<string, string>>;
  readonly listenerSettings: Readonly<Record<string, string>>;
  /** Names that look like settings and are none. */
  readonly unknown: readonly string[];
}

/**
 * Reads the configuration.
 * @param args the command line after the file name
 * @returns "help" when that was asked for
 * @throws StackError naming every setting or flag that cannot be used
 */
export function readConfig(args: string[], environment: NodeJS.ProcessEnv = process.env): Config | "help" {
  const flags = parseFlags(args);
  if (flags.help) return "help";

  const given = present({ ...readEnvFile(), ...environment, ...(flags.port && { REALTIME_PORT: flags.port }) });
  const parsed = settings.safeParse(given);
  const portSetting = flags.port ? "--port" : "REALTIME_PORT";
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path: [name], message }) =>
      name === "REALTIME_PORT" ? `${portSetting} ${message}` : `${String(name)} ${message}`,
    );
    throw new StackError(faults.join("\n"));
  }
  const values = parsed.data;
  const edge = values.REALTIME_PORT ?? DEFAULT_PORT;
  const config: Config = {
    home: resolve(project, values.NSELF_HOME ?? ".nself"),
    host: values.REALTIME_HOST,
    edgePort: { number: edge, host: values.REALTIME_HOST, setting: portSetting },
    formerPort: values.REALTIME_PORT === undefined ? FORMER_PORT : undefined,
    listenerPort: {
      number: values.REALTIME_LISTENER_PORT ?? edge + 1,
      host: LOOPBACK,
      setting: "REALTIME_LISTENER_PORT",
    },
    postgresPort: {
      number: values.REALTIME_POSTGRES_PORT ?? edge + 2,
      host: LOOPBACK,
      setting: "REALTIME_POSTGRES_PORT",
    },
    databaseUrl: values.DATABASE_URL,
    jwtSecret: values.REALTIME_JWT_SECRET,
    anonKey: values.REALTIME_ANON_KEY,
    serviceKey: values.REALTIME_SERVICE_KEY,
    listenerSecret: values.REALTIME_LISTENER_SECRET,
    sqlSecret: values.REALTIME_SQL_SECRET,
    tuning: pick(given, tuning.shape),
    listenerSettings: pick(given, listenerSettings.shape),
    unknown: Object.keys(given).filter((name) => name.startsWith("REALTIME_") && !(name in settings.shape)),
  };
  refuseClashes(config);
  return config;
}

/** The ports that the stack takes for itself: PostgreSQL's only when it runs one. */
export function portsOf(config: Config): Port[] {
  const ports = [config.edgePort, config.listenerPort];
  return config.databaseUrl === undefined ? [...ports, config.postgresPort] : ports;
}

/** Where processes on this machine reach the edge: a wildcard address is no address to connect to. */
export function edgeUrl(config: Config): string {
  const wildcards: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  return `http://${bracketed(wildcards[config.host] ?? config.host)}:${config.edgePort.number}`;
}

/** A host as it stands before `:port`. */
export function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function parseFlags(args: string[]): { port?: string; help?: boolean } {
  try {
    return parseArgs({ args, options: { port: { type: "string" }, help: { type: "boolean" } } }).values;
  } catch (error) {
    throw new StackError(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

function readEnvFile(): NodeJS.Dict<string> {
  const path = join(project, ".env");
  return existsSync(path) ? parseEnv(readFileSync(path, "utf8")) : {};
}

/** An empty setting counts as not given, as in a shell: `REALTIME_PORT= npm start`. */
function present(environment: NodeJS.Dict<string>): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).flatMap(([name, value]) => (value ? [[name, value]] : [])));
}

function pick(given: Record<string, string>, wanted: object): Record<string, string> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => name in wanted));
}

function refuseClashes(config: Config): void {
  const taken = new Map<number, string>();
  for (const { number, setting } of portsOf(config)) {
    const other = taken.get(number);
    if (other) throw new StackError(`${setting} and ${other} are both ${number}; give one of them another port`);
    if (number > 65535) throw new StackError(`${setting} would be ${number}; set it to a port up to 65535`);
    taken.set(number, setting);
  }
  const { number, setting } = config.postgresPort;
  if (config.databaseUrl === undefined && number < LEAST_UNPRIVILEGED_PORT) {
    throw new StackError(
      `${setting} would be ${number}; PostgreSQL never runs as root, so set it to a port from ${LEAST_UNPRIVILEGED_PORT} on`,
    );
  }
}
