// The client against a server that answers as a test tells it to: what goes wrong at the wrong moment.
import { afterEach, expect, test, vi } from "vitest";
import { RealtimeClient, type RealtimeError } from "../../src/client/index.ts";
import { closes } from "../../src/protocol/closes.ts";
import { joinErrors } from "../../src/protocol/errors.ts";
import { ScriptedServer } from "../support/scripted-server.ts";

const clients: RealtimeClient[] = [];
const message = { type: "broadcast", event: "n" } as const;

afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

function connect({ url }: ScriptedServer): RealtimeClient {
  const client = new RealtimeClient({ url, apiKey: "key", onError: () => {} });
  clients.push(client);
  return client;
}

test("what waits goes on waiting when a join is refused with a code of which the list says: again", async () => {
  const refused = new Set<string>();
  await using server = await ScriptedServer.start((frame, { reply }) => {
    if (frame.event !== "phx_join" || refused.has(frame.topic)) return reply(frame, "ok");
    refused.add(frame.topic);
    reply(frame, "error", { reason: `${frame.topic.replace("realtime:", "")}: not now` });
  });
  const client = connect(server);
  const outcomes = Object.keys(joinErrors).map(async (code) => {
    const sent = client.channel(code).send(message);
    return sent.then(
      () => [code, "sent"],
      ({ code: failure }: RealtimeError) => [code, failure],
    );
  });
  // Its next join has a new token.
  const isPassing = (code: string, reconnect: boolean): boolean => reconnect || code === "InvalidJWTToken";
  const expected = Object.entries(joinErrors).map(([code, { reconnect }]) => [
    code,
    isPassing(code, reconnect) ? "sent" : "join_refused",
  ]);
  expect(await Promise.all(outcomes)).toEqual(expected);
});

test("untrack holds when the socket breaks before its answer", async () => {
  await using server = await ScriptedServer.start((frame, { reply }) => {
    if (frame.payload.event === "untrack") frame.socket.terminate();
    else reply(frame, "ok");
  });
  const channel = connect(server).channel("room");
  await channel.track({ user_id: "ann" });
  await channel.untrack();
  // So it is: who joins again does not track.
  await channel.send(message);
  const told = server.heard.flatMap(({ event, payload }) => (event === "presence" ? [payload.event] : []));
  expect(told).toEqual(["track", "untrack"]);
});

test("a join that is answered after the token has gone is made anew before anybody hears of it", async () => {
  const statuses: string[] = [];
  await using server = await ScriptedServer.start((frame, { heard, reply }) => {
    const joins = heard.filter(({ event }) => event === "phx_join").length;
    // Signed out while the first join is under way.
    if (frame.event === "phx_join" && joins === 1) void client.setAuth(null).then(() => reply(frame, "ok"));
    else reply(frame, "ok");
  });
  const client = connect(server);
  await client.setAuth("token");
  const channel = client.channel("room").subscribe((status) => void statuses.push(status));
  await channel.send(message);
  expect(statuses).toEqual(["SUBSCRIBED"]);
  expect(server.heard.filter(({ event }) => event !== "heartbeat").map(({ event }) => event)).toEqual([
    "phx_join",
    "phx_join",
    "broadcast",
  ]);
});

test("a client that the server ended does not watch the page any more", async () => {
  const page = new EventTarget();
  const removed = vi.spyOn(page, "removeEventListener");
  vi.stubGlobal("window", page);
  try {
    await using server = await ScriptedServer.start(({ socket }) => {
      const { code, reason } = closes.banned;
      socket.close(code, reason);
    });
    const client = connect(server);
    client.channel("room").subscribe();
    await vi.waitFor(() => expect(client.status).toBe("disconnected"));
    expect(removed).toHaveBeenCalledWith("online", expect.any(Function));
    // It may be asked to come back, and then watches again.
    const added = vi.spyOn(page, "addEventListener");
    await client.connect();
    expect(added).toHaveBeenCalledWith("online", expect.any(Function));
  } finally {
    vi.unstubAllGlobals();
  }
});
