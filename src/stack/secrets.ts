// The secrets of the stack: made at the first start, kept in the home, read again at every other start.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SignJWT } from "jose";
import { z } from "zod";
import type { Config } from "./config.ts";
import { StackError } from "./errors.ts";

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
 * @throws StackError naming `secrets.json` when it cannot be read
 */
export async function loadSecrets(config: Config): Promise<Secrets> {
  const { issuedAt, ...own } = readOrMake(join(config.home, "secrets.json"));
  const jwtSecret = config.jwtSecret ?? own.jwtSecret;
  return {
    jwtSecret,
    listenerSecret: config.listenerSecret ?? own.listenerSecret,
    postgresPassword: own.postgresPassword,
    anonKey: config.anonKey ?? (await sign("anon", jwtSecret, issuedAt)),
    serviceKey: config.serviceKey ?? (await sign("service_role", jwtSecret, issuedAt)),
  };
}

function readOrMake(path: string): z.infer<typeof kept> {
  if (existsSync(path)) {
    try {
      return kept.parse(JSON.parse(readFileSync(path, "utf8")));
    } catch {
      // Without the cause: what zod and JSON.parse quote of the file would be secrets.
      throw new StackError(`${path} is damaged. Restore it; the embedded PostgreSQL's password is in it.`);
    }
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

/** 256 bits, in characters that need no escaping in a URL, a shell or a header. */
function random(): string {
  return randomBytes(32).toString("base64url");
}

function sign(role: string, jwtSecret: string, issuedAt: number): Promise<string> {
  return new SignJWT({ role })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer("nself")
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + TEN_YEARS_S)
    .sign(new TextEncoder().encode(jwtSecret));
}
