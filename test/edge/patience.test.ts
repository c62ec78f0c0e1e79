// Patience with PostgreSQL: of which failures it follows that the next question need not be asked.
import { expect, test } from "vitest";
import { patiently } from "../../src/edge/objects/patience.ts";
import { StatementRefused, StatementTooSlow, StoreNotReady, StoreUnavailable } from "../../src/store/database.ts";

const fails = (error: Error) => () => Promise.reject(error);

test.each([new StatementTooSlow("too slow"), new StatementRefused("22P02", "no", {}), new Error("a fault of ours")])(
  "%s says nothing of the next question",
  async (error) => {
    const ask = patiently();
    await expect(ask(fails(error))).rejects.toBe(error);
    expect(await ask(async () => "answered")).toBe("answered");
  },
);

test.each([new StoreUnavailable("away"), new StoreNotReady("no schema")])(
  "after %s nobody asks for a moment",
  async (error) => {
    const ask = patiently();
    await expect(ask(fails(error))).rejects.toBe(error);
    await expect(ask(async () => "answered")).rejects.toThrow("PostgreSQL is away");
  },
);

test("nor after a question that was not answered", async () => {
  const ask = patiently();
  await expect(ask(() => new Promise(() => {}))).rejects.toThrow("no answer");
  await expect(ask(async () => "answered")).rejects.toThrow("PostgreSQL is away");
});
