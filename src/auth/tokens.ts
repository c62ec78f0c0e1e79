// Tokens: what a client shows at the door, turned into claims (protocol.md §1.3).
import { compactVerify, decodeJwt, decodeProtectedHeader, errors } from "jose";
import type { Claims } from "../protocol/claims.ts";
import type { JoinError } from "../protocol/errors.ts";
import { isObject } from "../protocol/json.ts";
import type { Jwk, KeySet } from "./key-set.ts";

/** What the server holds to judge tokens by. */
export interface Keys {
  /** Secret of the HS256, HS384 and HS512 tokens whose `kid` has no secret of its own. */
  readonly secret: string;
  readonly keySet: KeySet;
  /** Keys that may be opaque: they stand for a role themselves. */
  readonly anonKey: string | undefined;
  readonly serviceKey: string | undefined;
  /** Claims that a token must have exactly so. */
  readonly requiredClaims: RequiredClaims;
}

export type RequiredClaims = Readonly<Record<string, string | number | boolean>>;

export type TokenErrorCode = Extract<
  JoinError,
  "InvalidJWTToken" | "MalformedJWT" | "JwtSignatureError" | "JwtSignerError"
>;

/** A token that is refused. `code: message` is the reason of a join's error reply, `message` alone the upgrade's body. */
export class TokenError extends Error {
  override readonly name = "TokenError";
  readonly code: TokenErrorCode;
  constructor(code: TokenErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * The kind of key that each algorithm needs. The algorithm decides it, never the key that is found: a public key is never
 * taken for a secret, which everybody who can read it could sign with.
 */
const KEY_TYPES: ReadonlyMap<string, Jwk["kty"]> = new Map([
  ...["HS256", "HS384", "HS512"].map((alg) => [alg, "oct"] as const),
  ...["RS256", "RS384", "RS512"].map((alg) => [alg, "RSA"] as const),
  ...["ES256", "ES384", "ES512"].map((alg) => [alg, "EC"] as const),
  // No runtime of ours verifies Ed448: a token of it is refused with the signer error of its kid.
  ...["EdDSA", "Ed25519", "Ed448"].map((alg) => [alg, "OKP"] as const),
]);

const encoder = new TextEncoder();
const TIMES = [
  ["exp", "expiration"],
  ["iat", "issue"],
] as const;
const HASURA_CLAIMS = "https://hasura.io/jwt/claims";

/** Verifies a token. `now` is unix ms. Throws TokenError, whose messages are those that Supabase clients match on. */
export async function verifyToken(token: string, keys: Keys, now: number): Promise<Claims> {
  const text = decodePercent(token).replace(/\s/g, "");
  if (!isJwt(text)) {
    if (isKey(text, keys.serviceKey)) return keyClaims("service_role");
    if (isKey(text, keys.anonKey)) return keyClaims("anon");
  }
  const { header, payload } = decode(text);
  const kid = typeof header.kid === "string" ? header.kid : undefined;
  const key = await keyFor(header.alg, kid, keys, now);
  await verifySignature(text, key, header.alg, kid);
  return claimsOf(payload, keys.requiredClaims, now);
}

/** Whether a token is the key, in a time that does not tell how much of it is right. No key is empty. */
function isKey(token: string, key: string | undefined): boolean {
  if (token === "" || key === undefined) return false;
  const [given, right] = [encoder.encode(token), encoder.encode(key)];
  let difference = given.length ^ right.length;
  for (let at = 0; at < given.length; at++) difference |= (given[at] ?? 0) ^ (right[at] ?? 0);
  return difference === 0;
}

function keyClaims(role: string): Claims {
  return { role, user: null, exp: null, all: { role } };
}

function isJwt(text: string): boolean {
  return text.split(".").length === 3;
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

interface Decoded {
  readonly header: { readonly alg?: unknown; readonly kid?: unknown };
  readonly payload: Readonly<Record<string, unknown>>;
}

function decode(token: string): Decoded {
  try {
    return { header: decodeProtectedHeader(token), payload: decodeJwt(token) };
  } catch {
    throw new TokenError("MalformedJWT", "The token provided is not a valid JWT");
  }
}

async function keyFor(alg: unknown, kid: string | undefined, keys: Keys, now: number): Promise<Jwk | Uint8Array> {
  const kty = typeof alg === "string" ? KEY_TYPES.get(alg) : undefined;
  // Tokens of Supabase Auth name a kid even where the shared secret has signed them.
  if (kty === "oct") return (kid === undefined ? undefined : keys.keySet.secret(kid)) ?? encoder.encode(keys.secret);
  if (kty === undefined || kid === undefined) throw signerError(undefined);
  const key = await keys.keySet.publicKey(kty, kid, now);
  if (key === undefined) throw signerError(kid);
  return key;
}

function signerError(kid: string | undefined): TokenError {
  const which = kid === undefined ? "" : ` for key ID (kid) ${JSON.stringify(kid)}`;
  return new TokenError(
    "JwtSignerError",
    `Failed to generate JWT signer${which}, check your JWT secret or JWKS configuration`,
  );
}

async function verifySignature(token: string, key: Jwk | Uint8Array, alg: unknown, kid?: string): Promise<void> {
  try {
    await compactVerify(token, key, { algorithms: [String(alg)] });
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      throw new TokenError("JwtSignatureError", "Failed to validate JWT signature");
    }
    if (error instanceof errors.JWSInvalid) {
      throw new TokenError("MalformedJWT", "The token provided is not a valid JWT");
    }
    // The key does not do for the algorithm: another curve, too few bits, an `alg` of its own.
    throw signerError(kid);
  }
}

function claimsOf(given: Readonly<Record<string, unknown>>, required: RequiredClaims, now: number): Claims {
  const all = withWholeTimes(given);
  const { exp } = all;
  if (typeof exp === "number" && exp * 1000 <= now) {
    throw invalid(`Token has expired ${Math.floor(now / 1000) - exp} seconds ago`);
  }
  for (const [name, value] of Object.entries(required)) {
    if (all[name] !== value) throw invalid(`The claim ${JSON.stringify(name)} is not as REALTIME_JWT_CLAIMS asks for`);
  }
  const hasura = isObject(all[HASURA_CLAIMS]) ? all[HASURA_CLAIMS] : all;
  const role = all.role ?? hasura["x-hasura-default-role"];
  if (typeof role !== "string" || typeof exp !== "number") {
    throw invalid("Fields `role` and `exp` are required in JWT");
  }
  const user = all.sub ?? hasura["x-hasura-user-id"];
  return { role, user: typeof user === "string" ? user : null, exp, all };
}

/** The claims with their times in whole seconds, as everybody else counts them. */
function withWholeTimes(claims: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const all = { ...claims };
  for (const [name, word] of TIMES) {
    const time = claims[name];
    if (time === undefined) continue;
    if (typeof time !== "number" || !Number.isFinite(time)) throw invalid(`Token ${word} time is invalid`);
    all[name] = Math.round(time);
  }
  return all;
}

function invalid(message: string): TokenError {
  return new TokenError("InvalidJWTToken", message);
}
