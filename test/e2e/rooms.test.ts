// Rooms: a registered channel's type decides who is in it, whatever a join says.

import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join, oneClientAGateway, uniqueName, versions } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";

let stack: TestStack;
let clients: Clients;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterEach(() => clients.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

/** Registers a channel. @returns its slug */
async function register(type: "public" | "private" | "direct", ...members: string[]): Promise<string> {
  const slug = uniqueName(type);
  await admin(stack, "POST", "/channels", { name: slug, type });
  for (const member of members) {
    await db.query(
      "insert into realtime.channel_members (channel_id, user_id) select id, $2 from realtime.channels where slug = $1",
      [slug, member],
    );
  }
  return slug;
}

function tokenOf(user: string): Promise<string> {
  return userToken(stack, { sub: user });
}

async function as(user: string): Promise<RawSocket> {
  return RawSocket.open(stack.url, { key: await tokenOf(user) });
}

const refusal = (slug: string): object => ({
  status: "error",
  response: { reason: `Unauthorized: You do not have permissions to read from this Channel topic: ${slug}` },
});

describe.each(["private", "direct"] as const)("a %s channel", (type) => {
  test("lets members in, whether their join says private or not, and they are in one room", async () => {
    const slug = await register(type, "ann", "bob");
    const [ann, bob] = await Promise.all([as("ann"), as("bob")]);
    const topic = `realtime:${slug}`;
    expect((await ann.join(topic, { private: true })).status).toBe("ok");
    expect((await bob.join(topic)).status).toBe("ok");
    ann.send("1", null, topic, "broadcast", { type: "broadcast", event: "hello", payload: {} });
    const [frame] = await bob.until("the message", 1, ({ event }) => event === "broadcast");
    expect(frame?.payload).toMatchObject({ event: "hello", meta: { sender: "ann" } });
  });

  test("refuses everybody else, whatever their join says", async () => {
    const slug = await register(type, "ann");
    const eve = await as("eve");
    const nobody = await RawSocket.open(stack.url, { key: stack.anonKey });
    for (const socket of [eve, nobody]) {
      for (const config of [{}, { private: true }]) {
        expect(await socket.join(`realtime:${slug}`, config)).toEqual(refusal(slug));
      }
    }
  });
});

test("AC-209: whoever has a valid token joins a public channel, registered or not, and hears and speaks", async () => {
  for (const slug of [await register("public"), uniqueName("open")]) {
    const [member, stranger] = [clients.open({ token: () => tokenOf("ann") }), clients.open()];
    await member.realtime.setAuth();
    const [speaking, hearing] = [member.channel(slug), stranger.channel(slug)];
    const heard: string[] = [];
    hearing.on("broadcast", { event: "*" }, ({ event }) => heard.push(event));
    await Promise.all([join(speaking), join(hearing)]);
    await broadcast(speaking, "hello", {});
    await eventually(() => expect(heard).toEqual(["hello"]));
  }
});

test("a public channel that is registered has no private room beside it", async () => {
  const slug = await register("public");
  const topic = `realtime:${slug}`;
  const [ann, bob] = await Promise.all([as("ann"), as("bob")]);
  expect((await ann.join(topic, { private: true })).status).toBe("ok");
  expect((await bob.join(topic)).status).toBe("ok");
  ann.send("1", null, topic, "broadcast", { type: "broadcast", event: "hello", payload: {} });
  await bob.until("the message", 1, ({ event }) => event === "broadcast");
});

test("while PostgreSQL gives no answer, open rooms go on, and private ones are refused with a reason", async () => {
  const topic = `realtime:${uniqueName("open")}`;
  const [ann, bob] = await Promise.all([as("ann"), as("bob")]);
  await ann.join(topic);
  const blocker = new pg.Client({ connectionString: stack.databaseUrl });
  await blocker.connect();
  try {
    await blocker.query("begin; lock table realtime.channels in access exclusive mode");
    const [unknown, secret] = [uniqueName("unknown"), uniqueName("secret")].map((name) => `realtime:${name}`);
    const joins = await Promise.all([
      bob.join(topic),
      bob.join(unknown ?? ""),
      bob.join(secret ?? "", { private: true }),
    ]);
    const reason = expect.stringMatching(/^UnableToConnectToProject: /);
    expect(joins).toMatchObject([{ status: "ok" }, { status: "ok" }, { status: "error", response: { reason } }]);
    ann.send("1", null, topic, "broadcast", { type: "broadcast", event: "hello", payload: {} });
    await bob.until("the message", 1, ({ event }) => event === "broadcast");
  } finally {
    await blocker.end();
  }
});

describe.each(versions)("version %s", (vsn) => {
  test("who is in a channel that is deleted is told so, and the channel is over", async () => {
    const slug = await register("public");
    const channel = clients.open({ vsn }).channel(slug);
    const system: unknown[] = [];
    channel.on("system", {}, (message: unknown) => void system.push(message));
    await join(channel);
    await admin(stack, "DELETE", `/channels/${slug}`);
    await eventually(() => expect(channel.state).toBe("closed"));
    expect(system).toEqual([expect.objectContaining({ extension: "system", status: "error", channel: slug })]);
  });

  test("what the admin API broadcasts arrives like any message", async () => {
    const slug = await register("public");
    const channel = clients.open({ vsn }).channel(slug);
    const heard: unknown[] = [];
    channel.on("broadcast", { event: "news" }, ({ payload }) => void heard.push(payload));
    await join(channel);
    await admin(stack, "POST", `/channels/${slug}/messages`, { event: "news", payload: { n: 1 } });
    const other = clients.open({ vsn }).channel(slug);
    await join(other);
    await broadcast(other, "news", { n: 2 });
    await eventually(() => expect(heard).toEqual([{ n: 1 }, { n: 2 }]));
  });
});
