// Feeds: subscriptions that stand before the join is answered, that wait, that come later, and that outlive a gateway.

import { beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { CapturedTables } from "../../src/gateway/captured.ts";
import type { RowChange } from "../../src/protocol/changes.ts";
import type { Table } from "../../src/protocol/tables.ts";
import { World, type WorldClient } from "../support/world.ts";

const TOPIC = "realtime:room";
const described: Table = {
  columns: ["id", "title", "secret"].map((name) => ({
    name,
    type: name === "id" ? "int4" : "text",
    sqlType: name === "id" ? "integer" : "text",
    readers: name === "secret" ? ["service_role"] : ["anon", "authenticated", "service_role"],
  })),
  primaryKey: ["id"],
};
const NOT_CAPTURED =
  "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: t, filters: [], select: nil]";
const AWAY = "UnableToConnectToProject: Realtime was unable to connect to the project database";

let world: World;
let ann: WorldClient;
/** The table of every feed; an error while PostgreSQL is away. */
let table: Table | null | Error;

beforeEach(() => {
  table = described;
  world = new World();
  world.access = {
    ...world.access,
    table: async () => {
      if (table instanceof Error) throw table;
      return table;
    },
  };
  ann = world.connect("g1");
});

const subscription = (more: object = {}) => ({ event: "*", schema: "public", table: "t", ...more });

function join(changes: unknown[], config: object = {}, ref = "1", topic = TOPIC): void {
  world.say("g1", ann, ref, topic, "phx_join", { config: { postgres_changes: changes, ...config } });
}

let batches = 0;
function change(row: object, operation: RowChange["operation"] = "INSERT"): void {
  const data = JSON.stringify({ columns: Object.keys(row).map((name) => ({ name, type: "text" })), record: row });
  const description = { schema: "public", table: "t", generation: 1, rls: false, readers: ["anon", "authenticated"] };
  const header = {
    v: 1,
    source: "s",
    epoch: 1,
    batch: ++batches,
    redelivered: false,
    feed: "public.t",
    tables: {},
  } as const;
  const changed = { id: String(batches), operation, data, table: { ...description, columns: [], primaryKey: [] } };
  world.channel("feed:public.t").changes({ header, changes: [changed] });
}

const frameSchema = z.tuple([z.string().nullable(), z.string().nullable(), z.string(), z.string(), z.unknown()]);
const systemSchema = z.object({ status: z.string(), message: z.string() });
const replySchema = z.object({ status: z.string(), response: z.record(z.string(), z.unknown()) });
const echoSchema = z.object({ response: z.object({ postgres_changes: z.array(z.looseObject({ id: z.number() })) }) });
const changeSchema = z.object({
  ids: z.array(z.number()).optional(),
  data: z.object({ record: z.unknown(), columns: z.unknown() }),
});

/** The payloads of all frames of an event so far. */
function payloads<T>(event: string, schema: z.ZodType<T>): T[] {
  const frames = ann.frames.map((frame) => frameSchema.parse(JSON.parse(String(frame))));
  return frames.filter(([, , , name]) => name === event).map(([, , , , payload]) => schema.parse(payload));
}
const systems = (): string[] => payloads("system", systemSchema).map(({ status, message }) => `${status}: ${message}`);
const replies = (): z.output<typeof replySchema>[] => payloads("phx_reply", replySchema);
const changes = (): z.output<typeof changeSchema>[] => payloads("postgres_changes", changeSchema);
const rows = (): [ids: number[] | undefined, record: unknown][] => changes().map(({ ids, data }) => [ids, data.record]);
/** The ids that the first reply gave to the subscriptions. */
const ids = (): number[] =>
  payloads("phx_reply", echoSchema).flatMap(({ response }) => response.postgres_changes.map(({ id }) => id));

/** Lets time pass, waking the gateway as its alarm would. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    await world.clock.pass(Math.min(left, 1_000));
    world.gateway("g1").alarm();
  }
  await world.clock.pass(100);
}

describe("several subscriptions of one channel", () => {
  test("each bad one is told, in order, before the good ones are confirmed once", async () => {
    const entries = [
      subscription({ filter: "id=foo.1" }),
      subscription({ filter: "id=eq.1" }),
      { event: "*" },
      subscription({ filter: null }),
      subscription({ filter: "nope=eq.1" }),
      subscription({ select: "id" }),
      { schema: "public", select: ["id"] },
      { schema: "public", table: "*", filter: "id=eq.1" },
      subscription({ event: "insert" }),
    ];
    join(entries);
    await pass(100);
    expect(replies()).toEqual([
      {
        status: "ok",
        response: expect.objectContaining({
          postgres_changes: entries.map((entry) => ({ ...entry, id: expect.any(Number) })),
        }),
      },
    ]);
    expect(systems()).toEqual([
      'error: Error parsing `filter` params: ["foo", "1"]',
      'error: No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{"event" => "*"}',
      'error: No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{"event" => "*", "filter" => nil, "schema" => "public", "table" => "t"}',
      'error: Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]',
      "error: Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
      "error: Filters are not supported for wildcard subscriptions. Provide an explicit schema and table name.",
      'error: Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: [event: *, schema: public, table: t, filters: [{"nope", "eq", "1", false}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter nope',
      "ok: Subscribed to PostgreSQL",
    ]);
    change({ id: 1, title: "a" });
    change({ id: 2, title: "b" });
    await pass(100);
    expect(rows().map(([matching]) => matching?.length)).toEqual([2, 1]);
  });

  test("one frame goes out for each selection of columns, the key always in it", async () => {
    join([
      subscription(),
      subscription({ event: "INSERT" }),
      subscription({ select: ["title"] }),
      subscription({ event: "INSERT", select: ["title", "id", 7] }),
      subscription({ select: ["id"], filter: "title=eq.a" }),
      subscription({ select: [], filter: "title=eq.b" }),
    ]);
    await pass(100);
    change({ id: 1, title: "a", secret: "s" });
    await pass(100);
    expect(rows()).toEqual(
      expect.arrayContaining([
        [[ids()[0], ids()[1]], { id: 1, title: "a", secret: "s" }],
        [[ids()[2], ids()[3]], { id: 1, title: "a" }],
        [[ids()[4]], { id: 1 }],
      ]),
    );
    expect(rows()).toHaveLength(3);
    const narrow = changes().find((payload) => payload.ids?.[0] === ids()[4]);
    expect(narrow?.data).toMatchObject({ columns: [{ name: "id", type: "text" }] });
  });

  test("equal ones have one id, which is sent once", async () => {
    join([subscription(), subscription()]);
    await pass(100);
    change({ id: 1 });
    await pass(100);
    expect(rows()).toEqual([[[expect.any(Number)], { id: 1 }]]);
  });

  test("a filter keeps to the columns that the role of a later token may read", async () => {
    ann = world.connect("g1", "2.0.0", { role: "service_role", user: null, exp: null, all: {} });
    world.verify = async (role) => ({ role, user: null, exp: null, all: {} });
    join([subscription({ filter: "secret=eq.x" }), subscription({ filter: "title=eq.a" })]);
    await pass(100);
    world.say("g1", ann, "2", TOPIC, "access_token", { access_token: "authenticated" });
    await pass(100);
    change({ id: 1, title: "a", secret: "x" });
    await pass(100);
    expect(rows().map(([matching]) => matching?.length)).toEqual([1]);
  });
});

describe("more than one join may ask for", () => {
  const ten = Array.from({ length: 10 }, () => "title=eq.a").join(",");
  test.each([
    ["terms", Array.from({ length: 11 }, () => subscription({ filter: ten })), "a channel has at most 100 terms"],
    [
      "patterns",
      Array.from({ length: 6 }, (_, index) => subscription({ filter: `title=${index % 2 ? "i" : ""}match.a${index}` })),
      "a channel has at most 5 terms with match or imatch",
    ],
  ])("of %s is refused, and told", async (_, entries, limit) => {
    join(entries);
    await pass(100);
    expect(systems()).toEqual([`error: Too many filters: ${limit}`, "ok: Subscribed to PostgreSQL"]);
    change({ id: 1, title: "a" });
    change({ id: 2, title: "a0 a1 a2 a3 a4 a5" });
    await pass(100);
    expect(rows()).toHaveLength(1);
  });
});

describe("another token", () => {
  const restricted: Table = {
    ...described,
    columns: described.columns.map((column) => ({ ...column, readers: ["authenticated", "service_role"] })),
  };
  const refusal = expect.stringContaining("invalid column for filter title");
  const bring = (role: string): void => world.say("g1", ann, "2", TOPIC, "access_token", { access_token: role });

  beforeEach(() => {
    world.verify = async (role) => ({ role, user: role === "anon" ? null : "ann", exp: null, all: {} });
    table = restricted;
  });

  test("has what was refused to the role before stand, also in the gateway's next life", async () => {
    join([subscription({ filter: "title=eq.a" })]);
    await pass(100);
    expect(systems()).toEqual([refusal]);
    world.restartGateway("g1");
    bring("authenticated");
    await pass(100);
    expect(systems()).toEqual([refusal, "ok: Subscribed to PostgreSQL"]);
    change({ id: 1, title: "a" });
    await pass(100);
    expect(rows()).toHaveLength(1);
  });

  test("has what stood refused, and told, until the role is back", async () => {
    join([subscription({ filter: "title=eq.a" }), subscription()], { postgres_changes_options: {} });
    bring("authenticated");
    await pass(100);
    bring("anon");
    await pass(100);
    expect(systems().slice(-2)).toEqual(["ok: Subscribed to PostgreSQL", refusal]);
    change({ id: 1, title: "a" });
    await pass(100);
    expect(rows().map(([matching]) => matching?.length)).toEqual([1]);
    bring("authenticated");
    await pass(100);
    change({ id: 2, title: "a" });
    await pass(100);
    expect(rows().map(([matching]) => matching?.length)).toEqual([1, 2]);
  });

  test("counts though the answer to the one before comes after it", async () => {
    let answer = (): void => {};
    join([subscription({ filter: "id=eq.0x10" })]);
    await pass(100);
    world.postgres.literals = () =>
      new Promise((resolve) => {
        answer = () => resolve({ json: ["16"] });
      });
    bring("service_role");
    await world.clock.pass(50);
    bring("anon");
    await world.clock.pass(50);
    answer();
    await world.clock.pass(50);
    expect(systems()).toHaveLength(2);
    expect(systems().join()).not.toContain("Subscribed");
    const { topics } = [...world.gateway("g1").sessions.values()][0] ?? {};
    expect(topics?.get(TOPIC)).toMatchObject({ membership: { bindings: [], waiting: [], refused: [{ table: "t" }] } });
  });

  test("of the same user asks nothing anew", async () => {
    join([subscription({ filter: "title=eq.a" })]);
    bring("anon");
    await pass(100);
    expect(systems()).toEqual([refusal]);
  });
});

test("who may have missed a change, as its text is too long for a pattern, is told once", async () => {
  join([subscription({ filter: 'title=match."a{200}b"' }), subscription({ filter: "id=eq.1" })]);
  await pass(100);
  for (let round = 0; round < 3; round++) change({ id: 1, title: "a".repeat(100_000) });
  await pass(100);
  expect(rows()).toHaveLength(3);
  expect(systems()).toEqual([
    "ok: Subscribed to PostgreSQL",
    expect.stringContaining("error: A change was left out: its texts are too long"),
  ]);
});

test("who has left hears nothing, and who joins again hears everything once", async () => {
  const entries = [subscription({ filter: "id=in.(1,2)" }), subscription()];
  join(entries);
  await pass(100);
  world.say("g1", ann, "2", TOPIC, "phx_leave", {});
  change({ id: 1 });
  await pass(100);
  expect(rows()).toEqual([]);
  join(entries, {}, "3");
  join(entries, {}, "4");
  await pass(100);
  change({ id: 2 });
  await pass(100);
  expect(rows().map(([matching]) => matching?.length)).toEqual([2]);
});

describe("a table that nobody captures yet", () => {
  test("is told once, and subscribed when somebody does", async () => {
    table = null;
    join([subscription()]);
    await pass(45_000);
    expect(systems()).toEqual([`error: ${NOT_CAPTURED}`]);
    world.say("g1", ann, "2", "phoenix", "heartbeat", {});
    table = described;
    await pass(45_000);
    expect(systems()).toEqual([`error: ${NOT_CAPTURED}`, "ok: Subscribed to PostgreSQL"]);
    change({ id: 1 });
    await pass(100);
    expect(rows()).toHaveLength(1);
  });

  test("is still waited for after the gateway's life has ended", async () => {
    table = null;
    join([subscription({ filter: "id=eq.1" })]);
    await pass(100);
    world.restartGateway("g1");
    table = described;
    await pass(45_000);
    change({ id: 1 });
    change({ id: 2 });
    await pass(100);
    expect(rows().map(([, row]) => row)).toEqual([{ id: 1 }]);
  });
});

test("names of tables that nobody captures wake no channel, at the join and later", async () => {
  const woken: string[] = [];
  const channel = world.channel.bind(world);
  world.channel = (object) => {
    woken.push(object);
    return channel(object);
  };
  for (let room = 0; room < 3; room++) {
    const entries = Array.from({ length: 100 }, (_, index) => subscription({ schema: `s${room}`, table: `t${index}` }));
    join(entries, {}, "1", `realtime:room${room}`);
  }
  await pass(100);
  world.say("g1", ann, "2", "phoenix", "heartbeat", {});
  await pass(45_000);
  expect(systems()).toHaveLength(300);
  expect([...new Set(woken)].sort()).toEqual(["public:room0", "public:room1", "public:room2"]);
});

describe("PostgreSQL away", () => {
  test("does not fail the join: it is told, and the subscription comes within ten seconds of its return", async () => {
    table = new Error("away");
    join([subscription()]);
    await pass(100);
    expect(replies()).toEqual([expect.objectContaining({ status: "ok" })]);
    await pass(30_000);
    expect(systems()).toEqual([`error: ${AWAY}`]);
    table = described;
    await pass(11_000);
    expect(systems()).toEqual([`error: ${AWAY}`, "ok: Subscribed to PostgreSQL"]);
  });

  test("a feed that never answers holds a join for four seconds", async () => {
    world.access = { ...world.access, table: () => new Promise(() => {}) };
    join([subscription()]);
    await world.clock.pass(4_100);
    expect(replies()).toEqual([expect.objectContaining({ status: "ok" })]);
    expect(systems()).toEqual(["error: TimeoutOnRpcCall: Node request timeout"]);
  });

  test("who has left hears nothing of what is tried for them", async () => {
    table = new Error("away");
    join([subscription()]);
    await pass(100);
    world.say("g1", ann, "2", TOPIC, "phx_leave", {});
    table = described;
    await pass(30_000);
    expect(systems()).toEqual([`error: ${AWAY}`]);
  });
});

describe("a join that waits", () => {
  const options = (timeout?: number) => ({ postgres_changes_options: { wait: true, ...(timeout && { timeout }) } });

  test("is answered when the subscription stands, with the confirmation after it", async () => {
    table = new Error("away");
    join([subscription()], options());
    await pass(3_000);
    expect(ann.frames).toEqual([]);
    table = described;
    await pass(2_000);
    expect(replies()).toEqual([expect.objectContaining({ status: "ok" })]);
    expect(systems()).toEqual(["ok: Subscribed to PostgreSQL"]);
    change({ id: 1 });
    await pass(100);
    expect(rows()).toHaveLength(1);
  });

  test.each([
    [subscription({ filter: "id=foo.1" }), 'Error parsing `filter` params: ["foo", "1"]'],
    [
      subscription({ filter: "nope=eq.1" }),
      'Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: [event: *, schema: public, table: t, filters: [{"nope", "eq", "1", false}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter nope',
    ],
  ])("is refused where the subscription is: %o", async (entry, message) => {
    join([subscription(), entry], options());
    await pass(100);
    const reason = `RealtimeDisabledForConfiguration: ${message}`;
    expect(replies()).toEqual([{ status: "error", response: { reason } }]);
    expect(systems()).toEqual([]);
  });

  test("is refused where nobody captures the table", async () => {
    table = null;
    join([subscription()], options());
    await pass(100);
    const reason = `RealtimeDisabledForConfiguration: ${NOT_CAPTURED}`;
    expect(replies()).toEqual([{ status: "error", response: { reason } }]);
  });

  test("is refused when its time is over", async () => {
    table = new Error("away");
    join([subscription()], options(2_500));
    await pass(2_000);
    expect(replies()).toEqual([]);
    await pass(500);
    const reason =
      "PostgresChangesSubscribeTimeout: Timed out after 2500ms waiting for the postgres_changes subscription";
    expect(replies()).toEqual([{ status: "error", response: { reason } }]);
  });

  test("keeps the feed of one subscription while it waits for another", async () => {
    let answer = (): void => {};
    world.postgres.literals = () =>
      new Promise((resolve) => {
        answer = () => resolve({ json: ["16"] });
      });
    join([subscription(), subscription({ table: "u", filter: "id=eq.0x10" })], options());
    await pass(8_000);
    answer();
    // Before the link could have been opened anew.
    await world.clock.pass(12);
    expect(systems()).toEqual(["ok: Subscribed to PostgreSQL"]);
    change({ id: 1 });
    await pass(1_000);
    expect(rows()).toHaveLength(1);
  });

  test("does not wait without subscriptions", async () => {
    table = new Error("away");
    join([], options());
    await pass(100);
    expect(replies()).toEqual([expect.objectContaining({ status: "ok" })]);
  });
});

test("filters, selections and ids outlive the gateway's life in memory", async () => {
  join([subscription({ filter: "id=in.(1,3)", select: ["id"] }), subscription({ filter: "title=ilike.B%" })]);
  await pass(2_000);
  world.restartGateway("g1");
  await pass(1_000);
  for (const [id, title] of [
    [1, "a"],
    [2, "bb"],
    [3, "ba"],
    [4, "c"],
  ])
    change({ id, title });
  await pass(100);
  expect(rows()).toHaveLength(4);
  expect(rows()).toEqual(
    expect.arrayContaining([
      [[ids()[0]], { id: 1 }],
      [[ids()[1]], { id: 2, title: "bb" }],
      [[ids()[0]], { id: 3 }],
      [[ids()[1]], { id: 3, title: "ba" }],
    ]),
  );
});

describe("a feed whose name is spelled in two ways", () => {
  const spellings = ["realtime:table:public.t", 'realtime:table:"public".t'] as const;
  const reason = (topic: string) => `TopicAlreadyJoined: This socket has joined the same feed as ${topic}`;

  test.each([0, 100])("is heard as it was joined first, and refused as the other, %i ms later", async (ms) => {
    join([], {}, "1", spellings[0]);
    await world.clock.pass(ms);
    join([], {}, "2", spellings[1]);
    await pass(100);
    expect(replies()).toEqual([
      expect.objectContaining({ status: "ok" }),
      { status: "error", response: { reason: reason(spellings[0]) } },
    ]);
    change({ id: 1 });
    await pass(100);
    expect(ann.heard('"record":{"id":1}')).toBe(1);
    // Once that is left, the other may be joined.
    world.say("g1", ann, "3", spellings[0], "phx_leave", {});
    join([], {}, "4", spellings[1]);
    await pass(100);
    change({ id: 2 });
    await pass(100);
    expect(ann.heard('"record":{"id":2}')).toBe(1);
  });
});

describe("topics that name a table", () => {
  const bareSchema = z.strictObject({ columns: z.unknown(), record: z.unknown(), meta: z.unknown() });
  const bare = (): unknown[] => payloads("INSERT", bareSchema).map(({ record }) => record);

  test("with a config that asks for no changes: bare frames, and a room like any other", async () => {
    join([], {}, "1", "realtime:public:t");
    const bob = world.connect("g1");
    world.say("g1", bob, "1", "realtime:public:t", "phx_join", { config: {} });
    await pass(100);
    change({ id: 1 });
    world.say("g1", bob, "2", "realtime:public:t", "broadcast", { type: "broadcast", event: "n", payload: { n: 1 } });
    await pass(100);
    expect(bare()).toEqual([{ id: 1 }]);
    expect(ann.numbers).toEqual([1]);
    expect(systems()).toEqual([]);
  });

  test.each([
    ["realtime:chat:t", { config: {} }],
    ["realtime:public:t", { config: { private: true } }],
    ["realtime:public:t", { config: { postgres_changes: [subscription({ event: "DELETE" })] } }],
    ["realtime:public", { config: {} }],
    ["realtime:t", {}],
  ])("%s with %o gets none", async (topic, payload) => {
    world.say("g1", ann, "1", topic, "phx_join", payload);
    await pass(100);
    change({ id: 1 });
    await pass(100);
    expect(bare()).toEqual([]);
  });

  test("a legacy join filters", async () => {
    world.say("g1", ann, "1", "realtime:public:t:id=eq.2", "phx_join", {});
    await pass(100);
    change({ id: 1 });
    change({ id: 2 });
    await pass(100);
    expect(bare()).toEqual([{ id: 2 }]);
  });

  test("a table that is captured later is found, in silence", async () => {
    const { captured } = world;
    world.captured = new CapturedTables([]);
    join([], {}, "1", "realtime:public:t");
    await pass(60_000);
    world.captured = captured;
    await pass(61_000);
    change({ id: 1 });
    await pass(100);
    expect(bare()).toHaveLength(1);
    expect(systems()).toEqual([]);
  });

  test("the room is joined soon, however long PostgreSQL takes, and nothing waits for a table", async () => {
    let asked = 0;
    world.postgres.captured = () => {
      asked++;
      return new Promise(() => {});
    };
    for (let room = 0; room < 20; room++) join([], {}, "1", `realtime:chat:${room}`);
    await world.clock.pass(300);
    expect(replies()).toHaveLength(20);
    const { topics } = [...world.gateway("g1").sessions.values()][0] ?? {};
    for (const topic of topics?.values() ?? []) {
      expect(topic).toMatchObject({ state: "joined", membership: { waiting: [] } });
    }
    asked = 0;
    world.gateway("g1").alarm();
    expect(asked).toBe(1);
  });

  test("outlives the gateway's life, captured or not yet", async () => {
    join([], {}, "1", "realtime:public:t");
    join([], {}, "1", "realtime:public:later");
    await pass(1_100);
    world.restartGateway("g1");
    world.captured = new CapturedTables([
      ["public", "t"],
      ["public", "later"],
    ]);
    await pass(100);
    change({ id: 1 });
    await pass(100);
    expect(bare()).toEqual([{ id: 1 }]);
    const { topics } = [...world.gateway("g1").sessions.values()][0] ?? {};
    const later = { bindings: [{ record: { feed: "feed:public.later" } }], named: null };
    expect(topics?.get("realtime:public:later")).toMatchObject({ membership: later });
  });

  test("is looked up again when PostgreSQL could not say", async () => {
    let away = true;
    world.postgres.captured = async () => {
      if (away) throw new Error("away");
      return world.captured;
    };
    join([], {}, "1", "realtime:public:t");
    await pass(100);
    away = false;
    await pass(11_000);
    change({ id: 1 });
    await pass(100);
    expect(bare()).toHaveLength(1);
    expect(systems()).toEqual([]);
  });
});

describe("sockets that send no heartbeat", () => {
  const MINUTE = 60_000;

  test("stay for a day once they follow a table by its topic, unless they seem to be somewhere", async () => {
    join([], {}, "1", "realtime:public:t");
    const bob = world.connect("g1");
    world.say("g1", bob, "1", "realtime:public:t", "phx_join", { config: {} });
    await world.clock.pass(100);
    world.say("g1", bob, "1", "realtime:public:t", "presence", { event: "track", payload: {} });
    await world.clock.pass(23 * 60 * MINUTE);
    world.gateway("g1").alarm();
    expect([ann.closedWith, bob.closedWith]).toEqual([undefined, 1000]);
    await world.clock.pass(2 * 60 * MINUTE);
    world.gateway("g1").alarm();
    expect(ann.closedWith).toBe(1000);
  });

  test("go after a minute when they have joined nothing, or have sent one before", async () => {
    const bob = world.connect("g1");
    world.say("g1", bob, "1", TOPIC, "phx_join", {});
    world.say("g1", bob, "2", "phoenix", "heartbeat", {});
    await world.clock.pass(1_100);
    world.restartGateway("g1");
    await world.clock.pass(2 * MINUTE);
    world.gateway("g1").alarm();
    expect([ann.closedWith, bob.closedWith]).toEqual([1000, 1000]);
  });
});

test("a gap in a feed puts its subscribers through a new join, and nobody resumes across it", async () => {
  join([subscription()]);
  await world.clock.pass(100);
  change({ id: "1" });
  change({}, "GAP");
  await world.clock.pass(100);
  expect(ann.frames.filter((frame) => String(frame).includes("messages were lost, join again"))).toHaveLength(1);
});
