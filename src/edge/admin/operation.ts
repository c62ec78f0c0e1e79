// Operations: what a route says of itself beside the code that does it. The OpenAPI document is read from these.
import { createMiddleware } from "hono/factory";
import type * as z from "zod";
import type { ProblemCode } from "../../protocol/errors.ts";

export const TAGS = {
  System: "The state of the whole, its statistics, and what is old or left over.",
  Channels: "Registered channels: slug, id or name stand for one.",
  Members: "Who belongs to a registered channel. What changes is in force at once.",
  Messages: "What is sent to a channel, and what was sent.",
  Presence: "Who is online, away or offline.",
  "Row changes": "Tables whose changes are captured.",
  Control: "Who is connected, and who is kept out. Everything is in force at once, at every socket.",
} as const;

/** What a route says in words, and what it answers. */
export interface Operation {
  /** The name of the call in generated clients, the same for good. */
  readonly id: string;
  readonly tag: keyof typeof TAGS;
  readonly summary: string;
  readonly description?: string;
  /** Bodies by status. */
  readonly answers: Partial<Readonly<Record<200 | 201, z.ZodType>>>;
  /** Headers of these answers, beside the cursor of a list. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Problems of its own, beside those that any operation has. */
  readonly problems?: readonly ProblemCode[];
  /** The commands that call it, as they are typed after `nself realtime`. */
  readonly commands: readonly string[];
}

/** What one handler of a route adds to what is known of it. */
export interface Part {
  readonly operation?: Operation;
  readonly body?: z.ZodType;
  readonly query?: z.ZodType;
  readonly path?: z.ZodType;
}

const parts = new WeakMap<object, Part>();

/** Keeps what a handler says of its route, and answers the handler. */
export function saying<Handler extends object>(handler: Handler, part: Part): Handler {
  parts.set(handler, part);
  return handler;
}

/** What a handler says of its route, if anything. */
export function said(handler: object): Part | undefined {
  return parts.get(handler);
}

/** Says what a route does. It does nothing itself. */
export function operation(operation: Operation) {
  return saying(
    createMiddleware((_, next) => next()),
    { operation },
  );
}
