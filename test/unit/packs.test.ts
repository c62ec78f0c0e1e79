// Packs: what a client that takes several frames as one is sent, beside what others are.
import { beforeEach, describe, expect, test } from "vitest";
import { Packs } from "../../src/gateway/packs.ts";
import type { Version } from "../../src/protocol/frames.ts";
import { isPack } from "../support/raw-socket.ts";
import { World, type WorldClient } from "../support/world.ts";

const TOPIC = "realtime:room";
let world: World;

beforeEach(() => {
  world = new World();
});

/** All frames in the order in which the client takes them, packs taken apart. */
function frames({ frames }: WorldClient): unknown[] {
  return frames.flatMap((frame) => {
    if (typeof frame !== "string") return [[...frame]];
    const value: unknown = JSON.parse(frame);
    return isPack(value) ? value : [value];
  });
}

const packs = ({ frames }: WorldClient): number =>
  frames.filter((frame) => typeof frame === "string" && isPack(JSON.parse(frame))).length;

async function join(...clients: WorldClient[]): Promise<void> {
  for (const client of clients) world.say("g1", client, "1", TOPIC, "phx_join", { config: {} });
  await world.clock.pass(50);
  for (const client of clients) client.frames.length = 0;
}

describe.each<Version>(["1.0.0", "2.0.0"])("version %s", (version) => {
  test("takes apart to what others get one by one, in the same order, bytes in their place", async () => {
    const [one, another, plain] = [
      world.connect("g1", version, undefined, { packed: true }),
      world.connect("g1", version, undefined, { packed: true }),
      world.connect("g1", version),
    ];
    await join(one, another, plain);
    const channel = world.channel("public:room");
    const publish = (n: number) => channel.publish({ name: "e", body: `{"n":${n}}`, sender: null });
    for (let n = 0; n < 20; n++) publish(n);
    channel.publish({ name: "bytes", body: new Uint8Array([1, 2, 3]), sender: null });
    for (let n = 20; n < 30; n++) publish(n);
    await world.clock.pass(50);
    expect(frames(plain)).toHaveLength(version === "2.0.0" ? 31 : 30);
    expect(frames(one)).toEqual(frames(plain));
    expect(another.frames).toEqual(one.frames);
    expect(packs(one)).toBeGreaterThan(0);
    expect(one.frames.length).toBeLessThan(plain.frames.length / 3);
    expect(packs(plain)).toBe(0);
  });

  test("one frame goes as it is", async () => {
    const one = world.connect("g1", version, undefined, { packed: true });
    await join(one);
    world.channel("public:room").publish({ name: "e", body: '{"n":1}', sender: null });
    await world.clock.pass(50);
    expect([one.frames.length, packs(one)]).toEqual([1, 0]);
  });

  test("outlives a restart of the gateway", async () => {
    const one = world.connect("g1", version, undefined, { packed: true });
    await join(one);
    // Noted of the session, which must not lose what else is known of it.
    world.say("g1", one, "9", "phoenix", "heartbeat", {});
    await world.clock.pass(50);
    one.frames.length = 0;
    world.restartGateway("g1");
    await world.clock.pass(100);
    for (let n = 0; n < 5; n++) world.channel("public:room").publish({ name: "e", body: `{"n":${n}}`, sender: null });
    await world.clock.pass(50);
    expect(frames(one)).toHaveLength(5);
    expect(packs(one)).toBeGreaterThan(0);
  });
});

test("who leaves out a frame gets a pack of their own; a pack is bounded", () => {
  const gathered = new Packs();
  const gateway = world.gateway("g1");
  const sessions = [0, 1, 2].map(() => {
    const { id } = world.connect("g1", "2.0.0", undefined, { packed: true });
    const session = gateway.sessions.get(id);
    if (session === undefined) throw new Error("a session is missing");
    return session;
  });
  const long = Array.from({ length: 30 }, (_, n) => JSON.stringify([n, "x".repeat(20_000)]));
  for (const [at, session] of sessions.entries()) {
    for (const [n, frame] of long.entries()) if (at !== 1 || n !== 0) gathered.add(session, frame);
  }
  const sent = sessions.map((): string[] => []);
  for (const [session, pack, count] of gathered.takeAll()) {
    expect(JSON.parse(pack)).toHaveLength(count);
    expect(pack.length).toBeLessThan(300_000);
    sent[sessions.indexOf(session)]?.push(pack);
  }
  expect(sent[0]?.flatMap((pack) => JSON.parse(pack).map(([n]: [number]) => n))).toEqual(long.map((_, n) => n));
  expect(sent[1]?.flatMap((pack) => JSON.parse(pack))).toHaveLength(29);
  expect(sent[2]).toEqual(sent[0]);
  expect([...gathered.takeAll()]).toEqual([]);
});
