// What is due: work that is done when its time has come, and not whenever the object's one alarm rings.
import { beforeEach, expect, test, vi } from "vitest";
import { Due } from "../../src/protocol/due.ts";
import { World } from "../support/world.ts";

let world: World;
beforeEach(() => {
  world = new World();
});

test("the first call of a life is due, then every wish; a call that comes too early has the earliest wished for again", () => {
  const alarms: number[] = [];
  let now = 1_000;
  const due = new Due({ now: () => now, after: () => () => {}, alarm: (at) => alarms.push(at) });
  expect([due.take(), due.take()]).toEqual([true, false]);
  for (const at of [4_900, 7_000, 4_001]) due.wish(at);
  now = 4_999;
  expect([due.take(), alarms]).toEqual([false, [5_000, 7_000, 5_000, 5_000]]);
  now = 5_000;
  expect([due.take(), due.take(), alarms.at(-1)]).toEqual([true, false, 7_000]);
  now = 8_000;
  expect([due.take(), due.take()]).toEqual([true, false]);
});

test("an alarm for something else has a gateway go through its sockets once in 30 seconds, and when a token expires", async () => {
  const gateway = world.gateway("g1");
  const sweeps = vi.spyOn(gateway, "forgetViewers");
  const exp = Math.floor(world.clock.now / 1_000) + 100;
  const ann = world.connect("g1", "2.0.0", { role: "authenticated", user: "ann", exp, all: {} });
  world.say("g1", ann, "1", "realtime:room", "phx_join", {});
  for (let second = 0; second < 105; second++) {
    await world.clock.pass(1_000);
    world.say("g1", ann, "2", "phoenix", "heartbeat", {});
    gateway.alarm();
    if (second === 98) expect(ann.heard("Token has expired")).toBe(0);
  }
  expect(ann.heard("Token has expired")).toBe(1);
  expect(sweeps.mock.calls.length).toBeLessThan(7);
});

test("an alarm for something else does not have a channel go through its presence", async () => {
  const channel = world.channel("public:room");
  channel.trackUser("ann", "online", {});
  channel.alarm();
  const drops = vi.spyOn(channel.presence, "drop");
  for (let second = 0; second < 299; second++) {
    await world.clock.pass(1_000);
    channel.alarm();
  }
  expect([drops.mock.calls.length, channel.presence.list().length]).toEqual([0, 1]);
  await world.clock.pass(1_000);
  channel.alarm();
  expect(channel.presence.list()).toEqual([]);
});
