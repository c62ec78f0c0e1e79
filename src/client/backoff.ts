// Backoff: how long to wait before trying again, so that many clients who failed together do not come back together.

/** Delays before one try after the other. */
export class Backoff {
  readonly #first: number;
  readonly #most: number;
  #failures = 0;

  /** `first` and `most` in milliseconds. */
  constructor(first: number, most: number) {
    this.#first = first;
    this.#most = Math.max(first, most);
  }

  /** The next delay, milliseconds: about `first` the first time, then between half and all of twice as long each time. */
  next(): number {
    const whole = Math.min(this.#first * 2 ** this.#failures, this.#most);
    const share = this.#failures === 0 ? 0.75 + Math.random() / 2 : 0.5 + Math.random() / 2;
    this.#failures++;
    return whole * share;
  }

  /** It went well: the next failure is the first again. */
  reset(): void {
    this.#failures = 0;
  }
}
