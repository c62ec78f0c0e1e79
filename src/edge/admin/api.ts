// The admin API: what `nself realtime` and dashboards call, mounted at /admin/v1 behind the role service_role.
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { mostOf } from "../../protocol/limits.ts";
import { channels } from "./channels.ts";
import { cleanup } from "./cleanup.ts";
import { connections } from "./connections.ts";
import { control } from "./control.ts";
import { history } from "./history.ts";
import { members } from "./members.ts";
import { messages } from "./messages.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { presence } from "./presence.ts";
import { answerProblem, Problem } from "./problem.ts";
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
  api.use(limit, async (c, next) => {
    c.set("ports", portsOf(c.env));
    await next();
  });
  const routes = api
    .route("/", status)
    .route("/", stats)
    .route("/channels", channels)
    .route("/channels", members)
    .route("/channels", messages)
    .route("/", history)
    .route("/", presence)
    .route("/cleanup", cleanup)
    .route("/connections", connections)
    .route("/", control)
    .route("/subscriptions", subscriptions);
  api.all("*", (c) => {
    throw new Problem("not_found", `the admin API has no ${c.req.method} ${c.req.path}`);
  });
  return routes;
}

export type AdminApi = ReturnType<typeof adminApi>;
