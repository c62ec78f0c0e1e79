// Token buckets: how often something may happen, for one who does it or for each of many. The clock is given.

const MINUTE_MS = 60_000;

/**
 * A rate limit of so many a minute. A minute's allowance may be spent at once; it comes back evenly, one every
 * `60,000 / perMinute` ms. `now` is unix ms throughout; a clock that steps back refills nothing and takes nothing away.
 * Taking allocates nothing.
 */
export class Bucket {
  readonly perMinute: number;
  #left: number;
  #at: number;

  /** A full bucket. `perMinute` is 1 or more. */
  constructor(perMinute: number, now: number) {
    this.perMinute = perMinute;
    this.#left = perMinute;
    this.#at = now;
  }

  /** Takes one, or `count` at once: all of them or none. False: there are not as many left. */
  take(now: number, count = 1): boolean {
    this.#refill(now);
    if (this.#left < count) return false;
    this.#left -= count;
    return true;
  }

  /** How many could be taken now, whole ones. */
  left(now: number): number {
    this.#refill(now);
    return Math.floor(this.#left);
  }

  /** Milliseconds until `count` can be taken, 0 if they can now; Infinity for more than the bucket ever holds. */
  waitMs(now: number, count = 1): number {
    this.#refill(now);
    if (count > this.perMinute) return Number.POSITIVE_INFINITY;
    return Math.max(0, Math.ceil(((count - this.#left) * MINUTE_MS) / this.perMinute));
  }

  #refill(now: number): void {
    const elapsed = Math.max(0, now - this.#at);
    this.#left = Math.min(this.perMinute, this.#left + (elapsed * this.perMinute) / MINUTE_MS);
    this.#at = now;
  }
}

/**
 * A bucket for each key, of the `limit` keys that were used last. One that is pushed out starts anew with a full bucket,
 * so a flood of keys loosens the limit for the quiet ones and never takes more memory.
 */
export class Buckets {
  readonly #limit: number;
  /** The key used longest ago first: a Map keeps the order in which keys were set. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The bucket of a key, which counts as used by that. A new one allows so many a minute. */
  of(key: string, perMinute: number, now: number): Bucket {
    const bucket = this.#buckets.get(key) ?? new Bucket(perMinute, now);
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#limit) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return bucket;
  }
}
