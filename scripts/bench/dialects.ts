// Dialects: what a client of each server says to get into a channel, to stay there, and to publish.

/** Length of every published frame. What ours delivers is longer by `meta` (id, seq, at): about 90 bytes. */
export const FRAME_BYTES = 200;

export interface Dialect {
  /** The frame that joins; undefined: whoever has connected is in. */
  join(topic: string): string | undefined;
  /** Whether a frame is the answer that lets the socket in. Throws when it is one that does not. */
  isJoined(frame: string): boolean;
  /** A frame that keeps the socket from counting as idle; undefined: none is needed. */
  readonly heartbeat: string | undefined;
  /** A frame of FRAME_BYTES that carries the number of its publish in the way that `numberIn` reads. */
  publish(topic: string, number: number): string;
}

const bare: Dialect = {
  join: () => undefined,
  isJoined: () => true,
  heartbeat: undefined,
  publish: (_topic, number) => padded(`{"bench":${number},"pad":"`, '"}'),
};

/** Phoenix frames of version 2.0.0, as a stock Supabase client writes them. */
const phoenix: Dialect = {
  join(topic) {
    const config = { broadcast: { self: true, ack: false }, presence: { key: "", enabled: false } };
    return JSON.stringify(["1", "1", topic, "phx_join", { config }]);
  },
  isJoined(frame) {
    if (!frame.includes('"phx_reply"')) return false;
    if (!frame.includes('"status":"ok"')) throw new Error(`the join was refused: ${frame}`);
    return true;
  },
  heartbeat: JSON.stringify([null, "2", "phoenix", "heartbeat", {}]),
  publish: (topic, number) =>
    padded(
      `["1","3",${JSON.stringify(topic)},"broadcast",{"type":"broadcast","event":"b","payload":{"bench":${number},"pad":"`,
      '"}}]',
    ),
};

export const dialects = { bare, phoenix };

function padded(head: string, tail: string): string {
  return head + "x".repeat(FRAME_BYTES - head.length - tail.length) + tail;
}

const MARK = '"bench":';

/** The number of the publish that a received frame carries; undefined for any other frame. */
export function numberIn(frame: Buffer): number | undefined {
  const at = frame.indexOf(MARK);
  return at < 0 ? undefined : Number.parseInt(frame.toString("latin1", at + MARK.length, at + MARK.length + 10), 10);
}
