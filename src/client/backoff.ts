// Backoff: how long to wait before trying again, so that many clients who failed together do not come back together.

export class Backoff {
  readonly #first: number;
  #most: number;
  #failures = 0;

  /** `first` and `most` in milliseconds. */
  constructor(first: number, most: number) {
    this.#first = first;
    this.#most = most;
  }

  /** The longest delay from now on, milliseconds. */
  set most(most: number) {
    this.#most = most;
  }

  /** The next delay, milliseconds: about `first`, then twice as long each time up to `most`; a quarter of it is chance. */
  next(): number {
    const whole = Math.min(this.#first * 2 ** this.#failures, this.#most);
    this.#failures++;
    return whole * (0.75 + Math.random() / 4);
  }

  /** It went well: the next failure is the first again. */
  reset(): void {
    this.#failures = 0;
  }
}
