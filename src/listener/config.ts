// The listener's settings, read from the environment once and checked by name.
import { createHmac } from "node:crypto";
import * as z from "zod";

const environment = z.object({
  DATABASE_URL: z.string({ error: "is missing: give the connection string of PostgreSQL" }).refine(isPostgresUrl, {
    error: "is not a connection string such as postgres://user:password@host:5432/database",
  }),
  REALTIME_EDGE_URL: z.url({
    protocol: /^https?$/,
    error: "is missing or no http(s) URL: give where the edge answers, such as http://127.0.0.1:4000",
  }),
  REALTIME_LISTENER_SECRET: z
    .string({ error: "is missing: give the secret that the edge knows too" })
    .min(16, { error: "is shorter than 16 characters" }),
  REALTIME_LISTENER_PORT: z.coerce
    .number({ error: "is not a port number" })
    .int({ error: "is not a port number" })
    .min(0, { error: "is not a port number" })
    .max(65535, { error: "is not a port number" })
    .default(4001),
  REALTIME_LISTENER_HOST: z.string().min(1, { error: "is empty" }).default("127.0.0.1"),
  REALTIME_SQL_SECRET: z.string().min(16, { error: "is shorter than 16 characters" }).optional(),
  REALTIME_SQL_DATABASE_URL: z
    .string()
    .refine(isPostgresUrl, {
      error: "is not a connection string such as postgres://nself_realtime_edge:password@host:5432/database",
    })
    .optional(),
  REALTIME_SQL_SESSIONS: whole(1, 100, "is not a number of sessions from 1 to 100").default(5),
  REALTIME_SQL_TIMEOUT: whole(1, 600, "is not a number of seconds from 1 to 600").default(15),
  REALTIME_OUTBOX_LIMIT: whole(1_000_000, 1e15, "is not a number of bytes, 1000000 or more").default(2_000_000_000),
  REALTIME_NOTIFY: z.enum(["on", "off"], { error: "is not on or off" }).default("on"),
  REALTIME_LOG_LEVEL: z
    .enum(["debug", "info", "warn", "error"], { error: "is not one of debug, info, warn, error" })
    .default("info"),
});

function whole(least: number, most: number, error: string) {
  return z.coerce.number({ error }).int({ error }).min(least, { error }).max(most, { error });
}

export interface Config {
  databaseUrl: string;
  /** Without a slash at its end. */
  edgeUrl: string;
  secret: string;
  /** 0 takes a free one. */
  port: number;
  host: string;
  /** Whether changes are also sent to whoever LISTENs to `realtime:table:schema.table`. */
  notify: boolean;
  /** Bytes that may wait for the edge; past them capture stops. */
  outboxLimit: number;
  /** The edge's SQL: its key, where it goes, and its bounds. */
  sql: {
    secret: string;
    databaseUrl: string;
    sessions: number;
    timeoutMs: number;
  };
  logLevel: "debug" | "info" | "warn" | "error";
}

/** A setting that is missing or wrong. The message names every one of them and never repeats a value. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly code = "config";
}

/** Reads the settings from an environment. Throws ConfigError. */
export function readConfig(env: Record<string, string | undefined>): Config {
  const parsed = environment.safeParse(env);
  if (!parsed.success) {
    throw new ConfigError(parsed.error.issues.map((issue) => `${issue.path.join(".")} ${issue.message}`).join("\n"));
  }
  const values = parsed.data;
  return {
    databaseUrl: values.DATABASE_URL,
    edgeUrl: values.REALTIME_EDGE_URL.replace(/\/+$/, ""),
    secret: values.REALTIME_LISTENER_SECRET,
    port: values.REALTIME_LISTENER_PORT,
    host: values.REALTIME_LISTENER_HOST,
    notify: values.REALTIME_NOTIFY === "on",
    outboxLimit: values.REALTIME_OUTBOX_LIMIT,
    sql: {
      secret: values.REALTIME_SQL_SECRET ?? sqlSecret(values.REALTIME_LISTENER_SECRET),
      databaseUrl: values.REALTIME_SQL_DATABASE_URL ?? values.DATABASE_URL,
      sessions: values.REALTIME_SQL_SESSIONS,
      timeoutMs: values.REALTIME_SQL_TIMEOUT * 1_000,
    },
    logLevel: values.REALTIME_LOG_LEVEL,
  };
}

/** The key of /sql where none was chosen: made of the secret, which it does not give away. The edge makes the same. */
export function sqlSecret(listenerSecret: string): string {
  return createHmac("sha256", listenerSecret).update("nself realtime sql").digest("hex");
}

function isPostgresUrl(text: string): boolean {
  return URL.canParse(text) && /^postgres(ql)?:$/.test(new URL(text).protocol);
}
