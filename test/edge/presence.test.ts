// Presence as the objects tell it: users tracked by a socket, and those tracked by the API.
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { Client, openChannel } from "./clients.ts";

test("who is set offline is counted where they are offline then, and not where their own socket tracks", async () => {
  const user = "otto";
  const [here, there] = [env.CHANNEL.getByName("public:otto-here"), env.CHANNEL.getByName("public:otto-there")];
  const topic = await openChannel("otto-here");
  await openChannel("otto-there");
  const client = await Client.connect("/realtime/v1/websocket", "authenticated", { sub: user });
  await client.join(topic, { presence: { key: user, enabled: true } });
  await client.reply(client.send(topic, "presence", { event: "track", payload: {} }));
  await there.track({ user, status: "online" });
  expect(await env.DIRECTORY.getByName("directory").setOffline(user)).toBe(1);
  expect(await here.presence()).toMatchObject([{ key: user, status: "online" }]);
  expect(await there.presence()).toMatchObject([{ key: user, status: "offline" }]);
  expect(await here.track({ user, status: "offline" })).toBe(false);
});
