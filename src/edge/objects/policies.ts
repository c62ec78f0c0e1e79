// The policies of tables, asked in PostgreSQL for a feed.
import type { Policies } from "../../channel/ports.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";

export function askPolicies(env: Env, channel: string): Policies {
  const warn = (table: string, viewers: number, reason: string | undefined): void =>
    console.warn(JSON.stringify({ event: "rows not shown", channel, table, viewers, reason }));
  return {
    async ask(question) {
      const answer = await openStore(env).visibility.ask(question);
      if (answer === null) return { visible: new Map(), left: [] };
      if (typeof answer === "string") return answer;
      const failures = Object.values(answer.failed);
      if (failures.length > 0) warn(`${question.schema}.${question.table}`, failures.length, failures[0]);
      return { visible: new Map(Object.entries(answer.visible)), left: answer.left };
    },
    unjudged: (table, viewers, reason) => warn(table, viewers.length, reason),
  };
}
