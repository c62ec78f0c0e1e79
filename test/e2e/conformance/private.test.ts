// Private channels: policies on realtime.messages decide who hears and who speaks, and SQL speaks there (protocol.md §6.7–§6.9, §9, §12).
import type { RealtimeChannel } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, eventually, join, uniqueName } from "../../support/clients.ts";
import { type PeerOptions, Peers, takesBytes, type Way, ways } from "../../support/peers.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let peers: Peers;
let db: pg.Client;

/** What a user may do is in the name of a room: `rw-…` both, `ro-…` read, `pr-…` presence alone, `bc-…` broadcasts alone, `my-…` the own. */
const policies = `
  create policy reads on realtime.messages for select to authenticated using (
    realtime.topic() like any (array['rw-%', 'ro-%'])
    or (realtime.topic() like 'pr-%' and extension = 'presence')
    or (realtime.topic() like 'bc-%' and extension = 'broadcast')
    or realtime.topic() = 'my-' || auth.uid());
  create policy writes on realtime.messages for insert to authenticated with check (
    realtime.topic() like 'rw-%'
    or (realtime.topic() like 'bc-%' and extension = 'broadcast')
    or realtime.topic() = 'my-' || auth.uid());
`;

beforeAll(async () => {
  stack = await startStack();
  peers = new Peers(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  await db.query(policies);
});

afterEach(() => peers.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

interface Heard {
  readonly event: string;
  readonly payload: unknown;
  readonly meta: Record<string, unknown>;
}

function hear(channel: RealtimeChannel): Heard[] {
  const heard: Heard[] = [];
  channel.on("broadcast", { event: "*" }, ({ event, payload, meta = {} }) => void heard.push({ event, payload, meta }));
  return heard;
}

const brief = (heard: readonly Heard[]): unknown[] => heard.map(({ event, payload }) => [event, payload]);

/** A private channel of a user. */
async function asUser(way: Way, room: string, broadcastOptions: object = {}, options: PeerOptions = {}) {
  const token = await peers.token();
  const config = { private: true, broadcast: { ack: true, ...broadcastOptions } };
  return peers.channel(way, room, { config }, { key: token, ...options });
}

const refusal = (room: string): string =>
  `Unauthorized: You do not have permissions to read from this Channel topic: ${room}`;

describe.each(ways)("policies over %s", (way) => {
  test("who may do neither is refused, fast and in the words that applications match on", async () => {
    const room = uniqueName("none");
    const startedAt = performance.now();
    await expect(join(await asUser(way, room))).rejects.toThrow(refusal(room));
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test("the anon key is refused where users are let in", async () => {
    const room = uniqueName("rw");
    await join(await asUser(way, room));
    const anon = peers.channel(way, room, { config: { private: true } });
    await expect(join(anon)).rejects.toThrow(refusal(room));
  });

  test("who may read and write hears and is heard, and sees who is there", async () => {
    const room = uniqueName("rw");
    const [a, b] = [await asUser(way, room), await asUser("newest 2.0.0", room)];
    const heard = hear(b);
    for (const channel of [a, b]) channel.on("presence", { event: "sync" }, () => {});
    await Promise.all([join(a), join(b)]);
    expect(await broadcast(a, "x", { n: 1 })).toBe("ok");
    await eventually(() => expect(brief(heard)).toEqual([["x", { n: 1 }]]));
    expect(await a.track({ here: true })).toBe("ok");
    await eventually(() =>
      expect(Object.values(b.presenceState())).toEqual([[expect.objectContaining({ here: true })]]),
    );
  });

  test("who may only read hears, and is told that what it says and tracks is refused", async () => {
    const room = uniqueName("ro");
    const reader = await asUser(way, room);
    const service = peers.channel("newest 2.0.0", room, { config: { private: true } }, { key: stack.serviceKey });
    const [atReader, atService] = [hear(reader), hear(service)];
    await Promise.all([join(reader), join(service)]);
    expect(await broadcast(reader, "x", { n: 1 })).toBe("error");
    expect(await reader.track({})).toBe("error");
    await broadcast(service, "y", { n: 2 });
    await eventually(() => expect(brief(atReader)).toEqual([["y", { n: 2 }]]));
    expect(atService).toEqual([]);
  });

  test("who may read presence alone is let in and hears no broadcast; who may read broadcasts alone sees nobody", async () => {
    for (const kind of ["pr", "bc"]) {
      const room = uniqueName(kind);
      const member = await asUser(way, room);
      const service = peers.channel("newest 2.0.0", room, { config: { private: true } }, { key: stack.serviceKey });
      const heard = hear(member);
      for (const channel of [member, service]) channel.on("presence", { event: "sync" }, () => {});
      await Promise.all([join(member), join(service)]);
      await service.track({ here: true });
      await broadcast(service, "x", { n: 1 });
      await eventually(() => {
        expect(kind === "pr" ? Object.keys(member.presenceState()) : heard).toHaveLength(1);
      });
      expect(kind === "pr" ? heard : Object.keys(member.presenceState())).toHaveLength(0);
    }
  });

  test("policies see who asks, and a new token that may no longer read ends the membership with a reason", async () => {
    const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
    const room = `my-${ann}`;
    const key = await peers.token(600, { sub: ann });
    const client = peers.open(way, { room, isPrivate: true, key });
    const channel = client.channel(room, { config: { private: true } });
    const told: unknown[] = [];
    channel.on("system", {}, ({ message }: { message: string }) => void told.push(message));
    await join(channel);
    await client.setAuth(await peers.token(600, { sub: bob }));
    await eventually(() =>
      expect(told).toEqual([
        expect.stringMatching(/^You (do not|no longer) have permissions? to read from this Channel topic: my-/),
      ]),
    );
  });

  test("a join before the token is there is refused at once, and is in with the token by itself", async () => {
    const room = uniqueName("rw");
    const user = await peers.token();
    let token = stack.anonKey;
    const client = peers.open(way, { room, isPrivate: true, accessToken: async () => token });
    const channel = client.channel(room, { config: { private: true } });
    const told: string[] = [];
    channel.subscribe((status) => void told.push(status));
    await eventually(() => expect(told[0]).toBe("CHANNEL_ERROR"));
    token = user;
    await client.setAuth();
    await eventually(() => expect(told.at(-1)).toBe("SUBSCRIBED"));
  });
});

describe.each(ways)("SQL, heard over %s", (way) => {
  test("realtime.send reaches the private room, or the public one if it says so, with the row's id", async () => {
    const room = uniqueName("rw");
    const [secret, open] = [await asUser(way, room), peers.channel(way, room, undefined)];
    const [atSecret, atOpen] = [hear(secret), hear(open)];
    await Promise.all([join(secret), join(open)]);
    await db.query("select realtime.send($1, 'private', $2), realtime.send($1, 'public', $2, false)", [{ n: 1 }, room]);
    await eventually(() => expect([atSecret, atOpen].map(({ length }) => length)).toEqual([1, 1]));
    for (const [heard, event] of [
      [atSecret, "private"],
      [atOpen, "public"],
    ] as const) {
      expect(brief(heard)).toEqual([[event, { n: 1, id: expect.any(String) }]]);
    }
    expect(atSecret[0]?.payload).toMatchObject({ id: atSecret[0]?.meta.id });
  });

  test("a trigger with realtime.broadcast_changes tells each insert, update and delete", async () => {
    const [name, room] = [uniqueName("told").replaceAll("-", "_"), uniqueName("rw")];
    await db.query(`
      create table ${name} (id int primary key, value text);
      create function ${name}_tell() returns trigger language plpgsql as $$ begin
        perform realtime.broadcast_changes('${room}', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null;
      end $$;
      create trigger tell after insert or update or delete on ${name} for each row execute function ${name}_tell()`);
    const channel = await asUser(way, room);
    const heard = hear(channel);
    await join(channel);
    await db.query(`insert into ${name} values (1, 'a')`);
    await db.query(`update ${name} set value = 'b'`);
    await db.query(`delete from ${name}`);
    await eventually(() => expect(heard).toHaveLength(3));
    const of = (operation: string, record: unknown, old_record: unknown): unknown => [
      operation,
      { id: expect.any(String), schema: "public", table: name, operation, record, old_record },
    ];
    const [a, b] = [
      { id: 1, value: "a" },
      { id: 1, value: "b" },
    ];
    expect(brief(heard)).toEqual([of("INSERT", a, null), of("UPDATE", b, a), of("DELETE", null, b)]);
  });

  test("what a transaction that is rolled back has sent is never heard", async () => {
    const room = uniqueName("rw");
    const channel = await asUser(way, room);
    const heard = hear(channel);
    await join(channel);
    await db.query(`begin; select realtime.send('{}', 'undone', '${room}'); rollback`);
    await db.query("select realtime.send('{}', 'kept', $1)", [room]);
    await eventually(() => expect(heard.map(({ event }) => event)).toEqual(["kept"]));
  });

  test("what was sent before anybody came can be replayed, newest first to count, oldest first to hear", async () => {
    const room = uniqueName("rw");
    const since = Date.now() - 1_000;
    for (const n of [1, 2, 3]) await db.query("select realtime.send($1, 'n', $2)", [{ n }, room]);
    // What is committed may still be on its way: a first one comes and hears all of it, from the past or live.
    const early = await asUser("newest 2.0.0", room, { replay: { since } });
    const heardEarly = hear(early);
    await join(early);
    await eventually(() =>
      expect(heardEarly.map(({ payload }) => payload)).toMatchObject([{ n: 1 }, { n: 2 }, { n: 3 }]),
    );
    await early.unsubscribe();
    const channel = await asUser(way, room, { replay: { since, limit: 2 } });
    const heard = hear(channel);
    await join(channel);
    await eventually(() => expect(heard).toHaveLength(2));
    expect(heard).toMatchObject([
      { payload: { n: 2 }, meta: { replayed: true, id: expect.any(String) } },
      { payload: { n: 3 }, meta: { replayed: true, id: expect.any(String) } },
    ]);
    await db.query("select realtime.send($1, 'n', $2)", [{ n: 4 }, room]);
    await eventually(() => expect(heard).toHaveLength(3));
    expect(heard[2]).toMatchObject({ payload: { n: 4 } });
    expect(heard[2]?.meta).not.toHaveProperty("replayed");
  });

  test("a channel that asks for it is told when broadcasts from SQL flow", async () => {
    const room = uniqueName("rw");
    const channel = await asUser(way, room, { replication_ready: true });
    const told: unknown[] = [];
    channel.on("system", {}, (message: unknown) => void told.push(message));
    await join(channel);
    const ready = { extension: "system", status: "ok", message: "Replication connection established", channel: room };
    await eventually(() => expect(told).toEqual([ready]));
  });
});

test.each(ways.filter(takesBytes))("bytes of realtime.send_binary come to %s as bytes", async (way) => {
  const room = uniqueName("rw");
  const channel = await asUser(way, room);
  const heard = hear(channel);
  await join(channel);
  await db.query("select realtime.send_binary($1, 'bytes', $2)", [Buffer.from([0, 255, 7]), room]);
  await eventually(() => expect(brief(heard)).toEqual([["bytes", Uint8Array.from([0, 255, 7]).buffer]]));
});
