// Viewers of a feed between gateway and channel: who is judged, when, and what becomes of those who come meanwhile.
import { beforeEach, expect, test } from "vitest";
import type { PolicyAnswer } from "../../src/channel/ports.ts";
import type { RowChange, TableDescription } from "../../src/protocol/changes.ts";
import type { Claims } from "../../src/protocol/claims.ts";
import type { PolicyQuestion } from "../../src/protocol/viewers.ts";
import { World, type WorldClient } from "../support/world.ts";

const FEED = "feed:public.t";
const TOPIC = "realtime:table:public.t";

/** A policy that no plan can be made of: PostgreSQL, here `answer`, has the word. */
const table: TableDescription = {
  ...{ schema: "public", table: "t", generation: 1, primaryKey: ["owner"], rls: true },
  columns: [{ name: "owner", type: "text" }],
  readers: ["authenticated", "service_role"],
  security: {
    ...{ free: ["service_role"], columns: ["owner"], plain: ["owner"], known: ["uid", "jwt"], volatile: false },
    policies: [{ permissive: true, roles: ["authenticated"], using: "mine(owner)" }],
  },
};

let world: World;
let questions: PolicyQuestion[];
let answer: (question: PolicyQuestion) => Promise<PolicyAnswer>;
let batches: number;

const claims = (user: string, more: object = {}): Claims => ({
  ...{ role: "authenticated", user, exp: null },
  all: { role: "authenticated", sub: user, ...more },
});

/** Whoever is named in the row may see it. */
const byOwner = async ({ images, viewers }: PolicyQuestion): Promise<PolicyAnswer> => ({
  visible: new Map(
    viewers.map(({ key, claims: { sub } }) => [
      key,
      images.flatMap((image, at) => (JSON.parse(image).owner === sub ? [at] : [])),
    ]),
  ),
  left: [],
});

beforeEach(() => {
  world = new World();
  questions = [];
  batches = 0;
  answer = byOwner;
  world.policies = {
    ask: (question) => {
      questions.push(question);
      return answer(question);
    },
    unjudged: () => {},
  };
});

async function join(gateway: string, user: string, more: object = {}, config: object = {}): Promise<WorldClient> {
  const client = world.connect(gateway, "2.0.0", claims(user, more));
  world.say(gateway, client, "1", TOPIC, "phx_join", { config });
  await world.clock.pass(50);
  return client;
}

function insert(...owners: string[]): Promise<number | "stale"> {
  const changes = owners.map((owner, at): RowChange => {
    const data = JSON.stringify({
      schema: "public",
      table: "t",
      columns: table.columns,
      record: { owner, mark: `<${owner}>` },
    });
    return { id: `${batches}-${at}`, operation: "INSERT", data, table };
  });
  batches++;
  const header = {
    v: 1,
    source: "s",
    epoch: 1,
    batch: batches,
    redelivered: true,
    feed: "public.t",
    tables: {},
  } as const;
  return world.channel(FEED).changes({ header, changes });
}

test("a batch is asked about once for all who have the same role and claims, on whatever gateway", async () => {
  const [ann, tab, bob] = [
    await join("g1", "ann"),
    await join("g2", "ann", { exp: 5, jti: "x" }),
    await join("g2", "bob"),
  ];
  await insert("ann", "bob", "ann", "cid");
  await world.clock.pass(50);
  expect(questions.map(({ viewers, images }) => [viewers.length, images.length])).toEqual([[2, 3]]);
  expect([ann, tab, bob].map((client) => [client.heard("<ann>"), client.heard("<bob>")])).toEqual([
    [2, 0],
    [2, 0],
    [0, 1],
  ]);
});

test("who joins while a batch is judged is judged too, and batches keep their order", async () => {
  await join("g1", "ann");
  let open = (): void => {};
  const held = new Promise<void>((resolve) => {
    open = resolve;
  });
  answer = async (question) => {
    await held;
    return byOwner(question);
  };
  const [first, second] = [insert("bob"), insert("bob")];
  const bob = await join("g2", "bob");
  expect(bob.heard("phx_reply")).toBe(1);
  open();
  await Promise.all([first, second]);
  await world.clock.pass(50);
  expect(
    bob.frames.filter((frame) => String(frame).includes("<bob>")).map((frame) => JSON.parse(String(frame))[4].meta.seq),
  ).toEqual([1, 2]);
});

test("while PostgreSQL is away a batch is not taken, and nothing is shown; it comes again whole", async () => {
  const ann = await join("g1", "ann");
  answer = async () => Promise.reject(new Error("away"));
  await expect(insert("ann")).rejects.toThrow("away");
  await world.clock.pass(50);
  expect(ann.heard("<ann>")).toBe(0);
  answer = byOwner;
  batches--;
  expect(await insert("ann")).toBe(1);
  await world.clock.pass(50);
  expect(ann.heard("<ann>")).toBe(1);
});

test("a feed that has slept asks its gateways for their viewers before it judges", async () => {
  const ann = await join("g1", "ann");
  world.sleepChannel(FEED);
  const taken = insert("ann", "bob");
  await world.clock.pass(50);
  expect(await taken).toBe(2);
  expect([ann.heard("<ann>"), ann.heard("<bob>")]).toEqual([1, 0]);
});

test("what a gateway has missed is judged again before it is shown, and what came meanwhile is not lost", async () => {
  const ann = await join("g1", "ann");
  await insert("ann");
  await world.clock.pass(50);
  world.cutLinks(FEED);
  await insert("ann", "bob");
  answer = async () => ({ visible: new Map(), left: [] });
  const now = insert("ann");
  await world.clock.pass(100);
  await now;
  expect([ann.heard("<ann>"), ann.heard("<bob>")]).toEqual([1, 0]);
  world.cutLinks(FEED);
  answer = byOwner;
  await insert("ann");
  await world.clock.pass(100);
  expect([ann.heard("<ann>"), ann.heard("<bob>")]).toEqual([2, 0]);
});

test("nobody can be judged by claims that change with every token, nor where the listener says nothing", async () => {
  const ann = await join("g1", "ann");
  const security = table.security && { ...table.security, volatile: true };
  for (const description of [
    { ...table, security },
    { ...table, security: null },
  ]) {
    const data = JSON.stringify({ columns: [], record: { owner: "ann", mark: "<ann>" } });
    const header = {
      v: 1,
      source: "s",
      epoch: 1,
      batch: ++batches,
      redelivered: false,
      feed: "public.t",
      tables: {},
    } as const;
    await world
      .channel(FEED)
      .changes({ header, changes: [{ id: `v${batches}`, operation: "INSERT", data, table: description }] });
  }
  await world.clock.pass(50);
  expect([ann.heard("<ann>"), questions.length]).toEqual([0, 0]);
});

test("viewers that nobody is any more are forgotten", async () => {
  const [ann, bob] = [await join("g1", "ann"), await join("g1", "bob")];
  world.say("g1", bob, "2", TOPIC, "phx_leave", {});
  await world.clock.pass(61_000);
  ann.frames.length = 0;
  world.say("g1", ann, "3", "phoenix", "heartbeat", {});
  world.gateway("g1").alarm();
  await world.clock.pass(50);
  await insert("ann");
  expect(questions.map(({ viewers }) => viewers.map(({ claims: { sub } }) => sub))).toEqual([["ann"]]);
});
