// A crowd: many real sockets in one channel, in processes of their own, for a process may have only so many files open.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Place } from "./member.ts";

const file = fileURLToPath(new URL("crowd-part.ts", import.meta.url));
const PER_PROCESS = 2_000;
const OPEN_LIMIT_MS = 180_000;
const HEAR_LIMIT_MS = 30_000;

const told = z.union([
  z.object({ open: z.int() }),
  z.object({ mark: z.string(), firstAt: z.number(), lastAt: z.number() }),
  z.object({ error: z.string() }),
]);
export type Told = z.infer<typeof told>;

/** When the first and the last of a crowd heard something, unix ms. */
export interface Heard {
  readonly firstAt: number;
  readonly lastAt: number;
}

export class Crowd implements AsyncDisposable {
  readonly #parts: ChildProcess[];

  private constructor(parts: ChildProcess[]) {
    this.#parts = parts;
  }

  /** Opens so many sockets and has them join. Rejects when one does not get in. */
  static async gather(place: Place, sockets: number): Promise<Crowd> {
    const sizes = Array.from({ length: Math.ceil(sockets / PER_PROCESS) }, (_, part) =>
      Math.min(PER_PROCESS, sockets - part * PER_PROCESS),
    );
    const crowd = new Crowd(sizes.map(() => fork(file)));
    try {
      const open = crowd.#all((answer) => "open" in answer, OPEN_LIMIT_MS);
      for (const [part, child] of crowd.#parts.entries()) child.send({ ...place, sockets: sizes[part] });
      await open;
      return crowd;
    } catch (error) {
      await crowd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Resolves when every socket has heard a frame with this mark in it. To be called before it is sent. */
  async hears(mark: string): Promise<Heard> {
    for (const child of this.#parts) child.send({ mark });
    const parts = await this.#all((answer) => "mark" in answer && answer.mark === mark, HEAR_LIMIT_MS);
    const times = parts.flatMap((part) => ("mark" in part ? [part] : []));
    return {
      firstAt: Math.min(...times.map(({ firstAt }) => firstAt)),
      lastAt: Math.max(...times.map(({ lastAt }) => lastAt)),
    };
  }

  /** The answer of each part that fits. */
  #all(fits: (answer: Told) => boolean, limitMs: number): Promise<Told[]> {
    const signal = AbortSignal.timeout(limitMs);
    return Promise.all(
      this.#parts.map(async (child) => {
        for (;;) {
          const answer = told.parse((await once(child, "message", { signal }))[0]);
          if ("error" in answer) throw new Error(answer.error);
          if (fits(answer)) return answer;
        }
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#parts.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
      }),
    );
  }
}
