// Bans of one channel: what is kept of them, and how much.
import { expect, test } from "vitest";
import { Bans } from "../../src/edge/objects/bans.ts";
import { MemoryChannelStore } from "../support/world.ts";

test("a ban is known in the next life, with its end and its reason, until it is over", () => {
  const store = new MemoryChannelStore();
  expect(new Bans(store).add("ann", { until: null, reason: "spam" })).toBe(true);
  expect(new Bans(store).add("bob", { until: Date.now() - 1, reason: null })).toBe(true);
  const bans = new Bans(store);
  expect([bans.of("ann"), bans.of("bob"), bans.of(null)]).toEqual([
    { until: null, reason: "spam" },
    undefined,
    undefined,
  ]);
  expect(bans.standing).toEqual({ ann: { until: null, reason: "spam" } });
});

test("bans that an earlier deploy has kept still hold", () => {
  const store = new MemoryChannelStore();
  store.set("bans", JSON.stringify({ ann: null, bob: 4e12 }));
  expect(new Bans(store).standing).toEqual({
    ann: { until: null, reason: null },
    bob: { until: 4e12, reason: null },
  });
});

test("there are never more than fit into one value, however long the ids are", () => {
  const store = new MemoryChannelStore();
  const bans = new Bans(store);
  const add = (n: number) => bans.add(`${n} ${"\u0939".repeat(2_000)}`, { until: null, reason: "\u0939".repeat(100) });
  let count = 0;
  while (count < 5_001 && add(count)) count++;
  expect(count).toBeLessThan(5_000);
  const kept = store.get("bans") ?? "";
  expect(Buffer.byteLength(kept)).toBeLessThan(2_000_000);
  // Those that stand are kept, and one that is lifted makes room.
  expect(bans.of(`0 ${"\u0939".repeat(2_000)}`)).toBeDefined();
  bans.delete(`0 ${"\u0939".repeat(2_000)}`);
  expect(add(count)).toBe(true);
});
