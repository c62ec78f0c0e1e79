// The store: against a real PostgreSQL, by the listener's SQL endpoint, as the edge uses it on one machine.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { StatementRefused, StatementTooSlow, StoreNotReady, StoreUnavailable } from "../../src/store/database.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { freePort, startPostgres, type TestPostgres } from "../support/postgres.ts";

const SECRET = "the-secret-of-this-test-and-no-other";

let postgres: TestPostgres;
let listener: ChildProcess;
let sql: pg.Client;
let store: Store;
let endpoint: string;

beforeAll(async () => {
  postgres = await startPostgres();
  listener = spawn(process.execPath, ["src/listener/main.ts"], {
    env: {
      ...process.env,
      DATABASE_URL: postgres.url,
      REALTIME_EDGE_URL: `http://127.0.0.1:${await freePort()}`,
      REALTIME_LISTENER_SECRET: SECRET,
      REALTIME_LISTENER_PORT: "0",
      REALTIME_LOG_LEVEL: "error",
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (listener.stdout === null) throw new Error("the listener has no stdout");
  const [ready] = await once(createInterface(listener.stdout), "line");
  endpoint = `http://127.0.0.1:${JSON.parse(ready).port}/sql`;
  store = open();
  sql = new pg.Client({ connectionString: postgres.url });
  await sql.connect();
});

afterAll(async () => {
  await sql?.end();
  listener?.kill("SIGTERM");
  if (listener?.exitCode === null) await once(listener, "exit");
  await postgres?.stop();
});

function open(secret = SECRET): Store {
  return openStore({ DATABASE_URL: postgres.url, REALTIME_SQL_URL: endpoint, REALTIME_LISTENER_SECRET: secret });
}

test("AC-026: before the migrations, the store says what to run", async () => {
  await expect(store.channels.list(undefined, 10)).rejects.toThrow(StoreNotReady);
  await expect(store.subscriptions.subscribe("public.users")).rejects.toThrow("nself realtime init");
});

describe("after the migrations", () => {
  beforeAll(async () => {
    await migrate(postgres.url);
    await sql.query("create table public.users (id int primary key, email text)");
    await sql.query('create table public."Order" (id int primary key)');
  });

  test("the listener is ready while one leads and what is sent from SQL reaches it", async () => {
    const becomes = (ready: boolean) =>
      vi.waitFor(async () => expect(await store.listener.isReady()).toBe(ready), 10_000);
    await becomes(true);
    await sql.query("alter table realtime.messages disable trigger capture_insert");
    await becomes(false);
    await sql.query("alter table realtime.messages enable trigger capture_insert");
    await becomes(true);
    await sql.query("update realtime.cdc_consumers set lease_until = '-infinity'");
    await becomes(false);
    await becomes(true);
  });

  test("several channels are found by their slugs", async () => {
    for (const slug of ["one", "two"]) await store.channels.create({ slug, name: slug, type: "public" });
    const found = await store.channels.findSlugs(["two", "none", "one", '{"']);
    expect(found.map(({ slug }) => slug).sort()).toEqual(["one", "two"]);
    for (const { id } of found) await store.channels.delete(id);
  });

  test("a channel is made once, found by id, slug and name, and deleted", async () => {
    const made = await store.channels.create({
      slug: "team-alpha",
      name: "Team Alpha",
      type: "private",
      metadata: { max_members: 10 },
    });
    expect(made).toMatchObject({
      slug: "team-alpha",
      name: "Team Alpha",
      type: "private",
      metadata: { max_members: 10 },
    });
    expect(made?.created_at).toBeInstanceOf(Date);
    expect(await store.channels.create({ slug: "team-alpha", name: "Other", type: "public" })).toBeUndefined();
    for (const reference of ["team-alpha", "Team Alpha", made?.id ?? ""]) {
      expect(await store.channels.find(reference)).toEqual({ ...made, members: 0 });
    }
    expect(await store.channels.find("team alpha")).toBeUndefined();
    expect(await store.channels.delete(made?.id ?? "")).toBe(true);
    expect(await store.channels.delete(made?.id ?? "")).toBe(false);
    expect(await store.channels.find("team-alpha")).toBeUndefined();
  });

  test("no name hides another channel's slug or id", async () => {
    const first = await store.channels.create({ slug: "first", name: "First", type: "public" });
    await store.channels.create({ slug: "second", name: "first", type: "public" });
    await store.channels.create({ slug: first?.id ?? "", name: "third", type: "public" });
    expect((await store.channels.find("first"))?.id).toBe(first?.id);
    expect((await store.channels.find(first?.id ?? ""))?.slug).toBe("first");
  });

  test("an update keeps the metadata that it is not given", async () => {
    await store.channels.create({ slug: "changing", name: "Changing", type: "public", metadata: { a: 1 } });
    const updated = await store.channels.update({ slug: "changing", name: "Changed", type: "private" });
    expect(updated).toMatchObject({ name: "Changed", type: "private", metadata: { a: 1 } });
    expect(await store.channels.update({ slug: "nosuch", name: "x", type: "public" })).toBeUndefined();
  });

  test("members are counted: in a list, and besides those already known", async () => {
    const channel = await store.channels.create({ slug: "club", name: "club", type: "private" });
    const other = await store.channels.create({ slug: "other", name: "other", type: "private" });
    const id = channel?.id ?? "";
    for (const [channelId, user] of [
      [id, "ann"],
      [id, "bob"],
      [other?.id, "ann"],
      [other?.id, 'o"Brien, {x}'],
    ]) {
      await sql.query("insert into realtime.channel_members (channel_id, user_id) values ($1, $2)", [channelId, user]);
    }
    expect((await store.channels.list("private", 10)).find(({ slug }) => slug === "club")?.members).toBe(2);
    expect(await store.channels.countMembersBesides(id, [])).toBe(2);
    expect(await store.channels.countMembersBesides(id, ["ann", "carol"])).toBe(1);
    expect(await store.channels.countMembersBesides(null, [])).toBe(3);
    expect(await store.channels.countMembersBesides(null, ['o"Brien, {x}'])).toBe(2);
  });

  test("channels are counted by type", async () => {
    const before = await store.channels.countByType();
    await store.channels.create({ slug: "a-lobby", name: "a-lobby", type: "presence" });
    expect(await store.channels.countByType()).toEqual({ ...before, presence: before.presence + 1 });
  });

  test("a table is subscribed, listed and unsubscribed", async () => {
    const made = await store.subscriptions.subscribe("users", { events: ["insert", " UPDATE"] });
    expect(made).toMatchObject({ table_name: "public.users", events: ["INSERT", "UPDATE"], filter: null });
    expect((await store.subscriptions.subscribe("public.users"))?.id).toBe(made?.id);
    expect((await store.subscriptions.list()).map(({ events }) => events)).toEqual([["INSERT", "UPDATE", "DELETE"]]);
    expect((await store.subscriptions.unsubscribe(made?.id ?? ""))?.table_name).toBe("public.users");
    expect(await store.subscriptions.list()).toEqual([]);
  });

  test("AC-047: a mixed-case table keeps its name", async () => {
    expect((await store.subscriptions.subscribe('public."Order"'))?.table_name).toBe("public.Order");
    await store.subscriptions.unsubscribe("public.Order");
  });

  test("what the schema refuses comes as its own words", async () => {
    await expect(store.subscriptions.subscribe("public.nosuch")).rejects.toThrow(StatementRefused);
    await expect(store.subscriptions.subscribe("public.nosuch")).rejects.toThrow('there is no table "public.nosuch"');
    await expect(store.subscriptions.subscribe("public.users", { events: ["UPSERT"] })).rejects.toThrow(
      '"UPSERT" is not an event',
    );
    await expect(store.subscriptions.unsubscribe("public.never")).rejects.toThrow(
      'there is no subscription "public.never"',
    );
    expect(await store.subscriptions.list()).toEqual([]);
  });

  test("AC-010: what looks like SQL is only a name", async () => {
    const name = "x'); DROP TABLE realtime.channels; --";
    expect(await store.channels.find(name)).toBeUndefined();
    await store.channels.create({ slug: "odd", name, type: "public" });
    expect((await store.channels.find(name))?.slug).toBe("odd");
    await expect(store.subscriptions.subscribe(name)).rejects.toThrow(StatementRefused);
  });

  test("what a join asks for is ended before whoever asks gives up", async () => {
    await sql.query("begin; lock table realtime.cdc_tables in access exclusive mode");
    try {
      const before = performance.now();
      await expect(store.tables.describe("public", "users")).rejects.toThrow(StatementTooSlow);
      expect(performance.now() - before).toBeLessThan(5_000);
    } finally {
      await sql.query("rollback");
    }
    // PostgreSQL needs a minute and more for it.
    const pattern = "((((((a{1,9}){1,9}){1,9}){1,9}){1,9}){1,9})";
    const fault = await store.tables.patternFault(pattern);
    expect(fault).toMatch(/takes too long to compile it|too complex/);
  });

  test("a wrong secret and a dead endpoint are an unavailable store, with nothing of the URL in the message", async () => {
    await expect(open("not-the-secret-at-all").channels.list(undefined, 10)).rejects.toThrow(
      expect.objectContaining({
        name: "StoreUnavailable",
        message: expect.stringContaining("PostgreSQL does not answer"),
      }),
    );
    const living = endpoint;
    endpoint = `http://127.0.0.1:${await freePort()}/sql`;
    try {
      const error = await open()
        .channels.list(undefined, 10)
        .catch((error: unknown) => error);
      expect(error).toBeInstanceOf(StoreUnavailable);
      expect(String(error)).toContain("the listener, by which the server reaches PostgreSQL, does not answer");
      expect(String(error)).not.toContain("postgres:postgres");
    } finally {
      endpoint = living;
      store = open();
    }
  });
});
