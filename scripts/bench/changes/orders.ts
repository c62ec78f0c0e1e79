// Orders: what the bench of row changes tells the process that holds its subscribers' sockets, and what it answers.
import { z } from "zod";

const order = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("open"),
    /** The edge's socket, `ws://…/websocket`. */
    url: z.string(),
    table: z.string(),
    sockets: z.array(
      z.object({
        /** Who it is: a key or a token. */
        key: z.string(),
        /** Takes several frames as one. */
        packed: z.boolean().optional(),
        /** One a channel: its topic, and the filter of its subscription. */
        joins: z.array(z.object({ topic: z.string(), filter: z.string().optional() })),
      }),
    ),
  }),
  z.object({ kind: z.literal("read") }),
  z.object({ kind: z.literal("reset") }),
]);
export type Order = z.infer<typeof order>;
export type SocketPlan = Extract<Order, { kind: "open" }>["sockets"][number];

const answer = z.union([
  z.object({
    /** Deliveries since the last reset. */
    deliveries: z.int(),
    /** Unix ms of the last one, with fractions. */
    lastAt: z.number(),
    /** CPU of this process in all, microseconds. */
    cpu: z.number(),
  }),
  z.object({ error: z.string() }),
]);
export type Answer = z.infer<typeof answer>;

export const parseOrder = (message: unknown): Order => order.parse(message);
export const parseAnswer = (message: unknown): Answer => answer.parse(message);

export const now = (): number => performance.timeOrigin + performance.now();
