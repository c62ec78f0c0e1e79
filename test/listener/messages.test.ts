// Messages sent from SQL, and what the edge hears of our own tables: to the letter, in order, at least once.
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { tellPolicies } from "../../src/listener/policies.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, secret, startListener, until } from "./process.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let postgres: TestPostgres;
let edge: RecordingEdge;
let listener: ListenerProcess;
let db: pg.Client;
let warnings: string[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  db = new pg.Client({ connectionString: postgres.url });
  db.on("notice", ({ severity, message }) => void warnings.push(`${severity}: ${message}`));
  await db.connect();
  edge = await RecordingEdge.start(secret);
  listener = await startListener(postgres.url, edge.url);
}, 60_000);

afterAll(async () => {
  await listener?.end("SIGTERM");
  await edge?.stop();
  await db?.end();
  await postgres?.stop();
});

beforeEach(() => {
  edge.batches.length = 0;
  warnings = [];
});

afterEach(async () => {
  edge.answer = () => 200;
  edge.answerPolicies = () => 200;
  edge.unsent = [];
  await db.query("rollback");
});

/** What the edge was posted of one of our tables, once there are as many; a moment later there must not be more. */
async function posted(table: "messages" | "channels" | "channel_members", count: number) {
  const feed = `realtime.${table}`;
  await until(`${count} of ${feed}`, () => edge.changes(feed).length >= count);
  await new Promise((resolve) => setTimeout(resolve, 60));
  const seen = edge.changes(feed);
  expect(seen).toHaveLength(count);
  return seen.map((change) => change.new ?? {});
}

function numberOf(payload: unknown): unknown {
  return typeof payload === "object" && payload !== null && "n" in payload ? payload.n : undefined;
}

describe("realtime.send", () => {
  test("inserts a message, whose id it adds to the payload, and posts it", async () => {
    await db.query(`select realtime.send('{"text": "hi"}', 'greeting', 'room')`);
    const [message] = await posted("messages", 1);
    expect(message).toEqual({
      id: expect.stringMatching(UUID),
      topic: "room",
      event: "greeting",
      private: true,
      payload: { text: "hi", id: message?.id },
      bytes: null,
    });
    const { rows } = await db.query("select * from realtime.messages where id = $1", [message?.id]);
    expect(rows).toMatchObject([{ topic: "room", extension: "broadcast", event: "greeting", private: true }]);
  });

  test("takes its arguments by name, and leaves an id of the payload alone", async () => {
    await db.query(`select realtime.send(payload => '{"id": 7}', event => 'e', topic => 't', private => false)`);
    expect(await posted("messages", 1)).toMatchObject([{ topic: "t", private: false, payload: { id: 7 } }]);
  });

  test("loses no digit of a number", async () => {
    await db.query(`select realtime.send('{"id": 1, "n": 12345678901234567890.1230}', 'e', 't')`);
    await posted("messages", 1);
    expect(edge.batches[0]?.body).toContain('"n": 12345678901234567890.1230');
  });

  test("sets the topic that policies read, for the transaction", async () => {
    await db.query("begin");
    await db.query("select realtime.send('{}', 'e', 'of-this-transaction')");
    const { rows } = await db.query("select realtime.topic() as topic");
    expect(rows).toEqual([{ topic: "of-this-transaction" }]);
  });

  test.each([
    ["a topic that is null", "realtime.send('{}', 'e', null)", /null value in column "topic"/],
    ["a payload that is no object", "realtime.send('[1]', 'e', 't')", /not an integer/],
    [
      "a payload over the limit",
      "realtime.send(jsonb_build_object('t', repeat('é', 5000000)), 'e', 't')",
      /larger than 10000000 bytes/,
    ],
    [
      "bytes over the limit",
      "realtime.send_binary(decode(repeat('00', 10000001), 'hex'), 'e', 't')",
      /larger than 10000000 bytes/,
    ],
  ])("warns of %s, and the transaction goes on", async (_, call, reason) => {
    await db.query(`begin; create table kept_${Math.floor(Math.random() * 1e9)} (); select ${call}; commit`);
    expect(warnings).toEqual([expect.stringMatching(/^WARNING: WarnSendingBroadcastMessage: /)]);
    expect(warnings[0]).toMatch(reason);
    await posted("messages", 0);
  });

  test("warns of a payload that not every channel takes, and posts it", async () => {
    await db.query("select realtime.send(jsonb_build_object('t', repeat('x', 1000000)), 'e', 't')");
    expect(warnings).toEqual([expect.stringContaining("sent only where a channel allows that")]);
    await posted("messages", 1);
  });

  test("acts as its caller: without a policy it sends nothing, with one it does", async () => {
    const send = "begin; set local role authenticated; select realtime.send('{}', 'e', 'mine'); commit";
    await db.query(send);
    expect(warnings).toEqual([
      expect.stringMatching(/WarnSendingBroadcastMessage: new row violates row-level security/),
    ]);
    await db.query(
      "create policy mine on realtime.messages for insert to authenticated with check (realtime.topic() = 'mine')",
    );
    await db.query(send);
    await db.query("drop policy mine on realtime.messages");
    expect(await posted("messages", 1)).toMatchObject([{ topic: "mine" }]);
  });

  test("nobody poses as what it calls", async () => {
    await db.query(`begin;
      create schema evil;
      create function evil.gen_random_uuid() returns uuid language plpgsql as $$ begin raise 'posed'; end $$;
      set local search_path = evil, pg_catalog;
      select realtime.send('{}', 'e', 't');
      drop schema evil cascade; commit`);
    expect(warnings.filter((warning) => warning.startsWith("WARNING"))).toEqual([]);
    await posted("messages", 1);
  });
});

describe("realtime.send_binary", () => {
  test("posts bytes, whatever the session makes of bytea", async () => {
    await db.query(`begin; set local bytea_output = 'escape';
      select realtime.send_binary('\\x00ff10', 'blob', 'room', false); commit`);
    expect(await posted("messages", 1)).toEqual([
      { id: expect.stringMatching(UUID), topic: "room", event: "blob", private: false, payload: null, bytes: "AP8Q" },
    ]);
  });

  test("bytes of any length are one line of a batch", async () => {
    await db.query("select realtime.send_binary(decode(repeat('41', 1000), 'hex'), 'blob', 'room')");
    const [message] = await posted("messages", 1);
    expect(message?.bytes).toBe(Buffer.alloc(1000, "A").toString("base64"));
  });
});

describe("realtime.broadcast_changes", () => {
  beforeAll(async () => {
    await db.query(`
      create table scores (id int primary key, gone text, value numeric);
      alter table scores drop column gone;
      create function tell_scores() returns trigger language plpgsql security definer as $$
      begin
        perform realtime.broadcast_changes('score:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null;
      end $$;
      create trigger tell after insert or update or delete on scores for each row execute function tell_scores();
      grant insert, select on scores to authenticated`);
  });

  test("tells of insert, update and delete, privately, with the rows as they were and are", async () => {
    await db.query("insert into scores values (1, 0.10)");
    await db.query("update scores set value = 12345678901234567890.50");
    await db.query("delete from scores");
    const seen = await posted("messages", 3);
    const common = { id: expect.stringMatching(UUID), schema: "public", table: "scores" };
    expect(seen.map(({ topic, event, private: isPrivate }) => [topic, event, isPrivate])).toEqual(
      ["INSERT", "UPDATE", "DELETE"].map((event) => ["score:1", event, true]),
    );
    expect(seen.map(({ payload }) => payload)).toEqual([
      { ...common, operation: "INSERT", record: { id: 1, value: 0.1 }, old_record: null },
      { ...common, operation: "UPDATE", record: expect.anything(), old_record: { id: 1, value: 0.1 } },
      { ...common, operation: "DELETE", record: null, old_record: expect.anything() },
    ]);
    const text = edge.batches.map(({ body }) => body).join("");
    expect(text).toContain('"value": 12345678901234567890.50');
    expect(text).toContain('"value": 0.10');
  });

  test("a table that `authenticated` writes tells all the same", async () => {
    await db.query("begin; set local role authenticated; insert into scores values (2, 2); commit");
    expect(warnings).toEqual([]);
    expect(await posted("messages", 1)).toMatchObject([{ topic: "score:2" }]);
  });

  test.each([
    ["'INSERT'", "'STATEMENT'", "function can only be triggered for each row, not for each statement"],
    ["'TRUNCATE'", "'ROW'", "Unexpected operation type: TRUNCATE"],
  ])("operation %s at level %s ends the caller's statement", async (operation, level, reason) => {
    const call = `select realtime.broadcast_changes('t', 'e', ${operation}, 'scores', 'public', null::record, null::record, ${level})`;
    await expect(db.query(call)).rejects.toThrow(`Failed to process the row: ${reason}`);
  });
});

describe("realtime.messages", () => {
  test("what is inserted directly is posted, with what it lacks", async () => {
    await db.query(
      `insert into realtime.messages (topic, event, payload, private) values ('a', 'e', '{}', true), ('b', null, null, false)`,
    );
    expect(await posted("messages", 2)).toMatchObject([
      { topic: "a", event: "e", payload: {}, private: true },
      { topic: "b", event: null, payload: null, private: false },
    ]);
  });

  test("what is only kept, of another extension, a probe, or rolled back is not", async () => {
    await db.query(
      `insert into realtime.messages (topic, event, payload, skip_broadcast) values ('a', 'e', '{}', true)`,
    );
    await db.query(
      `insert into realtime.messages (topic, event, payload, extension) values ('a', 'e', '{}', 'presence')`,
    );
    await db.query(
      `begin; set local realtime.probing = on; insert into realtime.messages (topic, event, payload) values ('a', 'e', '{}'); commit`,
    );
    await db.query(`begin; insert into realtime.messages (topic, event, payload) values ('a', 'e', '{}'); rollback`);
    await db.query("select realtime.authorize('a', 'authenticated', 'ann', '{}', '{}')");
    await posted("messages", 0);
    const { rows } = await db.query(
      "select from realtime.changes_a where new ->> 'topic' = 'a' and new ->> 'event' is null",
    );
    expect(rows).toHaveLength(0);
  });

  test("a payload of huge numbers, whose text would fill the memory, fails no insert", async () => {
    await db.query(`insert into realtime.messages (topic, event, payload)
      select 'huge', 'e', jsonb_agg(1e131071) from generate_series(1, 8300)`);
    const seen = await posted("messages", 1);
    expect(seen).toEqual([{}]);
    await db.query("delete from realtime.messages where topic = 'huge'");
  });

  test("a thousand messages of one transaction to ten topics come in their order", async () => {
    await db.query(`do $$ begin for n in 0..999 loop
      perform realtime.send(jsonb_build_object('n', n), 'e', 'topic-' || n % 10); end loop; end $$`);
    const seen = await posted("messages", 1000);
    expect(seen.map(({ payload }) => numberOf(payload))).toEqual([...Array(1000).keys()]);
  });

  test("messages that the edge cannot send are named in the log", async () => {
    edge.unsent = [{ id: "4711", reason: "it has no event" }];
    await db.query("insert into realtime.messages (topic) values ('a')");
    const line = await until("the log", () => listener.log.find((text) => text.includes("4711")));
    expect(JSON.parse(line)).toMatchObject({ level: "warn", messages: 1, first: edge.unsent });
  });

  test("nobody can follow it, and no session that listens hears of it", async () => {
    const ears = new pg.Client({ connectionString: postgres.url });
    await ears.connect();
    const heard: string[] = [];
    ears.on("notification", ({ channel }) => void heard.push(channel));
    await ears.query('listen "realtime:table:realtime.messages"');
    for (const target of ["realtime.messages", "realtime.*", "realtime.channels"]) {
      await expect(db.query("select realtime.subscribe($1)", [target])).rejects.toMatchObject({ code: "NS007" });
    }
    await db.query("select realtime.subscribe('public.*')");
    await db.query("select realtime.send('{}', 'e', 't')");
    await posted("messages", 1);
    await db.query("select realtime.unsubscribe('public.*')");
    await db.query("select realtime.send('{}', 'e', 't')");
    await posted("messages", 2);
    expect(heard).toEqual([]);
    await ears.end();
  });
});

describe("channels and members", () => {
  test("every change of a channel names it, by its old and its new slug", async () => {
    await db.query("insert into realtime.channels (slug, name) values ('one', 'One'), ('two', 'Two')");
    await db.query("update realtime.channels set slug = 'uno' where slug = 'one'");
    await db.query("update realtime.channels set type = 'private' where slug = 'two'");
    await db.query("delete from realtime.channels where slug = 'two'");
    const slugs = (await posted("channels", 6)).map(({ slug }) => slug);
    expect(slugs.slice(0, 2)).toEqual(["one", "two"]);
    expect(new Set(slugs.slice(2, 4))).toEqual(new Set(["one", "uno"]));
    expect(slugs.slice(4)).toEqual(["two", "two"]);
  });

  test("every change of members names their channels; a channel that goes takes them along unnamed", async () => {
    await db.query("insert into realtime.channels (slug, name) values ('club', 'Club'), ('pub', 'Pub')");
    await db.query(
      "insert into realtime.channel_members (channel_id, user_id) select id, u from realtime.channels, (values ('ann'), ('bob')) u (u) where slug = 'club'",
    );
    await db.query(
      "update realtime.channel_members set channel_id = (select id from realtime.channels where slug = 'pub') where user_id = 'bob'",
    );
    await db.query("delete from realtime.channel_members where user_id = 'ann'");
    await db.query("delete from realtime.channels where slug = 'pub'");
    const slugs = (await posted("channel_members", 4)).map(({ slug }) => slug);
    expect([slugs[0], new Set(slugs.slice(1, 3)), slugs[3]]).toEqual(["club", new Set(["club", "pub"]), "club"]);
  });

  test("truncation names everything that was there", async () => {
    const { rows } = await db.query("select slug from realtime.channels order by slug");
    await db.query("truncate realtime.channels cascade");
    const slugs = (await posted("channels", rows.length)).map(({ slug }) => slug);
    expect(slugs.sort()).toEqual(rows.map(({ slug }) => slug));
  });
});

describe("policies", () => {
  test.each([
    "create policy p on realtime.messages for select to authenticated using (true)",
    "alter policy p on realtime.messages using (false)",
    "drop policy p on realtime.messages",
    "grant update on realtime.messages to authenticated",
    "revoke update on realtime.messages from authenticated",
    "grant update (payload) on realtime.messages to authenticated",
    "alter table realtime.messages disable row level security",
    "alter table realtime.messages enable row level security",
  ])("of `%s` is told, once", async (change) => {
    // Nobody else tells while this transaction is open.
    await db.query("begin; select from realtime.cdc_consumers for update");
    const { rows } = await db.query("select owner, epoch, policies_told from realtime.cdc_consumers");
    const lease = {
      ...rows[0],
      epoch: Number(rows[0].epoch),
      source: "",
      gap: false,
      place: { seen: "", target: null, page: "0" },
    };
    const told: string[] = [];
    const post = async (digest: string) => {
      told.push(digest);
      return null;
    };
    await tellPolicies(db, lease, post);
    const before = told.length;
    await db.query(change);
    await tellPolicies(db, lease, post);
    await tellPolicies(db, lease, post);
    await db.query("commit");
    expect(told).toHaveLength(before + 1);
  });

  test("the edge is told within three seconds; what it did not take is told again after a restart, and then no more", async () => {
    const told = edge.policies.length;
    edge.answerPolicies = () => 500;
    await db.query("create policy p on realtime.messages for select to authenticated using (true)");
    await until("a warning", () => listener.log.some((line) => line.includes("was not told that policies")), 3_000);
    await listener.end("SIGKILL");
    edge.answerPolicies = () => 200;
    listener = await startListener(postgres.url, edge.url);
    await until("the change", () => edge.policies.length > told, 3_000);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(edge.policies).toHaveLength(told + 1);
  });
});

test("with prepared transactions allowed a message may be prepared, and comes when it is committed", async () => {
  const prepared = await startPostgres({ max_prepared_transactions: "5" });
  const client = new pg.Client({ connectionString: prepared.url });
  let ears: ListenerProcess | undefined;
  try {
    await migrate(prepared.url);
    await client.connect();
    ears = await startListener(prepared.url, edge.url);
    await client.query("begin; select realtime.send('{}', 'e', 'prepared'); prepare transaction 'p'");
    await posted("messages", 0);
    await client.query("commit prepared 'p'");
    expect(await posted("messages", 1)).toMatchObject([{ topic: "prepared" }]);
  } finally {
    await ears?.end("SIGTERM");
    await client.end();
    await prepared.stop();
  }
});

test("what is sent while no listener runs, before PostgreSQL restarts and after, is posted once one does, in order", async () => {
  const restarted = await startPostgres();
  const pool = new pg.Pool({ connectionString: restarted.url, max: 1 });
  pool.on("error", () => {});
  const sendFrom = async (first: number) => {
    for (let n = first; n < first + 50; n++) {
      await pool.query("select realtime.send(jsonb_build_object('n', $1::int), 'e', 'restart')", [n]);
    }
  };
  let ears: ListenerProcess | undefined;
  try {
    await migrate(restarted.url);
    ears = await startListener(restarted.url, edge.url);
    await sendFrom(0);
    await ears.end("SIGKILL");
    await sendFrom(50);
    await restarted.restart();
    ears = await startListener(restarted.url, edge.url);
    await sendFrom(100);
    await restarted.restart();
    await sendFrom(150);
    const seen = await posted("messages", 200);
    expect(seen.map(({ payload }) => numberOf(payload))).toEqual([...Array(200).keys()]);
  } finally {
    await ears?.end("SIGKILL");
    await pool.end();
    await restarted.stop();
  }
}, 60_000);
