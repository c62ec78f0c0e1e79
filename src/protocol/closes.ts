// Close codes: why the server ends a socket, and what the client should do.

export interface Close {
  readonly code: number;
  readonly reason: string;
}

/** `reconnect` in the comments is what a client should do; the stock Supabase client reconnects after any of them. */
export const closes = {
  /** Nothing was heard of the client for 60 s. Reconnect. */
  idle: { code: 1000, reason: "idle" },
  /** The frame was larger than the limit. Reconnect, and send less. */
  frameTooLarge: { code: 1009, reason: "frame too large" },
  /** The server failed to take the socket over after a restart. Reconnect. */
  restarting: { code: 1012, reason: "service restart" },
  /** The client reads slower than its channels speak. Reconnect, and resume from the last position. */
  tooSlow: { code: 1013, reason: "client too slow" },
} as const satisfies Record<string, Close>;
