// Membership as sockets feel it: who may be in a private or a presence channel, and how soon a change is in force.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import * as z from "zod";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join, uniqueName } from "../support/clients.ts";
import { Peers } from "../support/peers.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;
let peers: Peers;
beforeAll(async () => {
  stack = await startStack();
  clients = new Clients(stack);
  peers = new Peers(stack);
});
afterEach(() => clients.close());
afterAll(() => stack?.stop());

const channel = async (type: string, metadata = {}) => {
  const name = uniqueName(type);
  await admin(stack, "POST", "/channels", { name, type, metadata });
  return name;
};
const put = (name: string, user: string, role = "member") =>
  admin(stack, "PUT", `/channels/${name}/members/${user}`, { role });
const remove = (name: string, user: string) => admin(stack, "DELETE", `/channels/${name}/members/${user}`);
const members = async (name: string) => admin(stack, "GET", `/channels/${name}/members`);
const as = async (sub: string) => {
  const client = clients.open({ token: () => peers.token(600, { sub }) });
  await client.realtime.setAuth();
  return client;
};
const room = async (sub: string, name: string, isPrivate = true) =>
  (await as(sub)).channel(name, { config: { private: isPrivate } });

test("AC-106 AC-210 AC-212: a member gets in at once, hears and speaks, and is out at once when removed", async () => {
  const name = await channel("private");
  await expect(join(await room("ann", name))).rejects.toThrow("Unauthorized");
  for (const user of ["ann", "bob", "cat"]) await put(name, user);
  const ann = await room("ann", name);
  const [bob, cat] = [await listener("bob", name), await listener("cat", name)];
  await join(ann);
  await broadcast(ann, "one", {});
  await eventually(() => expect([eventsOf(bob), eventsOf(cat)]).toEqual([["one"], ["one"]]));
  const removedAt = Date.now();
  await remove(name, "bob");
  await bob.until("that bob is out", 1, ({ event }) => event === "phx_close");
  expect(Date.now() - removedAt).toBeLessThan(2_000);
  await broadcast(ann, "two", {});
  await eventually(() => expect(eventsOf(cat)).toEqual(["one", "two"]));
  // Whatever went to bob went before this.
  await bob.heartbeat();
  expect(eventsOf(bob)).toEqual(["one"]);
  await expect(join(await room("bob", name))).rejects.toThrow("Unauthorized");
  expect(ann.state).toBe("joined");
  bob.close();
  cat.close();
});

/** A member on a bare socket, which hears what it is sent even when it has been put out. */
async function listener(sub: string, name: string): Promise<RawSocket> {
  const socket = await RawSocket.open(stack.url, { key: await peers.token(600, { sub }), vsn: "1.0.0" });
  const { status } = await socket.join(`realtime:${name}`, { private: true });
  expect(status).toBe("ok");
  return socket;
}

/** The events of the broadcasts that a socket has heard. */
const eventsOf = ({ frames }: RawSocket): unknown[] =>
  frames.filter(({ event }) => event === "broadcast").map(({ payload }) => payload.event);

test("AC-213: joining a presence channel makes a member, unless it is full or by invitation only", async () => {
  const open = await channel("presence");
  const ann = await room("ann", open, false);
  await join(ann);
  expect(await members(open)).toMatchObject([{ user_id: "ann", role: "member" }]);
  await remove(open, "ann");
  await eventually(() => expect(ann.state).toBe("closed"));
  expect(await members(open)).toEqual([]);

  const full = await channel("presence", { max_members: 1 });
  await join(await room("ann", full, false));
  await expect(join(await room("bob", full, false))).rejects.toThrow("Unauthorized");
  await expect(join(clients.open().channel(full))).rejects.toThrow("Unauthorized");

  const closed = await channel("presence", { invite_only: true });
  await expect(join(await room("ann", closed, false))).rejects.toThrow("Unauthorized");
  await put(closed, "ann");
  await join(await room("ann", closed, false));
  expect(await members(closed)).toMatchObject([{ user_id: "ann" }]);
});

test("a page of members ends where the next one begins", async () => {
  const name = await channel("private");
  for (const user of ["a", "b", "c"]) await put(name, user);
  const page = async (query: string) => {
    const response = await fetch(`${stack.url}/admin/v1/channels/${name}/members?limit=2${query}`, {
      headers: { apikey: stack.serviceKey },
    });
    const rows = z.array(z.object({ user_id: z.string() })).parse(await response.json());
    return { users: rows.map(({ user_id }) => user_id), next: response.headers.get("realtime-next-cursor") };
  };
  const first = await page("");
  const second = await page(`&cursor=${encodeURIComponent(first.next ?? "")}`);
  expect([first.users, second.users, second.next]).toEqual([["c", "b"], ["a"], null]);
  await expect(page("&cursor=junk").then(({ users }) => users)).rejects.toThrow();
});
