// The admin API: what `nself realtime` and dashboards call, mounted at /admin/v1 behind the role service_role.
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { RouterRoute } from "hono/types";
import { mostOf } from "../../protocol/limits.ts";
import { channels } from "./channels.ts";
import { cleanup } from "./cleanup.ts";
import { connections } from "./connections.ts";
import { control } from "./control.ts";
import { history } from "./history.ts";
import { idempotency } from "./idempotency.ts";
import { members } from "./members.ts";
import { messages } from "./messages.ts";
import type { AdminEnv, AdminPorts, Refusal } from "./ports.ts";
import { presence } from "./presence.ts";
import { answerProblem, Problem } from "./problem.ts";
import { reference } from "./reference.ts";
import { stats } from "./stats.ts";
import { status } from "./status.ts";
import { subscriptions } from "./subscriptions.ts";

/** Room for what surrounds a payload, and for payloads written with escapes or blanks that parsing removes. */
const MAX_BODY_BYTES = 2 * mostOf.payloadBytes;

const limit = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: () => {
    throw new Problem("too_large", `the body is larger than ${MAX_BODY_BYTES} bytes; the limit of a payload is 1 MB`);
  },
});

/** Makes the admin API. `portsOf` gives the objects and the store from the bindings of a request. */
export function adminApi<Bindings extends AdminEnv["Bindings"]>(portsOf: (env: Bindings) => AdminPorts) {
  const api = new Hono<AdminEnv & { Bindings: Bindings }>();
  api.onError(answerProblem);
  for (const path of ["/reference", "/openapi.json"]) {
    api.use(path, async (c, next) => {
      const admitted = await portsOf(c.env).admit(withPassword(c.req.raw.headers));
      if ("reason" in admitted) throw refusal(admitted, 'Basic realm="the service key is the password"');
      await next();
    });
  }
  api.route(
    "/",
    reference(() => api.routes),
  );
  api.use(async (c, next) => {
    const ports = portsOf(c.env);
    const admitted = await ports.admit(c.req.raw.headers);
    if ("reason" in admitted) throw refusal(admitted);
    c.set("ports", ports);
    await next();
  }, limit);
  const routes = api
    // Before the rest: a channel itself knows the messages that come again.
    .route("/channels", messages)
    .use(idempotency)
    .route("/", status)
    .route("/", stats)
    .route("/channels", channels)
    .route("/channels", members)
    .route("/", history)
    .route("/", presence)
    .route("/cleanup", cleanup)
    .route("/connections", connections)
    .route("/", control)
    .route("/subscriptions", subscriptions);
  for (const [path, methods] of methodsByPath(api.routes)) {
    api.all(path, (c) => {
      const detail = `${c.req.path} takes ${methods.join(", ")}, not ${c.req.method}`;
      throw new Problem("method_not_allowed", detail, { headers: { allow: methods.join(", ") } });
    });
  }
  api.all("*", (c) => {
    throw new Problem("not_found", `the admin API has no ${c.req.method} ${c.req.path}`);
  });
  return routes;
}

function refusal({ status, reason }: Refusal, scheme = "Bearer"): Problem {
  if (status === 403) return new Problem("forbidden", reason);
  return new Problem("unauthorized", reason, { headers: { "www-authenticate": scheme } });
}

/**
 * The reference is read in browsers, which ask for a password and no key. Nothing else takes one: a browser that has it
 * sends it with whatever another site has it ask for.
 */
function withPassword(headers: Headers): Headers {
  const [, encoded = ""] = /^basic ([a-z0-9+/]+=*)$/i.exec(headers.get("authorization") ?? "") ?? [];
  if (encoded === "") return headers;
  try {
    const [, ...password] = atob(encoded).split(":");
    return new Headers({ apikey: password.join(":") });
  } catch {
    return headers;
  }
}

/** The methods of each path that has a route. */
function methodsByPath(routes: readonly RouterRoute[]): Map<string, string[]> {
  const methods = new Map<string, string[]>();
  for (const { method, path } of routes) {
    if (method === "ALL") continue;
    methods.set(path, [...new Set([...(methods.get(path) ?? []), ...(method === "GET" ? ["GET", "HEAD"] : [method])])]);
  }
  return methods;
}

export type AdminApi = ReturnType<typeof adminApi>;
