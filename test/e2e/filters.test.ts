// Filters against PostgreSQL: for seeded random rows and filters, what is delivered is what a WHERE clause selects.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { seededRandom } from "../support/world.ts";

let stack: TestStack;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack();
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  await db.query("set timezone = 'UTC'");
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

const ORDER = ["lt", "lte", "gt", "gte"];
const EQUALITY = ["eq", "neq", "isdistinct"];
const ALL = [...EQUALITY, ...ORDER, "in"];
const TEXT = [...ALL, "like", "ilike", "match", "imatch"];

interface Subject {
  /** The type as the table has it, and as its values are cast where it is not the same. */
  readonly type: string;
  readonly operators: readonly string[];
  readonly values: readonly string[];
  /** Under which collation PostgreSQL orders and folds as filters do. */
  readonly collate?: string;
}

const texts = [
  "",
  "a",
  "A",
  "b",
  "é",
  "É",
  "abc",
  "aBc",
  "a%c",
  "a_c",
  "a\\c",
  "x,y",
  "(q)",
  'say "hi"',
  "\u{1F600}",
  "\uE000",
];
const instants = [
  "2026-01-01 10:00",
  "2026-01-01T10:00:00.5",
  "infinity",
  "-infinity",
  "0044-03-15 BC",
  "0045-03-15 BC",
];
const subjects: Record<string, Subject> = {
  small: { type: "smallint", operators: ALL, values: ["-32768", "0", " 7 ", "+7", "32767"] },
  whole: { type: "int", operators: ALL, values: ["-5", "0", "16", "0x10", "2147483647"] },
  big: {
    type: "bigint",
    operators: ALL,
    values: ["9007199254740993", "9007199254740992", "-9223372036854775808", "1_000"],
  },
  exact: {
    type: "numeric",
    operators: ALL,
    values: [
      "0",
      "-0.0",
      "1.5",
      "1.50",
      "-0.0001",
      "1e3",
      "99999999999999999999.00000001",
      "NaN",
      "Infinity",
      "-Infinity",
    ],
  },
  money2: { type: "numeric(10,2)", operators: ALL, values: ["1.5", "1.50", "1.505", "-3"] },
  single: {
    type: "real",
    operators: ALL,
    values: ["0.1", "0.10000000149", "1e10", "-0", "0", "NaN", "16777217", "Infinity"],
  },
  double: {
    type: "float8",
    operators: ALL,
    values: ["0.1", "0.30000000000000004", "0.3", "1e300", "-Infinity", "NaN", "-0", "0"],
  },
  yes: { type: "bool", operators: [...ALL, "is"], values: ["true", "f", "yes", "of", "1"] },
  label: { type: "text", operators: TEXT, values: texts, collate: "pg_c_utf8" },
  short: { type: "varchar(20)", operators: TEXT, values: texts, collate: "pg_c_utf8" },
  padded: { type: "char(5)", operators: TEXT, values: ["a", "a  ", "ab", "A", ""], collate: "pg_c_utf8" },
  key: {
    type: "uuid",
    operators: ALL,
    values: [
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
      "00000000-0000-4000-8000-000000000000",
    ],
  },
  bytes: { type: "bytea", operators: ALL, values: ["\\x", "\\x00", "\\xff00", "abc"] },
  day: {
    type: "date",
    operators: ALL,
    values: ["2026-01-01", "Jan 5, 2026", "10000-01-01", "infinity", "0044-03-15 BC"],
  },
  local: { type: "timestamp", operators: ALL, values: instants },
  instant: { type: "timestamptz", operators: ALL, values: [...instants, "2026-01-01 11:00+01", "2026-01-01 10:00Z"] },
  clock: { type: "time", operators: ALL, values: ["10:00", "10:00:00.5", "24:00", "9:00 am"] },
  zoned: { type: "timetz", operators: EQUALITY, values: ["10:00+00", "11:00+01", "10:00Z"] },
  span: {
    type: "interval",
    operators: ALL,
    values: ["1 mon", "30 days", "720 hours", "-1 day", "1 year -2 mons", "P1DT1.5S", "-0.5 sec"],
  },
  mood: { type: "filter_mood", operators: ALL, values: ["sad", "ok", "happy"] },
  doc: {
    type: "jsonb",
    operators: [...EQUALITY, "in"],
    values: ['{"a": 1, "b": [1.0]}', '{"b":[1],"a":1.0}', "[]", "{}", "1", '"1"'],
  },
  list: { type: "int[]", operators: EQUALITY, values: ["{}", "{1,2}", "{1,NULL}", "{{1,2}}", "{2,1}"] },
  words: { type: "text[]", operators: EQUALITY, values: ["{}", '{a,"b c"}', "{NULL}", '{"NULL"}'] },
  moods: { type: "filter_mood[]", operators: EQUALITY, values: ["{ok}", "{ok,sad}"] },
  host: { type: "inet", operators: [...EQUALITY, "in"], values: ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "::1"] },
  bits: { type: "varbit", operators: EQUALITY, values: ["101", "0101", ""] },
  domain: { type: "filter_percent", operators: ALL, values: ["0", "50", "100"] },
};

const patterns = ["%", "a%", "%c", "_", "a_c", "a\\%c", "%B%", "É", "a\\\\c", '%"hi"', "____", "\u{1F600}"];
const regexes = ["^a", "c$", "^.$", "[[:alpha:]]{3}", "^\\w+$", "b|é", "\\(", "a.c", "^$", "[^a-z]"];

interface Case {
  readonly filter: string;
  readonly where: string;
}

/** A random filter on a column, and the condition that PostgreSQL is asked instead. */
function caseOf(column: string, subject: Subject, pick: <T>(from: readonly T[]) => T): Case {
  const operator = pick([...subject.operators, "is"]);
  const negated = pick([false, false, true]);
  const collate = subject.collate === undefined ? "" : ` collate "${subject.collate}"`;
  const of = `${column}${collate}`;
  const make = (value: string, condition: string): Case => ({
    filter: `${column}=${negated ? "not." : ""}${operator}.${value}`,
    where: negated ? `not (${condition})` : condition,
  });
  if (operator === "is") {
    const word = subject.type === "bool" ? pick(["null", "true", "false", "unknown"]) : "null";
    return make(word, `${column} is ${word}`);
  }
  if (operator === "in") {
    const elements = [pick(subject.values), pick(subject.values)].map(quoted);
    if (pick([false, false, true])) elements.push("NULL");
    return make(`(${elements.join(",")})`, `${column} = any (${pg.escapeLiteral(`{${elements.join(",")}}`)})`);
  }
  const isPattern = operator.endsWith("like");
  const isRegex = operator.endsWith("match");
  const value = pick(isPattern ? patterns : isRegex ? regexes : subject.values);
  const sql = {
    eq: "=",
    neq: "<>",
    lt: "<",
    lte: "<=",
    gt: ">",
    gte: ">=",
    like: "like",
    ilike: "ilike",
    match: "~",
    imatch: "~*",
  };
  const symbol = Object.entries({ ...sql, isdistinct: "is distinct from" }).find(([name]) => name === operator)?.[1];
  return make(quoted(value), `${of} ${symbol} ${pg.escapeLiteral(value)}`);
}

function quoted(value: string): string {
  return `"${value.replace(/[\\"]/g, "\\$&")}"`;
}

const CHANNELS = 20;
const FILTERS = 40;
const ROWS = 80;

test.each([1, 2])("seed %i: 800 filters deliver of 80 rows what PostgreSQL selects", async (seed) => {
  const random = seededRandom(seed * 7919);
  const pick = <T>(from: readonly T[]): T => {
    const found = from[Math.floor(random() * from.length)];
    if (found === undefined) throw new Error("nothing to pick from");
    return found;
  };
  const table = `filtered_${seed}`;
  await db.query(`
    do $$ begin
      create type filter_mood as enum ('sad', 'ok', 'happy');
      create domain filter_percent as int check (value between 0 and 100);
    exception when duplicate_object then null; end $$;
    create table ${table} (id int primary key, ${Object.entries(subjects).map(([name, { type }]) => `${name} ${type}`)});`);
  await db.query("select realtime.subscribe($1)", [table]);

  const names = Object.keys(subjects);
  const cases = Array.from({ length: CHANNELS * FILTERS }, () => {
    const name = pick(names);
    const subject = subjects[name];
    if (subject === undefined) throw new Error(name);
    return caseOf(name, subject, pick);
  });
  // A channel may have few regular expressions, so they are dealt first.
  const isRegex = ({ filter }: Case): boolean => /\.i?match\./.test(filter);
  const dealt = [...cases.filter(isRegex), ...cases.filter((each) => !isRegex(each))];
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  const caseById = new Map<string, Case>();
  for (let channel = 0; channel < CHANNELS; channel++) {
    const own = dealt.filter((_, index) => index % CHANNELS === channel);
    const topic = `realtime:filters-${seed}-${channel}`;
    const changes = own.map(({ filter }) => ({ event: "*", schema: "public", table, filter }));
    const reply = await socket.join(topic, { postgres_changes: changes });
    const echoed = reply.response.postgres_changes;
    if (!Array.isArray(echoed)) throw new Error(JSON.stringify(reply));
    for (const [index, { id }] of echoed.entries()) {
      const found = own[index];
      if (found !== undefined) caseById.set(`${topic} ${id}`, found);
    }
  }
  const refusals = socket.frames.filter(({ event, payload }) => event === "system" && payload.status === "error");
  expect(refusals.map(({ payload }) => payload.message)).toEqual([]);

  const delivered = new Map<string, Set<number>>();
  for (let id = 1; id <= ROWS; id++) {
    const values = Object.values(subjects).map(({ values }) => (random() < 0.2 ? null : pick(values)));
    await db.query(`insert into ${table} values ($1, ${values.map((_, index) => `$${index + 2}`)})`, [id, ...values]);
  }
  // Everybody's last: a marker that no filter keeps out.
  await socket.join(`realtime:end-${seed}`, { postgres_changes: [{ event: "DELETE", schema: "public", table }] });
  await db.query(`delete from ${table} where id = 1`);
  await db.query(`insert into ${table} (id) values (0)`);
  await socket.until(
    "the end",
    1,
    ({ event, topic }) => event === "postgres_changes" && topic === `realtime:end-${seed}`,
  );

  for (const { topic, event, payload } of socket.frames) {
    const { ids, data } = payload as { ids?: number[]; data?: { type: string; record?: { id: number } } };
    if (event !== "postgres_changes" || data?.type !== "INSERT" || data.record === undefined) continue;
    for (const id of ids ?? []) {
      const filter = caseById.get(`${topic} ${id}`)?.filter ?? "?";
      delivered.set(filter, (delivered.get(filter) ?? new Set<number>()).add(data.record.id));
    }
  }
  const wrong: string[] = [];
  for (const { filter, where } of cases) {
    const { rows } = await db.query(`select id from ${table} where id > 1 and (${where}) order by id`);
    const expected = rows.map(({ id }) => id).join();
    const got = [...(delivered.get(filter) ?? [])]
      .filter((id) => id > 1)
      .sort((a, b) => a - b)
      .join();
    if (got !== expected) wrong.push(`${filter} (${where})\n  got      ${got}\n  expected ${expected}`);
  }
  expect(wrong).toEqual([]);
  socket.close();
});
