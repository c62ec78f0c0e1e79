// SQL over HTTP with the real driver, and the listener's doors: secret, limits, health, settings.
import { neon, neonConfig } from "@neondatabase/serverless";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sqlSecret } from "../../src/listener/config.ts";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, runListener, secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;
let edge: RecordingEdge;
let listener: ListenerProcess;
let base: string;

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  edge = await RecordingEdge.start(secret);
  listener = await startListener(postgres.url, edge.url);
  base = `http://127.0.0.1:${listener.port}`;
  neonConfig.fetchEndpoint = `${base}/sql`;
}, 60_000);

afterAll(async () => {
  await listener?.end("SIGTERM");
  await edge?.stop();
  await postgres?.stop();
});

const key = sqlSecret(secret);
const connect = (token = key) => neon("postgres://user:password@edge.local/db", { authToken: token });

describe("the driver", () => {
  test("reads values of every common type", async () => {
    const [row] = await connect()`select ${1}::int as n, ${"ä"} as t, ${{ a: [1] }}::jsonb as j, ${[1, 2]}::int[] as l,
      ${true}::bool as b, ${null}::text as nothing, 9007199254740993 as big, '2026-01-01T00:00:00Z'::timestamptz as at`;
    expect(row).toEqual({
      n: 1,
      t: "ä",
      j: { a: [1] },
      l: [1, 2],
      b: true,
      nothing: null,
      big: "9007199254740993",
      at: new Date("2026-01-01T00:00:00Z"),
    });
  });

  test("works when headers are given by fetchOptions, which drops the driver's own", async () => {
    const sql = neon("postgres://user:password@edge.local/db", {
      fetchOptions: { headers: { authorization: `Bearer ${key}` } },
    });
    expect(await sql`select 1 as one`).toEqual([{ one: 1 }]);
    expect(await sql.transaction([sql`select 2 as two`])).toEqual([[{ two: 2 }]]);
  });

  test("gives full results with fields and counts", async () => {
    const result = await connect().query("select 1 as one, 'x'::text as word", [], {
      fullResults: true,
      arrayMode: true,
    });
    expect(result).toMatchObject({ command: "SELECT", rowCount: 1, rows: [[1, "x"]] });
    expect(result.fields.map(({ name, dataTypeID }) => [name, dataTypeID])).toEqual([
      ["one", 23],
      ["word", 25],
    ]);
  });

  test("runs a transaction as one: claims and role reach the query, an error undoes all of it", async () => {
    const sql = connect();
    const results = await sql.transaction(
      [
        sql`select set_config('request.jwt.claims', ${'{"sub":"u1"}'}, true)`,
        sql`set local role authenticated`,
        sql`select current_user::text as who, current_setting('request.jwt.claims')::json ->> 'sub' as sub,
          current_setting('transaction_isolation') as isolation, current_setting('transaction_read_only') as read_only`,
      ],
      { isolationLevel: "RepeatableRead", readOnly: true },
    );
    expect(results[2]).toEqual([{ who: "authenticated", sub: "u1", isolation: "repeatable read", read_only: "on" }]);
    const register = sql`insert into realtime.channels (slug, name) values ('undone', 'x')`;
    await expect(sql.transaction([register, register])).rejects.toMatchObject({
      code: "23505",
      constraint: "channels_slug_key",
      severity: "ERROR",
    });
    expect(await sql`select id from realtime.channels where slug = 'undone'`).toEqual([]);
  });

  test("an error carries PostgreSQL's code, message and hint", async () => {
    await expect(connect()`select realtime.subscribe('nothing')`).rejects.toMatchObject({
      code: "NS002",
      message: 'there is no table "public.nothing"',
      hint: expect.stringContaining("schema.table"),
    });
  });

  test("what one request leaves in its session does not reach the next", async () => {
    const sql = connect();
    for (let turn = 0; turn < 10; turn += 1) {
      expect((await sql`select current_user::text as who`)[0]?.who).toBe("nself_realtime_edge");
      await sql`set role anon`;
    }
  });

  test("fifty requests at once share five sessions", async () => {
    const sql = connect();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => sql`select ${n}::int as n, pg_backend_pid() as pid`),
    );
    expect(answers.map(([row]) => row?.n)).toEqual(Array.from({ length: 50 }, (_, n) => n));
    expect(new Set(answers.map(([row]) => row?.pid)).size).toBeLessThanOrEqual(5);
  });
});

describe("the edge's role", () => {
  test.each([
    ["select * from realtime.changes_a", "42501"],
    ["create table public.mine (id int)", "42501"],
    ["create role mine", "42501"],
    ["alter role nself_realtime_edge superuser", "42501"],
    ["copy (select 1) to program 'true'", "42501"],
    ["select realtime.cdc_tell_gap()", "42501"],
  ])("may not: %s", async (statement, code) => {
    await expect(connect().query(statement, [])).rejects.toMatchObject({ code });
  });

  test("may what the edge asks for: follow a table, register a channel, ask for rights, tell how it is", async () => {
    const admin = new pg.Client({ connectionString: postgres.url });
    await admin.connect();
    await admin.query("create table public.followed (id int)");
    const sql = connect();
    expect(await sql`select table_name from realtime.subscribe('followed')`).toEqual([
      { table_name: "public.followed" },
    ]);
    await sql`insert into realtime.channels (slug, name, type) values ('den', 'den', 'private')`;
    const [row] = await sql`select realtime.authorize('den', 'anon', null, '{}', '{}') as answer`;
    expect(row?.answer).toMatchObject({ channel: { type: "private" }, read: { broadcast: "denied" } });
    expect((await sql`select realtime.cdc_status() as state`)[0]?.state).toMatchObject({ capturing: true });
    expect(await sql`select table_name from realtime.unsubscribe('followed')`).toHaveLength(1);
    await admin.end();
  });

  test("is no way up for a login of its own: it may not become who owns the database", async () => {
    const admin = new pg.Client({ connectionString: postgres.url });
    await admin.connect();
    await admin.query("alter role nself_realtime_edge login password 'edge'");
    const url = new URL(postgres.url);
    url.username = "nself_realtime_edge";
    url.password = "edge";
    const own = await startListener(postgres.url, edge.url, {
      REALTIME_SQL_DATABASE_URL: url.href,
      REALTIME_SQL_SECRET: "a-key-of-the-edge-alone-and-long-enough",
      REALTIME_SQL_SESSIONS: "2",
      REALTIME_SQL_TIMEOUT: "1",
    });
    const post = async (query: string) => {
      const response = await fetch(`http://127.0.0.1:${own.port}/sql`, {
        method: "POST",
        body: JSON.stringify({ query }),
        headers: { authorization: "Bearer a-key-of-the-edge-alone-and-long-enough", "neon-array-mode": "false" },
      });
      return (await response.json()) as { rows?: unknown[]; code?: string };
    };
    try {
      expect(await post("set role postgres")).toMatchObject({ code: "42501" });
      expect(await post("reset role")).not.toHaveProperty("code");
      expect((await post("select session_user, current_user")).rows).toEqual([
        { session_user: "nself_realtime_edge", current_user: "nself_realtime_edge" },
      ]);
      expect(await post("select * from realtime.changes_a")).toMatchObject({ code: "42501" });
      expect(await post("select realtime.authorize('den', 'service_role', null, '{}', '{}')")).toHaveProperty("rows");
      expect(await post("select pg_sleep(3)")).toMatchObject({ code: "57014" });
      const pids = await Promise.all(Array.from({ length: 20 }, () => post("select pg_backend_pid() as pid")));
      expect(new Set(pids.map(({ rows }) => JSON.stringify(rows))).size).toBeLessThanOrEqual(2);
    } finally {
      await own.end("SIGTERM");
      await admin.query("alter role nself_realtime_edge nologin");
      await admin.end();
    }
  });
});

describe("POST /sql", () => {
  const post = (body: string, authorization?: string) =>
    fetch(`${base}/sql`, { method: "POST", body, headers: authorization ? { authorization } : {} });
  const bearer = `Bearer ${key}`;

  test.each([[undefined], ["Bearer wrong"], [key], ["Bearer "], [`Bearer ${secret}`]])(
    "refuses authorization %j",
    async (authorization) => {
      const response = await post('{"query":"select 1"}', authorization);
      expect(response.status).toBe(401);
      expect(await response.text()).not.toContain(secret);
    },
  );

  test.each([["{"], ["{}"], ['{"queries":[]}'], ['{"query":1}'], ['{"query":"select 1","params":[{}]}']])(
    "names what is wrong with the body %s",
    async (body) => {
      const response = await post(body, bearer);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ message: expect.stringContaining("queries"), code: "08P01" });
    },
  );

  test("takes one statement a query, not several", async () => {
    const response = await post('{"query":"select 1; select 2"}', bearer);
    expect(await response.json()).toMatchObject({ code: "42601" });
  });

  test("refuses a body over 10 MB and an isolation level that is none", async () => {
    expect((await post(JSON.stringify({ query: "x".repeat(10_000_001) }), bearer)).status).toBe(413);
    const response = await fetch(`${base}/sql`, {
      method: "POST",
      body: '{"queries":[{"query":"select 1"}]}',
      headers: { authorization: bearer, "neon-batch-isolation-level": "Sloppy" },
    });
    expect(await response.json()).toMatchObject({ message: expect.stringContaining("Sloppy") });
  });
});

describe("the process", () => {
  test("is healthy when it leads and the edge takes what it sends", async () => {
    const { body, status } = await until("the lease", async () => {
      const health = await listener.health();
      return health.body.leaseHolder === true && health;
    });
    expect(status).toBe(200);
    expect(body).toMatchObject({ ok: true, backlog: 0, error: null, epoch: 1 });
  });

  test("shows its figures in Prometheus' text format", async () => {
    const response = await fetch(`${base}/metrics`);
    expect(response.headers.get("content-type")).toContain("version=0.0.4");
    const text = await response.text();
    const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    for (const line of samples) {
      expect(line).toMatch(/^nself_realtime_listener_[a-z_]+(\{[a-z]+="[a-z]+"\})? -?\d+(\.\d+)?(e-?\d+)?$/);
    }
    expect(text).toContain("nself_realtime_listener_leader 1\n");
    for (const line of samples.filter((line) => line.includes("_total "))) {
      expect(text).toContain(`# TYPE ${line.split(" ")[0]} counter`);
    }
  });

  test("names every setting that is missing or wrong, and shows no value", async () => {
    const { code, stderr } = await runListener({
      DATABASE_URL: "mysql://user:hush@host/db",
      REALTIME_LISTENER_SECRET: "hush",
      REALTIME_LISTENER_PORT: "many",
    });
    expect(code).toBe(2);
    for (const name of ["DATABASE_URL", "REALTIME_EDGE_URL", "REALTIME_LISTENER_SECRET", "REALTIME_LISTENER_PORT"]) {
      expect(stderr).toContain(name);
    }
    expect(stderr).not.toContain("hush");
  });

  test("names the port and the setting when the port is taken", async () => {
    const { code, stderr } = await runListener({
      DATABASE_URL: postgres.url,
      REALTIME_EDGE_URL: edge.url,
      REALTIME_LISTENER_SECRET: secret,
      REALTIME_LISTENER_PORT: String(listener.port),
    });
    expect(code).toBe(1);
    expect(stderr).toContain(`port ${listener.port} is taken: set REALTIME_LISTENER_PORT`);
  });
});
