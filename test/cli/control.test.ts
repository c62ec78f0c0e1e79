// Commands of control, as a user types them, against a running stack.
import { afterAll, beforeAll, expect, test } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(() => stack?.stop());

const nself = (...args: string[]) => realtime(stack, args);

test("bans and revocations are made, listed and lifted", async () => {
  expect(await nself("ban", "ann", "--for", "10m", "--reason", "spam")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/Banned: ann, until \d{4}-/),
  });
  expect(await nself("ban", "ann", "town", "--reason", "noise")).toMatchObject({
    stdout: expect.stringContaining("from town, for good"),
    stderr: expect.stringContaining('no channel "town" is registered'),
  });
  await nself("channel", "create", "hall");
  expect(await nself("ban", "ann", "hall")).toMatchObject({ code: 0, stderr: "" });
  expect(await nself("revoke", "t1")).toMatchObject({ code: 0, stdout: expect.stringContaining("for good") });
  expect(JSON.parse((await nself("bans", "--json")).stdout)).toMatchObject([
    { kind: "token", id: "t1" },
    { kind: "user", id: "ann", reason: "spam" },
  ]);
  expect((await nself("bans")).stdout).toMatch(/^Bans: 2\n[\s\S]*\nThese hold everywhere\. .*: bans <channel>\n$/);
  expect((await nself("bans", "town")).stdout).toMatch(/^Bans from town: 1\n\n {2}user {3}ann +for good +noise/);
  expect(await nself("unban", "ann")).toMatchObject({ stdout: expect.stringContaining("lifted") });
  expect(await nself("unban", "ann")).toMatchObject({ code: 0, stderr: expect.stringContaining("not banned") });
  expect(await nself("kick", "nobody")).toMatchObject({ stdout: expect.stringContaining("(0 connections)") });
  expect(await nself("disconnect", "nosuch")).toMatchObject({ code: 1, stdout: "" });
  expect(await nself("ban", "ann", "--for", "soon")).toMatchObject({ code: 2 });
});
