// A membership: joins one topic, and joins it again whenever it broke off, until it is left.
import { isRecord, type ServerFrame } from "../protocol/client-frames.ts";
import type { JoinError } from "../protocol/errors.ts";
import { Backoff } from "./backoff.ts";
import type { Answer, Connection } from "./connection.ts";
import { RealtimeError } from "./errors.ts";

/** What a membership needs of its client. */
export interface MembershipHost {
  readonly connection: Connection;
  /** The user's token; null: the key alone decides. Rejects with RealtimeError. */
  token(): Promise<string | null>;
  /** The newest token that is known. */
  readonly knownToken: string | null;
}

/** What it tells its channel, and asks of it. */
export interface MembershipEvents {
  /** What a join asks for: when that changes, the topic is joined anew. */
  wishes(): object;
  /** The config of a join that is to be sent now: the wishes, and where to go on. */
  config(): object;
  /** A join is about to begin: the socket may still stand, but what is sent now would wait for its answer. */
  joining(): void;
  joined(response: Readonly<Record<string, unknown>>): void;
  /** It broke off or could not be had; it is tried again. `isFinal`: with little hope. */
  away(error: RealtimeError, isFinal: boolean): void;
  /** The server ended it for good. */
  closed(): void;
  /** Any other frame of this membership. */
  frame(frame: ServerFrame): void;
}

type State =
  /** Nobody wants it. */
  | { readonly name: "idle" }
  /** Waits for a socket, or for the next try. */
  | { readonly name: "waiting"; readonly retry: ReturnType<typeof setTimeout> | undefined }
  /** Without a ref while the token is asked for. */
  | { readonly name: "joining"; readonly ref: string | undefined }
  | { readonly name: "joined"; readonly ref: string; readonly wishes: string };

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 10_000;
/**
 * Refusals that say nothing of whether the next join is refused, too: those to be tried again of protocol/errors.ts, whose
 * texts would weigh as much as this client. The next join has a new token.
 */
const PASSING: ReadonlySet<string> = new Set<JoinError | "Unknown Error on Channel">([
  ...(["ChannelRateLimitReached", "ClientJoinRateLimitReached", "TooManyFrames", "TimeoutOnRpcCall"] as const),
  ...(["PostgresChangesSubscribeTimeout", "UnableToConnectToProject", "RealtimeRestarting"] as const),
  ...(["InvalidJWTToken", "Unknown Error on Channel"] as const),
]);

export class Membership {
  readonly #topic: string;
  readonly #host: MembershipHost;
  readonly #events: MembershipEvents;
  readonly #backoff = new Backoff(FIRST_RETRY_MS, LAST_RETRY_MS);
  #state: State = { name: "idle" };

  constructor(topic: string, host: MembershipHost, events: MembershipEvents) {
    this.#topic = topic;
    this.#host = host;
    this.#events = events;
  }

  get isWanted(): boolean {
    return this.#state.name !== "idle";
  }

  get isJoined(): boolean {
    return this.#state.name === "joined";
  }

  get #ref(): string | undefined {
    return this.#state.name === "joined" || this.#state.name === "joining" ? this.#state.ref : undefined;
  }

  /** Wants it from now on. */
  enter(): void {
    if (this.isWanted) return;
    this.#state = { name: "waiting", retry: undefined };
    this.#host.connection.connect();
    this.opened();
  }

  /** Wants it no more. */
  leave(): void {
    const ref = this.#ref;
    if (ref !== undefined) this.#host.connection.ask(this.#topic, "phx_leave", {}, ref, () => {});
    this.#become({ name: "idle" });
  }

  /** There is a socket. */
  opened(): void {
    if (this.#state.name === "waiting" && this.#host.connection.status === "connected") void this.#join();
  }

  /** The socket is gone. */
  lost(error: RealtimeError): void {
    if (!this.isWanted) return;
    this.#become({ name: "waiting", retry: undefined });
    this.#events.away(error, false);
  }

  /** Joins anew, a moment later, if what is asked for now is not what was. False: it is the same. */
  renew(): boolean {
    if (!this.#isStale) return false;
    queueMicrotask(() => {
      if (this.#isStale) void this.#join();
    });
    return true;
  }

  get #isStale(): boolean {
    return this.#state.name === "joined" && this.#state.wishes !== JSON.stringify(this.#events.wishes());
  }

  /** Hands the newest token to the server. Who has none any more joins as who has none: a right is not told away. */
  refresh(): void {
    if (!this.isJoined) return;
    const { knownToken } = this.#host;
    if (knownToken === null) void this.#join();
    else this.ask("access_token", { access_token: knownToken }, () => {});
  }

  /** Sends a frame while joined; see Connection. False: not now. */
  ask(event: string, payload: object, answered: (answer: Answer) => void): boolean {
    if (this.#state.name !== "joined") return false;
    return this.#host.connection.ask(this.#topic, event, payload, this.#state.ref, answered) !== undefined;
  }

  askBytes(event: string, bytes: Uint8Array, answered: (answer: Answer) => void): boolean {
    if (this.#state.name !== "joined") return false;
    return this.#host.connection.askBytes(this.#topic, event, bytes, this.#state.ref, answered) !== undefined;
  }

  /** Takes a frame of the topic. */
  receive(frame: ServerFrame): void {
    // Of an earlier join, or after leaving.
    if (this.#ref === undefined || (frame.joinRef !== null && frame.joinRef !== this.#ref)) return;
    if (frame.event === "phx_error") {
      const reason = typeof frame.payload.reason === "string" ? frame.payload.reason : "without a reason";
      this.#failed(new RealtimeError("connection_lost", `The channel broke off: ${reason}`, reason), false);
    } else if (frame.event === "phx_close") {
      this.#become({ name: "idle" });
      this.#events.closed();
    } else this.#events.frame(frame);
  }

  #become(state: State): void {
    if (this.#state.name === "waiting") clearTimeout(this.#state.retry);
    this.#state = state;
  }

  async #join(): Promise<void> {
    const asking: State = { name: "joining", ref: undefined };
    this.#become(asking);
    this.#events.joining();
    const token = await this.#host.token().catch((error: RealtimeError) => error);
    if (this.#state !== asking) return;
    if (token instanceof RealtimeError) return this.#failed(token, false);
    const wishes = JSON.stringify(this.#events.wishes());
    const payload = { config: this.#events.config(), ...(token !== null && { access_token: token }) };
    const ref = this.#host.connection.ask(this.#topic, "phx_join", payload, "own", (answer) => {
      if (this.#ref === ref && ref !== undefined) this.#answered(ref, wishes, token, answer);
    });
    // Without a socket there will be another one.
    this.#become(ref === undefined ? { name: "waiting", retry: undefined } : { name: "joining", ref });
  }

  #answered(ref: string, wishes: string, token: string | null, answer: Answer): void {
    if (answer === undefined) {
      // The server may answer yet: then it should not have us.
      this.#host.connection.ask(this.#topic, "phx_leave", {}, ref, () => {});
      return this.#failed(new RealtimeError("timed_out", `No answer to the join of ${this.#topic}`), false);
    }
    if (answer.status !== "ok") {
      const reason = reasonOf(answer.response);
      const error = new RealtimeError("join_refused", `The join of ${this.#topic} was refused: ${reason}`, reason);
      const [code = ""] = reason.split(":", 1);
      return this.#failed(error, !PASSING.has(code));
    }
    this.#backoff.reset();
    this.#become({ name: "joined", ref, wishes });
    this.#host.connection.keepPace(answer.response.heartbeat_ms, answer.response.reconnect_ms);
    // It may have come while the join was under way.
    if (this.#host.knownToken !== token) this.refresh();
    if (!this.isJoined) return;
    this.#events.joined(answer.response);
    this.renew();
  }

  #failed(error: RealtimeError, isFinal: boolean): void {
    const retry = setTimeout(() => this.opened(), this.#backoff.next());
    this.#become({ name: "waiting", retry });
    this.#events.away(error, isFinal);
  }
}

/** The server's reason in a reply that is an error: of a broadcast its code. */
export function reasonOf(response: Readonly<Record<string, unknown>>): string {
  const { reason, error } = response;
  const given = reason ?? error;
  if (isRecord(given)) return JSON.stringify(given);
  return typeof given === "string" ? given : "without a reason";
}
