// Archiving: everything that a registered channel says is kept, each message once, while the database comes and goes.
import { expect, test } from "vitest";
import { Archiving } from "../../src/channel/archiving.ts";
import { RING_SLOTS, Ring } from "../../src/channel/ring.ts";
import type { Message } from "../../src/protocol/link.ts";
import { MemoryChannelStore, World } from "../support/world.ts";

const message = (seq: number, rest: Partial<Message> = {}): Message => {
  const id = `00000000-0000-4000-8000-${String(seq).padStart(12, "0")}`;
  return {
    seq,
    id,
    at: seq,
    from: null,
    sender: null,
    event: "broadcast",
    name: "e",
    body: `{"payload":${seq}}`,
    ...rest,
  };
};

const CHANNEL = "the channel";

interface Start {
  store?: MemoryChannelStore;
  /** Null: it is an open one. */
  channel?: string | null;
  mostBacklog?: number;
}

/** A channel's archiving whose database can be taken away; `alarms` are the times it wants to be called at. */
function start({ store = new MemoryChannelStore(), channel = CHANNEL, mostBacklog = 1_000_000 }: Start = {}) {
  const kept: number[][] = [];
  const keptFor = new Set<string>();
  const alarms: number[] = [];
  const state = { away: false, lost: 0 };
  const world = new World();
  const timers = { now: () => world.clock.now, after: () => () => {}, alarm: (at: number) => alarms.push(at) };
  const keep = async (channel: string, messages: readonly Message[]): Promise<void> => {
    if (state.away) throw new Error("away");
    keptFor.add(channel);
    kept.push(messages.map(({ seq }) => seq));
  };
  const lost = (count: number): void => {
    state.lost += count;
  };
  const ring: Ring = new Ring(store, (row) => archiving.rescue(row));
  const ports = { store, timers, archive: { persist: async () => false, keep, lost } };
  const archiving = new Archiving(ring, ports, mostBacklog);
  const woken = alarms.length;
  archiving.heard(channel);
  /** Says messages, each in a row of the ring of its own. */
  const say = (from: number, to: number): void => {
    for (let seq = from; seq <= to; seq++) {
      ring.add(message(seq));
      ring.write();
      archiving.note();
    }
  };
  return { store, ring, archiving, kept, keptFor, alarms, state, say, woken };
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test("messages are kept in batches, once, and those of the database not again", async () => {
  const { ring, archiving, kept, keptFor } = start();
  for (let seq = 1; seq <= 450; seq++) ring.add(message(seq, seq % 2 === 0 ? { stored: true } : {}));
  ring.write();
  await Promise.all([archiving.run(), archiving.run()]);
  await archiving.run();
  expect(kept.map((batch) => batch.length)).toEqual([100, 100, 25]);
  expect(kept.flat()).toEqual(Array.from({ length: 225 }, (_, at) => at * 2 + 1));
  expect([...keptFor]).toEqual([CHANNEL]);
});

test("while the database is away nothing is lost, also over a restart, and it is asked ever more seldom", async () => {
  const first = start();
  first.state.away = true;
  first.say(1, 1);
  for (let turn = 0; turn < 6; turn++) await expect(first.archiving.run()).rejects.toThrow("away");
  const waits = first.alarms.slice(1).map((at) => at - (first.alarms[0] ?? 0));
  expect(waits).toEqual([4_000, 9_000, 19_000, 39_000, 59_000, 59_000]);
  const second = start({ store: first.store });
  expect(second.woken).toBe(1);
  second.ring.add(message(2));
  await second.archiving.run();
  expect(second.kept.flat()).toEqual([1, 2]);
});

test("what comes while it is being written does not have it tried again at once when that fails", async () => {
  const { archiving, alarms, state, say } = start();
  say(1, 1);
  state.away = true;
  const running = archiving.run();
  say(2, 2);
  await expect(running).rejects.toThrow("away");
  expect(alarms.slice(1).map((at) => at - (alarms[0] ?? 0))).toEqual([4_000, 4_000]);
});

test("while the database is away the ring may turn over and over, also over a restart: all is kept, in its order", async () => {
  const first = start();
  first.state.away = true;
  first.say(1, RING_SLOTS + 500);
  await expect(first.archiving.run()).rejects.toThrow("away");
  const second = start({ store: first.store });
  expect(second.woken).toBe(1);
  second.say(RING_SLOTS + 501, 2 * RING_SLOTS + 700);
  await second.archiving.run();
  expect(second.kept.flat()).toEqual(numbers(1, 2 * RING_SLOTS + 700));
  expect([second.state.lost, second.store.backlogLength()]).toEqual([0, 0]);
  await second.archiving.run();
  expect(second.kept.flat()).toHaveLength(2 * RING_SLOTS + 700);
});

test("what is more than the backlog may hold is lost, the newest of it, and said to be so with its number", async () => {
  const { archiving, kept, state, say, store } = start({ mostBacklog: 20_000 });
  state.away = true;
  say(1, RING_SLOTS + 500);
  expect(store.backlogLength()).toBeLessThanOrEqual(20_000);
  await expect(archiving.run()).rejects.toThrow("away");
  const { lost } = state;
  expect(lost).toBeGreaterThan(300);
  state.away = false;
  await archiving.run();
  expect(kept.flat()).toEqual([...numbers(1, 500 - lost), ...numbers(501, RING_SLOTS + 500)]);
  expect(state.lost).toBe(lost);
});

test("a ring that is cleared while the channel stays loses nothing of its history", async () => {
  const { ring, archiving, kept, say, store } = start();
  say(1, 3);
  ring.add(message(4));
  ring.clear();
  store.clear();
  say(5, 5);
  await archiving.run();
  expect(kept.flat()).toEqual([1, 2, 3, 4, 5]);
});

test("an open channel keeps nothing, and neither does a registered one of what was said before", async () => {
  const { archiving, kept, keptFor, alarms, say, store } = start({ channel: null });
  say(1, 1);
  await archiving.run();
  expect([kept, alarms, store.get("history")]).toEqual([[], [], undefined]);
  archiving.heard(CHANNEL);
  say(2, 2);
  expect(alarms.length).toBe(1);
  await archiving.run();
  expect([kept, ...keptFor]).toEqual([[[2]], CHANNEL]);
});

test("of what an earlier life of an open channel said, one that is registered meanwhile keeps nothing", async () => {
  const first = start({ channel: null });
  first.say(1, 2);
  const second = start({ store: first.store });
  second.say(3, 3);
  await second.archiving.run();
  expect(second.kept).toEqual([[3]]);
});

test.each([null, "another"])("what a channel has said that is gone (now: %s) is nobody's history", async (now) => {
  const { ring, archiving, kept, state, say, store } = start();
  state.away = true;
  say(1, RING_SLOTS + 10);
  archiving.heard(now);
  ring.clear();
  store.clear();
  state.away = false;
  say(RING_SLOTS + 11, RING_SLOTS + 11);
  await archiving.run();
  expect(kept).toEqual(now === null ? [] : [[RING_SLOTS + 11]]);
  expect(store.backlogLength()).toBe(0);
});

test("what is being written when the channel is made again does not count as written for the new one", async () => {
  const { archiving, kept, keptFor, say } = start();
  say(1, 1);
  const running = archiving.run();
  archiving.heard("another");
  say(2, 2);
  await running;
  expect(kept).toEqual([[1], [2]]);
  expect([...keptFor]).toEqual([CHANNEL, "another"]);
});
