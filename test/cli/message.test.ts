// Commands on messages, as a user types them, against a running stack and a stock Supabase client.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { type RunOptions, realtime } from "./nself.ts";

let stack: TestStack;
let client: SupabaseClient;
let general: string;
const heard: Record<string, unknown>[] = [];

beforeAll(async () => {
  stack = await startStack();
  await nself(["init"]);
  general = (await nself(["channel", "create", "general", "public"])).last;
  await nself(["channel", "create", "secret", "private"]);
  client = createClient(stack.url, stack.anonKey);
  const channel = client.channel("general").on("broadcast", { event: "*" }, (message) => void heard.push(message));
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
});
afterAll(async () => {
  await client?.removeAllChannels();
  await stack?.stop();
});

const nself = (args: string[], options?: RunOptions) => realtime(stack, args, options);
const json = async (args: string[]) => JSON.parse((await nself([...args, "json"])).stdout);
const arrival = (event: string) =>
  vi.waitFor(() => {
    const message = heard.find((message) => message.event === event);
    if (message === undefined) throw new Error(`${event} has not arrived`);
    return message;
  }, 5_000);

test("AC-109 AC-110 AC-111: a broadcast by slug or id reaches a socket, and its id is the last line", async () => {
  const sent = await nself(["broadcast", "general", "user.joined", '{"user_id": "123", "name": "John"}']);
  expect(sent).toMatchObject({ code: 0, stderr: "", last: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  expect(await arrival("user.joined")).toMatchObject({ payload: { user_id: "123", name: "John" } });
  expect(await nself(["broadcast", general, "app.notification", "{}"])).toMatchObject({ code: 0 });
  await arrival("app.notification");
});

test("AC-112: the sender is stored, and subscribers see it", async () => {
  await nself(["broadcast", "general", "message.sent", '{"text": "Hello"}', "user-123"]);
  const [message] = await json(["messages", "general", "1"]);
  expect(message).toMatchObject({ event_type: "message.sent", sender_id: "user-123", payload: { text: "Hello" } });
  expect((await arrival("message.sent")).meta).toMatchObject({ sender: "user-123" });
});

test.each([
  ["over several lines", '{\n "player": "1",\n "position": {"x": 100, "y": -2.5e3},\n "n": [1, null, true]\n}'],
  ["with quotes and emoji", '{"t": "it\'s \\"quoted\\" 🎉 \\\\ \\n"}'],
])("AC-113 AC-114: a payload %s arrives unchanged", async (what, payload) => {
  const event = `it's ${what}`;
  await nself(["broadcast", "general", event, payload]);
  expect((await arrival(event)).payload).toEqual(JSON.parse(payload));
});

test("AC-115 AC-116: no JSON is a usage error, an unknown channel is not found, and nothing is stored", async () => {
  const before = await json(["messages", "general", "1000"]);
  expect(await nself(["broadcast", "general", "e", "notjson"])).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining("JSON"),
  });
  expect(await nself(["broadcast", "nosuch", "e", "{}"])).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining('"nosuch"'),
  });
  expect(await json(["messages", "general", "1000"])).toEqual(before);
});

test("a name that nobody registered is its open channel as soon as somebody uses it, and that is said", async () => {
  for (const args of [["messages"], ["replay", "2026-01-30T00:00:00Z"], ["broadcast", "e", "{}"]]) {
    const [command = "", ...rest] = args;
    expect(await nself([command, "open-room", ...rest])).toMatchObject({ code: 1, stdout: "" });
  }
  const room = client.channel("open-room");
  await new Promise<void>((resolve) => {
    room.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  const told = { code: 0, stderr: 'ℹ "open-room" is not registered; this is the open channel of that name\n' };
  expect(await nself(["messages", "open-room", "--json"])).toMatchObject({ ...told, stdout: "[]\n" });
  expect(await nself(["broadcast", "open-room", "e", '{"n": 1}'])).toMatchObject(told);
  await client.removeChannel(room);
  for (const args of [
    ["messages", "open-room"],
    ["replay", "open-room", "2026-01-30T00:00:00Z"],
  ]) {
    expect(await nself(args)).toMatchObject({ ...told, stdout: expect.stringContaining('{"n":1}') });
  }
});

test("AC-117: 900 kB by standard input arrive, more than 1 MB is refused with the limit's name", async () => {
  const payload = (size: number) => JSON.stringify({ text: "x".repeat(size) });
  expect(await nself(["broadcast", "general", "large", "-"], { input: payload(900_000) })).toMatchObject({ code: 0 });
  expect((await arrival("large")).payload).toEqual({ text: "x".repeat(900_000) });
  for (const size of [1_100_000, 3_000_000]) {
    expect(await nself(["broadcast", "general", "e", "-"], { input: payload(size) })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("1 MB"),
    });
  }
});

test("AC-211: whoever is not a member cannot be the sender in a private channel; a member can", async () => {
  expect(await nself(["broadcast", "secret", "e", "{}", "stranger"])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("member"),
  });
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query(
    "insert into realtime.channel_members (channel_id, user_id) select id, 'ann' from realtime.channels where slug = 'secret'",
  );
  await sql.end();
  expect(await nself(["broadcast", "secret", "e", "{}", "ann"])).toMatchObject({ code: 0 });
});

test("AC-211 AC-213: a sender is held to what holds for their sockets: membership of a presence channel, and bans", async () => {
  await nself(["channel", "create", "pub", "presence"]);
  const send = (channel: string, user: string) => nself(["broadcast", channel, "e", "{}", user]);
  expect(await send("pub", "pia")).toMatchObject({ code: 1, stderr: expect.stringContaining("not a member") });
  await nself(["channel", "join", "pub", "pia"]);
  expect(await send("pub", "pia")).toMatchObject({ code: 0 });
  await nself(["ban", "pia", "pub"]);
  expect(await send("pub", "pia")).toMatchObject({ code: 1, stderr: expect.stringContaining("banned") });
  await nself(["ban", "quin"]);
  expect(await send("general", "quin")).toMatchObject({ code: 1, stderr: expect.stringContaining("banned") });
  await nself(["unban", "quin"]);
  expect(await send("general", "quin")).toMatchObject({ code: 0 });
});

test("AC-120 AC-121 AC-124: messages come newest first, 50 unless asked, with the documented keys", async () => {
  await nself(["channel", "create", "busy"]);
  for (let n = 0; n < 52; n++) {
    const response = await fetch(`${stack.url}/admin/v1/channels/busy/messages`, {
      method: "POST",
      headers: { authorization: `Bearer ${stack.serviceKey}`, "content-type": "application/json" },
      body: JSON.stringify({ event: "e", payload: { n } }),
    });
    expect(response.status).toBe(201);
  }
  const all = await json(["messages", "busy", "100"]);
  expect(all).toHaveLength(52);
  expect(Object.keys(all[0])).toEqual(["id", "event_type", "payload", "sender_id", "sent_at"]);
  expect(all.map(({ payload }: { payload: { n: number } }) => payload.n)).toEqual(
    Array.from({ length: 52 }, (_, n) => 51 - n),
  );
  expect(await json(["messages", "busy"])).toEqual(all.slice(0, 50));
  const { stdout } = await nself(["messages", "busy"]);
  expect(stdout.split("\n")[0]).toMatch(/^ id +\| event_type \| payload +\| sender_id \| sent_at$/);
  expect(stdout.trimEnd().split("\n")).toHaveLength(52);
});

test("AC-122 AC-123: a limit over 1000 is lowered with a warning, what is no number is refused", async () => {
  const run = await nself(["messages", "general", "5000", "json"]);
  expect(run).toMatchObject({ code: 0, stderr: expect.stringContaining("1000") });
  JSON.parse(run.stdout);
  for (const limit of ["abc", "-1", "0", "1.5", "1; DROP TABLE realtime.channels"]) {
    expect(await nself(["messages", "general", limit])).toMatchObject({ code: 2, stdout: "" });
  }
});

test("AC-125 AC-126 AC-127 AC-128: replay shows what came at or after a time, oldest first, however it is written", async () => {
  await nself(["channel", "create", "past"]);
  await nself(["broadcast", "past", "early", "{}"]);
  const [{ sent_at: early }] = await json(["messages", "past"]);
  // The next whole second, so that unix seconds can say it.
  const border = Math.floor(Date.parse(early) / 1000) + 1;
  await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(border * 1000 + 50), 3_000);
  await nself(["broadcast", "past", "late", "{}"]);
  await nself(["broadcast", "past", "later", "{}"]);
  const iso = new Date(border * 1000).toISOString();
  const elsewhere = `${new Date((border + 5 * 3600) * 1000).toISOString().slice(0, 19)}+05:00`;
  for (const time of [String(border), String(border * 1000), iso, elsewhere]) {
    const replayed = await json(["replay", "past", time]);
    expect(replayed.map(({ event_type }: Record<string, string>) => event_type)).toEqual(["late", "later"]);
  }
  expect((await json(["replay", "past", early])).length).toBe(3);
});

test("AC-129: what is no time is a usage error", async () => {
  expect(await nself(["replay", "general", "notatime"])).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining("ISO 8601"),
  });
});

test("AC-008: an error leaves stdout empty", async () => {
  expect(await nself(["messages", "nosuch"])).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringMatching(/^✗ /),
  });
});

test("control characters of a message do not reach the terminal", async () => {
  await nself(["channel", "create", "evil"]);
  await nself(["broadcast", "evil", "\u001b[2Jgone", '{"t": "\\u001b[31m"}']);
  for (const format of ["text", "table"]) {
    const { stdout } = await nself(["messages", "evil", "--format", format]);
    expect(stdout).not.toContain("\u001b");
    expect(stdout).toContain("\\u001b[2Jgone");
  }
});
