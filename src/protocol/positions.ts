// Positions: where a message stands in its channel. Made by the channel's sequence, compared here and nowhere else.

/**
 * The place of a message in its channel. `seq` counts from 1 and never repeats within an `epoch`; the epoch changes
 * only if a channel ever loses its sequence, so that "12 of the old life" is never taken for "12 of the new one".
 */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** Orders two positions of one epoch: negative, 0 or positive. `undefined` when the epochs differ: not comparable. */
export function comparePositions(a: Position, b: Position): number | undefined {
  return a.epoch === b.epoch ? a.seq - b.seq : undefined;
}
