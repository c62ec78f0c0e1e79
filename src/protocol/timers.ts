// Time as the cores need it: a port, so that a Durable Object, a plain process and a test can each supply theirs.

export interface Timers {
  /** Unix milliseconds. */
  now(): number;
  /**
   * Runs once after `ms`, if the object lives that long in memory: for work that its next life need not do. Answers how
   * to call it off; a timer that is due keeps an object from going to sleep.
   */
  after(ms: number, run: () => void): () => void;
  /** Has the core's `alarm` called at about `at` (unix ms), whatever life it is in. The earliest wish wins. */
  alarm(at: number): void;
}
