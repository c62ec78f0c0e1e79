// Authentication of HTTP requests: a bearer token or an apikey header, and the role that a route asks for.
import { createMiddleware } from "hono/factory";
import { TokenError, verifyToken } from "../auth/tokens.ts";
import type { Claims } from "../protocol/claims.ts";
import { type Env, settingsOf } from "./env.ts";

/** Lets a request through with a valid token, and with this role if one is named; 401 or 403 with the reason otherwise. */
export function requireRole(role?: string) {
  return createMiddleware<{ Bindings: Env; Variables: { claims: Claims } }>(async (c, next) => {
    const bearer = /^bearer (.+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    const token = bearer ?? c.req.header("apikey");
    if (token === undefined) return c.json({ message: "Unauthorized", error: "API key is missing" }, 401);
    try {
      const claims = await verifyToken(token, settingsOf(c.env).keys, Date.now());
      if (role !== undefined && claims.role !== role) {
        return c.json({ message: "Forbidden", error: `this needs a key of the role ${role}` }, 403);
      }
      c.set("claims", claims);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      return c.json({ message: "Unauthorized", error: error.message }, 401);
    }
    await next();
    return undefined;
  });
}
