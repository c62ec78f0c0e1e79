// The store of a channel in an object's SQLite, held to the promises of every such store.
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { test } from "vitest";
import { channelTables, SqliteChannelStore } from "../../src/edge/objects/channel-store.ts";
import { Tables } from "../../src/edge/objects/tables.ts";
import { channelStoreSuite } from "../support/channel-store-suite.ts";

for (const [promise, check] of Object.entries(channelStoreSuite)) {
  test(promise, async () => {
    // An object of each test's own, of the kind that writes nothing by itself.
    const object = env.DIRECTORY.getByName(promise);
    await runInDurableObject(object, (_, { storage }) => {
      check(new SqliteChannelStore(new Tables(storage.sql, channelTables)));
    });
  });
}
