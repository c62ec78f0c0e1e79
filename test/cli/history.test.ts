// What was sent, as a user asks for it: messages beyond the ring, events, totals, and what goes with time.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join } from "../support/clients.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

const nself = (...args: string[]) => realtime(stack, args);
const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);
const create = (name: string, type = "public") => admin(stack, "POST", "/channels", { name, type });
const send = (name: string, event: string, payload: unknown = {}) =>
  admin(stack, "POST", `/channels/${name}/messages`, { event, payload });
const age = (name: string, hours: number, event = "%") =>
  sql.query(
    `update realtime.messages set sent_at = sent_at - make_interval(hours => $2) where topic = $1 and event_type like $3`,
    [name, hours, event],
  );
const events = async (name: string) =>
  (await json("messages", name, "1000")).map(({ event_type }: Record<string, string>) => event_type);

test("AC-191: messages are in the table once, in their order, and what is deleted there is gone", async () => {
  await create("kept");
  for (let n = 0; n < 20; n++) await send("kept", `e${n}`, { n, text: "it's 🎉" });
  expect(await events("kept")).toEqual(Array.from({ length: 20 }, (_, n) => `e${19 - n}`));
  const { rows } = await sql.query(
    "select m.* from realtime.messages m join realtime.channels c on c.id = m.channel_id where c.slug = 'kept' order by seq",
  );
  expect(rows.map(({ payload }) => payload.n)).toEqual(Array.from({ length: 20 }, (_, n) => n));
  expect(rows[0]).toMatchObject({ event: "e0", payload: { text: "it's 🎉" }, skip_broadcast: true });
  expect(rows[0].created_at).toEqual(rows[0].sent_at);
  await sql.query("delete from realtime.messages where topic = 'kept' and event_type <> 'e7'");
  await send("kept", "after");
  expect(await events("kept")).toEqual(["after", "e7"]);
  expect(await json("channel", "get", "kept")).toMatchObject({ messages_24h: 2 });
});

test("a crash right after a message loses nothing, and doubles nothing", async () => {
  await create("crash");
  for (let n = 0; n < 5; n++) await send("crash", `e${n}`);
  await stack.killEdge();
  await send("crash", "last");
  expect(await events("crash")).toEqual(["last", "e4", "e3", "e2", "e1", "e0"]);
});

/** What is in the table, whoever has seen to it: the admin API has everything written before it answers. */
const inTable = async (name: string): Promise<string[]> => {
  const { rows } = await sql.query("select event_type from realtime.messages where topic = $1 order by seq", [name]);
  return rows.map(({ event_type }) => event_type);
};

test("AC-191: what is sent gets into the table by itself", async () => {
  await create("unasked");
  for (let n = 0; n < 5; n++) await send("unasked", `e${n}`);
  await eventually(async () => expect(await inTable("unasked")).toEqual(["e0", "e1", "e2", "e3", "e4"]), 20_000);
});

test("what was just being written when the edge died is written by its next life, though nobody asks", async () => {
  await create("cut");
  const holder = new pg.Client({ connectionString: stack.databaseUrl });
  await holder.connect();
  await holder.query("begin; lock table realtime.messages in exclusive mode");
  await send("cut", "e0");
  const waiting = "from pg_stat_activity where wait_event_type = 'Lock' and query like '%keep_messages%'";
  await eventually(async () => expect((await sql.query(`select ${waiting}`)).rowCount).toBe(1), 20_000);
  await stack.killEdge();
  await sql.query(`select pg_terminate_backend(pid) ${waiting}`);
  await holder.end();
  await eventually(async () => expect(await inTable("cut")).toEqual(["e0"]), 30_000);
});

test("what is sent while PostgreSQL is away is in the table when it is back", async () => {
  await create("outage");
  const clients = new Clients(stack);
  try {
    const ann = clients.open().channel("outage", { config: { broadcast: { ack: true } } });
    await join(ann);
    // It would not survive the crash.
    await sql.end();
    const isBack = { yet: false };
    const back = stack.crashPostgres().then(() => {
      isBack.yet = true;
    });
    const sent: string[] = [];
    while (!isBack.yet) {
      const event = `e${sent.length}`;
      expect(await broadcast(ann, event, {})).toBe("ok");
      sent.push(event);
    }
    await back;
    sql = new pg.Client({ connectionString: stack.databaseUrl });
    await sql.connect();
    await eventually(async () => expect(await inTable("outage")).toEqual(sent), 25_000);
  } finally {
    await clients.close();
  }
});

test("while PostgreSQL takes nothing, far more is kept for it than the ring holds", async () => {
  await create("flood");
  const clients = new Clients(stack);
  const holder = new pg.Client({ connectionString: stack.databaseUrl });
  await holder.connect();
  try {
    await holder.query("begin; lock table realtime.messages in exclusive mode");
    const ann = clients.open().channel("flood", { config: { broadcast: { ack: true } } });
    await join(ann);
    // Each that is acknowledged takes a row of the ring, which has 1,024.
    const count = 1_400;
    for (let n = 0; n < count; n += 50) {
      const sent = Array.from({ length: 50 }, (_, at) => broadcast(ann, `e${n + at}`, {}));
      expect(new Set(await Promise.all(sent))).toEqual(new Set(["ok"]));
    }
    await holder.end();
    const all = Array.from({ length: count }, (_, n) => `e${n}`);
    await eventually(async () => expect(await inTable("flood")).toEqual(all), 60_000);
  } finally {
    await holder.end().catch(() => {});
    await clients.close();
  }
}, 120_000);

test("a channel that becomes private keeps what it has said as a public one", async () => {
  await create("turned");
  await send("turned", "e0");
  await send("turned", "e1");
  await admin(stack, "POST", "/channels", { name: "turned", type: "private", update: true });
  await eventually(async () => expect(await inTable("turned")).toEqual(["e0", "e1"]), 20_000);
});

test("a channel that nobody was told of keeps what is sent to it from the first message on", async () => {
  await untold("insert into realtime.channels (slug, name, type) values ('untold', 'untold', 'public')");
  await send("untold", "e0");
  await eventually(async () => expect(await inTable("untold")).toEqual(["e0"]), 20_000);
});

test("a channel that is deleted and made again at once does not receive what the old one said", async () => {
  await create("phoenix");
  await send("phoenix", "of the old one");
  await untold(`delete from realtime.channels where slug = 'phoenix';
    insert into realtime.channels (slug, name, type) values ('phoenix', 'phoenix', 'public')`);
  expect(await events("phoenix")).toEqual([]);
});

/** Runs statements of which the listener does not hear. */
async function untold(statements: string): Promise<void> {
  await sql.query(`begin; set local session_replication_role = replica; ${statements}; commit`);
}

test("what PostgreSQL cannot hold is left out, and keeps nothing else from being kept", async () => {
  await create("odd");
  await send("odd", "good");
  await send("odd", "nul", "a\u0000b");
  await send("odd", "also good");
  expect(await events("odd")).toEqual(["also good", "good"]);
});

test.each(["42501", "25006", "40001", "40P01", "55P03"])(
  "an error that is not of the message (%s) throws none away: it is written when that is over",
  async (sqlstate) => {
    const channel = `later-${sqlstate.toLowerCase()}`;
    await create(channel);
    await sql.query(`create function public.not_now() returns trigger language plpgsql as
      $$ begin raise exception 'not now' using errcode = '${sqlstate}'; end $$`);
    await sql.query(`create trigger not_now before insert on realtime.messages
      for each row when (new.topic = '${channel}') execute function public.not_now()`);
    await send(channel, "e0");
    await send(channel, "e1");
    const asked = await nself("messages", channel, "10");
    await sql.query("drop function public.not_now cascade");
    expect(asked.code).not.toBe(0);
    expect(await events(channel)).toEqual(["e1", "e0"]);
  },
);

test("AC-031 AC-032 AC-035 AC-119: messages go in time, are counted then, and the counts go after 30 days", async () => {
  await create("old");
  for (const event of ["fresh", "day", "day", "month"]) await send("old", event);
  expect(await events("old")).toHaveLength(4);
  await age("old", 23, "fresh");
  await age("old", 25, "day");
  await age("old", 31 * 24, "month");
  expect(await events("old")).toEqual(["fresh"]);
  const cleaned = await json("cleanup");
  expect(cleaned).toMatchObject({ old_messages: 3 });
  expect(Object.keys(cleaned)).toEqual([
    "stale_connections",
    "old_messages",
    "expired_presence",
    "orphaned_subscriptions",
  ]);
  expect(Object.values(await json("cleanup"))).toEqual([0, 0, 0, 0]);
  expect(await json("events", "old", "168")).toMatchObject([
    { event_type: "day", count: 2 },
    { event_type: "fresh", count: 1 },
  ]);
  expect(await json("events", "old", "720")).toHaveLength(2);
  await create("hours");
  await send("hours", "47");
  await send("hours", "49");
  expect(await events("hours")).toHaveLength(2);
  await age("hours", 47, "47");
  await age("hours", 49, "49");
  expect(await nself("broadcast", "cleanup", "48")).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 1$/m) });
  const { rows } = await sql.query("select event_type from realtime.messages where topic = 'hours'");
  expect(rows).toEqual([{ event_type: "47" }]);
});

test("hours that somebody names hold for replays too, of registered channels and of open ones", async () => {
  const clients = new Clients(stack);
  const room = (name: string, since?: number) => {
    const replay = since === undefined ? {} : { replay: { since, limit: 10 } };
    return clients.open({ key: stack.serviceKey }).channel(name, { config: { private: true, broadcast: replay } });
  };
  const replayed = async (name: string): Promise<number> => {
    let count = 0;
    const channel = room(name, Date.now() - 3_600_000);
    channel.on("broadcast", { event: "e" }, () => {
      count += 1;
    });
    await join(channel);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return count;
  };
  try {
    await create("closed", "private");
    await send("closed", "e");
    expect(await events("closed")).toEqual(["e"]);
    const rooms = [room("wide-open"), clients.open().channel("plaza")];
    for (const open of rooms) {
      await join(open);
      await broadcast(open, "e", {});
    }
    await eventually(async () => expect(await events("plaza")).toEqual(["e"]));
    expect([await replayed("closed"), await replayed("wide-open")]).toEqual([1, 1]);
    expect(await nself("broadcast", "cleanup", "0")).toMatchObject({ code: 0 });
    expect([await replayed("closed"), await replayed("wide-open")]).toEqual([0, 0]);
    expect(await events("plaza")).toEqual([]);
  } finally {
    await clients.close();
  }
});

test("old messages are found by an index, and many of them go in pieces", async () => {
  await create("many");
  await nself("cleanup");
  await sql.query(`insert into realtime.messages (topic, channel_id, event_type, payload, sent_at, skip_broadcast, expires_at)
    select 'many', id, 'old', '{}', now() - interval '3 days', true, case when n % 2 = 0 then timestamp '2020-01-01' end
    from realtime.channels, generate_series(1, 45000) n where slug = 'many'`);
  await sql.query(`insert into realtime.messages (topic, event_type, skip_broadcast)
    select 'new', 'e', true from generate_series(1, 20000)`);
  await sql.query("analyze realtime.messages");
  const scans = `select seq_scan::int as scans from pg_stat_xact_user_tables
    where relid = 'realtime.messages'::regclass`;
  for (const explicit of [true, false]) {
    await sql.query("begin");
    const { rows } = await sql.query("select deleted::int from realtime.expire_messages('1 day', $1, 100)", [explicit]);
    expect(rows).toEqual([{ deleted: explicit ? 100 : 200 }]);
    expect((await sql.query(scans)).rows).toEqual([{ scans: 0 }]);
    await sql.query("rollback");
  }
  expect(await json("cleanup")).toMatchObject({ old_messages: 45_000 });
  expect(await json("events", "many", "168")).toMatchObject([{ event_type: "old", count: 45_000 }]);
  await sql.query("delete from realtime.messages where topic = 'new'");
});

test("AC-034: a subscription of a table that is gone is removed", async () => {
  await sql.query("create table public.doomed (id int primary key)");
  await nself("subscribe", "public.doomed");
  await sql.query("drop table public.doomed");
  expect(await json("cleanup")).toMatchObject({ orphaned_subscriptions: 1 });
  expect(await json("subscriptions")).toEqual([]);
});

test("AC-118 AC-131 AC-132 AC-133 AC-134: events by number, and the totals of a channel", async () => {
  await create("busy");
  for (let n = 0; n < 3; n++) await send("busy", "message.new");
  await send("busy", "user.joined");
  expect((await nself("events", "busy")).stdout).toMatch(
    /^Event Types \(last 24h\):\n\n {2}message\.new +3 events\n {2}user\.joined +1 events\n$/,
  );
  expect((await nself("events", "busy", "168")).stdout).toMatch(/^Event Types \(last 168h\):/);
  expect((await nself("events", "busy", "48", "--format", "table")).stdout).toMatch(
    /^ event_type +\| count \| last_sent/,
  );
  expect(await nself("events", "nosuch")).toMatchObject({ code: 1, stdout: "" });
  expect((await nself("broadcast", "busy")).stdout).toMatch(
    /Total messages: +4\n.*Last hour: +4\n.*Last day: +4\n.*Event types: +2\n.*Senders: +0/s,
  );
  expect(await nself("broadcast", "busy", "event")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("payload"),
  });
});

test("AC-091: `Messages (24h)` counts the last 24 hours, and not what is older and still kept", async () => {
  const long = await startStack({ env: { REALTIME_MESSAGE_TTL: String(48 * 3_600) } });
  const there = new pg.Client({ connectionString: long.databaseUrl });
  await there.connect();
  try {
    await realtime(long, ["channel", "create", "days"]);
    for (const event of ["today", "yesterday", "before"]) await realtime(long, ["broadcast", "days", event, "{}"]);
    await realtime(long, ["messages", "days"]);
    const age = "update realtime.messages set sent_at = now() - make_interval(hours => $2) where event_type = $1";
    await there.query(age, ["yesterday", 23]);
    await there.query(age, ["before", 25]);
    expect(JSON.parse((await realtime(long, ["messages", "days", "json"])).stdout)).toHaveLength(3);
    expect((await realtime(long, ["channel", "get", "days"])).stdout).toContain("Messages (24h): 2\n");
  } finally {
    await there.end();
    await long.stop();
  }
});

test("what was cleaned up counts in the totals of its time, though it cannot be had any more", async () => {
  await create("counted");
  for (const event of ["a", "a", "b", "c"]) await send("counted", event);
  expect(await events("counted")).toHaveLength(4);
  await age("counted", 5, "b");
  await age("counted", 31, "c");
  expect(await nself("broadcast", "cleanup", "4")).toMatchObject({ code: 0 });
  await send("counted", "d");
  expect(await admin(stack, "GET", "/channels/counted/messages/stats")).toEqual({
    total_messages: 5,
    messages_last_hour: 3,
    messages_last_day: 4,
    unique_event_types: 4,
    unique_senders: 0,
  });
  expect(await json("channel", "get", "counted")).toMatchObject({ messages_24h: 4 });
});

test("AC-178: past REALTIME_MESSAGE_TTL a message is gone from messages, replay and joins", async () => {
  const short = await startStack({ env: { REALTIME_MESSAGE_TTL: "2" } });
  try {
    await admin(short, "POST", "/channels", { name: "brief" });
    await admin(short, "POST", "/channels/brief/messages", { event: "gone", payload: {} });
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    await admin(short, "POST", "/channels/brief/messages", { event: "here", payload: {} });
    for (const query of ["", "?since=1700000000"]) {
      expect(await admin(short, "GET", `/channels/brief/messages${query}`)).toMatchObject([{ event_type: "here" }]);
    }
  } finally {
    await short.stop();
  }
});
