// Cleanup by the clock: what has been silent for five minutes goes, and what was seen four minutes ago stays.
import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Client, openChannel, token } from "./clients.ts";

const MINUTE_MS = 60_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  // PostgreSQL, which has nothing that is old.
  const fields = [
    { name: "deleted", dataTypeID: 23 },
    { name: "removed", dataTypeID: 23 },
    { name: "topics", dataTypeID: 1009 },
  ];
  const answer = { fields, rows: [["0", "0", "{}"]], command: "SELECT", rowCount: 1 };
  vi.stubGlobal("fetch", async () => Response.json(answer));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const pass = (ms: number) => vi.setSystemTime(Date.now() + ms);

async function cleanup(): Promise<unknown> {
  const response = await exports.default.fetch("http://edge/admin/v1/cleanup", {
    method: "POST",
    headers: { authorization: `Bearer ${await token("service_role")}`, "content-type": "application/json" },
    body: "{}",
  });
  return response.json();
}

test("AC-030: a connection not seen for five minutes is ended, and one seen four minutes ago stays", async () => {
  const [silent, seen] = [await Client.connect(), await Client.connect()];
  pass(MINUTE_MS + 1);
  await seen.reply(seen.send("phoenix", "heartbeat", {}, null));
  pass(4 * MINUTE_MS);
  expect(await cleanup()).toMatchObject({ stale_connections: 1 });
  await vi.waitFor(() => expect(silent.closedWith).toBe(1000));
  expect(seen.closedWith).toBeUndefined();
  expect(await cleanup()).toMatchObject({ stale_connections: 0 });
  seen.close();
});

test("AC-033: a user silent for five minutes is offline, and one tracked four minutes ago is online", async () => {
  const room = env.CHANNEL.getByName(`public:${(await openChannel("quiet")).slice("realtime:".length)}`);
  await room.track({ user: "silent", status: "online" });
  pass(MINUTE_MS + 1);
  await room.track({ user: "seen", status: "online" });
  pass(4 * MINUTE_MS);
  expect(await cleanup()).toMatchObject({ expired_presence: 1 });
  const presence = await runInDurableObject(room, (object) => object.presence());
  expect(presence.map(({ key, status }) => [key, status]).toSorted()).toEqual([
    ["seen", "online"],
    ["silent", "offline"],
  ]);
});
