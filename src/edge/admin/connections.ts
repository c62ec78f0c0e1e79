// Admin API: open client sockets.
import { Hono } from "hono";
import * as z from "zod";
import { settleAtOnce } from "../at-once.ts";
import type { ConnectionEntry, HolderRpc } from "../objects/rpc.ts";
import { MAX_PAGE, pageFields, pageOf } from "./cursor.ts";
import { query, time } from "./input.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";
import { secondsSince } from "./time.ts";

const connection = z
  .object({
    user_id: z.string().nullable().meta({ description: "The first of its users; null: it has none." }),
    users: z
      .array(z.string())
      .meta({ description: "Who opened it, then those who joined its channels with tokens of their own." }),
    connection_id: z.string(),
    status: z.literal("connected"),
    role: z.string(),
    channels: z.array(z.string()),
    gateway: z.string(),
    connected_at: time,
    last_seen_at: time,
    seconds_since_seen: z.number().int(),
  })
  .meta({ id: "Connection" });

const list = operation({
  id: "listConnections",
  tag: "Control",
  summary: "List the open sockets, newest first",
  answers: { 200: z.array(connection) },
  commands: ["connections"],
});

export const connections = new Hono<AdminEnv>().get(
  "/",
  list,
  query(z.strictObject(pageFields(MAX_PAGE))),
  async (c) => {
    const open = await openConnections(c.var.ports);
    const page = pageOf(c, open, c.req.valid("query"), ({ connectedAt, id }) => [-connectedAt, id]);
    return c.json(page.map(connectionView));
  },
);

/** Every open client socket, asked of the objects that hold them. What one holds that does not answer is left out. */
export async function openConnections(ports: AdminPorts): Promise<ConnectionEntry[]> {
  return (await askHolders(ports, (holder) => holder.connections())).answers.flat();
}

/** Has every object that may hold client sockets do something. Throws when one of them has not: the others have. */
export async function heldBy<Answer>(
  ports: AdminPorts,
  ask: (holder: HolderRpc) => Promise<Answer>,
): Promise<Answer[]> {
  const { answers, errors } = await askHolders(ports, ask);
  if (errors.length === 0) return answers;
  throw new Problem("internal", `${errors.length} of the objects that hold sockets could not be reached: try again`);
}

/** Asks every object that may hold client sockets. Errors are logged. */
export async function askHolders<Answer>(
  ports: AdminPorts,
  ask: (holder: HolderRpc) => Promise<Answer>,
): Promise<{ answers: Answer[]; errors: unknown[] }> {
  const { gateways, channels } = await ports.directory().holders();
  const holders = [...gateways.map((name) => ports.gateway(name)), ...channels.map((name) => ports.channel(name))];
  const asked = await settleAtOnce(holders, ask);
  for (const error of asked.errors) console.error(JSON.stringify({ event: "no answer", reason: String(error) }));
  return asked;
}

function connectionView(entry: ConnectionEntry): z.infer<typeof connection> {
  const { id, users, role, channels, gateway, connectedAt, lastSeen } = entry;
  return {
    user_id: users[0] ?? null,
    users,
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
