// Tokens: what a client shows at the door, turned into claims (protocol.md §1.3).
import { compactVerify, decodeProtectedHeader, errors } from "jose";
import type { Claims } from "../protocol/claims.ts";
import { isObject, parseJson } from "../protocol/json.ts";

/** What the server holds to judge tokens by. */
export interface Keys {
  /** Secret of HS256, HS384 and HS512 tokens. */
  readonly secret: string;
  /** Keys that may be opaque: they stand for a role themselves. */
  readonly anonKey: string | undefined;
  readonly serviceKey: string | undefined;
}

export type TokenErrorCode = "InvalidJWTToken" | "MalformedJWT" | "JwtSignatureError" | "JwtSignerError";

/** A token that is refused. `code: message` is the reason of a join's error reply, `message` alone the upgrade's body. */
export class TokenError extends Error {
  override readonly name = "TokenError";
  readonly code: TokenErrorCode;
  constructor(code: TokenErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

const ALGORITHMS = ["HS256", "HS384", "HS512"];
const encoder = new TextEncoder();
const HASURA_CLAIMS = "https://hasura.io/jwt/claims";

/** Verifies a token. `now` is unix ms. Throws TokenError, whose messages are those that Supabase clients match on. */
export async function verifyToken(token: string, keys: Keys, now: number): Promise<Claims> {
  const text = decodePercent(token).replace(/\s/g, "");
  if (!isJwt(text)) {
    if (isKey(text, keys.serviceKey)) return keyClaims("service_role");
    if (isKey(text, keys.anonKey)) return keyClaims("anon");
  }
  const payload = await verifySignature(text, keys.secret);
  return claimsOf(payload, now);
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

async function verifySignature(token: string, secret: string): Promise<Record<string, unknown>> {
  try {
    if (!ALGORITHMS.includes(decodeProtectedHeader(token).alg ?? "")) {
      throw new TokenError(
        "JwtSignerError",
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
      );
    }
    const { payload } = await compactVerify(token, encoder.encode(secret), { algorithms: ALGORITHMS });
    const claims = parseJson(new TextDecoder().decode(payload));
    if (isObject(claims)) return claims;
  } catch (error) {
    if (error instanceof TokenError) throw error;
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      throw new TokenError("JwtSignatureError", "Failed to validate JWT signature");
    }
  }
  throw new TokenError("MalformedJWT", "The token provided is not a valid JWT");
}

function claimsOf(all: Record<string, unknown>, now: number): Claims {
  const hasura = isObject(all[HASURA_CLAIMS]) ? all[HASURA_CLAIMS] : all;
  const role = all.role ?? hasura["x-hasura-default-role"];
  const exp = all.exp;
  if (typeof role !== "string" || exp === undefined) {
    throw new TokenError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT");
  }
  if (typeof exp !== "number") throw new TokenError("InvalidJWTToken", "Token expiration time is invalid");
  const late = Math.round(now / 1000 - exp);
  if (exp * 1000 <= now) throw new TokenError("InvalidJWTToken", `Token has expired ${late} seconds ago`);
  const user = all.sub ?? hasura["x-hasura-user-id"];
  return { role, user: typeof user === "string" ? user : null, exp, all };
}
