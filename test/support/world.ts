// A world in memory for the cores: time that tests turn, stores that outlive their cores, links that can be cut.
import { Channel } from "../../src/channel/channel.ts";
import type {
  ChannelAccess,
  ChannelPorts,
  ChannelStore,
  Link,
  MemberRow,
  Policies,
  RingRow,
  SightRow,
} from "../../src/channel/ports.ts";
import { CapturedTables } from "../../src/gateway/captured.ts";
import { Gateway } from "../../src/gateway/gateway.ts";
import type { ChannelLink, JoinRecord, LinkEvents, Postgres, SessionStore, Socket } from "../../src/gateway/ports.ts";
import type { SessionRecord } from "../../src/gateway/session.ts";
import { Tally } from "../../src/gateway/tally.ts";
import type { Claims } from "../../src/protocol/claims.ts";
import type { Version } from "../../src/protocol/frames.ts";
import { defaultLimits, defaultPace, type Limits } from "../../src/protocol/limits.ts";
import { decodeDown, decodeUp, encodeLink } from "../../src/protocol/link.ts";
import type { Position } from "../../src/protocol/positions.ts";
import { allRights, noRights } from "../../src/protocol/rights.ts";
import type { Timers } from "../../src/protocol/timers.ts";
import { parseObjectName } from "../../src/protocol/topics.ts";

/** Numbers that look random and come again with the seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Time that passes when it is told to. Timers of one life die with it. */
export class Clock {
  now = 1_700_000_000_000;
  #due: { at: number; run: () => void; life: Life }[] = [];

  timers(life: Life): Timers {
    return {
      now: () => this.now,
      after: (ms, run) => {
        const entry = { at: this.now + ms, run, life };
        this.#due.push(entry);
        return () => {
          this.#due = this.#due.filter((other) => other !== entry);
        };
      },
      alarm: (at) => life.alarms.push(at),
    };
  }

  /** Lets time pass, running what falls due in its order, and whatever promises wait in between. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      await settled();
      this.#due.sort((a, b) => a.at - b.at);
      const [next] = this.#due;
      if (next === undefined || next.at > until) break;
      this.#due.shift();
      this.now = Math.max(this.now, next.at);
      if (next.life.alive) next.run();
    }
    this.now = until;
  }
}

/** Lets every promise that can go on do so. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

/** One life of a core in memory. */
class Life {
  alive = true;
  readonly alarms: number[] = [];
}

export class MemoryChannelStore implements ChannelStore {
  readonly #named = new Map<string, string>();
  readonly #ring = new Map<number, RingRow>();
  readonly #members = new Map<string, MemberRow>();
  readonly #sights = new Map<string, SightRow>();
  get = (key: string): string | undefined => this.#named.get(key);
  set = (key: string, value: string): void => void this.#named.set(key, value);
  ringIndex = (): RingRow[] => [...this.#ring.values()].sort((a, b) => a.first - b.first);
  ringBody = (slot: number): string | undefined => this.#ring.get(slot)?.body;
  putRing = (row: RingRow): void => void this.#ring.set(row.slot, row);
  deleteRing = (slot: number): void => void this.#ring.delete(slot);
  readonly #backlog = new Map<number, string>();
  putBacklog = (last: number, body: string): void => void this.#backlog.set(last, body);
  backlogAfter(seq: number): { last: number; body: string } | undefined {
    const last = Math.min(...[...this.#backlog.keys()].filter((last) => last > seq));
    const body = this.#backlog.get(last);
    return body === undefined ? undefined : { last, body };
  }
  backlogLength = (): number => [...this.#backlog.values()].reduce((sum, { length }) => sum + length, 0);
  dropBacklog(upTo: number): void {
    for (const last of this.#backlog.keys()) if (last <= upTo) this.#backlog.delete(last);
  }
  members = (): MemberRow[] => [...this.#members.values()];
  putMember = (row: MemberRow): void => void this.#members.set(row.ref, row);
  deleteMember = (ref: string): void => void this.#members.delete(ref);
  sights = (): SightRow[] => [...this.#sights.values()];
  sight = (user: string): SightRow | undefined => this.#sights.get(user);
  hasSights = (): boolean => this.#sights.size > 0;
  putSight = (row: SightRow): void => void this.#sights.set(row.user, row);
  forgetSights(before: number): number | undefined {
    for (const { user, seenAt } of this.sights()) if (seenAt < before) this.#sights.delete(user);
    const times = this.sights().map(({ seenAt }) => seenAt);
    return times.length === 0 ? undefined : Math.min(...times);
  }
  clear(): void {
    for (const kept of [this.#ring, this.#members, this.#sights]) kept.clear();
  }
}

export class MemorySessionStore implements SessionStore {
  readonly #sessions = new Map<string, SessionRecord>();
  readonly #joins = new Map<string, JoinRecord>();
  readonly #positions = new Map<string, Position>();
  sessions = (): SessionRecord[] => [...this.#sessions.values()];
  putSession = (session: SessionRecord): void => void this.#sessions.set(session.id, session);
  deleteSession(id: string): void {
    this.#sessions.delete(id);
    for (const { session, topic } of this.#joins.values()) if (session === id) this.deleteJoin(session, topic);
  }
  joins = (): JoinRecord[] => [...this.#joins.values()];
  putJoin = (join: JoinRecord): void => void this.#joins.set(`${join.session} ${join.topic}`, join);
  deleteJoin = (session: string, topic: string): void => void this.#joins.delete(`${session} ${topic}`);
  positions = (): ReadonlyMap<string, Position> => this.#positions;
  putPosition = (object: string, position: Position): void => void this.#positions.set(object, position);
  deletePosition = (object: string): void => void this.#positions.delete(object);
}

const openAccess: ChannelAccess = {
  registration: async () => null,
  rights: async () => noRights,
  membership: async () => allRights,
  banOf: () => undefined,
  forgetRights: () => {},
  table: async () => ({ columns: [], primaryKey: [] }),
};

const anon: Claims = { role: "anon", user: null, exp: null, all: { role: "anon" } };

/** A client of the world: what it was sent, and whether it still is connected. */
export class WorldClient implements Socket {
  readonly id: string;
  readonly version: Version;
  readonly frames: (string | Uint8Array)[] = [];
  closedWith: number | undefined;

  constructor(id: string, version: Version) {
    this.id = id;
    this.version = version;
  }

  send = (frame: string | Uint8Array): void => void this.frames.push(frame);
  close = (code: number): void => {
    this.closedWith = code;
  };

  /** How many frames hold a text. */
  heard(text: string): number {
    return this.frames.filter((frame) => String(frame).includes(text)).length;
  }

  /** The numbers `n` of the broadcasts received, in order. */
  get numbers(): number[] {
    return this.frames.flatMap((frame) => {
      if (typeof frame !== "string") return [];
      const value = JSON.parse(frame);
      const [event, payload] = Array.isArray(value) ? [value[3], value[4]] : [value.event, value.payload];
      return event === "broadcast" ? [payload.payload.n] : [];
    });
  }
}

/** How long a link message is on its way: long enough to be cut off between arriving and being answered. */
const LINK_MS = 3;

interface Wire {
  readonly gateway: string;
  readonly object: string;
  readonly link: Link;
  readonly events: LinkEvents;
  open: boolean;
}

/** Channels and gateways that can be restarted and cut off from one another; messages between them take their time. */
export class World {
  readonly clock = new Clock();
  readonly clients = new Map<string, WorldClient>();
  readonly #channelStores = new Map<string, MemoryChannelStore>();
  readonly #channels = new Map<string, { core: Channel; life: Life }>();
  readonly #gateways = new Map<string, { core: Gateway; life: Life; store: MemorySessionStore }>();
  #wires: Wire[] = [];
  #ids = 0;
  access: ChannelAccess = openAccess;
  /** Gateways that get no links. */
  readonly cutOff = new Set<string>();
  /** What all gateways count. */
  readonly tally = new Tally(() => {});
  /** Rates are off: these tests send as fast as they like. */
  limits: Limits = { ...defaultLimits, messagesPerMinute: 0, presencePerMinute: 0, joinsPerMinute: 0 };
  /** The tables that subscriptions find: what their feeds say of them is for `access` to say. */
  captured = new CapturedTables([
    ["public", "t"],
    ["public", "u"],
  ]);
  postgres: Postgres = {
    literals: async () => ({ fault: "no PostgreSQL in this world", sqlstate: "22000" }),
    patternFault: async () => undefined,
    captured: async () => this.captured,
    isReady: async () => true,
  };
  policies: Policies = {
    ask: async () => ({ visible: new Map(), left: [] }),
    unjudged: () => {},
  };
  /** Rejects while nobody can say who is banned. */
  blocksKnown = async (): Promise<void> => {};
  verify = async (_token: string): Promise<Claims> => {
    throw new Error("no tokens in this world");
  };

  id = (): string => `00000000-0000-4000-8000-${String(++this.#ids).padStart(12, "0")}`;

  channel(object: string): Channel {
    const known = this.#channels.get(object);
    if (known !== undefined) return known.core;
    const store = this.#channelStores.get(object) ?? new MemoryChannelStore();
    this.#channelStores.set(object, store);
    const life = new Life();
    const name = parseObjectName(object);
    if (name === undefined) throw new Error(`no channel is named ${object}`);
    const greeted = this.#wires.filter((wire) => wire.open && wire.object === object).map(({ link }) => link);
    const ports = { ...this.channelPorts(store), timers: this.clock.timers(life) };
    const core = new Channel(name, ports, greeted);
    this.#channels.set(object, { core, life });
    return core;
  }

  /** What a channel needs of the world, but for time. */
  channelPorts(store: ChannelStore): Omit<ChannelPorts, "timers"> {
    return {
      store,
      id: this.id,
      presenceTimeoutMs: 300_000,
      maxReplay: this.limits.replay,
      messageTtlMs: 86_400_000,
      moderate: async () => ({ reason: "this world has no members" }),
      archive: { persist: async () => false, keep: async () => {}, lost: () => {} },
      access: this.access,
      policies: this.policies,
    };
  }

  /** When a channel has wished for its alarm in this life, unix ms. */
  alarms = (object: string): readonly number[] => this.#channels.get(object)?.life.alarms ?? [];
  /** The users whose last sight a channel keeps. */
  sights = (object: string): string[] => (this.#channelStores.get(object)?.sights() ?? []).map(({ user }) => user);

  gateway(name: string): Gateway {
    const known = this.#gateways.get(name);
    return known?.life.alive ? known.core : this.#startGateway(name, known?.store ?? new MemorySessionStore());
  }

  #startGateway(name: string, store: MemorySessionStore): Gateway {
    const life = new Life();
    const core = new Gateway({
      name,
      store,
      timers: this.clock.timers(life),
      postgres: this.postgres,
      tally: this.tally,
      id: this.id,
      openLink: async (object, events) => this.#open(name, object, events, life),
      limits: this.limits,
      pace: defaultPace,
      digest: async (text) => text,
      verify: (token) => this.verify(token),
      blocksKnown: () => this.blocksKnown(),
      log: () => {},
    });
    this.#gateways.set(name, { core, life, store });
    return core;
  }

  #open(gateway: string, object: string, events: LinkEvents, life: Life): ChannelLink {
    if (this.cutOff.has(gateway)) throw new Error("no way to the channel");
    const sendDown = (data: string | Uint8Array): void => {
      if (!wire.open) return;
      this.clock.timers(life).after(LINK_MS, () => {
        if (wire.open) events.message(decodeDown(bufferOf(data)));
      });
    };
    const link: Link = {
      gateway,
      send: (message) => sendDown(encodeLink(message)),
      deliver: (parcel) => sendDown(parcel.wire),
      close: () => this.#cut(wire),
    };
    const wire: Wire = { gateway, object, link, events, open: true };
    this.#wires.push(wire);
    return {
      send: (message) => {
        const data = encodeLink(message);
        this.clock.timers(life).after(LINK_MS, () => {
          if (wire.open) void this.channel(object).receive(link, decodeUp(bufferOf(data)));
        });
      },
      close: () => {
        wire.open = false;
        this.#channels.get(object)?.core.unlinked(link);
      },
    };
  }

  #cut(wire: Wire): void {
    if (!wire.open) return;
    wire.open = false;
    this.#channels.get(wire.object)?.core.unlinked(wire.link);
    wire.events.closed();
  }

  /** Cuts every link of a channel; what was on its way is lost. */
  cutLinks(object: string): void {
    for (const wire of this.#wires.filter((wire) => wire.object === object)) this.#cut(wire);
  }

  /** How many links of a channel are open. */
  links(object: string): number {
    return this.#wires.filter((wire) => wire.object === object && wire.open).length;
  }

  /** Ends a channel's life in memory; its links stay, and it wakes with them. */
  sleepChannel(object: string): void {
    const known = this.#channels.get(object);
    if (known !== undefined) known.life.alive = false;
    this.#channels.delete(object);
  }

  /** Ends a channel's life as a crash does: unwritten work is lost, links break. */
  crashChannel(object: string): void {
    const known = this.#channels.get(object);
    if (known === undefined) return;
    known.life.alive = false;
    this.#channels.delete(object);
    for (const wire of this.#wires.filter((wire) => wire.object === object && wire.open)) {
      wire.open = false;
      wire.events.closed();
    }
  }

  /** Ends a gateway's life in memory; its sockets stay, and it wakes at once with them. */
  restartGateway(name: string): void {
    const known = this.#gateways.get(name);
    if (known === undefined) return;
    known.life.alive = false;
    for (const wire of this.#wires.filter((wire) => wire.gateway === name && wire.open)) {
      wire.open = false;
      this.#channels.get(wire.object)?.core.unlinked(wire.link);
    }
    const core = this.#startGateway(name, known.store);
    core.restore(new Map([...known.core.sessions.keys()].flatMap((id) => entryOf(id, this.clients.get(id)))));
  }

  connect(
    gateway: string,
    version: Version = "2.0.0",
    claims: Claims = anon,
    more: Pick<SessionRecord, "packed"> = {},
  ): WorldClient {
    const client = new WorldClient(this.id(), version);
    this.clients.set(client.id, client);
    const record = { id: client.id, version, claims, connectedAt: this.clock.now, headers: {}, ...more };
    this.gateway(gateway).open(record, client);
    return client;
  }

  /** Has a client send a frame. */
  say(gateway: string, client: WorldClient, ref: string, topic: string, event: string, payload: object): void {
    const frame =
      client.version === "2.0.0"
        ? JSON.stringify(["1", ref, topic, event, payload])
        : JSON.stringify({ topic, event, payload, ref, join_ref: "1" });
    this.gateway(gateway).receive(client.id, frame);
  }
}

function entryOf(id: string, client: WorldClient | undefined): [string, Socket][] {
  return client === undefined ? [] : [[id, client]];
}

/** What a socket would hand over: text, or a buffer of exactly the bytes. */
function bufferOf(data: string | Uint8Array): string | ArrayBuffer {
  return typeof data === "string" ? data : new Uint8Array(data).buffer;
}
