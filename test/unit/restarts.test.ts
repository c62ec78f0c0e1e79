// Restarts of the cores: whatever is cut, restarted or crashed, a subscriber hears each message once, in order, or is
// told that something was lost.
import { describe, expect, test } from "vitest";
import { seededRandom, World, type WorldClient } from "../support/world.ts";

const TOPIC = "realtime:room";
const OBJECT = "public:room";
const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index + 1);

async function twoJoined(config: object = {}): Promise<{ world: World; ann: WorldClient; bob: WorldClient }> {
  const world = new World();
  const [ann, bob] = [world.connect("g1"), world.connect("g2", "1.0.0")];
  world.say("g1", ann, "1", TOPIC, "phx_join", { config });
  world.say("g2", bob, "1", TOPIC, "phx_join", { config });
  await world.clock.pass(10);
  return { world, ann, bob };
}

function shout(world: World, ann: WorldClient, n: number): void {
  world.say("g1", ann, String(n + 1), TOPIC, "broadcast", { type: "broadcast", event: "n", payload: { n } });
}

describe("restarts", () => {
  test("messages that go out while a gateway restarts reach its sockets once, in order", async () => {
    const { world, ann, bob } = await twoJoined();
    for (let n = 1; n <= 30; n++) {
      shout(world, ann, n);
      if (n % 3 === 0) world.restartGateway("g2");
      await world.clock.pass(1_500);
    }
    expect(bob.numbers).toEqual(upTo(30));
  });

  test("publishes on a link that breaks are sent again, and taken once", async () => {
    const { world, ann, bob } = await twoJoined({ broadcast: { self: true } });
    for (let n = 1; n <= 50; n++) {
      shout(world, ann, n);
      await world.clock.pass(n % 6);
      if (n % 7 === 0) world.cutLinks(OBJECT);
    }
    await world.clock.pass(20_000);
    expect(ann.numbers).toEqual(upTo(50));
    expect(bob.numbers).toEqual(upTo(50));
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])("random cuts, restarts and crashes, seed %i", async (seed) => {
    const random = seededRandom(seed);
    const { world, ann, bob } = await twoJoined({ broadcast: { self: true } });
    for (let n = 1; n <= 200; n++) {
      shout(world, ann, n);
      const dice = random();
      if (dice < 0.03) world.cutLinks(OBJECT);
      else if (dice < 0.04) {
        // What is not in the ring yet is lost by a crash: only a quiet channel can promise that nothing is.
        await world.clock.pass(2_000);
        world.crashChannel(OBJECT);
      }
      if (random() < 0.5) await world.clock.pass(Math.floor(random() * 12));
    }
    await world.clock.pass(30_000);
    for (const client of [ann, bob]) expect(client.numbers, `seed ${seed}`).toEqual(upTo(200));
  });

  test("a crash in the middle of a burst never gives a number twice, and nobody is told that they missed nothing", async () => {
    const { world, ann, bob } = await twoJoined();
    for (let n = 1; n <= 10; n++) shout(world, ann, n);
    await world.clock.pass(10);
    const before = world.channel(OBJECT).position;
    world.crashChannel(OBJECT);
    const after = world.channel(OBJECT).position;
    expect(after.epoch).toBe(before.epoch);
    expect(after.seq).toBeGreaterThanOrEqual(before.seq);
    await world.clock.pass(5_000);
    expect(bob.frames.some((frame) => String(frame).includes("phx_error"))).toBe(true);
  });

  test("presence survives a crash of the channel with the refs it had, and a gateway that stays away is let go", async () => {
    const { world, ann } = await twoJoined({ presence: { key: "k", enabled: true } });
    world.say("g1", ann, "5", TOPIC, "presence", { type: "presence", event: "track", payload: { a: 1 } });
    await world.clock.pass(100);
    const before = world.channel(OBJECT).presence.state;
    expect(before.k?.metas).toHaveLength(1);
    world.crashChannel(OBJECT);
    await world.clock.pass(1_000);
    expect(world.channel(OBJECT).presence.state).toEqual(before);
    await world.channel(OBJECT).alarm();
    expect(world.channel(OBJECT).presence.state).toEqual(before);
  });

  test("a ring that has forgotten what was old gives no number twice, and says to who resumes that something is gone", async () => {
    const { world, ann, bob } = await twoJoined();
    shout(world, ann, 1);
    await world.clock.pass(3_600_000);
    shout(world, ann, 2);
    await world.clock.pass(3_600_000);
    const channel = world.channel(OBJECT);
    const said = (): number => [...world.channel(OBJECT).history("newest", 0)].length;
    channel.forget(world.clock.now - 5_400_000);
    expect(said()).toBe(1);
    channel.forget(world.clock.now);
    expect(said()).toBe(0);
    const before = channel.position;
    world.crashChannel(OBJECT);
    expect(world.channel(OBJECT).position).toEqual(before);
    await world.clock.pass(5_000);
    shout(world, ann, 3);
    await world.clock.pass(1_000);
    expect(world.channel(OBJECT).position.seq).toBe(before.seq + 1);
    expect(bob.numbers).toEqual([1, 2, 3]);
  });

  test("AC-166: the time that messages take is measured, and what a gateway missed while it had no link is no part of it", async () => {
    const { world, ann, bob } = await twoJoined();
    shout(world, ann, 1);
    await world.clock.pass(1_000);
    expect(world.tally.take()).toMatchObject({ timed: 2, latencyMs: 6 });
    world.cutOff.add("g2");
    world.cutLinks(OBJECT);
    await world.clock.pass(1_000);
    shout(world, ann, 2);
    await world.clock.pass(60_000);
    world.cutOff.clear();
    await world.clock.pass(10_000);
    expect(bob.numbers).toEqual([1, 2]);
    expect(world.tally.take()).toMatchObject({ timed: 1, latencyMs: 3, delivered: 1 });
  });

  test("who was seen here for the last time is forgotten after 30 days, when nothing else happens too", async () => {
    const world = new World();
    const day = 86_400_000;
    const channel = world.channel(OBJECT);
    channel.trackUser("ann", "online", undefined);
    channel.untrackUser("ann", undefined);
    await world.clock.pass(day);
    channel.untrackUser("bob", undefined);
    expect(world.alarms(OBJECT)).toContain(world.clock.now - day + 30 * day);
    await world.clock.pass(29 * day + 1);
    await channel.alarm();
    expect(world.sights(OBJECT)).toEqual(["bob"]);
    expect(world.alarms(OBJECT).at(-1)).toBe(world.clock.now - 1 + day);
    await world.clock.pass(day);
    await channel.alarm();
    expect(world.sights(OBJECT)).toEqual([]);
  });
});
