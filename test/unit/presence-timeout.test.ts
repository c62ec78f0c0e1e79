// Users tracked without a socket: how long they are there without a word.
import { expect, test } from "vitest";
import { Channel } from "../../src/channel/channel.ts";
import { tuning } from "../../src/settings/edge.ts";
import { Clock, MemoryChannelStore, World } from "../support/world.ts";

test("AC-180: with the default of 300 s a silent user is offline when they are over, by the channel's own alarm", async () => {
  const presenceTimeoutMs = tuning.parse({}).REALTIME_PRESENCE_TIMEOUT * 1_000;
  const clock = new Clock();
  const life = { alive: true, alarms: [] as number[] };
  const ports = {
    ...new World().channelPorts(new MemoryChannelStore()),
    timers: clock.timers(life),
    presenceTimeoutMs,
  };
  const channel = new Channel({ kind: "public", sub: "lobby" }, ports, []);
  const here = () => channel.presence.list().map(({ key }) => key);

  const start = clock.now;
  channel.trackUser("ann", "online", undefined);
  await clock.pass(120_000);
  channel.trackUser("bob", "online", undefined);
  expect(Math.min(...life.alarms)).toBe(start + 300_000);

  await clock.pass(179_999);
  channel.alarm();
  expect(here()).toEqual(["ann", "bob"]);
  await clock.pass(1);
  life.alarms.length = 0;
  channel.alarm();
  expect(here()).toEqual(["bob"]);
  expect(Math.min(...life.alarms)).toBe(start + 420_000);
});
