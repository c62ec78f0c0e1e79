// Close codes: why the server ends a socket, and what the client should do.

export interface Close {
  readonly code: number;
  readonly reason: string;
  /** Whether it makes sense to come back. The stock Supabase client does after any of them. */
  readonly reconnect: boolean;
  /** What the client should do. */
  readonly advice: string;
}

export const closes = {
  idle: {
    ...{ code: 1000, reason: "idle", reconnect: true },
    advice: "Nothing was heard of the client for REALTIME_IDLE_TIMEOUT seconds: reconnect, and send heartbeats.",
  },
  frameTooLarge: {
    ...{ code: 1009, reason: "frame too large", reconnect: true },
    advice: "A frame was larger than REALTIME_MAX_FRAME: reconnect, and send less.",
  },
  restarting: {
    ...{ code: 1012, reason: "service restart", reconnect: true },
    advice: "The server failed to take the socket over after a restart: reconnect.",
  },
  tooSlow: {
    ...{ code: 1013, reason: "client too slow", reconnect: true },
    advice: "The client reads slower than its channels speak: reconnect, and resume from the last position.",
  },
  disconnected: {
    ...{ code: 4000, reason: "disconnected by an administrator", reconnect: true },
    advice: "This connection was ended by hand: reconnect.",
  },
  kicked: {
    ...{ code: 4001, reason: "kicked", reconnect: true },
    advice: "All connections of the user were ended by hand: ask the user, then reconnect.",
  },
  banned: {
    ...{ code: 4003, reason: "banned", reconnect: false },
    advice: "The user is banned: do not reconnect, the upgrade is refused with 403 until the ban ends.",
  },
  tokenRevoked: {
    ...{ code: 4004, reason: "token revoked", reconnect: false },
    advice: "The token counts no more: sign in again, and connect with a new one.",
  },
} as const satisfies Record<string, Close>;
