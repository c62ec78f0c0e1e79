// The edge's environment: bindings of the platform, and settings read once and checked by name.
import * as z from "zod";
import { KeySet } from "../auth/key-set.ts";
import type { Keys } from "../auth/tokens.ts";
import type { Limits } from "../protocol/limits.ts";
import { keySource } from "./key-source.ts";
import type { Channel } from "./objects/channel.ts";
import type { Directory } from "./objects/directory.ts";
import type { Gateway } from "./objects/gateway.ts";
import { limitsFrom, tuning } from "./settings.ts";

/** What wrangler.toml (or the workerd configuration of one machine) binds. Settings are text. */
export interface Env extends Partial<Readonly<Record<keyof typeof tuning.shape, string>>> {
  readonly GATEWAY: DurableObjectNamespace<Gateway>;
  readonly CHANNEL: DurableObjectNamespace<Channel>;
  readonly DIRECTORY: DurableObjectNamespace<Directory>;
  readonly REALTIME_JWT_SECRET: string;
  readonly REALTIME_ANON_KEY?: string;
  readonly REALTIME_SERVICE_KEY?: string;
  readonly REALTIME_LISTENER_SECRET: string;
  readonly DATABASE_URL: string;
  readonly REALTIME_SQL_URL?: string;
  readonly REALTIME_SQL_SECRET?: string;
}

const secret = z.string().min(16, "needs at least 16 characters");
/** An empty key, as an unset variable of a script leaves it, is no key: nobody shows it and comes in. */
const key = z.string().transform((text) => text.replace(/\s/g, "") || undefined);

const settingsSchema = z.object({
  REALTIME_JWT_SECRET: secret,
  REALTIME_ANON_KEY: key.optional(),
  REALTIME_SERVICE_KEY: key.optional(),
  REALTIME_LISTENER_SECRET: secret,
  ...tuning.shape,
});

/** The settings, typed. */
export interface Settings {
  readonly keys: Keys;
  readonly listenerSecret: string;
  /** Gateways of one location. */
  readonly gateways: number;
  /** Sockets on one gateway. */
  readonly gatewaySockets: number;
  readonly presenceTimeoutMs: number;
  readonly messageTtlMs: number;
  readonly limits: Limits;
  /** Connections of one address; 0: as many as it likes. */
  readonly connectionsPerMinute: number;
  /** The header that names the client's address; undefined: the address that the connection comes from. */
  readonly ipHeader: string | undefined;
}

let read: { readonly env: Env; readonly settings: Settings } | undefined;

/** Reads the settings of an environment. Throws an Error that names each variable that is missing or wrong. */
export function settingsOf(env: Env): Settings {
  if (read?.env === env) return read.settings;
  const result = settingsSchema.safeParse(env);
  if (!result.success) {
    const faults = result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
    throw new Error(`bad settings: ${faults.join("; ")}`);
  }
  const { data } = result;
  const url = data.REALTIME_JWKS_URL;
  const settings = {
    keys: {
      secret: data.REALTIME_JWT_SECRET,
      keySet: new KeySet(data.REALTIME_JWKS, url === undefined ? undefined : keySource(url)),
      anonKey: data.REALTIME_ANON_KEY,
      serviceKey: data.REALTIME_SERVICE_KEY,
      requiredClaims: data.REALTIME_JWT_CLAIMS ?? {},
    },
    listenerSecret: data.REALTIME_LISTENER_SECRET,
    gateways: data.REALTIME_GATEWAYS,
    gatewaySockets: Math.min(
      data.REALTIME_GATEWAY_SOCKETS,
      Math.ceil(data.REALTIME_MAX_CONNECTIONS / data.REALTIME_GATEWAYS),
    ),
    presenceTimeoutMs: data.REALTIME_PRESENCE_TIMEOUT * 1000,
    messageTtlMs: data.REALTIME_MESSAGE_TTL * 1000,
    limits: limitsFrom(data),
    connectionsPerMinute: data.REALTIME_CONNECTIONS_PER_MINUTE,
    ipHeader: data.REALTIME_IP_HEADER,
  };
  read = { env, settings };
  return settings;
}
