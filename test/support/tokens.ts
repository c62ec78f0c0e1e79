// Tokens of users, as an auth server of the stack signs them.
import { SignJWT } from "jose";

/** Unix seconds, or a time span as jose reads it. */
export type Expiry = number | string;

/** A token of the role `authenticated`, unless `claims` say otherwise, signed with the stack's own secret. */
export function userToken(
  { jwtSecret }: { readonly jwtSecret: string },
  claims: { readonly sub: string; readonly [claim: string]: unknown },
  expires: Expiry = "1h",
): Promise<string> {
  return new SignJWT({ role: "authenticated", ...claims })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuedAt()
    .setExpirationTime(expires)
    .sign(new TextEncoder().encode(jwtSecret));
}
