// Joins of the client, against a server that answers as a test tells it to.
import { afterEach, expect, test } from "vitest";
import { RealtimeClient, type RealtimeError } from "../../src/client/index.ts";
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
