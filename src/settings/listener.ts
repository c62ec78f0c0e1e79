// The listener's settings, with their bounds.
import * as z from "zod";
import { databaseUrl, httpUrl, oneOf, port, says, secret, text, whole } from "./values.ts";

/** What a person tunes, wherever the listener runs. */
export const listenerTuning = z.object({
  REALTIME_OUTBOX_LIMIT: says(
    whole(1_000_000, 1e15).default(2_000_000_000),
    "bytes of row changes that may wait for the edge before capture stops",
  ),
  REALTIME_SQL_SECRET: says(
    secret.optional(),
    "the edge's key to the listener's SQL over HTTP",
    "made of the listener's secret",
  ),
  REALTIME_SQL_DATABASE_URL: says(
    databaseUrl.optional(),
    "a login of its own for the edge's SQL, such as of nself_realtime_edge",
    "DATABASE_URL",
  ),
  REALTIME_SQL_SESSIONS: says(whole(1, 100).default(5), "sessions for it"),
  REALTIME_SQL_TIMEOUT: says(whole(1, 600).default(15), "seconds that one of its statements may take"),
  REALTIME_PUBLICATION: says(
    oneOf(["on", "off"]).default("on"),
    "whether the tables of the publication `supabase_realtime` are captured",
  ),
  REALTIME_NOTIFY: says(oneOf(["on", "off"]).default("on"), "whether plain LISTEN hears row changes too"),
  REALTIME_LOG_LEVEL: says(
    oneOf(["error", "warn", "info", "debug"]).default("info"),
    "what the listener logs: error, warn, info or debug",
    "warn here, info where the listener runs alone",
  ),
});

/** What it needs where it runs alone; beside the rest of a stack, the stack says it. */
export const listenerAlone = z.object({
  DATABASE_URL: databaseUrl,
  REALTIME_EDGE_URL: says(httpUrl, "where the edge answers, for a listener that runs alone", "none"),
  REALTIME_LISTENER_SECRET: secret,
  REALTIME_LISTENER_HOST: says(
    text.min(1, { error: "must not be empty" }).default("127.0.0.1"),
    "the address of a listener that runs alone",
  ),
  REALTIME_LISTENER_PORT: port(0).default(4_001),
});
