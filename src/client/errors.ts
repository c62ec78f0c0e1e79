// Errors: everything that can go wrong for an application, by a code to switch on and with what to do about it.

/** What to do, by what went wrong. */
const advice = {
  /** The options given make no sense. */
  invalid_options: "Correct the options.",
  /** No socket could be opened. */
  unreachable: "Check the url and that the server runs; it is tried again by itself.",
  /** The server does not take the key. */
  unauthorized: "Check apiKey: it must be a key or a token of this server that has not expired.",
  /** The server ended the connection, and coming back makes no sense as things are. */
  ended: "Put that right, then call client.connect().",
  /** The connection broke, or the server broke off a channel. */
  connection_lost: "The client comes back by itself.",
  /** The connection broke while something was sent, and nobody can say whether it arrived. */
  in_doubt: "Send it again if it does no harm twice.",
  /** The server refused the join. It is tried again by itself. */
  join_refused: "Check the channel's name, the token and the user's rights; it is tried again by itself.",
  /** The server did not answer in time. */
  timed_out: "It may have been done all the same. Check the connection, or give more time with timeoutMs.",
  /** The server refused what was sent. */
  rejected: "Correct what is sent, or send less often.",
  /** More is waiting to be sent than may. */
  queue_full: "Wait until the connection is back, or raise queueSize.",
  /** The server put the client out of the channel for good. */
  closed: "Call subscribe() to try to come back.",
  /** It was not sent before the channel was left or the client disconnected. */
  left: "Send before leaving, or subscribe again.",
  /** A subscription to row changes does not stand, or something else that the server tells of a channel. */
  problem: "The channel goes on without it; see the message.",
  /** `accessToken` failed. */
  no_token: "Check the accessToken function; it is called again by itself.",
  /** Messages may be missing: more happened while away than is kept. */
  gap: "Fetch the present state anew, or listen with channel.on('gap', …) and do it there.",
} as const;

export type RealtimeErrorCode = keyof typeof advice;

export class RealtimeError extends Error {
  override readonly name = "RealtimeError";
  readonly code: RealtimeErrorCode;
  /** The server's own word for it, such as `too_many_messages`, where it gave one. */
  readonly reason: string | undefined;

  /** `message` says what happened; what to do is added. */
  constructor(code: RealtimeErrorCode, message: string, reason?: string) {
    super(`${message}${/[.!?]$/.test(message) ? "" : "."} ${advice[code]}`);
    this.code = code;
    this.reason = reason;
  }
}
