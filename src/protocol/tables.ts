// Tables as their feeds describe them: what filters, selections and the right to name a column are judged by.

export interface Column {
  readonly name: string;
  /**
   * The short name of the type below all domains, `int4` or `_int4` for its arrays; `enum` and `_enum` for enums of any
   * name; empty for a type that no filter can compare.
   */
  readonly type: string;
  /** The column's own type as SQL writes it, `integer`: for messages. */
  readonly sqlType: string;
  /** The labels of an enum in their order, and of an array of them. */
  readonly labels?: readonly string[] | undefined;
  /** Which of anon, authenticated and service_role may SELECT the column. */
  readonly readers: readonly string[];
}

/** A captured table. The feed of a whole schema, or of everything, has none of either. */
export interface Table {
  readonly columns: readonly Column[];
  readonly primaryKey: readonly string[];
}
