// Authentication of HTTP requests: a bearer token or an apikey header, and the role that a route asks for.
import { createMiddleware } from "hono/factory";
import { TokenError, verifyToken } from "../auth/tokens.ts";
import type { Claims } from "../protocol/claims.ts";
import { type Env, settingsOf } from "./env.ts";

export type Authenticated = { Bindings: Env; Variables: { claims: Claims } };

/** Who asks. A string says why nobody may be known by that request: a bearer token counts first, valid or not. */
export async function authenticate(headers: Headers, env: Env): Promise<Claims | string> {
  const bearer = /^bearer\s+(\S.*)$/i.exec(headers.get("authorization") ?? "")?.[1];
  const token = bearer ?? headers.get("apikey");
  if (token === null) return "API key is missing";
  try {
    return await verifyToken(token, settingsOf(env).keys, Date.now());
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return error.message;
  }
}

/** Lets a request through with a valid token, and with this role if one is named; 401 or 403 with the reason otherwise. */
export function requireRole(role?: string) {
  return createMiddleware<Authenticated>(async (c, next) => {
    const claims = await authenticate(c.req.raw.headers, c.env);
    if (typeof claims === "string") return c.json({ message: "Unauthorized", error: claims }, 401);
    if (role !== undefined && claims.role !== role) {
      return c.json({ message: "Forbidden", error: `this needs a key of the role ${role}` }, 403);
    }
    if (await isRevoked(claims, c.env))
      return c.json({ message: "Unauthorized", error: "Token has been revoked" }, 401);
    c.set("claims", claims);
    await next();
    return undefined;
  });
}

/** Rejects when the directory cannot say. Keys and tokens without a `jti` cannot be revoked. */
async function isRevoked({ all }: Claims, { DIRECTORY }: Env): Promise<boolean> {
  return typeof all.jti === "string" && DIRECTORY.getByName("directory").isRevoked(all.jti);
}
