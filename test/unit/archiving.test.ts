// Archiving: everything that a registered channel says is kept, each message once, while the database comes and goes.
import { expect, test } from "vitest";
import { Archiving } from "../../src/channel/archiving.ts";
import type { ChannelPorts } from "../../src/channel/ports.ts";
import { Ring } from "../../src/channel/ring.ts";
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

/** A channel's archiving whose database can be taken away; `alarms` are the times it wants to be called at. */
function start({ store = new MemoryChannelStore(), registered = true } = {}) {
  const kept: number[][] = [];
  const alarms: number[] = [];
  const state = { away: false, registered };
  const ring = new Ring(store);
  const world = new World();
  const timers = { now: () => world.clock.now, after: () => () => {}, alarm: (at: number) => alarms.push(at) };
  const registration = () => (state.registered ? { type: "public" as const, limits: {} } : null);
  const access: ChannelPorts["access"] = {
    ...world.access,
    registration: async () => registration(),
    known: registration,
  };
  const keep = async (messages: readonly Message[]): Promise<void> => {
    if (state.away) throw new Error("away");
    kept.push(messages.map(({ seq }) => seq));
  };
  const archiving = new Archiving(ring, { store, timers, access, archive: { persist: async () => false, keep } });
  return { store, ring, archiving, kept, alarms, state };
}

test("messages are kept in batches, once, and those of the database not again", async () => {
  const { ring, archiving, kept } = start();
  for (let seq = 1; seq <= 450; seq++) ring.add(message(seq, seq % 2 === 0 ? { stored: true } : {}));
  ring.write();
  await Promise.all([archiving.run(), archiving.run()]);
  await archiving.run();
  expect(kept.map((batch) => batch.length)).toEqual([100, 100, 25]);
  expect(kept.flat()).toEqual(Array.from({ length: 225 }, (_, at) => at * 2 + 1));
});

test("while the database is away nothing is lost, also over a restart, and it is asked ever more seldom", async () => {
  const first = start();
  first.state.away = true;
  first.ring.add(message(1));
  first.ring.write();
  first.archiving.note();
  for (let turn = 0; turn < 6; turn++) await expect(first.archiving.run()).rejects.toThrow("away");
  const waits = first.alarms.slice(1).map((at) => at - (first.alarms[0] ?? 0));
  expect(waits).toEqual([4_000, 9_000, 19_000, 39_000, 59_000, 59_000]);
  const second = start({ store: first.store });
  expect(second.alarms).toHaveLength(1);
  second.ring.add(message(2));
  await second.archiving.run();
  expect(second.kept.flat()).toEqual([1, 2]);
});

test("an open channel keeps nothing, and neither does a registered one of what was said before", async () => {
  const { ring, archiving, kept, alarms, state } = start({ registered: false });
  ring.add(message(1));
  archiving.note();
  await archiving.run();
  expect([kept, alarms]).toEqual([[], []]);
  archiving.skipTo(1);
  state.registered = true;
  ring.add(message(2));
  archiving.note();
  expect(alarms.length).toBe(1);
  await archiving.run();
  expect(kept).toEqual([[2]]);
});
