// Private channels: what policies on realtime.messages allow, and what becomes of it when tokens and policies change.

import type { RealtimeChannel, SupabaseClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join, uniqueName } from "../support/clients.ts";
import { binaryBroadcast, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { type Expiry, userToken } from "../support/tokens.ts";

const ANN = "6f1c3a9e-0000-4000-8000-00000000000a";

let stack: TestStack;
let clients: Clients;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack();
  clients = new Clients(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  // A topic says in its name what its policies allow: `<right>+<right>~<name>`.
  await db.query(`
    create function public.allows(wanted text) returns boolean language sql stable as
      $$ select wanted = any (string_to_array(split_part(realtime.topic(), '~', 1), '+')) $$;
    create policy reads on realtime.messages for select to authenticated
      using (public.allows(case extension when 'broadcast' then 'hear' when 'presence' then 'see' end));
    create policy writes on realtime.messages for insert to authenticated
      with check (public.allows(case extension when 'broadcast' then 'say' when 'presence' then 'show' else 'keep' end)
        and (not public.allows('break') or 1 / (length(extension) - length(extension)) = 1));
    create policy claims on realtime.messages for select to authenticated
      using (split_part(realtime.topic(), '~', 1) = 'team:' || (auth.jwt() ->> 'team'))`);
});

afterEach(() => clients.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

function tokenOf(claims: object = {}, expires?: Expiry): Promise<string> {
  return userToken(stack, { sub: ANN, ...claims }, expires);
}

/** A client that has its token already: without it the first join would be anon's, and be tried again in a second. */
async function signedIn(claims: object = {}): Promise<SupabaseClient> {
  return bearing(await tokenOf(claims));
}

async function bearing(token: string): Promise<SupabaseClient> {
  const client = clients.open({ token: async () => token });
  await client.realtime.setAuth();
  return client;
}

const topicFor = (...rights: string[]): string => uniqueName(`${rights.join("+")}~room`);

function open(client: SupabaseClient, topic: string, config: object = {}): RealtimeChannel {
  return client.channel(topic, { config: { private: true, ...config } });
}

describe("who may join", () => {
  test("is who may read something, and everybody else is told so in the words that applications match", async () => {
    const client = await signedIn();
    for (const rights of [["hear"], ["see"]]) await join(open(client, topicFor(...rights)));
    const closed = topicFor("say", "show");
    const reason = `Unauthorized: You do not have permissions to read from this Channel topic: ${closed}`;
    await expect(join(open(client, closed))).rejects.toThrow(reason);
    await expect(join(open(clients.open(), topicFor("hear")))).rejects.toThrow("Unauthorized: ");
  });

  test("the service key opens every private channel", async () => {
    await join(open(clients.open({ key: stack.serviceKey }), topicFor()));
  });

  test("a policy sees the claims of the token and the headers of the upgrade", async () => {
    await join(open(await signedIn({ team: "red" }), "team:red~x"));
    await expect(join(open(await signedIn({ team: "blue" }), "team:red~x"))).rejects.toThrow("Unauthorized: ");
  });

  test("who was refused comes in within a moment when a table that the policy reads lets them", async () => {
    await db.query(`create table public.invited (topic text, who text); grant select on public.invited to authenticated;
      create policy invited on realtime.messages for select to authenticated using (exists (
        select from public.invited i where i.topic = realtime.topic() and i.who = auth.jwt() ->> 'sub'))`);
    const [token, topic] = [await tokenOf(), uniqueName("party")];
    await expect(join(open(await bearing(token), topic))).rejects.toThrow("Unauthorized: ");
    await db.query("insert into public.invited values ($1, $2)", [topic, ANN]);
    await eventually(async () => join(open(await bearing(token), topic)), 3_000);
  });

  test("a replay needs the right to hear", async () => {
    const client = await signedIn();
    const replay = { broadcast: { replay: { since: 0, limit: 5 } } };
    await expect(join(open(client, topicFor("see"), replay))).rejects.toThrow("Unauthorized: ");
    await join(open(client, topicFor("hear"), replay));
  });
});

describe("broadcasts", () => {
  test("reach who may hear, and not who may only see", async () => {
    const topic = topicFor("hear", "say");
    const [ann, bob] = [await signedIn(), await signedIn()];
    const heard: unknown[] = [];
    const listening = open(bob, topic).on("broadcast", { event: "*" }, ({ payload }) => heard.push(payload));
    const speaking = open(ann, topic, { broadcast: { ack: true } });
    await Promise.all([join(listening), join(speaking)]);
    expect(await broadcast(speaking, "x", { n: 1 })).toBe("ok");
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));

    const seeing = topicFor("see", "say");
    const deaf = open(bob, seeing, { presence: { key: "bob" } })
      .on("broadcast", { event: "*" }, ({ payload }) => heard.push(payload))
      .on("presence", { event: "sync" }, () => {});
    const talking = open(ann, seeing, { broadcast: { ack: true } });
    await Promise.all([join(deaf), join(talking)]);
    expect(await broadcast(talking, "x", { n: 2 })).toBe("ok");
    expect(await broadcast(speaking, "x", { n: 3 })).toBe("ok");
    await eventually(() => expect(heard).toEqual([{ n: 1 }, { n: 3 }]));
  });

  test("of who may not write are refused, with an ack at once, without one by a system message", async () => {
    const topic = topicFor("hear");
    const client = await signedIn();
    const acked = open(client, topic, { broadcast: { ack: true } });
    await join(acked);
    expect(await broadcast(acked, "x", {})).toBe("error");

    const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
    await socket.join(`realtime:${topic}`, { private: true });
    socket.send("1", "9", `realtime:${topic}`, "broadcast", { type: "broadcast", event: "x", payload: {} });
    const [told] = await socket.until("the refusal", 1, ({ event }) => event === "system");
    expect(told?.payload).toMatchObject({ extension: "broadcast", status: "error" });
  });

  test("are answered with the code of what went wrong", async () => {
    const answers: unknown[] = [];
    for (const rights of [["hear"], ["hear", "say", "break"]]) {
      const topic = `realtime:${topicFor(...rights)}`;
      const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
      await socket.join(topic, { private: true, broadcast: { ack: true } });
      answers.push(await socket.ask(topic, "broadcast", { type: "broadcast", event: "x", payload: {} }));
    }
    expect(answers).toEqual([
      { status: "error", response: { error: "unauthorized" } },
      { status: "error", response: { error: "rls_policy_error" } },
    ]);
  });

  test("over HTTP need the right to write alone", async () => {
    const send = async (topic: string, key: string): Promise<number> => {
      const url = `${stack.url}/realtime/v1/api/broadcast/${encodeURIComponent(topic)}/events/x?private=true`;
      const headers = { apikey: stack.anonKey, authorization: `Bearer ${key}`, "content-type": "application/json" };
      return (await fetch(url, { method: "POST", headers, body: "{}" })).status;
    };
    expect(await send(topicFor("say"), await tokenOf())).toBe(202);
    expect(await send(topicFor("hear"), await tokenOf())).toBe(403);
    expect(await send(topicFor("say"), stack.anonKey)).toBe(403);
    expect(await send(topicFor(), stack.serviceKey)).toBe(202);
  });
});

describe("presence", () => {
  test("is shown to who may see and hidden from who may only hear", async () => {
    const topic = topicFor("see", "hear", "show");
    const [ann, bob] = [await signedIn(), await signedIn()];
    const watching = open(bob, topic).on("presence", { event: "sync" }, () => {});
    const showing = open(ann, topic, { presence: { key: "ann", enabled: true } });
    await Promise.all([join(watching), join(showing)]);
    expect(await showing.track({ n: 1 })).toBe("ok");
    await eventually(() => expect(Object.keys(watching.presenceState())).toEqual(["ann"]));

    const blind = `realtime:${topicFor("hear", "show")}`;
    const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
    await socket.join(blind, { private: true, presence: { key: "eve", enabled: true } });
    expect(await socket.ask(blind, "presence", { type: "presence", event: "track", payload: {} })).toMatchObject({
      status: "ok",
    });
    await socket.heartbeat();
    expect(socket.frames.filter(({ event }) => event.startsWith("presence_"))).toEqual([]);
  });

  test("of who may not show it is refused", async () => {
    const channel = open(await signedIn(), topicFor("see"), { presence: { key: "ann", enabled: true } });
    await join(channel);
    expect(await channel.track({})).toBe("error");
  });
});

describe("a token that is renewed", () => {
  test("takes away what it no longer allows, with the reason, and for good", async () => {
    const topic = "realtime:team:red~renewed";
    const socket = await RawSocket.open(stack.url, { key: await tokenOf({ team: "red" }) });
    expect((await socket.join(topic, { private: true })).status).toBe("ok");
    socket.send("1", "9", topic, "access_token", { access_token: await tokenOf({ team: "blue" }) });
    const [system] = await socket.until("the end", 1, ({ event }) => event === "system");
    expect(system?.payload).toMatchObject({
      extension: "system",
      status: "error",
      message: "You do not have permissions to read from this Channel topic: team:red~renewed",
    });
    await socket.until("the close", 1, ({ event }) => event === "phx_close");
  });

  test("with a bad signature ends the channel, and one that has expired has it joined again", async () => {
    const topic = `realtime:${topicFor("hear")}`;
    const [forged] = (await tokenOf()).split(/\.(?=[^.]*$)/);
    for (const [token, message, end] of [
      [`${forged}.${"A".repeat(43)}`, ":signature_error", "phx_close"],
      [await tokenOf({}, "1 second ago"), "Token has expired", "phx_error"],
      ["", "The token provided is not a valid JWT", "phx_close"],
    ]) {
      const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
      await socket.join(topic, { private: true });
      socket.send("1", "9", topic, "access_token", { access_token: token });
      const [system] = await socket.until("the end", 1, ({ event }) => event === "system");
      expect(system?.payload.message).toContain(message);
      await socket.until("the close", 1, ({ event }) => event === end);
      socket.close();
    }
  });
});

describe("what changes in the database", () => {
  test("puts out a member who is removed, with the reason, and nobody else", async () => {
    const slug = uniqueName("team");
    await admin(stack, "POST", "/channels", { name: slug, type: "private" });
    const add = `insert into realtime.channel_members (channel_id, user_id)
      select id, unnest($2::text[]) from realtime.channels where slug = $1`;
    await db.query(add, [slug, ["ann", "bob"]]);
    const topic = `realtime:${slug}`;
    const [ann, bob] = await Promise.all(
      ["ann", "bob"].map(async (sub) => RawSocket.open(stack.url, { key: await tokenOf({ sub }) })),
    );
    for (const socket of [ann, bob]) expect((await socket?.join(topic))?.status).toBe("ok");
    await db.query("delete from realtime.channel_members where user_id = 'ann'");
    const [system] = (await ann?.until("the end", 1, ({ event }) => event === "system")) ?? [];
    expect(system?.payload.message).toBe(`You do not have permissions to read from this Channel topic: ${slug}`);
    await ann?.until("the close", 1, ({ event }) => event === "phx_close");
    await bob?.heartbeat();
    expect(bob?.frames.map(({ event }) => event)).not.toContain("system");
  });

  test("a policy that is dropped puts out who was in by it, and one that is added lets others speak", async () => {
    await db.query(`
      create policy for_a_while on realtime.messages for select to authenticated using (realtime.topic() = 'brief');
      create policy lasting on realtime.messages for select to authenticated using (realtime.topic() = 'lasting')`);
    const key = await tokenOf();
    const [brief, lasting] = await Promise.all([1, 2].map(() => RawSocket.open(stack.url, { key })));
    expect((await brief?.join("realtime:brief", { private: true }))?.status).toBe("ok");
    expect((await lasting?.join("realtime:lasting", { private: true, broadcast: { ack: true } }))?.status).toBe("ok");
    const say = (): Promise<unknown> | undefined =>
      lasting?.ask("realtime:lasting", "broadcast", { type: "broadcast", event: "x", payload: {} });
    expect(await say()).toMatchObject({ status: "error" });
    await db.query(`
      drop policy for_a_while on realtime.messages;
      create policy speaking on realtime.messages for insert to authenticated with check (realtime.topic() = 'lasting')`);
    await brief?.until("the close", 1, ({ event }) => event === "phx_close");
    await eventually(async () => expect(await say()).toMatchObject({ status: "ok" }));
  });
});

describe("persist", () => {
  const keep = async (topic: string, persist: unknown, socket: RawSocket) => {
    await socket.join(topic, { private: true, broadcast: { ack: true } });
    const frame = binaryBroadcast(topic, "x", new TextEncoder().encode('{"n":12345678901234567890}'), 1);
    const metadata = new TextEncoder().encode(JSON.stringify({ persist }));
    const eventEnd = 7 + (frame[3] ?? 0) + (frame[4] ?? 0);
    const whole = Uint8Array.from([...frame.slice(0, eventEnd), ...metadata, ...frame.slice(eventEnd)]);
    whole[2] = 1;
    whole[5] = metadata.length;
    socket.sendRaw(Uint8Array.from([...whole.slice(0, 7), 57, ...whole.slice(7)]));
    return socket.replyTo("9");
  };
  const kept = async (topic: string) =>
    (
      await db.query(
        `select id, event, payload::text, private, skip_broadcast,
           round(extract(epoch from expires_at - inserted_at))::int as ttl
         from realtime.messages where topic = $1`,
        [topic],
      )
    ).rows;

  test("keeps a message in the database and answers with its id", async () => {
    const topic = topicFor("hear", "say", "keep");
    const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
    const { status, response } = await keep(`realtime:${topic}`, { ttl: 60 }, socket);
    expect([status, typeof response.id]).toEqual(["ok", "string"]);
    expect(await kept(topic)).toEqual([
      {
        ...{ id: response.id, event: "x", payload: '{"n": 12345678901234567890}' },
        ...{ private: true, skip_broadcast: true, ttl: 60 },
      },
    ]);
  });

  test("without the right to is sent and not kept; with a ttl that is none it is not sent", async () => {
    const socket = await RawSocket.open(stack.url, { key: await tokenOf() });
    const topic = topicFor("hear", "say");
    expect(await keep(`realtime:${topic}`, true, socket)).toEqual({ status: "ok", response: {} });
    expect(await kept(topic)).toEqual([]);
    const other = await RawSocket.open(stack.url, { key: await tokenOf() });
    const bad = await keep(`realtime:${topicFor("hear", "say", "keep")}`, { ttl: 259_201 }, other);
    expect(bad).toEqual({ status: "error", response: { error: "invalid_persist_ttl" } });
  });
});

test("1,000 joins of one user to one channel ask the database once", async () => {
  // A sequence counts what is undone, too.
  await db.query(`
    create sequence public.asked;
    grant usage on sequence public.asked to authenticated;
    create policy counted on realtime.messages for select to authenticated
      using (realtime.topic() = 'counted' and extension = 'broadcast' and nextval('public.asked') > 0)`);
  const key = await tokenOf();
  const sockets = await Promise.all(Array.from({ length: 20 }, () => RawSocket.open(stack.url, { key })));
  for (let round = 0; round < 50; round++) {
    const replies = await Promise.all(sockets.map((socket) => socket.join("realtime:counted", { private: true })));
    expect(replies.every(({ status }) => status === "ok")).toBe(true);
  }
  for (const socket of sockets) socket.close();
  const { rows } = await db.query("select last_value::int as asked from public.asked");
  // Once for the joins; and again when the listener tells that there is a new policy.
  expect(rows[0].asked).toBeLessThanOrEqual(2);
});
