// Limits: every bound of the wire in one place, with its reason.

/** Largest frame taken from a client, bytes; a larger one closes the socket with 1009 (protocol.md §1.5). */
export const MAX_FRAME_BYTES = 5_000_000;
/** Largest broadcast payload, bytes of its JSON or binary text: a ring row must stay below the platform's 2 MB a row. */
export const MAX_PAYLOAD_BYTES = 1_000_000;
/** A socket with no frame from the client for this long is closed with 1000 (protocol.md §1.5). */
export const IDLE_MS = 60_000;
/**
 * The same for a client that has joined a channel and never sent a heartbeat. Its silence says nothing: once something
 * is sent to it, a broken connection shows by itself; one that hears nothing either is given up after a day.
 */
export const LISTENER_IDLE_MS = 86_400_000;
/** Channels on one socket (protocol.md §11.1). */
export const MAX_CHANNELS = 100;
/** Row-change subscriptions of one channel. */
export const MAX_BINDINGS = 100;
/** Frames that may wait on one topic while its join runs. */
export const MAX_QUEUED_FRAMES = 100;
/** Bytes sent to a client since its last frame. The platform has no backpressure, so a reader this far behind is cut off. */
export const MAX_UNREAD_BYTES = 64_000_000;
/** Sockets on one gateway object; the next one is tried when it is full. */
export const MAX_GATEWAY_SOCKETS = 4_096;
/** Most messages a replay by time delivers to a joining client (protocol.md §6.7). */
export const MAX_REPLAY = 25;
/** Most messages a resume delivers; a client further behind is told `recovered: false` and fetches anew. */
export const MAX_RESUME = 10_000;
/** Largest tracked presence payload, bytes of JSON. */
export const MAX_PRESENCE_BYTES = 100_000;
/** Longest presence key, UTF-16 units. */
export const MAX_KEY_LENGTH = 256;
/** How long a join waits for its row-change subscriptions if it asks to, milliseconds, and at most (protocol.md §8.3). */
export const WAIT_MS = 15_000;
export const MAX_WAIT_MS = 20_000;
/** Longest schema or table name, UTF-16 units: PostgreSQL's own limit is 63 bytes. */
export const MAX_NAME_LENGTH = 63;
/** Length of all row-change subscriptions of one join, as JSON: they are kept, and echoed. */
export const MAX_BINDINGS_LENGTH = 64_000;
/** Publishes of one room that may be under way to its channel, and their length together. */
export const MAX_UNDER_WAY = 5_000;
export const MAX_UNDER_WAY_LENGTH = 64_000_000;
/** Calls of one room that may wait for its channel. */
export const MAX_CALLS = 5_000;
/** Length of all messages that one resume delivers; a client further behind is told `recovered: false`. */
export const MAX_RESUME_LENGTH = 8_000_000;
