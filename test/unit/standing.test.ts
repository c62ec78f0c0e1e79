// Standing: rights and tokens that change while others are asked for, and what becomes of who may do less.
import { expect, test } from "vitest";
import { enforce, kick } from "../../src/gateway/control.ts";
import type { Block } from "../../src/protocol/blocks.ts";
import type { Claims } from "../../src/protocol/claims.ts";
import { allRights, noRights, type Rights } from "../../src/protocol/rights.ts";
import { settled, World, type WorldClient } from "../support/world.ts";

const TOPIC = "realtime:room";
const OBJECT = "private:room";
const readOnly: Rights = { ...noRights, read: allRights.read };

const person = (user: string, more: object = {}): Claims => ({
  role: "authenticated",
  user,
  exp: null,
  all: { sub: user, ...more },
});

/** A question to PostgreSQL that is answered when the test says so. */
interface Asked {
  readonly user: string | null;
  answer(rights: Rights): void;
}

function privateWorld() {
  const world = new World();
  const asked: Asked[] = [];
  let away = false;
  const fail = (): void => {
    away = true;
  };
  world.access = {
    ...world.access,
    registration: async () => ({ type: "private", limits: {} }),
    rights: ({ user }) =>
      away
        ? Promise.reject(new Error("PostgreSQL is away"))
        : new Promise((resolve) => asked.push({ user, answer: resolve })),
  };
  const tokens = new Map<string, Claims>();
  world.verify = async (token) => tokens.get(token) ?? Promise.reject(new Error("no such token"));
  /** Answers all that is asked, now. */
  const answer = async (rights: Rights): Promise<number> => {
    await world.clock.pass(50);
    const due = asked.splice(0);
    for (const one of due) one.answer(rights);
    await world.clock.pass(50);
    return due.length;
  };
  const join = (client: WorldClient, config: object = {}, token?: string): void =>
    world.say("g1", client, "1", TOPIC, "phx_join", { config: { private: true, ...config }, access_token: token });
  return { world, asked, tokens, answer, join, fail };
}

const refresh = (world: World, client: WorldClient, token: string): void =>
  world.say("g1", client, "60", TOPIC, "access_token", { access_token: token });

test("a member who is removed while their join is asked does not get in by the older answer", async () => {
  const { world, asked, answer, join } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann);
  await world.clock.pass(50);
  world.channel(OBJECT).reauthorize(["ann"]);
  asked.shift()?.answer(allRights);
  expect(await answer(noRights)).toBe(1);
  expect(ann.heard("Unauthorized: ")).toBe(1);
});

test("rights of an old token do not outlive the new one, whichever is answered last", async () => {
  const { world, asked, tokens, answer, join } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann, { broadcast: { ack: true } });
  await answer(allRights);
  tokens.set("less", person("ann", { less: true }));
  refresh(world, ann, "less");
  await world.clock.pass(50);
  world.channel(OBJECT).reauthorize();
  await world.clock.pass(50);
  const [first, ...others] = asked.splice(0);
  for (const one of others) one.answer(readOnly);
  await world.clock.pass(50);
  first?.answer(allRights);
  await answer(readOnly);
  world.say("g1", ann, "9", TOPIC, "broadcast", { type: "broadcast", event: "x", payload: {} });
  await world.clock.pass(50);
  expect(ann.heard('"error":"unauthorized"')).toBe(1);
});

test("who may not show their presence any more is not shown any more", async () => {
  const { world, answer, join } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann, { presence: { key: "ann", enabled: true } });
  await answer(allRights);
  world.say("g1", ann, "2", TOPIC, "presence", { type: "presence", event: "track", payload: {} });
  await world.clock.pass(50);
  expect(world.channel(OBJECT).presence.list()).toHaveLength(1);
  world.channel(OBJECT).reauthorize();
  await answer(readOnly);
  expect(world.channel(OBJECT).presence.list()).toEqual([]);
});

test("a report about one user has nobody else judged", async () => {
  const { world, asked, answer, join } = privateWorld();
  for (const user of ["ann", "bob"]) join(world.connect("g1", "2.0.0", person(user)));
  await answer(allRights);
  world.channel(OBJECT).reauthorize(["bob"]);
  await world.clock.pass(50);
  expect(asked.map(({ user }) => user)).toEqual(["bob"]);
});

test("while nobody can say, who is in stays for a while, and then has to join again", async () => {
  const { world, answer, join, fail } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann);
  await answer(allRights);
  fail();
  world.channel(OBJECT).reauthorize();
  await world.clock.pass(3_000);
  expect(ann.heard("phx_error")).toBe(0);
  await world.clock.pass(10_000);
  expect(ann.heard("phx_error")).toBe(1);
});

test("of many tokens in a row the newest is looked at, and those before it are not", async () => {
  const { world, tokens, answer, join } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann);
  await answer(allRights);
  let looked = 0;
  const { verify } = world;
  world.verify = (token) => {
    looked++;
    return verify(token);
  };
  for (let n = 0; n < 500; n++) {
    tokens.set(String(n), person("ann", { n }));
    refresh(world, ann, String(n));
  }
  await settled();
  expect(looked).toBeLessThan(20);
  await world.clock.pass(10_000);
  await answer(readOnly);
  expect(looked).toBeLessThan(20);
  expect([...world.gateway("g1").sessions.values()][0]?.topics.get(TOPIC)).toMatchObject({
    membership: { claims: { all: { n: 499 } } },
  });
});

test("a join that is left before it is answered is over at once", async () => {
  const { world, answer, join } = privateWorld();
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann);
  await world.clock.pass(50);
  world.say("g1", ann, "2", TOPIC, "phx_leave", {});
  await settled();
  expect(ann.heard('"2","realtime:room","phx_reply",{"status":"ok"')).toBe(1);
  await answer(allRights);
  expect(ann.frames).toHaveLength(1);
});

const block = (id: string): Block => ({ kind: "user", id, until: null, reason: null });

test("who is banned while their join is under way does not get in", async () => {
  const { world, tokens, answer, join } = privateWorld();
  // The socket is nobody's: only the join says who comes.
  tokens.set("ann", person("ann"));
  const socket = world.connect("g1");
  join(socket, {}, "ann");
  await world.clock.pass(50);
  enforce(world.gateway("g1"), { revision: 1, blocks: [block("ann")] });
  await answer(allRights);
  expect([socket.heard('"status":"ok"'), socket.heard("You are banned")]).toEqual([0, 1]);
  expect(world.gateway("g1").room(OBJECT).members.size).toBe(0);
});

test("who is kicked while their join is under way does not get in, and others do", async () => {
  const { world, tokens, answer, join } = privateWorld();
  for (const name of ["ann", "bob"]) tokens.set(name, person(name));
  const [ann, bob] = [world.connect("g1"), world.connect("g1")];
  join(ann, {}, "ann");
  join(bob, {}, "bob");
  await world.clock.pass(50);
  kick(world.gateway("g1"), "ann", "room", "out");
  await answer(allRights);
  expect([ann.heard('"status":"ok"'), ann.heard("Unauthorized: out")]).toEqual([0, 1]);
  expect(bob.heard('"status":"ok"')).toBe(1);
  join(ann, {}, "ann");
  await answer(allRights);
  expect(ann.heard('"status":"ok"')).toBe(1);
});

test.each([
  ["banned", (world: World) => enforce(world.gateway("g1"), { revision: 1, blocks: [block("bob")] })],
  ["kicked", (world: World) => void kick(world.gateway("g1"), "bob", undefined, "out")],
])("a new token whose bearer is %s before the channel agrees to it does not count", async (_, act) => {
  const { world, tokens, answer, join } = privateWorld();
  tokens.set("bob", person("bob"));
  const socket = world.connect("g1", "2.0.0", person("ann"));
  join(socket);
  await answer(allRights);
  refresh(world, socket, "bob");
  await world.clock.pass(50);
  act(world);
  await answer(allRights);
  expect(socket.heard("phx_close")).toBe(1);
});

test("while nobody can say who is banned, no join is let in and no token taken", async () => {
  const { world, tokens, answer, join } = privateWorld();
  tokens.set("less", person("ann", { less: true }));
  const ann = world.connect("g1", "2.0.0", person("ann"));
  join(ann);
  await answer(allRights);
  world.blocksKnown = () => Promise.reject(new Error("the directory is away"));
  refresh(world, ann, "less");
  const bob = world.connect("g1", "2.0.0", person("bob"));
  join(bob);
  await answer(allRights);
  expect([ann.heard("phx_error"), ann.heard("phx_close")]).toEqual([1, 0]);
  expect(bob.heard("RealtimeRestarting: ")).toBe(1);
});

test.each([
  ["banned", "public"],
  ["no member", "presence"],
] as const)("a new token that makes its bearer somebody %s ends the membership of a %s channel", async (what, type) => {
  const { world, tokens } = privateWorld();
  const isBob = (user: string | null) => user === "bob";
  world.access = {
    ...world.access,
    registration: async () => ({ type, limits: {} }),
    banOf: (user) => (what === "banned" && isBob(user) ? { until: null, reason: null } : undefined),
    membership: async ({ user }) => (isBob(user) ? noRights : allRights),
  };
  tokens.set("ann", person("ann", { again: true }));
  tokens.set("bob", person("bob"));
  const ann = world.connect("g1", "2.0.0", person("ann"));
  world.say("g1", ann, "1", TOPIC, "phx_join", {});
  await world.clock.pass(50);
  refresh(world, ann, "ann");
  await world.clock.pass(50);
  expect([ann.heard('"status":"ok"'), ann.heard("phx_close")]).toEqual([1, 0]);
  refresh(world, ann, "bob");
  await world.clock.pass(50);
  expect(ann.heard("phx_close")).toBe(1);
  expect(world.gateway("g1").room("public:room").members.size).toBe(0);
});
