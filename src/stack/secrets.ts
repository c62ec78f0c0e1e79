// The secrets of the stack: made at the first start, kept in the home, read again at every other start.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SignJWT } from "jose";
import { z } from "zod";
import { KeySet } from "../auth/key-set.ts";
import { type Keys, TokenError, verifyToken } from "../auth/tokens.ts";
import { tuning } from "../settings/edge.ts";
import type { Config } from "./config.ts";
import { StackError } from "./errors.ts";
import { dataIn } from "./postgres.ts";

const kept = z.strictObject({
  jwtSecret: z.string(),
  listenerSecret: z.string(),
  postgresPassword: z.string(),
  /** When the keys were issued, in seconds of Unix time: the same time and secret give the same keys again. */
  issuedAt: z.int(),
});

export interface Secrets {
  readonly jwtSecret: string;
  readonly listenerSecret: string;
  readonly postgresPassword: string;
  readonly anonKey: string;
  readonly serviceKey: string;
}

const TEN_YEARS_S = 10 * 365 * 86_400;

/**
 * The secrets in force: what the configuration gives, and for the rest what `secrets.json` keeps.
 * Keys that are not given are signed with the JWT secret in force, so they fit a secret from outside too.
 * @throws StackError naming `secrets.json` when it cannot be read, or the key that would not do what it is for
 */
export async function loadSecrets(config: Config): Promise<Secrets> {
  const { issuedAt, ...own } = readOrMake(config);
  const jwtSecret = config.jwtSecret ?? own.jwtSecret;
  if (config.anonKey !== undefined && config.anonKey === config.serviceKey) {
    throw new StackError("REALTIME_ANON_KEY and REALTIME_SERVICE_KEY are the same: every client could do everything");
  }
  // Keys that are published somewhere are not asked for: a start must not depend on another server.
  const { REALTIME_JWKS: given, REALTIME_JWT_CLAIMS: requiredClaims = {} } = tuning.parse(config.tuning);
  const keys = {
    secret: jwtSecret,
    keySet: new KeySet(given),
    anonKey: undefined,
    serviceKey: undefined,
    requiredClaims,
  };
  if (config.anonKey) await requireKey("REALTIME_ANON_KEY", config.anonKey, "anon", keys);
  if (config.serviceKey) await requireKey("REALTIME_SERVICE_KEY", config.serviceKey, "service_role", keys);
  return {
    jwtSecret,
    listenerSecret: config.listenerSecret ?? own.listenerSecret,
    postgresPassword: own.postgresPassword,
    anonKey: config.anonKey ?? (await sign("anon", keys, issuedAt)),
    serviceKey: config.serviceKey ?? (await sign("service_role", keys, issuedAt)),
  };
}

function readOrMake({ home, databaseUrl }: Config): z.infer<typeof kept> {
  const path = join(home, "secrets.json");
  if (existsSync(path)) {
    try {
      return kept.parse(JSON.parse(readFileSync(path, "utf8")));
    } catch {
      // Without the cause: what zod and JSON.parse quote of the file would be secrets.
      throw new StackError(`${path} is damaged. Restore it; the embedded PostgreSQL's password is in it.`);
    }
  }
  const data = dataIn(home);
  if (databaseUrl === undefined && existsSync(data)) {
    throw new StackError(
      `${path} is missing, and ${data} is there. Restore the file; the embedded PostgreSQL's password is in it. ` +
        `To begin anew without what is in that database, remove ${data}.`,
    );
  }
  const made = {
    jwtSecret: random(),
    listenerSecret: random(),
    postgresPassword: random(),
    issuedAt: Math.floor(Date.now() / 1000),
  };
  writeFileSync(path, `${JSON.stringify(made, null, 2)}\n`, { mode: 0o600, flag: "wx" });
  return made;
}

/** A key is opaque and stands for its role, or it is a token that must say so itself, as the edge will read it. */
async function requireKey(setting: string, key: string, role: string, keys: Keys): Promise<void> {
  if (key.split(".").length !== 3) return;
  try {
    const claims = await verifyToken(key, keys, Date.now());
    if (claims.role !== role) throw new StackError(`${setting} is a token of role "${claims.role}", not "${role}"`);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    throw new StackError(
      `${setting} is a token that would be refused: ${error.message}. ` +
        "Sign it with REALTIME_JWT_SECRET or a key of REALTIME_JWKS, leave it out to have one made, or give a key that is no token.",
    );
  }
}

/** 256 bits, in characters that need no escaping in a URL, a shell or a header. */
function random(): string {
  return randomBytes(32).toString("base64url");
}

/** A key of the stack's own, which has every claim that tokens must have. */
function sign(role: string, { secret, requiredClaims }: Keys, issuedAt: number): Promise<string> {
  return new SignJWT({ iss: "nself", ...requiredClaims, role })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + TEN_YEARS_S)
    .sign(new TextEncoder().encode(secret));
}
