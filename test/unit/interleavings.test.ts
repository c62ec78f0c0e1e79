// Interleavings: joins, leaves, tokens, presence and restarts that cross each other's way.

import { expect, test } from "vitest";
import type { Claims } from "../../src/protocol/claims.ts";
import { allRights, noRights } from "../../src/protocol/rights.ts";
import type { Table } from "../../src/protocol/tables.ts";
import { settled, World, type WorldClient } from "../support/world.ts";

const TOPIC = "realtime:room";
const OBJECT = "public:room";

const join = (world: World, gateway: string, client: WorldClient, ref: string, config: object = {}): void =>
  world.say(gateway, client, ref, TOPIC, "phx_join", { config });

const shout = (world: World, gateway: string, client: WorldClient, n: number): void =>
  world.say(gateway, client, String(n + 100), TOPIC, "broadcast", { type: "broadcast", event: "n", payload: { n } });

const track = (world: World, gateway: string, client: WorldClient, payload: object = {}): void =>
  world.say(gateway, client, "50", TOPIC, "presence", { type: "presence", event: "track", payload });

const publish = (world: World, n: number): unknown =>
  world
    .channel(OBJECT)
    .publish({ name: "n", body: `{"type":"broadcast","event":"n","payload":{"n":${n}}}`, sender: null });

const present = (world: World): string[] => Object.keys(world.channel(OBJECT).presence.state);

async function pair(config: object = {}): Promise<{ world: World; ann: WorldClient; bob: WorldClient }> {
  const world = new World();
  const [ann, bob] = [world.connect("g1"), world.connect("g2")];
  join(world, "g1", ann, "1", config);
  join(world, "g2", bob, "1", config);
  await world.clock.pass(2_000);
  return { world, ann, bob };
}

/** A promise, and what ends it. */
function pending<T>(): { promise: Promise<T>; end: (value: T) => void; fail: (error: Error) => void } {
  let end: (value: T) => void = () => {};
  let fail: (error: Error) => void = () => {};
  const promise = new Promise<T>((resolve, reject) => {
    end = resolve;
    fail = reject;
  });
  return { promise, end, fail };
}

test("a message that goes out while a gateway restarts is heard, even if it is the first of the channel", async () => {
  const { world, ann, bob } = await pair();
  world.restartGateway("g2");
  publish(world, 1);
  await world.clock.pass(5_000);
  publish(world, 2);
  await world.clock.pass(5_000);
  expect([ann.numbers, bob.numbers, bob.heard("phx_error")]).toEqual([[1, 2], [1, 2], 0]);
});

test("who joins after messages does not hear them after a restart, though somebody of the gateway had been there", async () => {
  const { world, ann, bob } = await pair();
  shout(world, "g1", ann, 1);
  await world.clock.pass(1_000);
  // The socket ends while the gateway sleeps.
  world.clients.delete(bob.id);
  world.restartGateway("g2");
  await world.clock.pass(1_000);
  for (const n of [2, 3]) shout(world, "g1", ann, n);
  await world.clock.pass(1_000);
  const carl = world.connect("g2");
  join(world, "g2", carl, "1");
  await world.clock.pass(2_000);
  world.restartGateway("g2");
  await world.clock.pass(1_000);
  expect(carl.numbers).toEqual([]);
});

test("who left while a link was down is gone for those behind it, too", async () => {
  const { world, ann, bob } = await pair({ presence: { key: "somebody", enabled: true } });
  track(world, "g2", bob);
  await world.clock.pass(100);
  expect(ann.heard('"joins":{"somebody"')).toBe(1);
  const states = ann.heard('"presence_state",{}');
  world.restartGateway("g1");
  world.gateway("g2").closed(bob.id);
  await world.clock.pass(30_000);
  expect(present(world)).toEqual([]);
  expect(ann.heard('"presence_state",{}')).toBe(states + 1);
});

test("what a client tracked while the link was down goes with the client", async () => {
  const { world, ann } = await pair({ presence: { key: "ghost", enabled: true } });
  const other = world.connect("g1");
  join(world, "g1", other, "1");
  await world.clock.pass(100);
  world.cutLinks(OBJECT);
  track(world, "g1", ann);
  world.gateway("g1").closed(ann.id);
  await world.clock.pass(60_000);
  expect(present(world)).toEqual([]);
});

test("who was let go while the gateway was away too long is tracked again when it is back", async () => {
  const { world, ann } = await pair({ presence: { key: "k", enabled: true } });
  track(world, "g1", ann, { at: "desk" });
  await world.clock.pass(100);
  world.channel(OBJECT).presence.drop(() => true, world.clock.now);
  world.cutLinks(OBJECT);
  await world.clock.pass(1_000);
  expect(world.channel(OBJECT).presence.state).toMatchObject({ k: { metas: [{ at: "desk" }] } });
});

test("1,500 publishes on a link that breaks are each taken once", async () => {
  const { world, ann, bob } = await pair();
  for (let n = 1; n <= 1_500; n++) shout(world, "g1", ann, n);
  // They have arrived, and their echo is under way.
  await world.clock.pass(4);
  world.cutLinks(OBJECT);
  await world.clock.pass(10_000);
  expect(bob.numbers).toEqual(Array.from({ length: 1_500 }, (_, index) => index + 1));
});

test("publishes of a client that has left do not come again minutes later", async () => {
  const { world, ann, bob } = await pair();
  const other = world.connect("g1");
  for (let n = 1; n <= 5; n++) shout(world, "g1", ann, n);
  await world.clock.pass(4);
  world.cutLinks(OBJECT);
  world.gateway("g1").closed(ann.id);
  await world.clock.pass(100);
  join(world, "g1", other, "1");
  await world.clock.pass(60_000);
  for (let n = 1_001; n <= 2_100; n++) publish(world, n);
  await world.clock.pass(60_000);
  const before = bob.numbers.length;
  world.cutLinks(OBJECT);
  await world.clock.pass(10_000);
  expect(bob.numbers.slice(before)).toEqual([]);
});

test("a slow join that was superseded takes nothing from the join that took its place", async () => {
  const world = new World();
  const table = pending<Table | null>();
  world.access = { ...world.access, table: () => table.promise };
  const ann = world.connect("g1");
  join(world, "g1", ann, "1", { postgres_changes: [{ event: "*", schema: "public", table: "t" }] });
  await world.clock.pass(50);
  join(world, "g1", ann, "2", { presence: { key: "k", enabled: true } });
  await world.clock.pass(50);
  track(world, "g1", ann);
  await world.clock.pass(50);
  table.end({ columns: [], primaryKey: [] });
  await world.clock.pass(50);
  expect(present(world)).toEqual(["k"]);
});

test("a join slower than a feed is kept for nobody still hears the row changes that it was promised", async () => {
  const world = new World();
  const type = pending<null>();
  world.access = { ...world.access, registration: () => type.promise };
  const ann = world.connect("g1");
  join(world, "g1", ann, "1", { postgres_changes: [{ event: "*", schema: "public", table: "t" }] });
  await world.clock.pass(6_000);
  type.end(null);
  await world.clock.pass(1_000);
  expect(ann.heard("Subscribed to PostgreSQL")).toBe(1);
  const table = {
    schema: "public",
    table: "t",
    generation: 1,
    columns: [],
    primaryKey: [],
    rls: false,
    readers: ["anon"],
  };
  const header = { v: 1, source: "s", epoch: 1, batch: 1, redelivered: false, feed: "public.t", tables: {} } as const;
  const change = { id: "1", operation: "INSERT", data: '{"record":{"id":1}}', table } as const;
  world.channel("feed:public.t").changes({ header, changes: [change] });
  await world.clock.pass(1_000);
  expect(ann.heard('"postgres_changes",{"ids"')).toBe(1);
});

test("a room that ended takes nothing from the room that followed it", async () => {
  const world = new World();
  const ann = world.connect("g1");
  join(world, "g1", ann, "1");
  await world.clock.pass(100);
  world.say("g1", ann, "2", TOPIC, "phx_leave", {});
  await world.clock.pass(1_000);
  world.cutLinks(OBJECT);
  await world.clock.pass(100);
  join(world, "g1", ann, "3");
  await world.clock.pass(500);
  publish(world, 1);
  await world.clock.pass(5_000);
  world.restartGateway("g1");
  publish(world, 2);
  await world.clock.pass(5_000);
  expect(ann.numbers).toEqual([1, 2]);
});

test("a token that has expired since the socket opened joins nothing more", async () => {
  const world = new World();
  const exp = world.clock.now / 1000 + 60;
  const ann = world.connect("g1", "2.0.0", { role: "authenticated", user: "ann", exp, all: {} });
  await world.clock.pass(61_000);
  join(world, "g1", ann, "1");
  await world.clock.pass(100);
  expect(ann.heard("InvalidJWTToken: Token has expired 1 seconds ago")).toBe(1);
});

/** A private channel whose one member has joined it; `identities` says whose a token is. */
async function privately(identities: Record<string, Promise<Claims>>): Promise<{ world: World; ann: WorldClient }> {
  const world = new World();
  world.access = {
    ...world.access,
    registration: async () => ({ type: "private", limits: {} }),
    rights: async ({ user }) => (user === "ann" ? allRights : noRights),
  };
  world.verify = (token) => identities[token] ?? Promise.reject(new Error("Failed to validate JWT signature"));
  const ann = world.connect("g1", "2.0.0", { role: "authenticated", user: "ann", exp: null, all: {} });
  join(world, "g1", ann, "1", { private: true });
  await world.clock.pass(100);
  expect(ann.heard('"status":"ok"')).toBe(1);
  return { world, ann };
}

const refresh = (world: World, client: WorldClient, token: string): void =>
  world.say("g1", client, "60", TOPIC, "access_token", { access_token: token });

test("a new token of somebody who is no member ends a private channel, and one of the member does not", async () => {
  const stranger = Promise.resolve({ role: "authenticated", user: "eve", exp: null, all: {} });
  const member = Promise.resolve({ role: "authenticated", user: "ann", exp: null, all: { fresh: true } });
  const { world, ann } = await privately({ stranger, member });
  refresh(world, ann, "member");
  await world.clock.pass(100);
  expect(ann.heard("phx_close")).toBe(0);
  refresh(world, ann, "stranger");
  await world.clock.pass(100);
  expect(ann.heard("You do not have permissions to read from this Channel topic: room")).toBe(1);
  expect(ann.heard("phx_close")).toBe(1);
  shout(world, "g1", ann, 1);
  expect(ann.heard("unmatched topic")).toBe(1);
});

test("the answer to a token of a membership that has ended touches nothing", async () => {
  const refused = pending<Claims>();
  const accepted = pending<Claims>();
  const { world, ann } = await privately({ refused: refused.promise, accepted: accepted.promise });
  refresh(world, ann, "refused");
  join(world, "g1", ann, "3", { private: true });
  await world.clock.pass(100);
  refused.fail(new Error("bad"));
  await settled();
  expect([ann.heard("phx_close"), world.gateway("g1").sessions.get(ann.id)?.topics.size]).toEqual([0, 1]);
  refresh(world, ann, "accepted");
  world.say("g1", ann, "4", TOPIC, "phx_leave", {});
  accepted.end({ role: "authenticated", user: "ann", exp: null, all: {} });
  await world.clock.pass(100);
  world.restartGateway("g1");
  expect(world.gateway("g1").sessions.get(ann.id)?.topics.size).toBe(0);
});

test("a room that nobody is in lets its link go, also when its last member left before the echo of a send", async () => {
  const world = new World();
  const ann = world.connect("g1");
  world.say("g1", ann, "1", "realtime:brief", "phx_join", { config: {} });
  await world.clock.pass(100);
  expect(world.links("public:brief")).toBe(1);
  world.say("g1", ann, "2", "realtime:brief", "broadcast", { type: "broadcast", event: "e", payload: {} });
  world.say("g1", ann, "3", "realtime:brief", "phx_leave", {});
  await world.clock.pass(20_000);
  expect(world.links("public:brief")).toBe(0);
});
