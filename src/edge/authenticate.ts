// Authentication of HTTP requests: a bearer token or an apikey header, and the role that a route asks for.
import { createMiddleware } from "hono/factory";
import { TokenError, verifyToken } from "../auth/tokens.ts";
import type { Claims } from "../protocol/claims.ts";
import type { Refusal } from "./admin/ports.ts";
import { type Env, settingsOf } from "./env.ts";

export type Authenticated = { Bindings: Env; Variables: { claims: Claims } };

/** Who asks. A string says why nobody may be known by that request: a bearer token counts first, valid or not. */
export async function authenticate(headers: Headers, env: Env): Promise<Claims | string> {
  const bearer = /^bearer\s+(\S.*)$/i.exec(headers.get("authorization") ?? "")?.[1];
  const token = bearer ?? headers.get("apikey");
  if (token === null) return "API key is missing: send it in the header apikey, or as authorization: Bearer <key>";
  try {
    return await verifyToken(token, settingsOf(env).keys, Date.now());
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return error.message;
  }
}

/** Who asks, if they may come in: with a valid token, and of this role if one is named. */
export async function admit(headers: Headers, env: Env, role?: string): Promise<{ claims: Claims } | Refusal> {
  const claims = await authenticate(headers, env);
  if (typeof claims === "string") return { status: 401, reason: claims };
  if (role !== undefined && claims.role !== role) {
    return { status: 403, reason: `this needs a key of the role ${role}` };
  }
  if (await isRevoked(claims, env)) return { status: 401, reason: "Token has been revoked" };
  return { claims };
}

/** Lets a request through that has a valid token; 401 with the reason otherwise. */
export const requireToken = createMiddleware<Authenticated>(async (c, next) => {
  const admitted = await admit(c.req.raw.headers, c.env);
  if ("reason" in admitted) return c.json({ message: "Unauthorized", error: admitted.reason }, 401);
  c.set("claims", admitted.claims);
  await next();
  return undefined;
});

/** Rejects when the directory cannot say. Keys and tokens without a `jti` cannot be revoked. */
async function isRevoked({ all }: Claims, { DIRECTORY }: Env): Promise<boolean> {
  return typeof all.jti === "string" && DIRECTORY.getByName("directory").isRevoked(all.jti);
}
