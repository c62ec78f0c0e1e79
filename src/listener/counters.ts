// What the listener has done since it started, for /metrics: whole numbers that only grow.
import type { Parcel } from "./lanes.ts";

export class Counters {
  /** Changes read from the outbox; delivered; parked; refused for good; given up for a gap. */
  captured = 0;
  changes = 0;
  parked = 0;
  refused = 0;
  givenUp = 0;
  /** Batches taken by the edge, their bytes, and those that were sent again. */
  batches = 0;
  bytes = 0;
  retries = 0;
  /** Seconds from the writing of changes to their acknowledgement, together. */
  seconds = 0;

  /** The edge has taken a batch. */
  delivered(parcels: readonly Parcel[]): void {
    const now = Date.now();
    this.batches += 1;
    this.changes += parcels.length;
    for (const { bytes, change } of parcels) {
      this.bytes += bytes;
      this.seconds += Math.max(0, now - Date.parse(change.at)) / 1000;
    }
  }
}
