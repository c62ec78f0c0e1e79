// Error codes: how the server says no to a join, to a broadcast and to a request of the admin API, and what to do then.

export interface ErrorKind {
  readonly title: string;
  /** The HTTP status it is answered with. */
  readonly status?: number;
  /** Whether the same, tried again in a while, may go well. The stock Supabase client tries every join again. */
  readonly reconnect: boolean;
  /** What to do. */
  readonly remedy: string;
}

/** Errors of joins, with which the `reason` of their reply begins: `Code: message` (protocol.md §3.5). */
export const joinErrors = {
  TopicNameRequired: {
    title: "The topic names no channel",
    reconnect: false,
    remedy: "Join `realtime:<name>`, or `realtime:table:<schema>.<table>` for the changes of a table.",
  },
  TopicTooLong: {
    title: "The topic is too long",
    reconnect: false,
    remedy: "Join a topic of at most as many characters as the message says.",
  },
  TopicAlreadyJoined: {
    title: "This socket is in that feed by another spelling",
    reconnect: false,
    remedy: "Leave the other topic first, or listen there.",
  },
  InvalidJWTToken: {
    title: "The token has expired, or lacks a claim",
    reconnect: false,
    remedy: "Join with a new token; it needs the claims `role` and `exp`.",
  },
  MalformedJWT: {
    title: "The token is no JWT",
    reconnect: false,
    remedy: "Send the token as it was issued, or a key of this server.",
  },
  JwtSignatureError: {
    title: "The token is not signed by a key of this server",
    reconnect: false,
    remedy: "Sign with `REALTIME_JWT_SECRET`, or publish the key in `REALTIME_JWKS` or `REALTIME_JWKS_URL`.",
  },
  JwtSignerError: {
    title: "The token's algorithm or key id is not known here",
    reconnect: false,
    remedy: "Add a key of that `kid` and of that kind to `REALTIME_JWKS` or `REALTIME_JWKS_URL`.",
  },
  Unauthorized: {
    title: "The bearer may not be in this channel",
    reconnect: false,
    remedy: "Become a member, have a policy allow it, or wait until the ban that the message names is over.",
  },
  ChannelRateLimitReached: {
    title: "Too many channels on this socket",
    reconnect: true,
    remedy: "Leave some, use another socket, or raise `REALTIME_MAX_CHANNELS`.",
  },
  ClientJoinRateLimitReached: {
    title: "Too many joins",
    reconnect: true,
    remedy: "Join again in a minute, or raise `REALTIME_JOINS_PER_MINUTE`.",
  },
  TooManyFrames: {
    title: "Too many frames before the join was answered",
    reconnect: true,
    remedy: "Wait for the answer to the join, then send.",
  },
  UnableToReplayMessages: {
    title: "The join's `replay` is not valid",
    reconnect: false,
    remedy: "Give `since` in unix milliseconds, and a `limit` of at least 1.",
  },
  TableNotCaptured: {
    title: "No changes of this table are captured",
    reconnect: false,
    remedy: "Run `nself realtime subscribe <schema>.<table>`.",
  },
  RealtimeDisabledForConfiguration: {
    title: "A subscription that the join waits for cannot be had",
    reconnect: false,
    remedy: "Mend what the message names: the table, its columns or the filter.",
  },
  PostgresChangesSubscribeTimeout: {
    title: "The subscriptions that the join waits for did not come in time",
    reconnect: true,
    remedy: "Join again; if it lasts, see whether PostgreSQL and the listener are there.",
  },
  UnableToConnectToProject: {
    title: "PostgreSQL is away, and without it nobody knows who may join",
    reconnect: true,
    remedy: "Join again in a while.",
  },
  TimeoutOnRpcCall: {
    title: "The channel did not answer in time",
    reconnect: true,
    remedy: "Join again in a while.",
  },
  RealtimeRestarting: {
    title: "The channel or the directory cannot be reached for now",
    reconnect: true,
    remedy: "Join again in a while.",
  },
} as const satisfies Record<string, ErrorKind>;

/** Errors of broadcasts: the `error` of the reply where acks are asked for; where not, a `system` message says it. */
export const broadcastErrors = {
  unauthorized: {
    title: "The sender may not write to this channel",
    reconnect: false,
    remedy: "Become a member, have a policy allow it, or send to a channel: a feed carries row changes only.",
  },
  rls_policy_error: {
    title: "A policy on `realtime.messages` raised an error",
    reconnect: false,
    remedy: "Mend the policy; PostgreSQL's log has the error.",
  },
  invalid_payload: {
    title: "The broadcast is no object with an `event`",
    reconnect: false,
    remedy: "Send an object whose `event` is a string.",
  },
  payload_size_exceeded: {
    title: "The payload is too large",
    reconnect: false,
    remedy: "Send less, or raise `REALTIME_MAX_PAYLOAD` or the channel's own limit.",
  },
  invalid_persist_ttl: {
    title: "`persist` has no valid `ttl`",
    reconnect: false,
    remedy: "Give whole seconds, from 1 up.",
  },
  channel_unavailable: {
    title: "The channel cannot be reached: the message was not sent",
    reconnect: true,
    remedy: "Send it again in a while.",
  },
  too_many_messages: {
    title: "Too many messages",
    reconnect: true,
    remedy: "Send it again after the time that the message names, or raise `REALTIME_MESSAGES_PER_MINUTE`.",
  },
} as const satisfies Record<string, ErrorKind>;

/** Problems: the `code` of what the admin API answers with `application/problem+json` (RFC 9457). */
export const problems = {
  invalid_request: {
    title: "Invalid request",
    status: 400,
    reconnect: false,
    remedy: "Mend what `detail` names.",
  },
  statement_refused: {
    title: "Refused by the database",
    status: 400,
    reconnect: false,
    remedy: "Mend what `detail` names: it is the database's own message.",
  },
  unauthorized: {
    title: "Unauthorized",
    status: 401,
    reconnect: false,
    remedy: "Send the service key, or a token of the role `service_role`, as `Authorization: Bearer` or `apikey`.",
  },
  forbidden: {
    title: "Forbidden",
    status: 403,
    reconnect: false,
    remedy: "Use a key of the role that `detail` names.",
  },
  not_a_member: {
    title: "Not a member",
    status: 403,
    reconnect: false,
    remedy: "Make the sender a member of the channel first, or send without a sender.",
  },
  banned: {
    title: "Banned",
    status: 403,
    reconnect: false,
    remedy: "Lift the sender's ban with `nself realtime unban`, or send without a sender.",
  },
  not_allowed: {
    title: "Not allowed",
    status: 403,
    reconnect: false,
    remedy: "Have an admin of the channel do it, or give you the role that `detail` names.",
  },
  not_found: {
    title: "Not found",
    status: 404,
    reconnect: false,
    remedy: "Look at the name: the lists show what there is.",
  },
  method_not_allowed: {
    title: "Method not allowed",
    status: 405,
    reconnect: false,
    remedy: "Use a method that the header `Allow` names.",
  },
  full: {
    title: "Channel full",
    status: 409,
    reconnect: false,
    remedy: "Remove a member, or raise the channel's `max_members`.",
  },
  conflict: {
    title: "Conflict",
    status: 409,
    reconnect: false,
    remedy: "Resolve what `detail` names, then ask again.",
  },
  under_way: {
    title: "Under way",
    status: 409,
    reconnect: true,
    remedy: "The first request with this `Idempotency-Key` is not done yet: send it again in a while.",
  },
  too_large: {
    title: "Too large",
    status: 413,
    reconnect: false,
    remedy: "Send less.",
  },
  key_reused: {
    title: "Idempotency key reused",
    status: 422,
    reconnect: false,
    remedy: "Send another request with an `Idempotency-Key` of its own.",
  },
  internal: {
    title: "Internal error",
    status: 500,
    reconnect: true,
    remedy: "Ask again in a while; the server's log says why.",
  },
  store_not_ready: {
    title: "Not initialised",
    status: 503,
    reconnect: false,
    remedy: "Run `nself realtime init`.",
  },
  store_unavailable: {
    title: "Database unavailable",
    status: 503,
    reconnect: true,
    remedy: "Ask again in a while.",
  },
} as const satisfies Record<string, ErrorKind>;

export type JoinError = keyof typeof joinErrors;
export type BroadcastError = keyof typeof broadcastErrors;
export type ProblemCode = keyof typeof problems;

/** The reason of an error reply, in the form that clients match on. */
export function reasonOf(code: JoinError, message: string): string {
  return `${code}: ${message}`;
}

/** Whether a reason is one of this code. */
export function isOfCode(code: JoinError, reason: string): boolean {
  return reason.startsWith(`${code}: `);
}
