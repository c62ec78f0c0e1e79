// Orders: what the bench tells a load generator, and what it answers. They travel between two processes.
import { z } from "zod";

const order = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("open"),
    dialect: z.enum(["bare", "phoenix"]),
    /** One a channel: where its sockets connect, and the topic they join there. */
    channels: z.array(z.object({ url: z.string(), topic: z.string() })),
    socketsPerChannel: z.int(),
  }),
  z.object({
    kind: z.literal("measure"),
    /** The process whose CPU counts. */
    pid: z.int(),
    pace: z.union([
      /** Publishes of all channels together. */
      z.object({ perSecond: z.number() }),
      /** The next publish leaves as soon as no more than this many are on their way: saturation. */
      z.object({ onTheWay: z.int() }),
    ]),
    seconds: z.number(),
  }),
]);
export type Order = z.infer<typeof order>;
export type Pace = Extract<Order, { kind: "measure" }>["pace"];

const measurement = z.object({
  publishes: z.int(),
  deliveries: z.int(),
  /** Deliveries that did not come within the time allowed. */
  missing: z.int(),
  deliveriesPerSecond: z.number(),
  /** CPU of the server, and of the load generator itself, microseconds a delivery. */
  cpu: z.number(),
  loadCpu: z.number(),
  /** Publish to receipt, milliseconds. */
  p50: z.number(),
  p99: z.number(),
  /** From a publish's first receipt to its last, milliseconds: the median of all publishes. */
  spread: z.number(),
});
export type Measurement = z.infer<typeof measurement>;

const answer = z.union([
  z.object({ done: z.union([z.literal("open"), measurement]) }),
  z.object({ error: z.string() }),
]);
export type Answer = z.infer<typeof answer>;

export const parseOrder = (message: unknown): Order => order.parse(message);
export const parseAnswer = (message: unknown): Answer => answer.parse(message);
