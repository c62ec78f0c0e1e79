// Roles: what members, moderators and admins of a channel may do to it, over their socket and over HTTP.
import { setTimeout as sleep } from "node:timers/promises";
import type { RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join, oneClientAGateway, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";

let stack: TestStack;
let clients: Clients;
beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
});
afterEach(() => clients.close());
afterAll(() => stack?.stop());

const roles = { ann: "admin", max: "moderator", mia: "moderator", bob: "member", cid: "member" } as const;
type Act = { event: string; payload?: object };

const tokenOf = (user: string): Promise<string> => userToken(stack, { sub: user });

/** A channel with all of them as members. @returns its slug */
async function channelOf(type: "public" | "private"): Promise<string> {
  const name = uniqueName(type);
  await admin(stack, "POST", "/channels", { name, type, metadata: { topic: "cats" } });
  for (const [user, role] of Object.entries(roles)) {
    await admin(stack, "PUT", `/channels/${name}/members/${user}`, { role });
  }
  return name;
}

interface Seen {
  readonly event: string;
  readonly id: string;
}

async function enter(user: string, name: string): Promise<{ channel: RealtimeChannel; seen: Seen[] }> {
  const client = clients.open({ token: () => tokenOf(user) });
  await client.realtime.setAuth();
  const channel = client.channel(name, { config: { private: true, broadcast: { ack: true, self: true } } });
  const seen: Seen[] = [];
  channel.on("broadcast", { event: "*" }, ({ event, meta }) => seen.push({ event, id: String(meta?.id) }));
  await join(channel);
  return { channel, seen };
}

/** Has somebody say something. @returns the message's id */
async function say(user: string, name: string, event: string): Promise<string> {
  const { channel, seen } = await enter(user, name);
  expect(await broadcast(channel, event, {})).toBe("ok");
  await eventually(() => expect(seen).toHaveLength(1));
  await channel.unsubscribe();
  return seen[0]?.id ?? "";
}

const reply = z.object({ reason: z.string().optional() });

/** The ways in. Each answers `ok`, or why not. */
const ways = {
  async socket(user: string, name: string, act: Act): Promise<string> {
    const socket = await RawSocket.open(stack.url, { key: await tokenOf(user) });
    const topic = `realtime:${name}`;
    const { status } = await socket.join(topic, { private: true });
    if (status !== "ok") return "not in";
    const answer = await socket.ask(topic, "moderate", act);
    socket.close();
    return answer.status === "ok" ? "ok" : String(reply.parse(answer.response).reason);
  },
  async http(user: string, name: string, act: Act): Promise<string> {
    const response = await fetch(`${stack.url}/realtime/v1/api/moderate/${name}`, {
      method: "POST",
      headers: { authorization: `Bearer ${await tokenOf(user)}`, "content-type": "application/json" },
      body: JSON.stringify(act),
    });
    const body = z.looseObject({ detail: z.string().optional() }).parse(await response.json());
    return response.ok ? "ok" : String(body.detail);
  },
};

const unauthorized = expect.stringMatching(/^Unauthorized: /);
const rows = z.array(z.looseObject({}));
const list = async (path: string) => rows.parse(await admin(stack, "GET", path));
const eventsOf = async (path: string) => (await list(path)).map(({ event_type }) => event_type);
const members = async (name: string) =>
  Object.fromEntries((await list(`/channels/${name}/members`)).map(({ user_id, role }) => [user_id, role]));

/** What somebody who joins now is given of the past: by time, and from the beginning on. */
async function pastOf(user: string, name: string): Promise<string[][]> {
  const first = await RawSocket.open(stack.url, { key: await tokenOf(user) });
  const { response } = await first.join(`realtime:${name}`, {
    private: true,
    broadcast: { replay: { since: Date.now() - 60_000, limit: 25 } },
  });
  const { epoch } = z.object({ epoch: z.string() }).parse(response.position);
  const second = await RawSocket.open(stack.url, { key: await tokenOf(user) });
  await second.join(`realtime:${name}`, { private: true, broadcast: { resume: { epoch, seq: 0 } } });
  await Promise.all([first.heartbeat(), second.heartbeat()]);
  await sleep(100);
  const past = [first, second].map(({ frames }) =>
    frames.filter(({ event }) => event === "broadcast").map(({ payload }) => String(payload.event)),
  );
  first.close();
  second.close();
  return past;
}

describe.each(Object.entries(ways))("over %s", (_way, ask) => {
  test("AC-107: a moderator deletes a member's message for good, a member only their own", async () => {
    const name = await channelOf("private");
    const ids: string[] = [];
    for (const event of ["one", "bad", "own", "two"]) ids.push(await say("cid", name, event));
    const [, bad = "", own = ""] = ids;
    expect(await eventsOf(`/channels/${name}/messages`)).toEqual(["two", "own", "bad", "one"]);
    expect(await ask("bob", name, { event: "delete_message", payload: { id: bad } })).toEqual(
      expect.stringContaining("there is no message"),
    );
    expect(await eventsOf(`/channels/${name}/messages`)).toContain("bad");
    expect(await pastOf("bob", name)).toEqual([
      ["one", "bad", "own", "two"],
      ["one", "bad", "own", "two"],
    ]);
    expect(await ask("max", name, { event: "delete_message", payload: { id: bad } })).toBe("ok");
    expect(await ask("cid", name, { event: "delete_message", payload: { id: own } })).toBe("ok");
    expect(await ask("max", name, { event: "delete_message", payload: { id: own } })).toMatch("there is no message");
    for (const query of ["", "?since=1700000000"]) {
      expect((await eventsOf(`/channels/${name}/messages${query}`)).toSorted()).toEqual(["one", "two"]);
    }
    expect(await pastOf("bob", name)).toEqual([
      ["one", "two"],
      ["one", "two"],
    ]);
  });

  test("AC-107: a moderator removes a member, who is out at once; a member removes nobody but themselves", async () => {
    const name = await channelOf("private");
    const [bob, cid] = [await enter("bob", name), await enter("cid", name)];
    for (const user of ["cid", "max", "ann"] as const) {
      expect(await ask("bob", name, { event: "remove_member", payload: { user } })).toEqual(unauthorized);
    }
    for (const user of ["mia", "ann"] as const) {
      expect(await ask("max", name, { event: "remove_member", payload: { user } })).toEqual(unauthorized);
    }
    expect(await members(name)).toEqual(roles);
    expect(await ask("max", name, { event: "remove_member", payload: { user: "bob" } })).toBe("ok");
    await eventually(() => expect(bob.channel.state).toBe("closed"), 2_000);
    expect(await ask("bob", name, { event: "remove_member", payload: { user: "bob" } })).toMatch(/not in|Unauthorized/);
    expect(await ask("cid", name, { event: "remove_member", payload: { user: "cid" } })).toBe("ok");
    await eventually(() => expect(cid.channel.state).toBe("closed"), 2_000);
    expect(await members(name)).toEqual({ ann: "admin", max: "moderator", mia: "moderator" });
    await expect(enter("bob", name)).rejects.toThrow("Unauthorized");
  });

  test("AC-108: an admin changes roles and metadata and deletes the channel; a moderator does none of it", async () => {
    const name = await channelOf("private");
    const bob = await enter("bob", name);
    const setRole: Act = { event: "set_role", payload: { user: "bob", role: "moderator" } };
    const setMetadata: Act = { event: "set_metadata", payload: { metadata: { topic: "dogs" } } };
    const deleteChannel: Act = { event: "delete_channel" };
    for (const user of ["max", "bob"] as const) {
      for (const act of [setRole, setMetadata, deleteChannel]) expect(await ask(user, name, act)).toEqual(unauthorized);
    }
    expect(await members(name)).toEqual(roles);
    expect(await admin(stack, "GET", `/channels/${name}`)).toMatchObject({ metadata: { topic: "cats" } });
    expect(await ask("ann", name, setRole)).toBe("ok");
    expect(await members(name)).toEqual({ ...roles, bob: "moderator" });
    expect(await ask("bob", name, { event: "remove_member", payload: { user: "cid" } })).toBe("ok");
    expect(await ask("ann", name, setMetadata)).toBe("ok");
    expect(await admin(stack, "GET", `/channels/${name}`)).toMatchObject({ metadata: { topic: "dogs" } });
    expect(bob.channel.state).toBe("joined");
    expect(await ask("ann", name, deleteChannel)).toBe("ok");
    await eventually(() => expect(bob.channel.state).toBe("closed"), 2_000);
    await expect(admin(stack, "GET", `/channels/${name}`)).rejects.toThrow("404");
  });

  test("who is no member, or nobody in particular, does nothing, and what makes no sense is named", async () => {
    const name = await channelOf("public");
    for (const act of [
      { event: "delete_message", payload: { id: crypto.randomUUID() } },
      { event: "remove_member", payload: { user: "bob" } },
      { event: "set_role", payload: { user: "eve", role: "admin" } },
      { event: "delete_channel" },
    ]) {
      expect(await ask("eve", name, act)).toEqual(unauthorized);
    }
    for (const [act, reason] of [
      [{ event: "explode" }, "event: "],
      [{ event: "set_role", payload: { user: "bob", role: "superking" } }, "payload.role: "],
      [{ event: "delete_message", payload: { id: "x' or true; --" } }, "payload.id: "],
      [{ event: "set_metadata", payload: { metadata: [] } }, "must be a JSON object"],
      [{ event: "remove_member", payload: { user: "nobody" } }, "is no member"],
      [{ event: "remove_member" }, "payload: "],
    ] as const) {
      expect(await ask("ann", name, act)).toContain(reason);
    }
    expect(await members(name)).toEqual(roles);
  });

  test("a ban counts more than a role", async () => {
    const name = await channelOf("public");
    await admin(stack, "PUT", "/users/ann/ban", { channel: name });
    expect(await ask("ann", name, { event: "delete_channel" })).toMatch(/not in|banned/);
    await admin(stack, "DELETE", `/users/ann/ban?channel=${name}`);
    await admin(stack, "PUT", "/users/max/ban", {});
    expect(await ask("max", name, { event: "remove_member", payload: { user: "bob" } }).catch(() => "refused")).toMatch(
      /refused|banned/,
    );
    await admin(stack, "DELETE", "/users/max/ban");
    expect(await members(name)).toEqual(roles);
  });
});

test("AC-108: the stock client's send asks too, and hears that it is done before the channel is gone", async () => {
  const name = await channelOf("private");
  const [ann, max] = [await enter("ann", name), await enter("max", name)];
  const send = (by: RealtimeChannel, event: string, payload: object = {}) =>
    // As JavaScript calls it: the types know three kinds of messages.
    by.send(Object.assign({ type: "broadcast" as const, event, payload }, { type: "moderate" }));
  expect(await send(max.channel, "delete_channel")).toBe("error");
  expect(await send(ann.channel, "set_role", { user: "bob", role: "admin" })).toBe("ok");
  expect(await send(ann.channel, "delete_channel")).toBe("ok");
  await eventually(() => expect([ann.channel.state, max.channel.state]).toEqual(["closed", "closed"]));
});

test("the service deletes messages and replaces metadata by the admin API", async () => {
  const name = await channelOf("private");
  const id = await say("cid", name, "bad");
  expect(await admin(stack, "DELETE", `/channels/${name}/messages/${id}`)).toEqual({ id });
  await expect(admin(stack, "DELETE", `/channels/${name}/messages/${id}`)).rejects.toThrow("404");
  expect(await pastOf("bob", name)).toEqual([[], []]);
  await admin(stack, "PATCH", `/channels/${name}`, { metadata: { topic: "birds" } });
  expect(await admin(stack, "GET", `/channels/${name}`)).toMatchObject({ metadata: { topic: "birds" } });
});

test("a message that is deleted stays so through crashes of the edge and the listener", async () => {
  const name = await channelOf("private");
  for (const event of ["kept", "bad"]) await say("cid", name, event);
  const [{ id } = {}] = await list(`/channels/${name}/messages?limit=1`);
  expect(await ways.http("max", name, { event: "delete_message", payload: { id } })).toBe("ok");
  await stack.killEdge();
  await stack.killListener();
  expect(await eventsOf(`/channels/${name}/messages`)).toEqual(["kept"]);
  expect(await pastOf("bob", name)).toEqual([["kept"], ["kept"]]);
});
