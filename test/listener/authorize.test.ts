// What realtime.authorize answers: members, policies, and the ways in which a policy or a token can be wrong.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";

const ANN = "6f1c3a9e-0000-4000-8000-00000000000a";

let postgres: TestPostgres;
let db: pg.Client;

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  db = new pg.Client({ connectionString: postgres.url });
  await db.connect();
}, 60_000);

afterAll(async () => {
  await db?.end();
  await postgres?.stop();
});

interface Asker {
  role?: string;
  user?: string;
  claims?: object;
  headers?: object;
}

async function authorize(topic: string, { role = "authenticated", user = ANN, claims, headers = {} }: Asker = {}) {
  const { rows } = await db.query("select realtime.authorize($1, $2, $3, $4, $5) as answer", [
    topic,
    role,
    user,
    JSON.stringify(claims ?? { sub: user, role }),
    JSON.stringify(headers),
  ]);
  return rows[0].answer;
}

/** Runs a test with policies on realtime.messages that are gone after it. */
async function withPolicies(policies: string, run: () => Promise<void>) {
  await db.query(policies);
  try {
    await run();
  } finally {
    const { rows } = await db.query("select polname from pg_policy where polrelid = 'realtime.messages'::regclass");
    for (const { polname } of rows) await db.query(`drop policy ${polname} on realtime.messages`);
  }
}

const none = {
  read: { broadcast: "denied", presence: "denied" },
  write: { broadcast: "denied", presence: "denied", persistence: "denied" },
};
const all = {
  read: { broadcast: "granted", presence: "granted" },
  write: { broadcast: "granted", presence: "granted", persistence: "granted" },
};

describe("without a policy", () => {
  test("nobody may do anything but who passes row-level security by", async () => {
    expect(await authorize("room")).toMatchObject({ channel: null, ...none });
    expect(await authorize("room", { role: "anon" })).toMatchObject({ channel: null, ...none });
    expect(await authorize("room", { role: "service_role" })).toMatchObject({ channel: null, ...all });
  });

  test("a member of a registered channel may do everything, and nobody else", async () => {
    const { rows } = await db.query(
      "insert into realtime.channels (slug, name, type, metadata) values ('team', 'Team', 'private', '{\"a\":1}') returning id",
    );
    await db.query("insert into realtime.channel_members (channel_id, user_id) values ($1, $2)", [rows[0].id, ANN]);
    const channel = { id: rows[0].id, type: "private", metadata: { a: 1 } };
    expect(await authorize("team")).toMatchObject({ channel, ...all });
    expect(await authorize("team", { user: "somebody-else" })).toMatchObject({ channel, ...none });
  });
});

describe("policies", () => {
  test("are asked for each extension, for reading and for writing apart", async () => {
    await withPolicies(
      `create policy r on realtime.messages for select to authenticated using (extension = 'presence');
       create policy w on realtime.messages for insert to authenticated with check (extension = 'broadcast')`,
      async () => {
        expect(await authorize("room")).toMatchObject({
          read: { broadcast: "denied", presence: "granted" },
          write: { broadcast: "granted", presence: "denied", persistence: "denied" },
        });
        expect(await authorize("room", { role: "anon" })).toMatchObject(none);
      },
    );
  });

  test("see the topic, the claims and the headers", async () => {
    await withPolicies(
      `create policy t on realtime.messages for select to authenticated
         using (realtime.topic() = 'room:' || (auth.jwt() ->> 'team') and topic = realtime.topic());
       create policy u on realtime.messages for insert to authenticated
         with check (auth.uid() = '${ANN}' and auth.role() = 'authenticated'
           and current_setting('request.headers')::json ->> 'x-tenant' = 'acme')`,
      async () => {
        const claims = { sub: ANN, role: "authenticated", team: "red" };
        const headers = { "x-tenant": "acme" };
        expect(await authorize("room:red", { claims, headers })).toMatchObject(all);
        expect((await authorize("room:blue", { claims, headers })).read).toEqual(none.read);
        expect((await authorize("room:red", { claims })).write).not.toEqual(all.write);
      },
    );
  });

  test("may read other tables as the role that asks, through functions found where the database says", async () => {
    await db.query(`
      create table public.rooms (name text, owner uuid);
      insert into public.rooms values ('mine', '${ANN}');
      grant select on public.rooms to authenticated;
      create function public.owns(room text) returns boolean language sql stable as
        'select exists (select from rooms where name = room and owner = auth.uid())'`);
    await withPolicies(
      "create policy o on realtime.messages for select to authenticated using (public.owns(realtime.topic()))",
      async () => {
        expect((await authorize("mine")).read).toEqual(all.read);
        expect((await authorize("theirs")).read).toEqual(none.read);
      },
    );
  });

  test("that raise an error fail, and only what they guard", async () => {
    await withPolicies(
      `create policy r on realtime.messages for select to authenticated using (1 / 0 = 1);
       create policy w on realtime.messages for insert to authenticated
         with check (extension = 'broadcast' or 1 / (length(extension) - length(extension)) = 1)`,
      async () => {
        expect(await authorize("room")).toMatchObject({
          read: { broadcast: "failed", presence: "failed" },
          write: { broadcast: "granted", presence: "failed", persistence: "failed" },
          fault: "division by zero",
        });
      },
    );
  });
});

describe("a token's role", () => {
  test("that is none of the database's may do nothing", async () => {
    for (const role of ["nobody", "none", "", "postgres'--"]) {
      expect(await authorize("room", { role })).toMatchObject(none);
    }
  });
});

test("nothing stays behind: no row, no role, no setting", async () => {
  await db.query("begin");
  await authorize("room", { role: "anon" });
  const { rows } = await db.query(
    `select current_user::text as role, coalesce(current_setting('realtime.topic', true), '') as topic,
            current_setting('request.jwt.claims', true) is distinct from '' as claimed,
            (select count(*)::int from realtime.messages) as messages`,
  );
  await db.query("rollback");
  expect(rows[0]).toEqual({ role: "postgres", topic: "", claimed: false, messages: 0 });
});

describe("a row of realtime.messages", () => {
  test("takes either spelling of its event, and its topic from its channel or the other way round", async () => {
    const { rows: channels } = await db.query(
      "insert into realtime.channels (slug, name, type) values ('den', 'Den', 'direct') returning id",
    );
    const { id } = channels[0];
    const { rows } = await db.query(
      `insert into realtime.messages (channel_id, topic, event_type, event, payload)
       values ($1, null, 'a', null, '{}'), (null, 'den', null, 'b', '{}'), (null, 'open', null, 'c', '{}')
       returning channel_id, topic, event_type, event, private, created_at = sent_at as same`,
      [id],
    );
    expect(rows).toEqual([
      { channel_id: id, topic: "den", event_type: "a", event: "a", private: true, same: true },
      { channel_id: id, topic: "den", event_type: "b", event: "b", private: true, same: true },
      { channel_id: null, topic: "open", event_type: "c", event: "c", private: false, same: true },
    ]);
  });
});
