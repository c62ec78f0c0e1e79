// The edge's environment: bindings of the platform, and settings read once and checked by name.
import { KeySet } from "../auth/key-set.ts";
import type { Keys } from "../auth/tokens.ts";
import type { Limits, Pace } from "../protocol/limits.ts";
import { deployment, limitsFrom, paceFrom, type Tuning, tuning } from "../settings/edge.ts";
import { keySource } from "./key-source.ts";
import type { Channel } from "./objects/channel.ts";
import type { Directory } from "./objects/directory.ts";
import type { Gateway } from "./objects/gateway.ts";

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

/** The settings, typed. */
export interface Settings {
  readonly keys: Keys;
  readonly listenerSecret: string;
  /** False: no sockets, no broadcasts over HTTP. */
  readonly enabled: boolean;
  /** Sockets of all objects together. */
  readonly maxConnections: number;
  /** Gateways of one location. */
  readonly gateways: number;
  /** Sockets on one gateway, and direct ones on one channel. */
  readonly gatewaySockets: number;
  readonly presenceTimeoutMs: number;
  readonly messageTtlMs: number;
  readonly limits: Limits;
  readonly pace: Pace;
  /** Connections of one address; 0: as many as it likes. */
  readonly connectionsPerMinute: number;
  /** The header that names the client's address; undefined: the address that the connection comes from. */
  readonly ipHeader: string | undefined;
  /** What may be tuned, by the names of the settings. */
  readonly tuning: Tuning;
}

let read: { readonly env: Env; readonly settings: Settings } | undefined;

/** Reads the settings of an environment. Throws an Error that names each variable that is missing or wrong. */
export function settingsOf(env: Env): Settings {
  if (read?.env === env) return read.settings;
  const [given, tuned] = [deployment.safeParse(env), tuning.safeParse(env)];
  if (!given.success || !tuned.success) {
    const issues = [given, tuned].flatMap(({ error }) => error?.issues ?? []);
    throw new Error(`bad settings: ${issues.map(({ path, message }) => `${path.join(".")} ${message}`).join("; ")}`);
  }
  const data = { ...given.data, ...tuned.data };
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
    enabled: data.REALTIME_ENABLED,
    maxConnections: data.REALTIME_MAX_CONNECTIONS,
    gateways: data.REALTIME_GATEWAYS,
    gatewaySockets: data.REALTIME_GATEWAY_SOCKETS,
    presenceTimeoutMs: data.REALTIME_PRESENCE_TIMEOUT * 1000,
    messageTtlMs: data.REALTIME_MESSAGE_TTL * 1000,
    limits: limitsFrom(data),
    pace: paceFrom(data),
    connectionsPerMinute: data.REALTIME_CONNECTIONS_PER_MINUTE,
    ipHeader: data.REALTIME_IP_HEADER,
    tuning: tuned.data,
  };
  read = { env, settings };
  return settings;
}
