// Tells the edge when the policies on realtime.messages have changed: what it remembers of rights holds no more.
import type pg from "pg";
import type { Lease } from "./lease.ts";

/**
 * All that decides who may do what with a message, apart from what policies look up: an event trigger would be told of
 * it at once, but needs rights that managed databases do not give.
 */
const digest = `
  select md5(concat_ws(e'\\n', c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relacl,
    (select string_agg(concat_ws(' ', a.attname, a.attacl), e'\\n' order by a.attnum)
     from pg_attribute a where a.attrelid = c.oid and a.attacl is not null),
    (select string_agg(p::text, e'\\n' order by p.polname) from pg_policy p where p.polrelid = c.oid)))
  from pg_class c where c.oid = 'realtime.messages'::regclass`;

/**
 * Tells the edge by `post` if the policies are not those that it was told of last, and stores that it has been told.
 * Returns why it could not be told, null if all is well. Rejects with PostgreSQL's error.
 */
export async function tellPolicies(
  client: pg.ClientBase,
  { owner, epoch }: Lease,
  post: (digest: string) => Promise<string | null>,
): Promise<string | null> {
  const { rows } = await client.query<{ now: string; told: string | null }>({
    name: "policies",
    text: `select (${digest}) as now, policies_told as told from realtime.cdc_consumers where name = 'edge'`,
  });
  const [row] = rows;
  if (!row || row.now === row.told) return null;
  const failure = await post(row.now);
  if (failure !== null) return failure;
  await client.query(
    "update realtime.cdc_consumers set policies_told = $3 where name = 'edge' and owner = $1::uuid and epoch = $2",
    [owner, epoch, row.now],
  );
  return null;
}
