// The quick start: a client joins a channel, broadcasts, tracks its presence, and sees rows of `public.todos` change.
//
// Run it in the project's folder while `npm start` runs in another terminal: `npm run quickstart`. The client is the
// stock Supabase client; only its URL and key are ours. The rows are written by a plain PostgreSQL client.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { WebSocket } from "ws";

const LISTEN_SECONDS = 60;

const project = join(dirname(fileURLToPath(import.meta.url)), "..");
const home = process.env.NSELF_HOME ?? join(project, ".nself");
const { url, anonKey, databaseUrl } = JSON.parse(readFileSync(runningStack(), "utf8"));

await requireTable();

const missing = new Set(["SUBSCRIBED", "broadcast", "presence", "INSERT", "UPDATE", "DELETE"]);
const show = (what, text) => console.log(`${what.padEnd(10)} ${text}`);

const supabase = createClient(url, anonKey, {
  // Node has a WebSocket of its own since version 22.
  realtime: { transport: globalThis.WebSocket ?? WebSocket },
});
const channel = supabase.channel("room-1", {
  config: { broadcast: { self: true, ack: true }, presence: { key: "ann" } },
});

channel
  .on("broadcast", { event: "*" }, ({ event, payload, meta }) => {
    missing.delete("broadcast");
    show("broadcast", `${event} ${JSON.stringify(payload)}  (seq ${meta.seq})`);
  })
  .on("presence", { event: "join" }, ({ key }) => {
    missing.delete("presence");
    show("presence", `${key} joined`);
  })
  .on("postgres_changes", { event: "*", schema: "public", table: "todos" }, ({ eventType, new: row, old }) => {
    missing.delete(eventType);
    show("row", `${eventType} ${JSON.stringify(eventType === "DELETE" ? old : row)}`);
  })
  .on("system", {}, ({ status, message }) => {
    show("system", `${status}: ${message}`);
    if (status === "error") stop("public.todos is not captured yet. Run: npx nself realtime subscribe public.todos");
  })
  .subscribe(async (status, error) => {
    show("channel", error ? `${status}: ${error.message}` : status);
    if (status !== "SUBSCRIBED" || !missing.delete(status)) return;
    await channel.track({ online_at: new Date().toISOString() });
    await channel.send({ type: "broadcast", event: "hello", payload: { from: "the quick start" } });
    console.log(`Listening for ${LISTEN_SECONDS} s: change public.todos from anywhere. Ctrl+C ends.`);
    await changeRows();
  });

function runningStack() {
  const path = join(home, "stack.json");
  if (existsSync(path)) return path;
  stop(`No running stack: ${path} is not there. Start one with \`npm start\` in another terminal.`);
}

function stop(reason) {
  console.error(reason);
  process.exit(1);
}

/** Only the database that comes with the stack has the table from the beginning. */
async function requireTable() {
  const { rows } = await withDatabase((database) => database.query("select to_regclass('public.todos') as id"));
  if (rows[0].id !== null) return;
  stop(`This database has no table public.todos: make one, and capture its changes.

  create table public.todos (
    id bigint generated always as identity primary key, task text not null, done boolean not null default false
  );

  npx nself realtime subscribe public.todos`);
}

function changeRows() {
  return withDatabase(async (database) => {
    const { rows } = await database.query("insert into public.todos (task) values ('buy milk') returning id");
    await database.query("update public.todos set done = true where id = $1", [rows[0].id]);
    await database.query("delete from public.todos where id = $1", [rows[0].id]);
  });
}

async function withDatabase(work) {
  const database = new pg.Client({ connectionString: databaseUrl });
  try {
    await database.connect();
    return await work(database);
  } catch (error) {
    stop(`The database: ${error.message || error.code}`);
  } finally {
    await database.end();
  }
}

async function end() {
  await supabase.removeAllChannels();
  console.log(missing.size === 0 ? "All of it arrived." : `Did not arrive: ${[...missing].join(", ")}`);
  process.exit(missing.size === 0 ? 0 : 1);
}

process.on("SIGINT", end);
setTimeout(end, LISTEN_SECONDS * 1000);
