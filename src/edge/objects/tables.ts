// Tables of an object's SQLite, made when something is first written: an object that keeps nothing costs nothing.

export class Tables {
  readonly #sql: SqlStorage;
  readonly #statements: readonly string[];
  #made: boolean;

  /** `statements` are all `CREATE TABLE IF NOT EXISTS`: an object of an earlier deploy gets what is new. */
  constructor(sql: SqlStorage, statements: readonly string[]) {
    this.#sql = sql;
    this.#statements = statements;
    this.#made = sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' LIMIT 1").toArray().length > 0;
    if (this.#made) this.#make();
  }

  #make(): void {
    for (const statement of this.#statements) this.#sql.exec(statement);
    this.#made = true;
  }

  /** Rows of a query; none while there are no tables. */
  read<Row extends Record<string, SqlStorageValue>>(query: string, ...bindings: SqlStorageValue[]): Row[] {
    return this.#made ? this.#sql.exec<Row>(query, ...bindings).toArray() : [];
  }

  write(query: string, ...bindings: SqlStorageValue[]): void {
    if (!this.#made) this.#make();
    this.#sql.exec(query, ...bindings);
  }

  /** Deletes rows where there can be any. */
  erase(query: string, ...bindings: SqlStorageValue[]): void {
    if (this.#made) this.#sql.exec(query, ...bindings);
  }
}
