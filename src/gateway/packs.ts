// Packs: the text frames that go out in one turn, as one JSON list to each session whose client can take that apart.
import type { Session } from "./session.ts";

/** A pack is no longer than this and one frame. */
const MAX_LENGTH = 256_000;

/** What several sessions are sent alike is joined once. */
interface Joined {
  readonly frames: readonly string[];
  readonly pack: string;
}

/** By their first frame. */
type Known = Map<string, Joined[]>;

export class Packs {
  readonly #frames = new Map<Session, string[]>();

  add(session: Session, frame: string): void {
    const frames = this.#frames.get(session);
    if (frames === undefined) this.#frames.set(session, [frame]);
    else frames.push(frame);
  }

  /** Takes what is there for one session: something of another kind comes after it. */
  take(session: Session): Iterable<[pack: string, frames: number]> {
    const frames = this.#frames.get(session) ?? [];
    this.#frames.delete(session);
    return packsOf(frames, new Map());
  }

  /** Takes all that is there. */
  *takeAll(): Generator<[session: Session, pack: string, frames: number]> {
    const known = new Map<string, Joined[]>();
    for (const [session, frames] of this.#frames) {
      for (const [pack, count] of packsOf(frames, known)) yield [session, pack, count];
    }
    this.#frames.clear();
  }
}

function* packsOf(frames: readonly string[], known: Known): Generator<[string, number]> {
  for (let from = 0; from < frames.length; ) {
    const part = frames.slice(from, from + fitting(frames, from));
    yield [joined(part, known), part.length];
    from += part.length;
  }
}

function fitting(frames: readonly string[], from: number): number {
  let length = 0;
  let at = from;
  while (at < frames.length && length <= MAX_LENGTH) length += frames[at++]?.length ?? 0;
  return at - from;
}

function joined(frames: readonly string[], known: Known): string {
  const [first = ""] = frames;
  if (frames.length === 1) return first;
  const alike = known.get(first);
  const same = alike?.find((other) => isSame(other.frames, frames));
  if (same !== undefined) return same.pack;
  const fresh = { frames, pack: `[${frames.join(",")}]` };
  if (alike === undefined) known.set(first, [fresh]);
  else alike.push(fresh);
  return fresh.pack;
}

/** Frames of one message are one string, so that comparing them takes no time; differing lists differ at once. */
function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((frame, at) => frame === b[at]);
}
