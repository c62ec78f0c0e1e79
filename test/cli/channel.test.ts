// Commands on channels, as a user types them, against a running stack.
import { createClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { type RunOptions, realtime } from "./nself.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(() => stack?.stop());

const nself = (args: string[], options?: RunOptions) => realtime(stack, args, options);
const json = async (args: string[]) => JSON.parse((await nself([...args, "--json"])).stdout);

test("AC-074 AC-075: channels of each type are made, public by default, and listed; the id is the last line", async () => {
  const made = [
    await nself(["channel", "create", "town", "public"]),
    await nself(["channel", "create", "team-alpha", "private"]),
    await nself(["channel", "create", "lobby", "presence"]),
    await nself(["channel", "create", "x"]),
  ];
  for (const run of made) {
    expect(run).toMatchObject({ code: 0, stderr: "", last: expect.stringMatching(UUID) });
  }
  const types = Object.fromEntries(
    (await json(["channel", "list"])).map(({ slug, type }: Record<string, string>) => [slug, type]),
  );
  expect(types).toMatchObject({ town: "public", "team-alpha": "private", lobby: "presence", x: "public" });
});

test("AC-076 AC-077 AC-080: a bad type, no name and metadata that is no object are usage errors, and make nothing", async () => {
  expect(await nself(["channel", "create", "bad", "secret"])).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining("'secret'"),
  });
  expect(await nself(["channel", "create"])).toMatchObject({ code: 2, stderr: expect.stringContaining("Usage:") });
  for (const metadata of ["[1]", "notjson", '"text"']) {
    expect(await nself(["channel", "create", "bad", "public", metadata])).toMatchObject({ code: 2, stdout: "" });
  }
  expect(await nself(["channel", "get", "bad"])).toMatchObject({ code: 1 });
});

test("AC-078: metadata is kept", async () => {
  await nself(["channel", "create", "support", "private", '{"max_members": 10}']);
  expect(await json(["channel", "get", "support"])).toMatchObject({ type: "private", metadata: { max_members: 10 } });
});

test("AC-081 AC-082: the slug comes from the name, in any script", async () => {
  const { last } = await nself(["channel", "create", "Team Beta", "private"]);
  expect(await json(["channel", "get", last])).toMatchObject({ slug: "team-beta", name: "Team Beta" });
  for (const name of ["O'Brien", "日本語"]) expect(await nself(["channel", "create", name])).toMatchObject({ code: 0 });
  const slugs = (await json(["channel", "list"])).map(({ slug }: Record<string, string>) => slug);
  expect(slugs).toEqual(expect.arrayContaining(["obrien", "日本語"]));
  expect(await nself(["channel", "create", "!!!"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("empty slug"),
  });
});

test("AC-014 AC-083: the same channel again is itself, another type is refused unless --update says so", async () => {
  const first = await nself(["channel", "create", "steady", "public"]);
  expect(await nself(["channel", "create", "steady", "public"])).toMatchObject({ code: 0, last: first.last });
  expect(await nself(["channel", "create", "steady", "private"])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("--update"),
  });
  expect(await json(["channel", "get", "steady"])).toMatchObject({ type: "public" });
  expect(await nself(["channel", "create", "steady", "private", "--update"])).toMatchObject({
    code: 0,
    last: first.last,
  });
  expect(await json(["channel", "get", "steady"])).toMatchObject({ type: "private" });
});

test("AC-084 AC-085 AC-086 AC-087: the list shows slug, type and count, and one type when asked", async () => {
  await nself(["channel", "create", "hall", "presence"]);
  await nself(["presence", "track", "ann", "hall"]);
  await vi.waitFor(async () => {
    const { stdout } = await nself(["channel", "list"]);
    expect(stdout).toMatch(/^Channels:\n\n/);
    expect(stdout).toMatch(/^ {2}hall +presence +1 online$/m);
    expect(stdout).toMatch(/^ {2}town +public +0 members$/m);
  }, 5_000);
  await nself(["channel", "join", "town", "ann"]);
  expect((await nself(["channel", "list"])).stdout).toMatch(/^ {2}town +public +1 member$/m);
  const { stdout } = await nself(["channel", "list", "presence"]);
  expect(stdout).toContain("hall");
  expect(stdout).not.toContain("town");
  expect(await nself(["channel", "list", "all"])).toMatchObject({ stdout: (await nself(["channel", "list"])).stdout });
  expect(await nself(["channel", "list", "secret"])).toMatchObject({ code: 2, stdout: "" });
});

test("AC-009 AC-088 AC-089: the forms of the list", async () => {
  const [row] = await json(["channel", "list"]);
  expect(Object.keys(row)).toEqual(["id", "slug", "name", "type", "members", "online", "created_at", "updated_at"]);
  for (const args of [["--format", "json"], ["json"], ["all", "json"]]) {
    expect(JSON.parse((await nself(["channel", "list", ...args])).stdout)).toEqual(await json(["channel", "list"]));
  }
  expect(await json(["channel", "list", "direct"])).toEqual([]);
  const { stdout } = await nself(["channel", "list", "--format", "table"]);
  expect(stdout.split("\n")[0]).toMatch(/^ id +\| slug +\| name +\| type +\| members \| online \| created_at$/);
  expect((await nself(["channel", "list", "--format", "csv"])).stdout).toMatch(
    /^id,slug,name,type,members,online,created_at\r\n/,
  );
});

test("AC-006 AC-090 AC-092 AC-093: get shows the channel by slug, id and name alike", async () => {
  const { last } = await nself(["channel", "create", "Reading Room"]);
  await nself(["broadcast", "reading-room", "e", "{}"]);
  const { stdout } = await nself(["channel", "get", "reading-room"]);
  expect(stdout).toMatch(
    /^Channel: reading-room\nType: public\nMembers: 0\nCreated: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\nMessages \(24h\): 1\n$/,
  );
  for (const reference of [last, "Reading Room"])
    expect(await nself(["channel", "get", reference])).toMatchObject({ code: 0, stdout });
  expect(await nself(["channel", "get", "nosuch"])).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining('✗ there is no channel "nosuch"'),
  });
});

test("AC-094 AC-095 AC-098: delete asks, unless told not to; silence is no consent", async () => {
  const create = () => nself(["channel", "create", "doomed"]);
  const exists = async () => (await nself(["channel", "get", "doomed"])).code === 0;
  await create();
  expect(await nself(["channel", "delete", "doomed"], { input: "n\n" })).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("cancelled"),
  });
  expect(await nself(["channel", "delete", "doomed"])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("--force"),
  });
  expect(await exists()).toBe(true);
  expect(await nself(["channel", "delete", "doomed"], { input: "y\n" })).toMatchObject({ code: 0 });
  expect(await exists()).toBe(false);
  for (const consent of ["true", "--force", "--yes"]) {
    await create();
    expect(await nself(["channel", "delete", "doomed", consent])).toMatchObject({ code: 0 });
    expect(await exists()).toBe(false);
  }
  expect(await nself(["channel", "delete", "nosuch", "true"])).toMatchObject({ code: 1, stdout: "" });
});

test("AC-096 AC-097: a deleted channel drops its sockets, and comes back empty", async () => {
  await nself(["channel", "create", "fleeting"]);
  await nself(["broadcast", "fleeting", "e", '{"n": 1}']);
  await nself(["presence", "track", "ann", "fleeting"]);
  const client = createClient(stack.url, stack.anonKey);
  const told: string[] = [];
  const channel = client.channel("fleeting");
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => {
      told.push(status);
      if (status === "SUBSCRIBED") resolve();
    });
  });
  await nself(["channel", "delete", "fleeting", "true"]);
  await vi.waitFor(
    () => expect(told.some((status) => status === "CLOSED" || status === "CHANNEL_ERROR")).toBe(true),
    5_000,
  );
  await client.removeAllChannels();
  expect(await nself(["messages", "fleeting"])).toMatchObject({ code: 1 });
  await nself(["channel", "create", "fleeting"]);
  expect(await json(["messages", "fleeting"])).toEqual([]);
  expect(await json(["presence", "online", "fleeting"])).toEqual([]);
});

test("AC-010: what looks like SQL makes one channel of an odd name", async () => {
  const before = (await json(["channel", "list"])).length;
  expect(await nself(["channel", "create", "x'); DROP TABLE realtime.channels; --"])).toMatchObject({ code: 0 });
  expect(await nself(["channel", "get", "x' OR '1'='1"])).toMatchObject({ code: 1 });
  expect((await json(["channel", "list"])).length).toBe(before + 1);
});
