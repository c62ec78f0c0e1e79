// Viewers of a feed: as whom the members of its gateways see it.
import type { Viewer } from "../protocol/link.ts";

interface Known {
  readonly byKey: Map<string, Viewer>;
  /** False of a gateway that has outlived the feed's last life in memory, until it has told all its viewers. */
  complete: boolean;
}

export class Viewers {
  readonly #gateways = new Map<string, Known>();
  readonly #watchers = new Set<() => void>();
  #all: ReadonlyMap<string, Viewer> | undefined;

  /** By key, each once, however many gateways have it. A new object whenever anything has changed. */
  get all(): ReadonlyMap<string, Viewer> {
    this.#all ??= new Map([...this.#gateways.values()].flatMap(({ byKey }) => [...byKey]));
    return this.#all;
  }

  isComplete(gateway: string): boolean {
    return this.#gateways.get(gateway)?.complete === true;
  }

  /** Has `changed` run whenever a gateway tells its viewers, or has gone. Answers how to call it off. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => void this.#watchers.delete(changed);
  }

  #tell(): void {
    for (const changed of this.#watchers) changed();
  }

  /** Takes all viewers of a gateway. */
  set(gateway: string, viewers: readonly Viewer[]): void {
    this.#gateways.set(gateway, { byKey: new Map(viewers.map((viewer) => [viewer.key, viewer])), complete: true });
    this.#all = undefined;
    this.#tell();
  }

  add(gateway: string, viewer: Viewer): void {
    const known = this.#gateways.get(gateway) ?? { byKey: new Map(), complete: false };
    if (known.byKey.has(viewer.key)) return;
    known.byKey.set(viewer.key, viewer);
    this.#gateways.set(gateway, known);
    this.#all = undefined;
  }

  forget(gateway: string, keys: readonly string[]): void {
    for (const key of keys) this.#gateways.get(gateway)?.byKey.delete(key);
    this.#all = undefined;
  }

  /** The gateway is not linked any more. */
  drop(gateway: string): void {
    if (this.#gateways.delete(gateway)) this.#all = undefined;
    this.#tell();
  }
}
