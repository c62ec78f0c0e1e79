// Captured tables, as a list that subscriptions are compared with before anything is made or asked for them.
import { feedName } from "../protocol/topics.ts";

export class CapturedTables {
  readonly #names = new Set<string>();

  constructor(tables: Iterable<readonly [schema: string, table: string]>) {
    for (const [schema, table] of tables) {
      for (const name of [feedName(schema, table), feedName(schema, "*"), feedName("*", table), "*.*"]) {
        this.#names.add(name);
      }
    }
  }

  /** Whether a table is captured; `*` stands for any. */
  has(schema: string, table: string): boolean {
    return this.#names.has(feedName(schema, table));
  }
}
