// Commands on presence, as a user types them, against a running stack and a stock Supabase client.
import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
  for (const channel of ["general", "team", "lobby", "game", "crowd"])
    await realtime(stack, ["channel", "create", channel]);
});
afterAll(() => stack?.stop());

const nself = (...args: string[]) => realtime(stack, ["presence", ...args]);
const json = async (...args: string[]) => JSON.parse((await nself(...args, "json")).stdout);

test("AC-135 AC-136: each status is stored and shown, online unless said", async () => {
  for (const status of ["online", "away", "offline"]) {
    expect(await nself("track", "user-1", "general", status)).toMatchObject({ code: 0, stderr: "" });
    expect(await json("get", "user-1", "general")).toMatchObject([{ user_id: "user-1", channel: "general", status }]);
  }
  await nself("track", "user-1", "general");
  expect(await json("get", "user-1", "general")).toMatchObject([{ status: "online" }]);
});

test("AC-137: a bad status is a usage error, an unknown channel is not found", async () => {
  expect(await nself("track", "u", "general", "sleeping")).toMatchObject({ code: 2, stdout: "" });
  expect(await nself("track", "u", "nosuch")).toMatchObject({ code: 1, stdout: "" });
  expect(await nself("online", "nosuch")).toMatchObject({ code: 1, stdout: "" });
  expect(await nself("track", "u", "general", "online", "[1]")).toMatchObject({ code: 2, stdout: "" });
  expect(await json("get", "u")).toEqual([]);
});

test("AC-138 AC-139 AC-144: metadata is stored, replaced when given, kept when not", async () => {
  const metadata = async () => (await json("get", "player", "game"))[0].metadata;
  await nself("track", "player", "game", "online", '{"level": 5, "score": 1000}');
  expect(await metadata()).toEqual({ level: 5, score: 1000 });
  await nself("track", "player", "game", "online", '{"score": 1500, "level": 6}');
  expect(await metadata()).toEqual({ level: 6, score: 1500 });
  await nself("track", "player", "game", "away");
  expect(await metadata()).toEqual({ level: 6, score: 1500 });
  const [entry] = await json("get", "player", "game");
  expect(Object.keys(entry)).toEqual([
    "user_id",
    "channel",
    "status",
    "metadata",
    "last_seen_at",
    "seconds_since_seen",
  ]);
});

test("AC-140: a socket sees what the command line tracks, and the other way round", async () => {
  const client = createClient(stack.url, stack.anonKey);
  const channel = client.channel("lobby", { config: { presence: { key: "browser" } } });
  channel.on("presence", { event: "sync" }, () => {});
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  await channel.track({ name: "Ann" });
  await nself("track", "terminal", "lobby");
  await vi.waitFor(
    () => expect(Object.keys(channel.presenceState()).toSorted()).toEqual(["browser", "terminal"]),
    5_000,
  );
  const online = await json("online", "lobby");
  expect(online.map(({ user_id }: Record<string, string>) => user_id).toSorted()).toEqual(["browser", "terminal"]);
  expect((await nself("online", "lobby")).stdout).toMatch(/^ {2}browser +Ann +online +\d+s ago$/m);
  await client.removeAllChannels();
});

test("AC-141 AC-142 AC-143: get shows a line for each channel, or the one asked for", async () => {
  await nself("track", "user-3", "general", "online");
  await nself("track", "user-3", "team", "away");
  await vi.waitFor(async () => {
    const { stdout } = await nself("get", "user-3");
    expect(stdout).toMatch(/^Presence: user-3\n\n/);
    expect(stdout).toMatch(/^ {2}general +online +Last seen: now$/m);
    expect(stdout).toMatch(/^ {2}team +away +Last seen: now$/m);
  }, 5_000);
  const { stdout } = await nself("get", "user-3", "team");
  expect(stdout).toContain("team");
  expect(stdout).not.toContain("general");
  expect(await nself("get", "nobody", "json")).toMatchObject({ code: 0, stdout: "[]\n" });
});

test("AC-145 AC-147: online heads with who is online, and lists who is away as well", async () => {
  await nself("track", "ann", "team", "online", '{"name": "Ann Lee"}');
  await nself("track", "bob", "team", "away");
  await nself("track", "cat", "team", "offline");
  const { stdout } = await nself("online", "team");
  expect(stdout).toMatch(/^Online Users \(team\): 1\n\n/);
  expect(stdout).toMatch(/^ {2}ann +Ann Lee +online +\d+s ago$/m);
  expect(stdout).toMatch(/^ {2}bob +- +away +\d+s ago$/m);
  expect(stdout).not.toContain("cat");
  const [entry] = await json("online", "team");
  expect(Object.keys(entry)).toEqual(["user_id", "channel", "status", "metadata", "last_seen_at", "seconds_ago"]);
});

test("AC-146: online without a channel lists all of them, each user's channel shown", async () => {
  await nself("track", "dan", "general");
  await nself("track", "dan", "game");
  await vi.waitFor(async () => {
    const places = (await json("online")).filter(({ user_id }: Record<string, string>) => user_id === "dan");
    expect(places.map(({ channel }: Record<string, string>) => channel).toSorted()).toEqual(["game", "general"]);
  }, 5_000);
  expect((await nself("online", "--format", "table")).stdout).toMatch(/^ user_id +\| channel +\| status +\| metadata/);
});

test("AC-148 AC-149: counts add up; members never seen are offline; a user in two channels counts once", async () => {
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query(
    "insert into realtime.channel_members (channel_id, user_id) select id, u from realtime.channels, unnest(array['ann', 'silent']) u where slug = 'crowd'",
  );
  await sql.end();
  await nself("track", "ann", "crowd", "online");
  await nself("track", "bob", "crowd", "away");
  await nself("track", "cat", "crowd", "offline");
  expect((await nself("count", "crowd")).stdout).toBe("Online: 1\nAway: 1\nOffline: 2\nTotal: 4\n");
  expect((await nself("count", "crowd", "--quiet")).stdout).toBe("2\n");
  const before = await json("count");
  expect(before.online + before.away + before.offline).toBe(before.total);
  await nself("track", "twice", "general");
  await nself("track", "twice", "game", "away");
  await vi.waitFor(async () => {
    expect(await json("count")).toEqual({ ...before, online: before.online + 1, total: before.total + 1 });
  }, 5_000);
});

test("AC-150 AC-151: offline sets one channel, or all of a user's", async () => {
  for (const channel of ["general", "team", "game"]) await nself("track", "eve", channel);
  const statuses = async () =>
    Object.fromEntries(
      (await json("get", "eve")).map(({ channel, status }: Record<string, string>) => [channel, status]),
    );
  await vi.waitFor(async () => expect(Object.keys(await statuses())).toHaveLength(3), 5_000);
  expect(await nself("offline", "eve", "team")).toMatchObject({ code: 0 });
  expect(await statuses()).toEqual({ general: "online", team: "offline", game: "online" });
  expect(await nself("offline", "eve")).toMatchObject({ code: 0, stdout: expect.stringContaining("(2 channels)") });
  expect(await statuses()).toEqual({ general: "offline", team: "offline", game: "offline" });
  expect(await nself("offline", "nobody-of-us")).toMatchObject({
    code: 0,
    stdout: "",
    stderr: expect.stringContaining("nothing changed: nobody-of-us was online in no channel"),
  });
  expect(await nself("get", "nobody-of-us")).toMatchObject({ code: 0, stdout: "nobody-of-us was seen nowhere\n" });
  expect(await nself("offline", "nobody")).toMatchObject({ code: 0 });
});

test("AC-152 AC-153: the statistics add up", async () => {
  const value = await json("stats");
  expect(Object.keys(value)).toEqual([
    ...["online", "away", "offline", "total_users", "total_channels", "average_per_channel"],
  ]);
  expect(value.online + value.away + value.offline).toBe(value.total_users);
  expect((await nself("stats")).stdout).toMatch(
    /^Presence Statistics:\n\n {2}Total users tracked: +\d+\n {2}Currently online: +\d+\n.*Average presence\/channel: +\d+\n$/s,
  );
});

test("AC-154 AC-155 AC-156: cleanup marks the silent offline, and nobody whose socket is open", async () => {
  const client = createClient(stack.url, stack.anonKey);
  const channel = client.channel("lobby", { config: { presence: { key: "alive" } } });
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  await channel.track({});
  await nself("track", "fay", "lobby");
  expect(await nself("cleanup")).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 0$/m) });
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect(await nself("cleanup", "1")).toMatchObject({ code: 0, stdout: expect.stringMatching(/: [1-9]/m) });
  expect(await json("get", "fay", "lobby")).toMatchObject([{ status: "offline" }]);
  expect(await json("get", "alive", "lobby")).toMatchObject([{ status: "online" }]);
  expect(await nself("cleanup", "abc")).toMatchObject({ code: 2 });
  await client.removeAllChannels();
});
