// The command migrate: takes over what another realtime server of the same kind was told.
import { Argument, type Command } from "commander";
import type { Client } from "pg";
import { NO_DATABASE } from "../../settings/database.ts";
import { databaseError, databaseUrl } from "../../settings/values.ts";
import { CliError, EXIT, ToldError } from "../errors.ts";
import { heading, line, progress, success, warning } from "../output.ts";
import { admin, answer, findServer, rows } from "../server.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** More topics than anybody registers; their messages go back three days. */
const MAX_TOPICS = 10_000;
/** What a slug leaves as it is: such a topic stays itself when it is registered. */
const OWN_SLUG = /^(?=.*[\p{L}\p{N}])[\p{L}\p{M}\p{N}._:-]+$/u;

const POLICIES = `
  select format('create policy %I on realtime.messages as %s for %s to %s', policyname, lower(permissive), lower(cmd),
      (select string_agg(case role when 'public' then 'public' else quote_ident(role) end, ', ') from unnest(roles) role))
    || coalesce(' using (' || qual || ')', '') || coalesce(' with check (' || with_check || ')', '') as statement
  from pg_policies where schemaname = 'realtime' and tablename = 'messages' order by policyname`;

const FUNCTIONS = `
  select * from (
    select format('%I.%I', n.nspname, p.proname) as name, array(
      select distinct used[1] from regexp_matches(pg_get_functiondef(p.oid), '\\mrealtime\\.(\\w+)\\s*\\(', 'g') used order by 1
    ) as uses
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where p.prokind in ('f', 'p') and n.nspname not in ('realtime', 'pg_catalog', 'information_schema')
  ) found where uses <> '{}' order by name`;

interface Options {
  dbUrl?: string;
  dryRun?: true;
}

interface Published {
  name: string;
  quoted: string;
  events: string[];
  /** The rows that it publishes, where those are not all; as a filter of `subscribe`. */
  filter: string | null;
}

interface Plan {
  /** Of the publication supabase_realtime, with the changes that it publishes. */
  tables: Published[];
  channels: { topic: string; type: "public" | "private" }[];
  /** Topics that cannot be registered, each with the reason. */
  left: { topic: string; reason: string }[];
  /** There are more topics than were read. */
  cut: boolean;
  /** Policies on `realtime.messages`, each as the statement that makes it. */
  policies: string[];
  /** Functions outside of the schema `realtime` that use what is in it. */
  functions: { name: string; uses: string[] }[];
}

/** Adds the group migrate. */
export function migrateCommands(program: Command): void {
  const group = program.command("migrate").description("take over from another realtime server");
  const described = (command: Command) =>
    command
      .description("take over channels and captured tables from a database of Supabase; may be repeated")
      .addArgument(new Argument("[part]", "what is taken over").choices(["realtime"]))
      .option("--db-url <url>", "the Supabase database, which is only read (default: SUPABASE_DB_URL)")
      .option("--dry-run", "say what would be done, and do nothing");
  described(group.command("from-supabase")).action((_part, options: Options) => fromSupabase(options));
  const from = group.command("from").description("the same in two words");
  described(from.command("supabase")).action((_part, options: Options) => fromSupabase(options));
}

async function fromSupabase({ dbUrl = process.env.SUPABASE_DB_URL, dryRun }: Options): Promise<void> {
  if (!dbUrl) {
    throw new CliError(
      "which database? Give --db-url or set SUPABASE_DB_URL, such as postgresql://postgres:…@db.…:5432/postgres",
      {
        exit: EXIT.usage,
      },
    );
  }
  if (!databaseUrl.safeParse(dbUrl).success) {
    throw new CliError(
      `the URL of the Supabase database ${databaseError}; in a password, write # as %23, / as %2F, ? as %3F and % as %25`,
      { exit: EXIT.usage },
    );
  }
  const plan = await readPlan(dbUrl);
  for (const { topic, reason } of plan.left) warning(`${topic} stays an open channel: ${reason}`);
  if (plan.cut) warning(`there are more topics than ${MAX_TOPICS}: those after the first stay open channels`);
  if (dryRun) {
    tell(plan, await lackedBy(plan));
    return tellNotTaken(plan);
  }
  const channels = await takeChannels(plan);
  const tables = await takeTables(plan);
  const server = findServer();
  tellNotTaken(plan);
  line();
  line(`Presence needs nothing: give your Supabase client the URL ${server.url} and the anon key of this server.`);
  if (!channels || !tables) throw new ToldError();
}

function tell({ tables, channels }: Plan, lacked: ReadonlySet<string>): void {
  heading("Would be done (nothing was changed):");
  for (const { topic, type } of channels) line(`  channel create ${topic} ${type}`);
  for (const { name, events, filter } of tables) {
    const rows = filter === null ? "" : ` --filter ${inShell(filter)}`;
    if (!lacked.has(name)) line(`  subscribe ${name} ${events.join(",")}${rows}`);
  }
  if (lacked.size === 0) return;
  line();
  line("Could not be done: the database of this server has no such table. Make it first:");
  for (const name of lacked) line(`  ${name}`);
}

function inShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The tables that the server's own database lacks, as far as that is known and can be asked here. */
async function lackedBy({ tables }: Plan): Promise<ReadonlySet<string>> {
  const url = databaseHere();
  if (url === undefined || url === NO_DATABASE) return new Set();
  try {
    const there = await readFrom(url, async (client) => {
      const asked = "select quoted from unnest($1::text[]) quoted where to_regclass(quoted) is not null";
      return (await client.query<{ quoted: string }>(asked, [tables.map(({ quoted }) => quoted)])).rows;
    });
    const found = new Set(there.map(({ quoted }) => quoted));
    return new Set(tables.filter(({ quoted }) => !found.has(quoted)).map(({ name }) => name));
  } catch (error) {
    warning(`whether the tables are in this server's database was not seen: ${reasonOf(error)}`);
    return new Set();
  }
}

/** The database of the server that the commands would ask; a plan can be shown where there is none yet. */
function databaseHere(): string | undefined {
  try {
    return findServer().databaseUrl;
  } catch (error) {
    if (error instanceof CliError) return undefined;
    throw error;
  }
}

/** What only works where the tables of the application are, and is for its owner to do. */
function tellNotTaken({ policies, functions }: Plan): void {
  if (policies.length > 0) {
    line();
    line("Not taken over: policies on realtime.messages. They ask your tables: run these where those are, after init:");
    for (const policy of policies) line(`  ${policy};`);
  }
  if (functions.length > 0) {
    line();
    line(
      "Not taken over: functions that use the schema realtime, and their triggers. Its send, broadcast_changes, topic and",
    );
    line("messages are here as they are there:");
    for (const { name, uses } of functions) line(`  ${name} uses ${uses.map((used) => `realtime.${used}`).join(", ")}`);
  }
}

/** Reads a database of Supabase, and writes nothing there. Throws CliError when it cannot be read. */
async function readPlan(url: string): Promise<Plan> {
  try {
    return await readFrom(url, planIn);
  } catch (cause) {
    throw new CliError(`the Supabase database cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

/** Asks a database that nothing is written to. */
async function readFrom<Answer>(url: string, ask: (client: Client) => Promise<Answer>): Promise<Answer> {
  // Loaded here alone: most commands need no PostgreSQL client, and each should start at once.
  const { default: pg } = await import("pg");
  let client: Client | undefined;
  try {
    client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
    // The query under way rejects with the same; without a listener the process would end.
    client.on("error", () => undefined);
    await client.connect();
    await client.query("begin read only");
    return await ask(client);
  } finally {
    await client?.end().catch(() => undefined);
  }
}

async function planIn(client: Client): Promise<Plan> {
  const { rows: published } = await client.query<Published>(
    // Row filters are PostgreSQL 15's, and so is their column.
    `select t.schemaname || '.' || t.tablename as name, format('%I.%I', t.schemaname, t.tablename) quoted,
       array_remove(array[case when p.pubinsert then 'INSERT' end, case when p.pubupdate then 'UPDATE' end,
         case when p.pubdelete then 'DELETE' end], null) events,
       to_jsonb(t) ->> 'rowfilter' as filter
     from pg_publication_tables t join pg_publication p using (pubname)
     where pubname = 'supabase_realtime' order by t.schemaname, t.tablename`,
  );
  const { rows: there } = await client.query("select to_regclass('realtime.messages') is not null as yes");
  const { rows: topics } = there[0]?.yes
    ? await client.query<{ topic: string; kinds: boolean[] }>(
        `select topic, array_agg(distinct coalesce(private, false)) kinds from realtime.messages
         group by topic order by topic limit ${MAX_TOPICS + 1}`,
      )
    : { rows: [] };
  const { rows: policies } = await client.query<{ statement: string }>(POLICIES);
  const { rows: functions } = await client.query<{ name: string; uses: string[] }>(FUNCTIONS);
  return {
    tables: published
      .filter(({ events }) => events.length > 0)
      .map((table) => ({ ...table, filter: table.filter && withoutCasts(table.filter) })),
    ...sorted(topics.slice(0, MAX_TOPICS)),
    cut: topics.length > MAX_TOPICS,
    policies: policies.map(({ statement }) => statement),
    functions,
  };
}

/**
 * A condition without the casts that PostgreSQL itself writes: of literals, and of a column to text. With any other the
 * server refuses it, and the table is not captured: to leave a condition out would show rows that it hides.
 */
function withoutCasts(condition: string): string {
  return condition.replaceAll(
    /('(?:[^']|'')*')(?:::(?:"[^"]+"|[a-z_]\w*)(?:\.\w+)?(?: varying| precision| with(?:out)? time zone)?(?:\([\d, ]+\))?)?|\(([a-z_]\w*|"(?:[^"]|"")+")\)::text/g,
    (_, literal: string | undefined, column: string | undefined) => literal ?? column ?? "",
  );
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || error.name;
}

function sorted(topics: { topic: string; kinds: boolean[] }[]): Pick<Plan, "channels" | "left"> {
  const channels: Plan["channels"] = [];
  const left: Plan["left"] = [];
  for (const { topic, kinds } of topics) {
    if (!OWN_SLUG.test(topic) || topic !== topic.toLowerCase()) {
      left.push({ topic, reason: "a registered name holds lower-case letters, digits and . _ : - alone" });
    } else if (kinds.length > 1) {
      left.push({ topic, reason: "it has a public and a private room, and a registered channel is one of them" });
    } else {
      channels.push({ topic, type: kinds[0] ? "private" : "public" });
    }
  }
  return { channels, left };
}

/** Registers the topics. What is refused is told, and the rest goes on: the next run finds it done. */
async function takeChannels({ channels }: Plan): Promise<boolean> {
  let all = true;
  for (const { topic, type } of channels) {
    try {
      const { created } = await answer(admin().channels.$post({ json: { name: topic, type } }));
      if (created) success(`Channel created: ${topic} (${type})`);
      else progress(`Channel is there already: ${topic} (${type})`);
    } catch (error) {
      all = refused(error);
    }
  }
  return all;
}

/** Captures the tables, and leaves alone those that are captured: their events may have been chosen since. */
async function takeTables({ tables }: Plan): Promise<boolean> {
  const { subscriptions } = admin();
  const captured = new Set((await rows((query) => subscriptions.$get({ query }))).map(({ table_name }) => table_name));
  let all = true;
  for (const { name, quoted, events, filter } of tables) {
    if (captured.has(name)) {
      progress(`Captured already: ${name}`);
      continue;
    }
    try {
      await answer(subscriptions.$post({ json: { table: quoted, events, ...(filter && { filter }) } }));
      success(`Subscribed to ${name} (${events.join(", ")})${filter === null ? "" : `, rows where ${filter}`}`);
    } catch (error) {
      all = refused(error);
      if (filter !== null) warning(`${name} is not captured: its publication shows only rows where ${filter}`);
    }
  }
  return all;
}

/** Answers false. Throws what is no refusal of this one thing, such as a server that is away. */
function refused(error: unknown): false {
  if (!(error instanceof CliError) || error.code === "server_away" || error.code === undefined) throw error;
  warning(error.message);
  return false;
}
