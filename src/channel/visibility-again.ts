// Visibility of the past: what has been sent is judged again for those who did not hear it then.
import { imageOf } from "../protocol/changes.ts";
import { cutMembers } from "../protocol/json.ts";
import type { Access, Message, Viewer } from "../protocol/link.ts";
import { beforeOf, type Seen, sightOf } from "./access.ts";
import { askAll, type Case } from "./policies/questions.ts";
import type { Policies } from "./ports.ts";

/** Rows times viewers that are judged again at once; who has missed more starts anew. */
const MAX_JUDGEMENTS = 200_000;

/** Passes the security of every table by, whether PostgreSQL can be asked or not. */
const SERVICE = "service_role";

interface Rows {
  readonly schema: string;
  readonly table: string;
  readonly cases: Case[];
}

/** Whether viewers were judged one by one for a message. */
export function isJudged({ access }: Message): boolean {
  return access?.visible !== undefined;
}

/**
 * Messages as these viewers may see them by the policies that there are now, whatever was known when they were sent.
 * Rejects when PostgreSQL is away, or has too much to judge.
 */
export async function judgeAgain(
  messages: readonly Message[],
  viewers: readonly Viewer[],
  policies: Policies,
  isOver: () => boolean,
): Promise<Message[]> {
  const asking = viewers.filter(({ role }) => role !== SERVICE);
  if (messages.filter(isJudged).length * asking.length > MAX_JUDGEMENTS) throw new Error("too much was missed");
  const tables = new Map<string, Rows>();
  const enter = (body: string, member: "record" | "old_record", readers: readonly string[] = []): Seen => {
    const seen = { readers: new Set(readers.filter((role) => role === SERVICE)), visible: new Set<string>() };
    const image = imageOf(body, member);
    if (image !== undefined) rowsOf(tables, body).cases.push({ ...seen, image });
    return seen;
  };
  const entered = messages.map((message) => {
    const { access, body, event } = message;
    if (access === undefined || typeof body !== "string" || !isJudged(message)) return { message };
    const now = enter(body, event === "DELETE" ? "old_record" : "record", access.readers);
    if (event !== "UPDATE") return { message, access, now };
    return { message, access, now, before: enter(body, "old_record", (access.before ?? access).readers) };
  });
  if (asking.length > 0) {
    for (const { schema, table, cases } of tables.values()) {
      const late = await askAll(policies, { schema, table, columns: null }, cases, asking, isOver);
      if (late.length > 0) throw new Error("the policies take too long");
    }
  }
  return entered.map(({ message, access, now, before }) =>
    now === undefined ? message : { ...message, access: renewed(access, now, before) },
  );
}

function renewed({ before: _before, key = [], ...kept }: Access, now: Seen, before: Seen | undefined): Access {
  return { ...kept, ...sightOf(now), ...(before && beforeOf(now, before, key)) };
}

function rowsOf(tables: Map<string, Rows>, body: string): Rows {
  const { schema = '""', table = '""' } = cutMembers(body, ["schema", "table"]);
  const name = `${schema}.${table}`;
  const rows = tables.get(name) ?? { schema: JSON.parse(schema), table: JSON.parse(table), cases: [] };
  tables.set(name, rows);
  return rows;
}
