// The app: every HTTP route of the edge on one screen.
import { Hono } from "hono";
import { openStore } from "../store/store.ts";
import { adminApi } from "./admin/api.ts";
import type { AdminPorts } from "./admin/ports.ts";
import { admit, requireToken } from "./authenticate.ts";
import { broadcasts } from "./broadcasts.ts";
import { receiveChanges } from "./changes.ts";
import { type Env, settingsOf } from "./env.ts";
import { moderation } from "./moderation.ts";
import { receivePolicies } from "./policies.ts";
import { directSocket, sharedSocket } from "./upgrade.ts";

type Bindings = { Bindings: Env };

export const app = new Hono<Bindings>();

// Open to all: nothing but whether we are alive, here in our own words, then in those of Supabase (protocol.md §1.1).
app.get("/health", (c) => {
  settingsOf(c.env);
  return c.json({ status: "ok" });
});
for (const prefix of ["", "/realtime/v1"]) {
  app.get(`${prefix}/healthcheck`, (c) => c.text("ok"));
  app.get(`${prefix}/api/ping`, (c) => c.json({ message: "Success" }));
}

// Sockets. The upgrade's own answer goes back as it is: a response that is rebuilt loses its socket.
for (const prefix of ["/realtime/v1", "/socket"]) {
  app.all(`${prefix}/websocket`, (c) => sharedSocket(c.req.raw, c.env));
  app.all(`${prefix}/channels/:topic/websocket`, (c) => directSocket(c.req.raw, c.env, c.req.param("topic")));
}

// Broadcasts and moderation of clients without a socket.
for (const path of ["/realtime/v1/api/broadcast", "/api/broadcast"]) app.route(path, broadcasts);
for (const path of ["/realtime/v1/api/moderate", "/api/moderate"]) app.route(path, moderation);

// The listener, by its own secret.
app.post("/internal/changes", (c) => receiveChanges(c.req.raw, c.env));
app.post("/internal/policies", (c) => receivePolicies(c.req.raw, c.env));

// The admin API, for the service role alone.
app.route(
  "/admin/v1",
  adminApi<Env>(
    (env): AdminPorts => ({
      channel: (name) => env.CHANNEL.getByName(name),
      gateway: (name) => env.GATEWAY.getByName(name),
      directory: () => env.DIRECTORY.getByName("directory"),
      store: openStore(env),
      settings: settingsOf(env).tuning,
      admit: (headers) => admit(headers, env, "service_role"),
    }),
  ),
);

// Whatever else is asked for: who may not come in does not learn what there is.
app.all("*", requireToken, (c) => c.json({ error: `there is no ${c.req.method} ${c.req.path}` }, 404));

app.onError((error, c) => {
  console.error(JSON.stringify({ event: "request failed", path: c.req.path, reason: String(error) }));
  return c.json({ error: "Internal error" }, 500);
});
