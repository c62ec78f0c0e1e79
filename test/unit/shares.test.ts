// Shares: who gets how much of a row change.
import { expect, test } from "vitest";
import { Shares } from "../../src/gateway/shares.ts";
import type { Access } from "../../src/protocol/link.ts";

const columns = ["id", "title", "secret"].map((name) => ({ name, type: "text" }));
const data = JSON.stringify({
  ...{ schema: "public", table: "t", type: "UPDATE", commit_timestamp: "2026-01-01T00:00:00Z", columns },
  ...{ record: { id: 1, title: "b", secret: "s" }, old_record: { id: 1, title: "a", secret: "r" }, errors: null },
});

/** What a viewer gets, parsed; undefined: nothing. */
function share(access: Access | undefined, role: string, key = "k"): Record<string, unknown> | undefined {
  const found = new Shares(access, data).of({ role, key, claims: {} });
  return found && JSON.parse(found.data);
}

test("roles and single viewers that may see a row get all of it, and nobody else anything", () => {
  const access = { readers: ["service_role"], visible: ["ann"] };
  expect(share(undefined, "anon")).toEqual(JSON.parse(data));
  expect(share(access, "service_role")).toEqual(JSON.parse(data));
  expect(share(access, "anon", "ann")).toEqual(JSON.parse(data));
  expect(share(access, "anon", "bob")).toBeUndefined();
  expect(share({ readers: [] }, "anon", "ann")).toBeUndefined();
});

test("columns that a role may not read are in no part of what it gets", () => {
  const access = { readers: ["anon", "service_role"], columns: { anon: ["id", "title"] } };
  expect(share(access, "anon")).toMatchObject({
    columns: columns.slice(0, 2),
    record: { id: 1, title: "b" },
    old_record: { id: 1, title: "a" },
  });
  expect(JSON.stringify(share(access, "anon"))).not.toContain("secret");
  expect(share(access, "service_role")).toEqual(JSON.parse(data));
});

test("a role that may not read the key hears that there is a change, and nothing of it", () => {
  expect(share({ readers: ["anon"], unauthorized: ["anon"], columns: { anon: ["title"] } }, "anon")).toEqual({
    ...{ schema: "public", table: "t", type: "UPDATE", commit_timestamp: null, columns: [], record: {} },
    errors: ["Error 401: Unauthorized"],
  });
});

test("who did not see the row as it was gets its key alone", () => {
  const access = { readers: [], visible: ["ann", "bob"], key: ["id"], before: { readers: [], visible: ["bob"] } };
  expect(share(access, "anon", "ann")?.old_record).toEqual({ id: 1 });
  expect(share(access, "anon", "ann")?.record).toEqual({ id: 1, title: "b", secret: "s" });
  expect(share(access, "anon", "bob")).toEqual(JSON.parse(data));
});
