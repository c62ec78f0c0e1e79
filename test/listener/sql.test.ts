// SQL over HTTP with the real driver, and the listener's doors: secret, limits, health, settings.
import { neon, neonConfig } from "@neondatabase/serverless";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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

const connect = (token = secret) => neon("postgres://user:password@edge.local/db", { authToken: token });

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
      fetchOptions: { headers: { authorization: `Bearer ${secret}` } },
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
    await sql`create table public.undone (id int primary key)`;
    await expect(
      sql.transaction([sql`insert into public.undone values (1)`, sql`insert into public.undone values (1)`]),
    ).rejects.toMatchObject({ code: "23505", constraint: "undone_pkey", detail: expect.stringContaining("(id)=(1)") });
    expect(await sql`select * from public.undone`).toEqual([]);
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
      expect((await sql`select current_user::text as who`)[0]?.who).toBe("postgres");
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

describe("POST /sql", () => {
  const post = (body: string, authorization?: string) =>
    fetch(`${base}/sql`, { method: "POST", body, headers: authorization ? { authorization } : {} });
  const bearer = `Bearer ${secret}`;

  test.each([[undefined], ["Bearer wrong"], [secret], ["Bearer "]])(
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
