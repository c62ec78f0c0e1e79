// The listener's second door: the policies on `realtime.messages` have changed.
import { forEachAtOnce } from "./at-once.ts";
import type { Env } from "./env.ts";
import { readSigned } from "./signed.ts";

/** Has every object that holds sockets judge anew what they may do: 200 once all have been told. */
export async function receivePolicies(request: Request, env: Env): Promise<Response> {
  const body = await readSigned(request, env);
  if (body instanceof Response) return body;
  const { gateways, channels } = await env.DIRECTORY.getByName("directory").holders();
  await forEachAtOnce(gateways, (name) => env.GATEWAY.getByName(name).policiesChanged());
  await forEachAtOnce(channels, (name) => env.CHANNEL.getByName(name).policiesChanged());
  return Response.json({ told: gateways.length + channels.length });
}
