// Plans that have been made, while the tables that they are of stay as they are.
import type { RowSecurity, TableDescription } from "../../protocol/changes.ts";
import { type Plan, planOf } from "./plan.ts";

/** Tables that a feed of whole schemas may have to do with; beyond that the plans are made anew. */
const MAX_TABLES = 200;

/** By role; undefined where only PostgreSQL can judge. */
export type RolePlans = ReadonlyMap<string, Plan | undefined>;

export class Plans {
  #made = new Map<string, RolePlans>();

  of(table: TableDescription, security: RowSecurity): RolePlans {
    // All that plans are made of, and not the generation, which is a digest that two can share.
    const key = JSON.stringify([table.columns, table.readers, security]);
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const roles = table.readers.filter((role) => !security.free.includes(role));
    const plans = new Map(roles.map((role) => [role, planOf(table, security, role)]));
    if (this.#made.size >= MAX_TABLES) this.#made = new Map();
    this.#made.set(key, plans);
    return plans;
  }
}
