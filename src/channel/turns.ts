// Turns: work that takes its time, one piece after the other where they belong together.

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs work when all that was given before under the same name is over, however it ended. */
  take<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(name);
    const run = before === undefined ? work() : before.then(work, work);
    this.#last.set(name, run);
    const over = (): void => {
      if (this.#last.get(name) === run) this.#last.delete(name);
    };
    run.then(over, over);
    return run;
  }
}
