// Subscriptions of one feed: who wants its changes, found by the values of a row where their filters ask for equality, and
// by who may see it where they do not.
import { type Binding, type Change, wants, wantsUnread } from "./bindings.ts";
import { type Index, keyOf } from "./filters/filter.ts";
import type { Membership } from "./membership.ts";

interface Entry {
  readonly membership: Membership;
  readonly binding: Binding;
}

/** Subscriptions with equalities on one column, by the keys that they ask for. */
interface Shelf {
  readonly index: Pick<Index, "column" | "type">;
  readonly byKey: Map<string, Set<Entry>>;
}

export class Subscriptions {
  readonly #entries = new Map<Membership, Entry[]>();
  /** Those without an equality, by the roles of their viewers and these by their keys. */
  readonly #unindexed = new Map<string, Map<string, Set<Entry>>>();
  readonly #shelves = new Map<string, Shelf>();

  get size(): number {
    return this.#entries.size;
  }

  memberships(): Iterable<Membership> {
    return this.#entries.keys();
  }

  /** Adds a subscription of a membership. One whose viewer changes has to be deleted before, and added after. */
  add(membership: Membership, binding: Binding): void {
    const entry = { membership, binding };
    const own = this.#entries.get(membership);
    if (own === undefined) this.#entries.set(membership, [entry]);
    else own.push(entry);
    if (binding.index === undefined) this.#group(membership).add(entry);
    else for (const set of this.#setsOf(binding.index)) set.add(entry);
  }

  delete(membership: Membership): void {
    for (const entry of this.#entries.get(membership) ?? []) this.#drop(entry);
    this.#entries.delete(membership);
  }

  #drop(entry: Entry): void {
    const { index } = entry.binding;
    if (index === undefined) return this.#ungroup(entry);
    const name = nameOf(index);
    const shelf = this.#shelves.get(name);
    for (const key of index.keys) {
      const set = shelf?.byKey.get(key);
      set?.delete(entry);
      if (set?.size === 0) shelf?.byKey.delete(key);
    }
    if (shelf?.byKey.size === 0) this.#shelves.delete(name);
  }

  #group({ viewer: { role, key } }: Membership): Set<Entry> {
    const ofRole = this.#unindexed.get(role) ?? new Map<string, Set<Entry>>();
    this.#unindexed.set(role, ofRole);
    const group = ofRole.get(key) ?? new Set<Entry>();
    ofRole.set(key, group);
    return group;
  }

  #ungroup(entry: Entry): void {
    const { role, key } = entry.membership.viewer;
    const ofRole = this.#unindexed.get(role);
    const group = ofRole?.get(key);
    group?.delete(entry);
    if (group?.size === 0) ofRole?.delete(key);
    if (ofRole?.size === 0) this.#unindexed.delete(role);
  }

  /** Those without an equality whose viewers may see a change: what everybody else wants is no matter. */
  *#unindexedFor({ sight }: Change): Generator<Entry> {
    for (const [role, groups] of this.#unindexed) {
      if (sight === undefined || sight.readers.includes(role)) for (const group of groups.values()) yield* group;
      else for (const key of sight.visible ?? []) yield* groups.get(key) ?? [];
    }
  }

  #setsOf(index: Index): Set<Entry>[] {
    const name = nameOf(index);
    const shelf = this.#shelves.get(name) ?? { index, byKey: new Map<string, Set<Entry>>() };
    if (index.keys.length > 0) this.#shelves.set(name, shelf);
    return index.keys.map((key) => {
      const set = shelf.byKey.get(key) ?? new Set<Entry>();
      shelf.byKey.set(key, set);
      return set;
    });
  }

  /**
   * Who wants a change, each with those of their subscriptions that it is for. `undecided` hears of who might have
   * wanted it too, had it not taken too long to find out.
   */
  matching(change: Change, undecided: (membership: Membership) => void): Map<Membership, Binding[]> {
    const found = new Map<Membership, Binding[]>();
    const { unauthorized = [] } = change;
    const offer = ({ membership, binding }: Entry): void => {
      const { role } = membership.claims;
      if (unauthorized.includes(role)) return;
      const before = change.undecided;
      if (wants(binding, role, change)) take(membership, binding);
      else if (change.undecided > before) undecided(membership);
    };
    const take = (membership: Membership, binding: Binding): void => {
      const own = found.get(membership);
      if (own === undefined) found.set(membership, [binding]);
      else own.push(binding);
    };
    for (const entry of this.#unindexedFor(change)) offer(entry);
    for (const { index, byKey } of this.#shelves.values()) {
      const key = keyOf(index, change.row);
      const entries = key === undefined ? undefined : byKey.get(key);
      if (entries !== undefined) for (const entry of entries) offer(entry);
    }
    if (unauthorized.length === 0) return found;
    for (const [membership, entries] of this.#entries) {
      if (!unauthorized.includes(membership.claims.role)) continue;
      for (const { binding } of entries) if (wantsUnread(binding, change)) take(membership, binding);
    }
    return found;
  }
}

function nameOf({ column, type }: Index): string {
  return `${type} ${column}`;
}
