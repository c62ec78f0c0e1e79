// What the stack asks of its PostgreSQL, embedded or not, before others use it.

import pg from "pg";
import { StackError } from "./errors.ts";

const PROBE_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 10_000;

/** Whether the server lets us in, right now. */
export async function accepts(databaseUrl: string): Promise<boolean> {
  return (await connectProblem(databaseUrl, PROBE_TIMEOUT_MS)) === undefined;
}

/** @throws StackError when the database that DATABASE_URL names cannot be used */
export async function requireDatabase(databaseUrl: string): Promise<void> {
  const problem = await connectProblem(databaseUrl, CONNECT_TIMEOUT_MS);
  if (problem) throw new StackError(`The database of DATABASE_URL cannot be used: ${problem}`);
}

/**
 * Readies the schema `public` of a new database of ours: the three roles of a token get what they have at Supabase, and
 * there is a table to play with. Done once: what is revoked or dropped later stays so.
 */
export async function preparePublicSchema(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  // The query under way rejects with the same; without a listener the process would end.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query(`
      do $$ begin
        if exists (select from pg_default_acl where defaclnamespace = 'public'::regnamespace) then return; end if;
        grant usage on schema public to anon, authenticated, service_role;
        alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
        alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
        alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
        create table if not exists public.todos (
          id bigint generated always as identity primary key,
          task text not null,
          done boolean not null default false
        );
      end $$`);
  } finally {
    await client.end();
  }
}

async function connectProblem(databaseUrl: string, timeoutMs: number): Promise<string | undefined> {
  const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: timeoutMs });
  // A server that goes away while we say goodbye reports here, when the answer is known already.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.end();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message || error.name : String(error);
  }
}
