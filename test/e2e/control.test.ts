// Control as clients feel it: disconnecting, kicking, banning and revoking, at once and on every gateway.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import * as z from "zod";
import { admin } from "../support/admin.ts";
import { Clients, eventually, join, oneClientAGateway, uniqueName } from "../support/clients.ts";
import { Peers } from "../support/peers.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;
let peers: Peers;
const sockets: WebSocket[] = [];
beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
  peers = new Peers(stack);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  await clients.close();
});
afterAll(() => stack?.stop());

/** A bare socket: what it is closed with, or the status that it is refused with. */
async function open(claims: Record<string, unknown>): Promise<{ socket: WebSocket; end: Promise<number> }> {
  const token = await peers.token(600, claims);
  const socket = new WebSocket(`${stack.url.replace("http", "ws")}/realtime/v1/websocket?vsn=2.0.0&apikey=${token}`);
  sockets.push(socket);
  const end = new Promise<number>((resolve) => {
    socket.on("close", (code) => resolve(code));
    socket.on("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0));
    socket.on("error", () => {});
    // The code has come by then; the connection below it may stand for seconds more.
    const poll = setInterval(() => {
      if (socket.readyState === WebSocket.CLOSING) socket.terminate();
      if (socket.readyState >= WebSocket.CLOSING) clearInterval(poll);
    }, 5);
  });
  await Promise.race([end, new Promise((resolve) => socket.once("open", resolve))]);
  return { socket, end };
}

async function room(sub: string, name: string) {
  const client = clients.open({ token: () => peers.token(600, { sub }) });
  await client.realtime.setAuth();
  const channel = client.channel(name);
  await join(channel);
  return channel;
}

test("one connection is ended, and no other", async () => {
  const [ann, other] = [await open({ sub: "ann" }), await open({ sub: "ann" })];
  const rows = z.array(z.object({ connection_id: z.string(), user_id: z.string().nullable() }));
  const listed = rows.parse(await admin(stack, "GET", "/connections"));
  const mine = listed.filter(({ user_id }) => user_id === "ann");
  expect(mine).toHaveLength(2);
  // Newest first.
  await admin(stack, "DELETE", `/connections/${mine[1]?.connection_id}`);
  expect(await ann.end).toBe(4000);
  expect(other.socket.readyState).toBe(WebSocket.OPEN);
  await expect(admin(stack, "DELETE", "/connections/nosuch")).rejects.toThrow("404");
});

test("a kick ends all sockets of a user, on whichever gateway, or puts them out of one channel", async () => {
  const [one, two, bob] = [await open({ sub: "kim" }), await open({ sub: "kim" }), await open({ sub: "bob" })];
  expect(await admin(stack, "POST", "/users/kim/kick", {})).toMatchObject({ connections: 2, channels: [] });
  expect([await one.end, await two.end, bob.socket.readyState]).toEqual([4001, 4001, WebSocket.OPEN]);
  const [name, elsewhere] = [uniqueName("room"), uniqueName("room")];
  const [here, there, other] = [await room("leo", name), await room("leo", elsewhere), await room("bob", name)];
  const put = await admin(stack, "POST", "/users/leo/kick", { channel: name });
  expect(put).toMatchObject({ connections: 0, channels: [name] });
  await eventually(() => expect(here.state).toBe("closed"));
  expect([there.state, other.state]).toEqual(["joined", "joined"]);
});

test("who joined a channel on a socket of nobody's is shown there, and kicked and banned out of it; the socket goes on", async () => {
  const name = uniqueName("room");
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  const joinAs = async (user: string, topic: string) =>
    socket.ask(topic, "phx_join", { config: {}, access_token: await peers.token(600, { sub: user }) });
  for (const room of [name, `${name}-two`]) expect((await joinAs("pia", `realtime:${room}`)).status).toBe("ok");
  expect(await admin(stack, "GET", "/connections")).toEqual(
    expect.arrayContaining([expect.objectContaining({ user_id: "pia", users: ["pia"] })]),
  );
  const kicked = await admin(stack, "POST", "/users/pia/kick", {});
  expect(kicked).toMatchObject({ connections: 0, channels: [name, `${name}-two`] });
  await socket.until("both closes", 2, ({ event }) => event === "phx_close");
  expect((await joinAs("pia", `realtime:${name}`)).status).toBe("ok");
  await admin(stack, "PUT", "/users/pia/ban", { channel: name });
  await socket.until("the third close", 3, ({ event }) => event === "phx_close");
  expect(await joinAs("pia", `realtime:${name}`)).toMatchObject({ status: "error" });
  expect((await joinAs("pia", `realtime:${name}-two`)).status).toBe("ok");
  socket.close();
});

test("who is banned is cut off everywhere and refused until the ban is lifted or over", async () => {
  const before = await open({ sub: "mel" });
  await admin(stack, "PUT", "/users/mel/ban", { reason: "spam" });
  expect(await before.end).toBe(4003);
  expect(await (await open({ sub: "mel" })).end).toBe(403);
  expect(await admin(stack, "GET", "/bans")).toMatchObject([{ kind: "user", id: "mel", until: null, reason: "spam" }]);
  await stack.killEdge();
  expect(await (await open({ sub: "mel" })).end).toBe(403);
  await admin(stack, "PUT", "/users/mel/ban", { seconds: 1 });
  await eventually(async () => expect((await open({ sub: "mel" })).socket.readyState).toBe(WebSocket.OPEN));
  expect(await admin(stack, "DELETE", "/users/mel/ban")).toMatchObject({ lifted: false });
});

test("who is banned from a channel is out of it and cannot come back, and is well elsewhere", async () => {
  const [name, elsewhere] = [uniqueName("room"), uniqueName("room")];
  const [here, there] = [await room("nat", name), await room("nat", elsewhere)];
  await admin(stack, "PUT", "/users/nat/ban", { channel: name });
  await eventually(() => expect(here.state).toBe("closed"));
  await expect(room("nat", name)).rejects.toThrow("banned");
  expect(there.state).toBe("joined");
  expect(await admin(stack, "DELETE", `/users/nat/ban?channel=${name}`)).toMatchObject({ lifted: true });
  await room("nat", name);
});

test("a revoked token ends what it opened and opens nothing more; the user's others go on", async () => {
  const [revoked, other] = [await open({ sub: "oli", jti: "t1" }), await open({ sub: "oli", jti: "t2" })];
  await admin(stack, "POST", "/tokens/revoke", { jti: "t1" });
  expect(await revoked.end).toBe(4004);
  expect(other.socket.readyState).toBe(WebSocket.OPEN);
  expect(await (await open({ sub: "oli", jti: "t1" })).end).toBe(403);
});

describe.each([
  ["banned", (user: string) => admin(stack, "PUT", `/users/${user}/ban`, {})],
  ["revoked", (user: string) => admin(stack, "POST", "/tokens/revoke", { jti: `token of ${user}` })],
])("%s", (what, block) => {
  const tokenOf = (user: string) => peers.token(600, { sub: user, jti: `token of ${user}` });
  const refusal = what === "banned" ? "You are banned" : "Token has been revoked";

  /** A socket of nobody's, on which somebody joins with a token of their own. */
  async function joinAs(user: string, name: string) {
    const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
    const access_token = await tokenOf(user);
    const reply = await socket.ask(`realtime:${name}`, "phx_join", { config: {}, access_token });
    return { socket, reply };
  }

  test("a token that a channel was joined with is put out of it, and joins no more; its socket goes on", async () => {
    const [name, user] = [uniqueName("room"), uniqueName("user")];
    const { socket, reply } = await joinAs(user, name);
    expect(reply.status).toBe("ok");
    await block(user);
    const [close] = await socket.until("the close", 1, ({ event }) => event === "phx_close");
    expect(close?.topic).toBe(`realtime:${name}`);
    const again = await joinAs(user, name);
    expect(again.reply).toEqual({ status: "error", response: { reason: `Unauthorized: ${refusal}` } });
    expect(await socket.join(`realtime:${uniqueName("room")}`)).toMatchObject({ status: "ok" });
    for (const one of [socket, again.socket]) one.close();
  });

  test("a token that a channel is joined with, or given, after a restart of the edge is refused", async () => {
    const [name, user] = [uniqueName("room"), uniqueName("user")];
    await block(user);
    await stack.killEdge();
    const { socket, reply } = await joinAs(user, name);
    expect(reply).toEqual({ status: "error", response: { reason: `Unauthorized: ${refusal}` } });
    const { status } = await socket.join(`realtime:${name}`);
    expect(status).toBe("ok");
    socket.send(null, "9", `realtime:${name}`, "access_token", { access_token: await tokenOf(user) });
    const [told] = await socket.until(
      "why",
      1,
      ({ event, payload }) => event === "system" && payload.status === "error",
    );
    expect(told?.payload.message).toBe(`Unauthorized: ${refusal}`);
    await socket.until("the close", 1, ({ event }) => event === "phx_close");
    socket.close();
  });

  test("broadcasts over HTTP are refused", async () => {
    const [name, user] = [uniqueName("room"), uniqueName("user")];
    const token = await tokenOf(user);
    const post = async (path: string, body: object) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const request = { method: "POST", headers, body: JSON.stringify(body) };
      return (await fetch(`${stack.url}/api/broadcast${path}`, request)).status;
    };
    const single = () => post(`/${name}/events/x`, {});
    expect(await single()).toBe(202);
    await block(user);
    expect(await single()).toBe(403);
    expect(await post("", { messages: [{ topic: name, event: "x", payload: {} }] })).toBe(403);
  });
});
