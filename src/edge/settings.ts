// The edge's settings that a person tunes, with their bounds: free of the platform, so that a start can check them first.
import * as z from "zod";
import { MAX_GATEWAY_SOCKETS } from "../protocol/limits.ts";

/** Settings arrive as text. Outside these bounds each is refused, never adjusted. */
export const tuning = z.object({
  /** Gateways of one location. */
  REALTIME_GATEWAYS: whole(1, 1_000).default(4),
  /** Sockets on one gateway. */
  REALTIME_GATEWAY_SOCKETS: whole(1, 32_000).default(MAX_GATEWAY_SOCKETS),
  /** Seconds until a user tracked without a socket is offline. */
  REALTIME_PRESENCE_TIMEOUT: whole(1, 86_400).default(300),
});

function whole(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  return z.coerce.number({ error }).int({ error }).min(least, { error }).max(most, { error });
}
