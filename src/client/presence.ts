// Presence: who is in a channel, kept as the server tells it, and what changed (protocol.md §7).
import { isRecord } from "../protocol/client-frames.ts";
import type { Loose } from "./types.ts";

/** What somebody has tracked, and the reference by which the server knows it. */
export type Presence = Loose & { readonly presence_ref: string };

/** By presence key: everything that is tracked under it, one for each of its sockets. */
export type PresenceState = Readonly<Record<string, readonly Presence[]>>;

/** Somebody came or went. */
export interface PresenceChange {
  readonly event: "join" | "leave";
  readonly key: string;
  /** The one this is about: the newest that came, or went. */
  readonly currentPresence: Presence;
  /** What the key has besides: before a join, after a leave. */
  readonly currentPresences: readonly Presence[];
  /** What came; empty for a leave. */
  readonly newPresences: readonly Presence[];
  /** What went; empty for a join. */
  readonly leftPresences: readonly Presence[];
}

export class PresenceBook {
  readonly #present = new Map<string, readonly Presence[]>();

  get state(): PresenceState {
    return Object.fromEntries(this.#present);
  }

  clear(): void {
    this.#present.clear();
  }

  /** Takes the whole state. @returns what is different from before */
  sync(payload: Readonly<Record<string, unknown>>): PresenceChange[] {
    const now = readState(payload);
    const changes: PresenceChange[] = [];
    for (const [key, before] of [...this.#present]) {
      const refs = refsOf(now.get(key) ?? []);
      changes.push(...this.#leave(key, new Set([...refsOf(before)].filter((ref) => !refs.has(ref)))));
    }
    for (const [key, presences] of now) changes.push(...this.#join(key, presences));
    return changes;
  }

  /** Takes what came and what went. @returns what that changes */
  diff(payload: Readonly<Record<string, unknown>>): PresenceChange[] {
    const joins = [...readState(payload.joins)].flatMap(([key, presences]) => this.#join(key, presences));
    const leaves = [...readState(payload.leaves)].flatMap(([key, presences]) => this.#leave(key, refsOf(presences)));
    return [...joins, ...leaves];
  }

  #join(key: string, presences: readonly Presence[]): PresenceChange[] {
    const currentPresences = this.#present.get(key) ?? [];
    const known = refsOf(currentPresences);
    const newPresences = presences.filter(({ presence_ref }) => !known.has(presence_ref));
    const currentPresence = newPresences.at(-1);
    if (currentPresence === undefined) return [];
    this.#present.set(key, [...currentPresences, ...newPresences]);
    return [{ event: "join", key, currentPresence, currentPresences, newPresences, leftPresences: [] }];
  }

  #leave(key: string, refs: ReadonlySet<string>): PresenceChange[] {
    const before = this.#present.get(key) ?? [];
    const leftPresences = before.filter(({ presence_ref }) => refs.has(presence_ref));
    const currentPresences = before.filter(({ presence_ref }) => !refs.has(presence_ref));
    const currentPresence = leftPresences.at(-1);
    if (currentPresence === undefined) return [];
    if (currentPresences.length === 0) this.#present.delete(key);
    else this.#present.set(key, currentPresences);
    return [{ event: "leave", key, currentPresence, currentPresences, newPresences: [], leftPresences }];
  }
}

function refsOf(presences: readonly Presence[]): Set<string> {
  return new Set(presences.map(({ presence_ref }) => presence_ref));
}

/** `{ key: { metas: [{ phx_ref, … }] } }` as the wire has it. */
function readState(state: unknown): Map<string, Presence[]> {
  const read = new Map<string, Presence[]>();
  for (const [key, entry] of Object.entries(isRecord(state) ? state : {})) {
    const metas = isRecord(entry) && Array.isArray(entry.metas) ? entry.metas.filter(isRecord) : [];
    const presences = metas.map(({ phx_ref, phx_ref_prev: _, ...rest }) => ({
      ...rest,
      presence_ref: String(phx_ref),
    }));
    read.set(key, presences);
  }
  return read;
}
