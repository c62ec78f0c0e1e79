// The settings of everything on one machine that are neither the edge's nor the listener's own.
import * as z from "zod";
import { NO_DATABASE } from "./database.ts";
import { databaseError, databaseUrl, port, says, secret, text } from "./values.ts";

export const DEFAULT_PORT = 4_000;
/** Where the clients of earlier releases look; served too as long as nobody chose a port. */
export const FORMER_PORT = 3_100;
export const LOOPBACK = "127.0.0.1";

const key = text.regex(/^[\x21-\x7e]+$/, { error: "must not hold spaces or characters beyond ASCII" });

export const stackSettings = z.object({
  REALTIME_PORT: says(
    port().optional(),
    "where clients connect",
    `${DEFAULT_PORT}, and ${FORMER_PORT} too while it is free`,
  ),
  REALTIME_HOST: says(
    z
      .union([z.ipv4(), z.ipv6(), z.literal("localhost")], { error: "must be an IP address or localhost" })
      .default(LOOPBACK),
    "the address to listen on",
  ),
  REALTIME_LISTENER_PORT: says(port().optional(), "the listener's HTTP port", "REALTIME_PORT + 1"),
  REALTIME_POSTGRES_PORT: says(port().optional(), "the embedded PostgreSQL's port", "REALTIME_PORT + 2"),
  DATABASE_URL: says(
    z.union([z.literal(NO_DATABASE), databaseUrl], { error: databaseError }).optional(),
    "a PostgreSQL of your own; none: no database, no registered channels and no row changes",
    "the embedded one",
  ),
  REALTIME_JWT_SECRET: says(
    secret.optional(),
    "signs and verifies tokens, 32 characters or more",
    "made at the first start",
  ),
  REALTIME_ANON_KEY: says(key.optional(), "the key for clients", "a token made with the secret"),
  REALTIME_SERVICE_KEY: says(key.optional(), "the key for servers and the CLI", "a token made with the secret"),
  REALTIME_LISTENER_SECRET: says(
    secret.optional(),
    "between listener and edge, 32 characters or more",
    "made at the first start",
  ),
  NSELF_HOME: says(text.optional(), "where all state is kept", ".nself in the project directory"),
});
