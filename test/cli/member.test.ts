// Commands on members, as a user types them, against a running stack.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(() => stack?.stop());

const nself = (...args: string[]) => realtime(stack, ["channel", ...args]);
const members = async (channel: string) => JSON.parse((await nself("members", channel, "json")).stdout);

test("AC-099 AC-100 AC-101 AC-105: members are added once, listed with their status, and removed", async () => {
  await nself("create", "town");
  for (const user of ["user-123", "user-123", "silent"]) {
    expect(await nself("join", "town", user)).toMatchObject({ code: 0, stderr: "" });
  }
  await realtime(stack, ["presence", "track", "user-123", "town", "away", '{"name": "Ann Lee"}']);
  const { stdout } = await nself("members", "town");
  expect(stdout).toMatch(/^Members of #town \(2\):\n\n/);
  expect(stdout).toMatch(/^ {2}user-123 +Ann Lee +away +member$/m);
  expect(stdout).toMatch(/^ {2}silent +\(no name\) +offline +member$/m);
  expect((await members("town")).map(({ user_id }: Record<string, string>) => user_id)).toEqual(["silent", "user-123"]);
  expect(await nself("leave", "town", "user-123")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("removed"),
  });
  expect(await nself("leave", "town", "user-123")).toMatchObject({
    code: 0,
    stderr: expect.stringContaining("not a member"),
  });
  expect(await members("town")).toMatchObject([{ user_id: "silent", role: "member", status: "offline" }]);
});

test("AC-102 AC-103 AC-104: roles are stored and kept, bad ones and unknown channels refused", async () => {
  await nself("create", "team", "private");
  await nself("join", "team", "user-456", "moderator");
  await nself("join", "team", "user-789", "owner");
  await nself("join", "team", "user-456");
  const roles = (await members("team")).map(({ user_id, role }: Record<string, string>) => [user_id, role]);
  expect(Object.fromEntries(roles)).toEqual({ "user-456": "moderator", "user-789": "admin" });
  expect(await nself("join", "team", "u", "superking")).toMatchObject({ code: 2, stdout: "" });
  expect(await nself("join", "nosuch", "u")).toMatchObject({ code: 1, stdout: "" });
  expect(await nself("members", "nosuch")).toMatchObject({ code: 1, stdout: "" });
  expect((await members("team")).length).toBe(2);
});

test("AC-079: a full channel takes nobody more, by command or by SQL, and keeps whom it has", async () => {
  await nself("create", "support", "private", '{"max_members": 2}');
  for (const user of ["a", "b", "a"]) expect(await nself("join", "support", user)).toMatchObject({ code: 0 });
  expect(await nself("join", "support", "c")).toMatchObject({ code: 1, stderr: expect.stringContaining("full") });
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  const insert =
    "insert into realtime.channel_members (channel_id, user_id) select id, $2 from realtime.channels where slug = $1";
  await expect(sql.query(insert, ["support", "d"])).rejects.toThrow("full");
  // Whom it has can be changed, also where it holds more by now than it may.
  await nself("create", "support", "private", '{"max_members": 1}', "--update");
  expect(await nself("join", "support", "a", "moderator")).toMatchObject({ code: 0 });
  expect((await members("support")).map(({ role }: Record<string, string>) => role).sort()).toEqual([
    "member",
    "moderator",
  ]);
  // Two who come at once do not both get the last place.
  await nself("create", "duo", "direct");
  await nself("join", "duo", "a");
  const other = new pg.Client({ connectionString: stack.databaseUrl });
  await other.connect();
  const both = await Promise.allSettled([sql.query(insert, ["duo", "x"]), other.query(insert, ["duo", "y"])]);
  expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  await Promise.all([sql.end(), other.end()]);
  expect((await members("support")).length).toBe(2);
  expect((await members("duo")).length).toBe(2);
});

test.each([
  ['{"max_members": "ten"}', "metadata.max_members: must be a whole number from 1 on"],
  ['{"invite_only": "yes"}', "metadata.invite_only: must be true or false"],
  ['{"limits": 5}', "metadata.limits: must be a JSON object"],
  ['{"limits": {"messages_per_minut": 9}}', "metadata.limits: knows messages_per_minute, presence_per_minute, "],
  ['{"limits": {"messages_per_minute": "x"}}', "metadata.limits.messages_per_minute: must be a whole number from 0 to"],
  ['{"limits": {"payload_bytes": 0}}', "metadata.limits.payload_bytes: must be a whole number from 1 to 10000000"],
])("metadata of a channel that make no sense are refused: %s", async (metadata, reason) => {
  expect(await nself("create", "odd", "private", metadata)).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining(reason),
  });
});

test("metadata of a channel that make sense are kept, with what is the application's own", async () => {
  const metadata = { max_members: 3, invite_only: false, limits: { replay: 5 }, limit: "mine" };
  await nself("create", "even", "private", JSON.stringify(metadata));
  expect(JSON.parse((await nself("get", "even", "--json")).stdout)).toMatchObject({ metadata });
});
