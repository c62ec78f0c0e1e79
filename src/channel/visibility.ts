// Visibility: who may see the row of a change, judged once for all viewers of a feed.
import { imageOf, type RowChange, type RowSecurity, type TableDescription } from "../protocol/changes.ts";
import type { Access, Viewer } from "../protocol/link.ts";
import type { Timers } from "../protocol/timers.ts";
import { accessOf, type Seen } from "./access.ts";
import { askAll, type Case } from "./policies/questions.ts";
import type { Policies } from "./ports.ts";
import type { Viewers } from "./viewers.ts";

/** How long the viewers of one batch are judged: the listener waits for 10 s. Who is not judged by then sees nothing. */
const PATIENCE_MS = 7_000;

/** What is judged of one table: its rows, for viewers in those of its readers' roles that do not pass its security by. */
interface Docket {
  readonly table: TableDescription;
  readonly security: RowSecurity;
  readonly roles: ReadonlySet<string>;
  readonly cases: (Case & Seen)[];
  /** Keys of the viewers that have been judged. */
  readonly done: Set<string>;
}

export class Visibility {
  readonly #viewers: Viewers;
  readonly #policies: Policies;
  readonly #timers: Timers;

  constructor(viewers: Viewers, policies: Policies, timers: Timers) {
    this.#viewers = viewers;
    this.#policies = policies;
    this.#timers = timers;
  }

  /**
   * Who may see each of these changes, of all viewers that there are when it resolves. `gathered` resolves when they are
   * known. Rejects when PostgreSQL has to be asked and is away.
   */
  async judge(changes: readonly RowChange[], gathered: () => Promise<void>): Promise<Access[]> {
    const dockets = new Map<TableDescription, Docket>();
    const enter = (change: RowChange, member: "record" | "old_record"): Seen => {
      const { table, data } = change;
      const { security } = table;
      if (!table.rls) return { readers: new Set(table.readers) };
      if (!security) return { readers: new Set(), visible: new Set() };
      const seen = {
        readers: new Set(table.readers.filter((role) => security.free.includes(role))),
        visible: new Set<string>(),
      };
      const image = imageOf(data, member);
      if (image === undefined) return seen;
      const docket = dockets.get(table) ?? docketOf(table, security);
      dockets.set(table, docket);
      const one = { ...seen, image };
      docket.cases.push(one);
      return one;
    };
    const entered = changes.map((change) => ({
      change,
      now: enter(change, change.operation === "DELETE" ? "old_record" : "record"),
      // Not everybody may have seen it who sees what it has become.
      before: change.operation === "UPDATE" && change.table.rls ? enter(change, "old_record") : undefined,
    }));
    if (dockets.size > 0) {
      await gathered();
      await this.#hear([...dockets.values()]);
    }
    return entered.map(({ change, now, before }) => accessOf(change.table, change.operation, now, before));
  }

  /** Judges until no viewer is left, also none that has come meanwhile: who has joined misses nothing. */
  async #hear(dockets: readonly Docket[]): Promise<void> {
    const until = this.#timers.now() + PATIENCE_MS;
    const isOver = (): boolean => this.#timers.now() > until;
    for (let again = true; again; ) {
      again = false;
      for (const docket of dockets) {
        const { roles, done } = docket;
        const viewers = [...this.#viewers.all.values()].filter(({ key, role }) => roles.has(role) && !done.has(key));
        if (viewers.length === 0) continue;
        for (const { key } of viewers) done.add(key);
        again = true;
        await this.#ask(docket, viewers, isOver);
      }
    }
  }

  async #ask({ table, security, cases }: Docket, viewers: readonly Viewer[], isOver: () => boolean): Promise<void> {
    const { schema, table: name } = table;
    const { policies, columns, volatile } = security;
    const refuse = (unjudged: readonly Viewer[], reason: string): void =>
      this.#policies.unjudged(`${schema}.${name}`, unjudged, reason);
    if (!policies.some(({ permissive }) => permissive)) return;
    if (volatile) return refuse(viewers, "a policy reads exp, iat, nbf or jti, which change with every token");
    if (columns === null) return refuse(viewers, "a policy reads a column whose value no captured row holds");
    const late = await askAll(this.#policies, { schema, table: name, columns }, cases, viewers, isOver);
    if (late.length > 0) refuse(late, "the policies take too long");
  }
}

function docketOf(table: TableDescription, security: RowSecurity): Docket {
  const roles = new Set(table.readers.filter((role) => !security.free.includes(role)));
  return { table, security, roles, cases: [], done: new Set() };
}
