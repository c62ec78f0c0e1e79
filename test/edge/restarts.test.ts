// Restarts: gateways and channels are evicted under way, and no message is lost.

import { abortAllDurableObjects, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import type { Channel } from "../../src/edge/index.ts";
import type { HistoryPage } from "../../src/edge/objects/rpc.ts";
import { Client, gateways, openChannel, twoGateways } from "./clients.ts";

const numbers = (upTo: number): number[] => Array.from({ length: upTo }, (_, index) => index + 1);

function channel(sub: string): DurableObjectStub<Channel> {
  return env.CHANNEL.getByName(`public:${sub}`);
}

/** Ends the life of a channel in memory, and all links to it. One that is just between two lives is left alone. */
async function cutLinks(sub: string): Promise<void> {
  await evictDurableObject(channel(sub), { webSockets: "close" }).catch((error: unknown) => {
    if (!String(error).includes("not currently running")) throw error;
  });
}

/** Ends the life of a gateway as a deploy does: links and client sockets drop. One with links cannot be put to sleep. */
async function resetGateways(): Promise<void> {
  for (const name of await gateways()) {
    await runInDurableObject(env.GATEWAY.getByName(name), (_, state) => state.abort("reset by the test")).catch(
      () => {},
    );
  }
}

describe("restarts", () => {
  test("a gateway that is evicted with sockets and no links wakes up with its sessions", async () => {
    const topic = await openChannel("gateway-asleep");
    const ann = await Client.connect();
    // Before anybody else's links: the platform puts no gateway to sleep that has one open.
    const [gateway = ""] = await vi.waitFor(async () => {
      const names = await gateways();
      expect(names).toHaveLength(1);
      return names;
    });
    await evictDurableObject(env.GATEWAY.getByName(gateway));
    await ann.join(topic, { broadcast: { self: true } });
    ann.broadcast(topic, "n", { n: 1 });
    await ann.expectNumbers([1]);
    expect(ann.closedWith).toBeUndefined();
  });

  test("after a reset of its gateway a client resumes with exactly what it missed", async () => {
    const topic = await openChannel("gateway-reset");
    const { ann, bob } = await twoGateways();
    const { position } = (await bob.join(topic)) as { position: { epoch: string } };
    await ann.join(topic, { broadcast: { ack: true } });
    await ann.reply(ann.broadcast(topic, "n", { n: 1 }));
    await bob.expectNumbers([1]);
    await resetGateways();
    await vi.waitFor(() => expect(bob.closedWith).toBeDefined());
    for (const n of [2, 3]) await channel("gateway-reset").publish({ event: "n", payload: `{"n":${n}}` });
    const back = await Client.connect();
    const { recovered } = await back.join(topic, { broadcast: { resume: { epoch: position.epoch, seq: 1 } } });
    expect(recovered).toBe(true);
    await back.expectNumbers([2, 3]);
  });

  test("a channel that is evicted keeps its links, its order and its ring", async () => {
    const topic = await openChannel("channel-evicted");
    const { ann, bob } = await twoGateways();
    await ann.join(topic, { broadcast: { ack: true } });
    await bob.join(topic);
    for (let n = 1; n <= 5; n++) {
      await ann.reply(ann.broadcast(topic, "n", { n }));
      await evictDurableObject(channel("channel-evicted"));
    }
    await bob.expectNumbers(numbers(5));
    const { messages: history }: HistoryPage = await channel("channel-evicted").history({ limit: 10, order: "oldest" });
    expect(history.map(({ position }) => position.seq)).toEqual(numbers(5));
  });

  test("a channel whose links are cut gets every publish once, and its subscribers every message once", async () => {
    const topic = await openChannel("links-cut");
    const { ann, bob } = await twoGateways();
    await ann.join(topic, { broadcast: { ack: true, self: true } });
    await bob.join(topic);
    const refs: string[] = [];
    for (let n = 1; n <= 20; n++) {
      refs.push(ann.broadcast(topic, "n", { n }));
      if (n % 5 === 0) {
        await cutLinks("links-cut");
      }
    }
    for (const ref of refs) expect((await ann.reply(ref)).status).toBe("ok");
    await ann.expectNumbers(numbers(20));
    await bob.expectNumbers(numbers(20));
  });

  test("presence outlives an eviction of its channel, with the same refs and nobody leaving", async () => {
    const topic = await openChannel("presence-evicted");
    const { ann, bob } = await twoGateways();
    await ann.join(topic, { presence: { key: "ann", enabled: true } });
    await bob.join(topic, { presence: { key: "bob", enabled: true } });
    await ann.reply(ann.send(topic, "presence", { type: "presence", event: "track", payload: { at: "desk" } }));
    const [, , , , before] = await bob.frame(([, , , event]) => event === "presence_diff");
    await evictDurableObject(channel("presence-evicted"));
    const carl = await Client.connect();
    await carl.join(topic, { presence: { key: "carl", enabled: true } });
    const [, , , , state] = await carl.frame(([, , , event]) => event === "presence_state");
    expect(state).toEqual(before.joins);
    expect(bob.frames.filter(([, , , event]) => event === "presence_diff")).toHaveLength(1);
    ann.close();
    const [, , , , diff] = await bob.frame(
      ([, , , event, payload]) => event === "presence_diff" && "ann" in (payload.leaves as object),
    );
    expect(diff.joins).toEqual({});
  });

  test("a direct socket outlives the eviction of its channel", async () => {
    const topic = await openChannel("direct-evicted");
    const path = "/realtime/v1/channels/direct-evicted/websocket";
    const [ann, bob] = [await Client.connect(path), await Client.connect(path)];
    await ann.join(topic, { broadcast: { ack: true } });
    await bob.join(topic);
    for (let n = 1; n <= 3; n++) {
      await ann.reply(ann.broadcast(topic, "n", { n }));
      await bob.expectNumbers(numbers(n));
      await evictDurableObject(channel("direct-evicted"));
    }
    // The runtime takes 15 s for an eviction now and then.
  }, 90_000);

  test("after a crash of everything a client that comes back resumes where it was", async () => {
    const topic = await openChannel("crash");
    const ann = await Client.connect();
    const { position } = (await ann.join(topic, { broadcast: { ack: true } })) as {
      position: { epoch: string; seq: number };
    };
    for (let n = 1; n <= 3; n++) await ann.reply(ann.broadcast(topic, "n", { n }));
    await abortAllDurableObjects();
    const bob = await vi.waitFor(() => Client.connect());
    await openChannel("crash");
    const resumed = await bob.join(topic, { broadcast: { resume: { epoch: position.epoch, seq: 1 } } });
    expect(resumed.recovered).toBe(true);
    await bob.expectNumbers([2, 3]);
    expect(position.seq).toBe(0);
  });
});
