// The listener's settings, read from the environment once and checked by name.
import { createHmac } from "node:crypto";
import { listenerAlone, listenerTuning } from "../settings/listener.ts";

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
  /** Whether what the publication supabase_realtime publishes is captured. */
  publication: boolean;
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
  const [alone, tuned] = [listenerAlone.safeParse(env), listenerTuning.safeParse(env)];
  if (!alone.success || !tuned.success) {
    const issues = [alone, tuned].flatMap(({ error }) => error?.issues ?? []);
    throw new ConfigError(issues.map(({ path, message }) => `${path.join(".")} ${message}`).join("\n"));
  }
  const values = { ...alone.data, ...tuned.data };
  return {
    databaseUrl: values.DATABASE_URL,
    edgeUrl: values.REALTIME_EDGE_URL.replace(/\/+$/, ""),
    secret: values.REALTIME_LISTENER_SECRET,
    port: values.REALTIME_LISTENER_PORT,
    host: values.REALTIME_LISTENER_HOST,
    notify: values.REALTIME_NOTIFY === "on",
    publication: values.REALTIME_PUBLICATION === "on",
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
