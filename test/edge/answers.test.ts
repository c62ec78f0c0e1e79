// Answers by the key of a write, in an object's SQLite: found for a day, never more than there is room for.

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import { Answers, answerTables } from "../../src/edge/objects/answers.ts";
import { Tables } from "../../src/edge/objects/tables.ts";

const DAY_MS = 86_400_000;

afterEach(() => vi.useRealTimers());

function withAnswers(run: (answers: Answers, count: () => number) => void): Promise<void> {
  return runInDurableObject(env.DIRECTORY.getByName(crypto.randomUUID()), (_, { storage }) => {
    const tables = new Tables(storage.sql, answerTables);
    run(new Answers(tables), () => tables.read<{ n: number }>("SELECT count(*) AS n FROM answers")[0]?.n ?? 0);
  });
}

test("an answer is found for a day, and makes room afterwards", () =>
  withAnswers((answers, count) => {
    vi.useFakeTimers({ now: Date.now() });
    for (const key of ["a", "b", "c"]) answers.keep({ key, request: "r" }, `answer ${key}`);
    vi.setSystemTime(Date.now() + DAY_MS - 1);
    expect(answers.find({ key: "a", request: "r" })).toEqual({ answer: "answer a" });
    expect(answers.find({ key: "a", request: "other" })).toBe("key_reused");
    vi.setSystemTime(Date.now() + 1);
    expect(answers.find({ key: "a", request: "other" })).toBeUndefined();
    answers.keep({ key: "a", request: "other" }, "again");
    expect(answers.find({ key: "a", request: "other" })).toEqual({ answer: "again" });
    answers.keep({ key: "d", request: "r" }, "answer d");
    expect(count()).toBe(2);
  }));

test("of too many answers the oldest go", () =>
  withAnswers((answers, count) => {
    for (let n = 0; n < 5_010; n++) answers.keep({ key: `k${n}`, request: "" }, "");
    expect(count()).toBe(5_000);
    expect(answers.find({ key: "k9", request: "" })).toBeUndefined();
    expect(answers.find({ key: "k10", request: "" })).toEqual({ answer: "" });
  }));

test("a write that is under way is not begun again, until it is done, or nobody can be doing it any more", async () => {
  const directory = env.DIRECTORY.getByName("writes");
  const once = { key: "k", request: "r" };
  expect([await directory.begin(once), await directory.begin(once)]).toEqual(["new", "under_way"]);
  await directory.finish(once, null);
  expect(await directory.begin(once)).toBe("new");
  await runInDurableObject(directory, async (object) => {
    vi.useFakeTimers({ now: Date.now() + 60_000 });
    expect(await object.begin(once)).toBe("new");
    await object.finish(once, "done");
    expect(await object.begin(once)).toEqual({ answer: "done" });
  });
});
