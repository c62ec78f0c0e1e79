// The store of a channel in memory, held to the promises of every such store.
import { test } from "vitest";
import { channelStoreSuite } from "../support/channel-store-suite.ts";
import { MemoryChannelStore } from "../support/world.ts";

for (const [promise, check] of Object.entries(channelStoreSuite)) test(promise, () => check(new MemoryChannelStore()));
