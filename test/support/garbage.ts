// Garbage: what no client should send, made from a seed so that what once broke something can be sent again.
import type { Version } from "./clients.ts";
import { pushFrame } from "./raw-socket.ts";
import { seededRandom } from "./world.ts";

export type Frame = string | Uint8Array<ArrayBuffer>;

/** The largest frame that a server takes is 5,000,000 bytes (protocol.md §1.5). */
const TOO_LARGE = 5_000_001;

const odd = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  "",
  "x",
  "phx_join",
  "\u0000",
  "\ud800",
  "é🎈",
  [],
  [[]],
  {},
  { a: 1 },
];
const names = ["__proto__", "length", "constructor", "toString", "ids", "meta", "type", "event", "payload", "config"];
const events = [
  "phx_join",
  "phx_leave",
  "phx_close",
  "phx_reply",
  "broadcast",
  "presence",
  "access_token",
  "heartbeat",
];
const operators = ["eq", "neq", "lt", "in", "like", "is", "match", "not.eq", "nope", ""];

export class Garbage {
  readonly #random: () => number;
  readonly #topics: readonly string[];

  /** `topics` are where frames that come close to sense are sent. */
  constructor(seed: number, topics: readonly string[] = ["realtime:garbage"]) {
    this.#random = seededRandom(seed);
    this.#topics = topics;
  }

  /** A whole number from 0 to `below`, without it. */
  int(below: number): number {
    return Math.floor(this.#random() * below);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  pick<T>(first: T, ...others: readonly T[]): T {
    return others[this.int(others.length + 1) - 1] ?? first;
  }

  #from<T>(list: readonly T[], otherwise: T): T {
    return list[this.int(list.length)] ?? otherwise;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.int(256));
  }

  /** Text of any UTF-16 units, halves of pairs and control characters among them. */
  text(length = this.int(40)): string {
    const wide = this.chance(0.3);
    return String.fromCharCode(...Array.from({ length }, () => this.int(wide ? 0x1_0000 : 0x80)));
  }

  /** Any JSON value. */
  json(depth = 3): unknown {
    if (depth === 0 || this.chance(0.4)) return this.chance(0.5) ? this.#from(odd, null) : this.text();
    const entries = Array.from({ length: this.int(4) }, () => this.json(depth - 1));
    if (this.chance(0.4)) return entries;
    return Object.fromEntries(
      entries.map((value) => [this.chance(0.5) ? this.#from(names, "x") : this.text(8), value]),
    );
  }

  /** A join payload, each part of it right, wrong or missing. */
  join(): unknown {
    const wish = (value: unknown): unknown => (this.chance(0.5) ? value : this.json(2));
    const change = (): unknown =>
      wish({
        event: wish(this.pick("*", "INSERT", "update", "SELECT")),
        schema: wish(this.pick("public", "*", "nowhere")),
        table: wish(this.pick("todos", "*", "x".repeat(100))),
        filter: wish(`${this.text(4)}=${this.#from(operators, "eq")}.${this.text(8)}`),
        select: wish(["id", this.json(1)]),
      });
    return wish({
      config: wish({
        private: wish(this.pick<unknown>(true, false, "TRUE")),
        broadcast: wish({
          self: wish(true),
          ack: wish("true"),
          replay: wish({ since: wish(this.int(2 ** 31)), limit: wish(this.int(1_000)) }),
          resume: wish({ epoch: wish(this.text(12)), seq: wish(this.int(100)) }),
          replication_ready: wish(true),
        }),
        presence: wish({ key: wish(this.pick("ann", "ids", "__proto__", "k".repeat(1_000))), enabled: wish(true) }),
        postgres_changes: wish(Array.from({ length: this.chance(0.05) ? 300 : this.int(4) }, change)),
        postgres_changes_options: wish({ wait: wish(true), timeout: wish(this.int(100)) }),
      }),
      access_token: wish(this.pick(null, "", "sb_x", "a.b.c", this.text())),
      user_token: wish(null),
    });
  }

  /** What is sent as the payload of a broadcast, of presence, of a new token. */
  content(): unknown {
    return this.pick<() => unknown>(
      () => this.json(4),
      () => ({ type: "broadcast", event: this.text(10), payload: this.json(3) }),
      () => ({ type: "presence", event: this.pick("track", "UNTRACK", "", "teleport"), payload: this.json(3) }),
      () => ({ access_token: this.pick<unknown>(null, "", "a.b.c", this.text(), this.json(1)) }),
    )();
  }

  /** A frame that is nearly right: a field or its type may be wrong. */
  near(version: Version): Frame {
    const topic = this.chance(0.8) ? this.#from(this.#topics, "") : this.pick("", "phoenix", "realtime:", this.text());
    const event = this.chance(0.9) ? this.#from(events, "") : this.text();
    if (version === "2.0.0" && this.chance(0.2)) {
      return pushFrame(
        { topic, event, joinRef: "1", ref: "2", metadata: this.text(4), encoding: this.pick(0, 1, 7) },
        this.bytes(20),
      );
    }
    const payload = event === "phx_join" ? this.join() : this.content();
    const fields = [this.pick<unknown>(null, "1", 7), this.pick<unknown>(null, "2", 9), topic, event, payload];
    if (this.chance(0.2)) fields[this.int(5)] = this.json(2);
    if (version === "2.0.0") return JSON.stringify(fields);
    const [join_ref, ref, ...rest] = fields;
    return JSON.stringify({ topic: rest[0], event: rest[1], payload: rest[2], ref, join_ref });
  }

  /** A frame with a part cut off, put in or changed. */
  mutated(frame: Frame): Frame {
    const at = this.int(frame.length);
    if (typeof frame === "string") {
      const inserted = this.chance(0.5) ? this.text(this.int(4)) : this.pick('"', "{", "]", "\\", "\u0000");
      return frame.slice(0, at) + inserted + (this.chance(0.3) ? "" : frame.slice(at + this.int(3)));
    }
    if (this.chance(0.4)) return frame.slice(0, at);
    const changed = frame.slice();
    for (let times = this.int(4); times >= 0; times--) changed[this.int(changed.length)] = this.int(256);
    return changed;
  }

  /** A broadcast, a track or a join that is nested deeper than most programs can follow. */
  deep(version: Version, depth = this.pick(100, 1_000, 10_000, 100_000)): Frame {
    const nest = this.chance(0.5)
      ? `${"[".repeat(depth)}${"]".repeat(depth)}`
      : `${'{"a":'.repeat(depth)}0${"}".repeat(depth)}`;
    const [event, payload] = this.pick(
      ["broadcast", `{"type":"broadcast","event":"x","payload":${nest}}`],
      ["presence", `{"type":"presence","event":"track","payload":{"a":${nest}}}`],
      ["phx_join", `{"config":{"postgres_changes":[${nest}],"broadcast":${nest}}}`],
      ["access_token", `{"access_token":${nest}}`],
    );
    const topic = JSON.stringify(this.#from(this.#topics, ""));
    return version === "2.0.0"
      ? `["1","deep",${topic},"${event}",${payload}]`
      : `{"topic":${topic},"event":"${event}","payload":${payload},"ref":"deep"}`;
  }

  /** A frame over the limit, which costs the socket its life. */
  tooLarge(): Frame {
    return this.chance(0.5) ? "x".repeat(TOO_LARGE) : new Uint8Array(TOO_LARGE);
  }

  /** Any frame but one that is too large. */
  frame(version: Version): Frame {
    return this.pick<() => Frame>(
      () => this.near(version),
      () => this.near(version),
      () => this.near(version),
      () => this.mutated(this.near(version)),
      () => JSON.stringify(this.json(4)),
      () => this.text(this.int(200)),
      () => this.bytes(this.int(60)),
      () => Uint8Array.from([this.pick(0, 1, 2, 3, 3, 3, 4, 255), ...this.bytes(this.int(40))]),
      () => (this.chance(0.02) ? this.deep(version) : this.near(version)),
    )();
  }
}
