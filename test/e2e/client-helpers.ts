// Our own clients for a test: opened against a stack, and disconnected together.
import { type ClientOptions, RealtimeClient, type RealtimeError } from "../../src/client/index.ts";
import type { TestStack } from "../support/stack.ts";

/** Soon enough that no test waits long for it. */
const RECONNECT_MS = 100;

export interface TestClient extends RealtimeClient {
  /** Everything that was told by `onError`. */
  readonly errors: RealtimeError[];
}

export class OwnClients {
  readonly #stack: TestStack;
  readonly #open: RealtimeClient[] = [];

  constructor(stack: TestStack) {
    this.#stack = stack;
  }

  /** A client with the anon key of the stack. */
  open(options: Partial<ClientOptions> = {}): TestClient {
    const errors: RealtimeError[] = [];
    const client = new RealtimeClient({
      url: this.#stack.url,
      apiKey: this.#stack.anonKey,
      reconnectDelayMs: RECONNECT_MS,
      onError: (error) => void errors.push(error),
      ...options,
    });
    this.#open.push(client);
    return Object.assign(client, { errors });
  }

  close(): void {
    for (const client of this.#open.splice(0)) client.disconnect();
  }
}
