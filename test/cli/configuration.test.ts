// Settings that change what the server does, seen by who uses it: clients, and the command line.
import { createClient, type RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { Relay } from "../support/relay.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime, start } from "./nself.ts";

const SECOND_MS = 1_000;

describe("REALTIME_ENABLED=false", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await startStack({ env: { REALTIME_ENABLED: "false" } });
  });
  afterAll(() => stack?.stop());

  test("AC-175: sockets and broadcasts are refused with the reason, status says disabled, the admin API goes on", async () => {
    for (const path of ["websocket", "channels/room/websocket"]) {
      const socket = new WebSocket(`${stack.url.replace("http", "ws")}/realtime/v1/${path}?apikey=${stack.anonKey}`);
      const refusal = await new Promise<string>((resolve, reject) => {
        socket.on("open", () => reject(new Error("it is open")));
        socket.on("unexpected-response", async (_, response) => {
          let body = "";
          for await (const chunk of response) body += chunk;
          resolve(`${response.statusCode} ${JSON.parse(body).error}`);
        });
      });
      expect(refusal).toBe("503 Realtime is disabled on this server (REALTIME_ENABLED=false)");
    }
    const broadcast = await fetch(`${stack.url}/realtime/v1/api/broadcast`, {
      method: "POST",
      headers: { apikey: stack.serviceKey, "content-type": "application/json" },
      body: JSON.stringify({ messages: [{ topic: "room", event: "e", payload: {} }] }),
    });
    expect(broadcast.status).toBe(503);
    expect(await broadcast.json()).toMatchObject({ message: expect.stringContaining("REALTIME_ENABLED") });

    const status = await realtime(stack, ["status"]);
    expect(status).toMatchObject({ code: 0, stderr: "" });
    expect(status.stdout).toContain("✗ WebSocket server disabled (REALTIME_ENABLED=false)\n");
    expect(status.stdout).not.toContain("✓ WebSocket server");
    expect(JSON.parse((await realtime(stack, ["status", "--json"])).stdout)).toMatchObject({ server: "disabled" });
    expect(await realtime(stack, ["channel", "create", "room"])).toMatchObject({ code: 0 });
  });
});

describe("times", () => {
  let stack: TestStack;
  let relay: Relay;
  beforeAll(async () => {
    stack = await startStack({
      env: {
        REALTIME_PRESENCE_TIMEOUT: "10",
        REALTIME_HEARTBEAT_INTERVAL: "5",
        REALTIME_RECONNECT_DELAY: "500",
      },
    });
    relay = await Relay.start(stack.url);
  });
  afterAll(async () => {
    await relay?.[Symbol.asyncDispose]();
    await stack?.stop();
  });

  test("AC-179 AC-180: who was tracked and falls silent is offline after REALTIME_PRESENCE_TIMEOUT, by no command", async () => {
    await realtime(stack, ["channel", "create", "lobby"]);
    const client = createClient(stack.url, stack.anonKey);
    const channel = client.channel("lobby");
    const left = new Promise<number>((resolve) => {
      channel.on("presence", { event: "leave" }, () => resolve(performance.now()));
    });
    await joined(channel);
    const trackedAfter = performance.now();
    expect(await realtime(stack, ["presence", "track", "ann", "lobby"])).toMatchObject({ code: 0 });
    const trackedBefore = performance.now();
    const leftAt = await left;
    expect(leftAt - trackedAfter).toBeGreaterThan(10 * SECOND_MS);
    expect(leftAt - trackedBefore).toBeLessThan(20 * SECOND_MS);
    const { stdout } = await realtime(stack, ["presence", "get", "ann", "lobby", "json"]);
    expect(JSON.parse(stdout)).toMatchObject([{ status: "offline" }]);
    await client.realtime.disconnect();
  }, 60_000);

  test("AC-181: with REALTIME_HEARTBEAT_INTERVAL=5 the client beats each 5 s, and the server answers each", async () => {
    const listening = listen("channel:quiet");
    await vi.waitFor(() => expect(beats("server").length).toBeGreaterThanOrEqual(3), 40_000);
    listening.child.kill("SIGINT");
    await listening.ended;
    const [sent, answered] = [beats("client"), beats("server")];
    expect(sent.length).toBeGreaterThanOrEqual(3);
    for (const [index, at] of answered.slice(0, 3).entries()) expect(at).toBeGreaterThan(sent[index] ?? at);
    const gaps = sent.slice(1).map((at, index) => at - (sent[index] ?? at));
    for (const gap of gaps) {
      expect(gap).toBeGreaterThan(3 * SECOND_MS);
      expect(gap).toBeLessThan(10 * SECOND_MS);
    }
    // Whoever joins is told, in the same words whatever client it is.
    const reply = relay.frames.find(({ text }) => text.includes('"phx_reply"') && text.includes("postgres_changes"));
    expect(reply?.text).toMatch(/"heartbeat_ms":5000,"reconnect_ms":500/);
  }, 60_000);

  test("AC-182: with REALTIME_RECONNECT_DELAY=500 a client that lost its socket tries again each 500 ms", async () => {
    const listening = listen("channel:restless");
    await vi.waitFor(() => expect(listening.stdout()).toContain("Listening to channel:restless"), 15_000);
    relay.asked.length = 0;
    relay.refuses = true;
    const droppedAt = performance.now();
    relay.drop();
    // Without the setting these four tries take twelve seconds.
    await vi.waitFor(() => expect(relay.asked.length).toBeGreaterThanOrEqual(4), 6_000);
    relay.refuses = false;
    const tries = [droppedAt, ...relay.asked.slice(0, 4)];
    for (const [index, at] of tries.slice(1).entries()) expect(at - (tries[index] ?? at)).toBeGreaterThan(400);
    await vi.waitFor(async () => {
      await realtime(stack, ["broadcast", "restless", "back", "{}"]);
      expect(listening.stdout()).toContain("back: {}");
    }, 20_000);
    listening.child.kill("SIGINT");
    expect(await listening.ended).toMatchObject({ code: 0 });
  }, 60_000);

  function listen(what: string) {
    const env = { NSELF_REALTIME_URL: relay.url, NSELF_REALTIME_SERVICE_KEY: stack.serviceKey };
    return start(null, ["realtime", "listen", what, "--forever"], { env });
  }

  /** When heartbeats were sent by clients, or answered by the server. */
  const beats = (from: "client" | "server"): number[] =>
    relay.frames.filter((frame) => frame.from === from && frame.text.includes('"phoenix"')).map(({ at }) => at);
});

function joined(channel: RealtimeChannel): Promise<void> {
  return new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === "SUBSCRIBED") resolve();
      else if (status !== "CLOSED") reject(error ?? new Error(status));
    });
  });
}
