// The teller: what an object has counted reaches the directory, also when the directory did not answer at first.
import { expect, test } from "vitest";
import { Teller } from "../../src/edge/objects/teller.ts";
import type { Tallied } from "../../src/gateway/tally.ts";

test("what could not be told is told the next time, and that time comes by itself", async () => {
  const clock = { now: 0 };
  const alarms: number[] = [];
  const told: Tallied[] = [];
  const directory = { away: true };
  const timers = { now: () => clock.now, after: () => () => {}, alarm: (at: number) => alarms.push(at) };
  const teller = new Teller(timers, async (tallied) => {
    if (directory.away) throw new Error("away");
    told.push(tallied);
  });
  teller.tally.connected(3);
  teller.tally.connected(1);
  teller.tally.delivered(true, 1);
  expect(alarms).toEqual([5_000]);
  clock.now = 5_000;
  await teller.alarm();
  expect(alarms).toEqual([5_000, 10_000]);
  directory.away = false;
  clock.now = 10_000;
  await teller.alarm();
  expect(told).toMatchObject([{ connections: 1, peak: 3, delivered: 1 }]);
  expect(alarms).toHaveLength(2);
});
