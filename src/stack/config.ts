// The configuration of the stack: from the command line, the environment and the project's `.env`, in this order.

import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, parseEnv } from "node:util";
import { NO_DATABASE } from "../settings/database.ts";
import { documented } from "../settings/documented.ts";
import { tuning } from "../settings/edge.ts";
import { listenerTuning } from "../settings/listener.ts";
import { nearest } from "../settings/nearest.ts";
import { DEFAULT_PORT, FORMER_PORT, LOOPBACK, stackSettings } from "../settings/stack.ts";
import { StackError } from "./errors.ts";

export const project = fileURLToPath(new URL("../..", import.meta.url));

const LEAST_UNPRIVILEGED_PORT = 1024;
/** Of the longest name of a setting. */
const NAME_WIDTH = 31;

/** Every setting that a start reads, by name. */
const shape = { ...stackSettings.shape, ...tuning.shape, ...listenerTuning.shape };

export const usage = `Starts everything on this machine: PostgreSQL, the listener and the edge.

usage: npm start -- [--port <port>] [--help]

  ${"--port <port>".padEnd(NAME_WIDTH)} the same as REALTIME_PORT
  ${"--help".padEnd(NAME_WIDTH)} this text

Settings, from the environment or from .env in the project directory:

${documented(shape)
  .map(
    ({ name, says, otherwise }) => `  ${name.padEnd(NAME_WIDTH)} ${says}${otherwise === "" ? "" : ` (${otherwise})`}`,
  )
  .join("\n")}`;

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
  /** Undefined: the stack runs a PostgreSQL of its own. NO_DATABASE: there is none, and no listener either. */
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
  /** Names that look like settings and are none, each with the setting that it resembles. */
  readonly unknown: readonly { name: string; meant: string | undefined }[];
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
  const portSetting = flags.port ? "--port" : "REALTIME_PORT";
  const parsed = stackSettings.safeParse(given);
  const issues = [parsed, tuning.safeParse(given), listenerTuning.safeParse(given)].flatMap(
    ({ error }) => error?.issues ?? [],
  );
  if (!parsed.success || issues.length > 0) {
    const faults = issues.map(({ path: [name], message }) =>
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
    sqlSecret: given.REALTIME_SQL_SECRET,
    tuning: pick(given, tuning.shape),
    listenerSettings: pick(given, listenerTuning.shape),
    unknown: Object.keys(given)
      .filter((name) => name.startsWith("REALTIME_") && !(name in shape))
      .map((name) => ({ name, meant: nearest(name, Object.keys(shape)) })),
  };
  refuseClashes(config);
  return config;
}

/** The ports that the stack takes for itself: PostgreSQL's only when it runs one. */
export function portsOf(config: Config): Port[] {
  if (config.databaseUrl === NO_DATABASE) return [config.edgePort];
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
