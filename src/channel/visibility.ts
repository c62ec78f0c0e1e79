// Visibility: who may see the row of a change, judged once for all viewers of a feed.
import { imageOf, type RowChange, type RowSecurity, type TableDescription } from "../protocol/changes.ts";
import { isObject, type JsonText, parseJson } from "../protocol/json.ts";
import type { Access, Viewer } from "../protocol/link.ts";
import type { Timers } from "../protocol/timers.ts";
import { accessOf, type Seen } from "./access.ts";
import type { Audience, Plan } from "./policies/plan.ts";
import { Plans, type RolePlans } from "./policies/plans.ts";
import { askAll, type Case } from "./policies/questions.ts";
import { Beyond, type Row } from "./policies/terms.ts";
import type { Policies } from "./ports.ts";
import type { Viewers } from "./viewers.ts";

/** How long the viewers of one batch are judged: the listener waits for 10 s. Who is not judged by then sees nothing. */
const PATIENCE_MS = 7_000;

/** A row to be judged; what it holds is read when the first plan asks. */
class Sitting implements Case, Seen {
  readonly image: JsonText;
  readonly readers: Set<string>;
  readonly visible = new Set<string>();
  #row: Row | undefined;

  constructor(image: JsonText, readers: Iterable<string>) {
    this.image = image;
    this.readers = new Set(readers);
  }

  get row(): Row {
    if (this.#row === undefined) {
      const row = parseJson(this.image);
      this.#row = isObject(row) ? row : {};
    }
    return this.#row;
  }
}

/** What is judged of one table: its rows, for viewers in those of its readers' roles that do not pass its security by. */
interface Docket {
  readonly table: TableDescription;
  readonly security: RowSecurity;
  readonly plans: RolePlans;
  readonly cases: Sitting[];
  /** By role, those that only PostgreSQL can judge: a value in them is beyond the plan. */
  readonly hard: Map<string, Set<Sitting>>;
  /** The viewers that have been judged, by key. */
  heard: ReadonlyMap<string, Viewer> | undefined;
}

export class Visibility {
  readonly #viewers: Viewers;
  readonly #policies: Policies;
  readonly #timers: Timers;
  readonly #plans = new Plans();

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
    const entered = changes.map((change) => ({
      change,
      now: this.#enter(dockets, change, change.operation === "DELETE" ? "old_record" : "record"),
      // Not everybody may have seen it who sees what it has become.
      before:
        change.operation === "UPDATE" && change.table.rls ? this.#enter(dockets, change, "old_record") : undefined,
    }));
    if (dockets.size > 0) {
      await gathered();
      await this.#hear([...dockets.values()]);
    }
    return entered.map(({ change, now, before }) => accessOf(change.table, change.operation, now, before));
  }

  #enter(dockets: Map<TableDescription, Docket>, change: RowChange, member: "record" | "old_record"): Seen {
    const { table, data } = change;
    const { security } = table;
    if (!table.rls) return { readers: new Set(table.readers) };
    if (!security) return { readers: new Set(), visible: new Set() };
    const free = table.readers.filter((role) => security.free.includes(role));
    const image = imageOf(data, member);
    if (image === undefined) return { readers: new Set(free), visible: new Set() };
    let docket = dockets.get(table);
    if (docket === undefined) {
      const plans = this.#plans.of(table, security);
      docket = { table, security, plans, cases: [], hard: new Map(), heard: undefined };
      dockets.set(table, docket);
    }
    const one = new Sitting(image, free);
    for (const [role, plan] of docket.plans) if (plan !== undefined) showRole(docket, role, plan, one);
    docket.cases.push(one);
    return one;
  }

  /** Judges until no viewer is left, also none that has come meanwhile: who has joined misses nothing. */
  async #hear(dockets: readonly Docket[]): Promise<void> {
    const until = this.#timers.now() + PATIENCE_MS;
    const isOver = (): boolean => this.#timers.now() > until;
    for (let again = true; again; ) {
      again = false;
      for (const docket of dockets) {
        const { heard } = docket;
        const { all } = this.#viewers;
        if (heard === all) continue;
        docket.heard = all;
        again = true;
        for (const [role, plan] of docket.plans) {
          const viewers = this.#viewers.of(role);
          const fresh = heard === undefined ? viewers : viewers.filter(({ key }) => !heard.has(key));
          if (fresh.length > 0) await this.#judge(docket, role, plan, fresh, isOver);
        }
      }
    }
  }

  /** By the plan of a role as far as that goes, and by PostgreSQL from there. */
  async #judge(
    docket: Docket,
    role: string,
    plan: Plan | undefined,
    viewers: readonly Viewer[],
    isOver: () => boolean,
  ): Promise<void> {
    if (plan === undefined) return this.#ask(docket, docket.cases, viewers, isOver);
    const { beyond, see } = plan.gather(viewers);
    for (const one of docket.cases) showViewers(docket, role, see, one);
    const hard = [...(docket.hard.get(role) ?? [])];
    if (hard.length > 0) await this.#ask(docket, hard, viewers, isOver);
    if (beyond.length > 0) await this.#ask(docket, docket.cases, beyond, isOver);
  }

  async #ask(
    { table, security }: Docket,
    cases: readonly Case[],
    viewers: readonly Viewer[],
    isOver: () => boolean,
  ): Promise<void> {
    const { schema, table: name } = table;
    const { columns, volatile } = security;
    const refuse = (unjudged: readonly Viewer[], reason: string): void =>
      this.#policies.unjudged(`${schema}.${name}`, unjudged, reason);
    if (volatile) return refuse(viewers, "a policy reads exp, iat, nbf or jti, which change with every token");
    if (columns === null) return refuse(viewers, "a policy reads a column whose value no captured row holds");
    const late = await askAll(this.#policies, { schema, table: name, columns }, cases, viewers, isOver);
    if (late.length > 0) refuse(late, "the policies take too long");
  }
}

function showRole(docket: Docket, role: string, plan: Plan, one: Sitting): void {
  try {
    if (plan.showsRole(one.row)) one.readers.add(role);
  } catch (error) {
    leave(docket, role, one, error);
  }
}

function showViewers(docket: Docket, role: string, see: Audience["see"], one: Sitting): void {
  // Everybody in the role sees it: nobody has to be named.
  if (one.readers.has(role)) return;
  try {
    for (const key of see(one.row)) one.visible.add(key);
  } catch (error) {
    leave(docket, role, one, error);
  }
}

function leave({ hard }: Docket, role: string, one: Sitting, error: unknown): void {
  if (!(error instanceof Beyond)) throw error;
  hard.set(role, (hard.get(role) ?? new Set()).add(one));
}
