// Admin API: open client sockets.
import { Hono } from "hono";
import type { ConnectionEntry, HolderRpc } from "../objects/rpc.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { secondsSince } from "./time.ts";

export const connections = new Hono<AdminEnv>().get("/", async (c) => {
  const open = await openConnections(c.var.ports);
  return c.json(open.toSorted((a, b) => b.connectedAt - a.connectedAt).map(connectionView));
});

/** Every open client socket, asked of the objects that hold them. */
export async function openConnections(ports: AdminPorts): Promise<ConnectionEntry[]> {
  return (await heldBy(ports, (holder) => holder.connections())).flat();
}

/** Asks every object that may hold client sockets. */
export async function heldBy<Answer>(
  ports: AdminPorts,
  ask: (holder: HolderRpc) => Promise<Answer>,
): Promise<Answer[]> {
  const { gateways, channels } = await ports.directory().holders();
  return Promise.all([
    ...gateways.map((name) => ask(ports.gateway(name))),
    ...channels.map((name) => ask(ports.channel(name))),
  ]);
}

function connectionView({ id, user, role, channels, gateway, connectedAt, lastSeen }: ConnectionEntry) {
  return {
    user_id: user,
    connection_id: id,
    status: "connected",
    role,
    channels,
    gateway,
    connected_at: new Date(connectedAt).toISOString(),
    last_seen_at: new Date(lastSeen).toISOString(),
    seconds_since_seen: secondsSince(lastSeen),
  };
}
