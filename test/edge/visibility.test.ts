// A feed that judges rows: its viewers over a link, and after it has slept.

import { evictDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { type Down, decodeDown, encodeLink, type Up, type Viewer } from "../../src/protocol/link.ts";

const USER = "6f1c3a9e-0000-4000-8000-00000000000a";
const ann: Viewer = { key: "ann", role: "authenticated", claims: { sub: USER } };
const bob: Viewer = { key: "bob", role: "authenticated", claims: { sub: USER.replace("a", "b") } };

const policy = (using: string) => ({ permissive: true, roles: ["anon", "authenticated"], using });
const table = (using: string) => ({
  ...{
    schema: "public",
    table: "t",
    generation: 1,
    primaryKey: [],
    rls: true,
    readers: ["authenticated", "service_role"],
  },
  columns: [{ name: "owner", type: "uuid" }],
  security: {
    ...{ free: ["service_role"], columns: ["owner"], plain: ["owner"], known: ["uid", "jwt"], volatile: false },
    policies: [policy(using)],
  },
});

let batches = 0;

/** The body of a batch of one row, of a table with this policy. */
function batch(using: string): string {
  const tables = { 7: table(using) };
  const header = { v: 1, source: "s", epoch: 1, batch: ++batches, redelivered: true, feed: "public.t", tables };
  const change = { id: String(batches), x: "1", r: 7, op: "I", at: "2026-01-01T00:00:00Z", new: { owner: USER } };
  return [header, change].map((line) => JSON.stringify(line)).join("\n");
}

/** A gateway's end of a link, without the gateway. */
async function open(feed: string): Promise<{ send: (message: Up) => void; heard: Down[] }> {
  const response = await env.CHANNEL.getByName(feed).fetch("http://channel/link?v=1&gateway=g", {
    headers: { upgrade: "websocket" },
  });
  const { webSocket } = response;
  if (webSocket === null) throw new Error(`refused: ${response.status}`);
  const heard: Down[] = [];
  webSocket.addEventListener("message", ({ data }) => void heard.push(decodeDown(data)));
  webSocket.accept();
  return { heard, send: (message) => webSocket.send(encodeLink(message)) };
}

test("a message names those who may see its row; after a sleep the feed asks who its viewers are", async () => {
  const feed = env.CHANNEL.getByName("feed:public.t");
  const { send, heard } = await open("feed:public.t");
  send({ t: "hello", again: false, sessions: [], viewers: [ann, bob] });
  await vi.waitFor(() => expect(heard.map(({ t }) => t)).toEqual(["welcome"]));
  expect(await feed.changes(batch("(owner = auth.uid())"))).toEqual({ taken: true });
  await vi.waitFor(() =>
    expect(heard.at(-1)).toMatchObject({ t: "message", access: { readers: ["service_role"], visible: ["ann"] } }),
  );

  await evictDurableObject(feed);
  const taken = feed.changes(batch("(owner <> auth.uid())"));
  await vi.waitFor(() => expect(heard.at(-1)).toEqual({ t: "viewers" }));
  send({ t: "viewers", viewers: [ann, bob] });
  expect(await taken).toEqual({ taken: true });
  await vi.waitFor(() => expect(heard.at(-1)).toMatchObject({ t: "message", access: { visible: ["bob"] } }));
});

test("what only PostgreSQL can judge is not taken while it is away", async () => {
  const { send, heard } = await open("feed:public.u");
  send({ t: "hello", again: false, sessions: [], viewers: [ann] });
  await vi.waitFor(() => expect(heard).toHaveLength(1));
  const answer = await env.CHANNEL.getByName("feed:public.u").changes(batch("mine(owner)"));
  expect(answer).toEqual({ away: expect.stringContaining("reaches PostgreSQL, does not answer") });
  expect(heard).toHaveLength(1);
});
