// Listeners: who is to be called for what on a channel.
import { isRecord } from "../protocol/client-frames.ts";
import type { PresenceChange } from "./presence.ts";
import type { Broadcast, Gap, RowChange, RowEvent, RowFilter, SystemMessage } from "./types.ts";

/** What `channel.on` takes, as it is kept. */
export type Registration =
  | ["broadcast", { readonly event: string }, (message: Broadcast) => void]
  | ["presence", { readonly event: "join" | "leave" }, (change: PresenceChange) => void]
  | SyncRegistration
  | [RowEvent | "*", (change: RowChange) => void]
  | ["postgres_changes", RowFilter, (change: RowChange) => void]
  | ["system", (message: SystemMessage) => void]
  | ["gap", (gap: Gap) => void];

type SyncRegistration = ["presence", { readonly event: "sync" }, (sync: PresenceSync) => void];

/** The state of presence is as `channel.presenceState()` says now. */
export interface PresenceSync {
  readonly event: "sync";
}

type Callback = (value: never) => void;

export class Listeners {
  #registrations: Registration[] = [];
  /** What the server calls the subscriptions to row changes, by registration. */
  readonly #ids = new Map<Registration, number>();

  add(registration: Registration): void {
    this.#registrations.push(registration);
  }

  /** Removes every registration of a callback. */
  remove(callback: Callback): void {
    this.#registrations = this.#registrations.filter((registration) => registration.at(-1) !== callback);
  }

  get wantPresence(): boolean {
    return this.#registrations.some(([type]) => type === "presence");
  }

  /** The subscriptions to row changes, in the order in which the server answers them. */
  get rowFilters(): RowFilter[] {
    return this.#rowRegistrations().map(([, filter]) => filter);
  }

  #rowRegistrations(): Extract<Registration, ["postgres_changes", ...unknown[]]>[] {
    return this.#registrations.filter((registration) => registration[0] === "postgres_changes");
  }

  /** Takes the server's answer to the subscriptions: each as it was asked for, in their order, with its id. */
  numbered(answer: unknown): void {
    this.#ids.clear();
    if (!Array.isArray(answer)) return;
    for (const [index, registration] of this.#rowRegistrations().entries()) {
      const entry: unknown = answer[index];
      if (isRecord(entry) && typeof entry.id === "number") this.#ids.set(registration, entry.id);
    }
  }

  broadcast(message: Broadcast): void {
    for (const registration of this.#registrations) {
      if (registration[0] !== "broadcast") continue;
      const [, { event }, callback] = registration;
      if (event === "*" || event === message.event) call(callback, message);
    }
  }

  /** The state of presence has changed, by these changes. */
  presence(changes: readonly PresenceChange[]): void {
    const asked = this.#registrations.filter((registration) => registration[0] === "presence");
    for (const change of changes) {
      for (const registration of asked) {
        if (!isSync(registration) && registration[1].event === change.event) call(registration[2], change);
      }
    }
    for (const registration of asked) if (isSync(registration)) call(registration[2], { event: "sync" });
  }

  /** A row of the table that the channel is of. */
  row(change: RowChange): void {
    for (const registration of this.#registrations) {
      if (registration[0] === change.eventType || registration[0] === "*") call(registration[1], change);
    }
  }

  /** A row for the subscriptions with these ids. */
  rowFor(ids: readonly unknown[], change: RowChange): void {
    for (const registration of this.#rowRegistrations()) {
      if (ids.includes(this.#ids.get(registration))) call(registration[2], change);
    }
  }

  system(message: SystemMessage): void {
    for (const registration of this.#registrations) if (registration[0] === "system") call(registration[1], message);
  }

  /** False: nobody listens. */
  gap(gap: Gap): boolean {
    const asked = this.#registrations.filter((registration) => registration[0] === "gap");
    for (const [, callback] of asked) call(callback, gap);
    return asked.length > 0;
  }
}

function isSync(registration: Registration): registration is SyncRegistration {
  return registration[0] === "presence" && registration[1].event === "sync";
}

/** What an application throws is its own affair: it is reported as uncaught and stops nothing here. */
export function call<T>(callback: (value: T) => void, value: T): void {
  try {
    callback(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
