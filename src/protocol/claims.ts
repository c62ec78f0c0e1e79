// Claims: who somebody is, as their token says.

export interface Claims {
  readonly role: string;
  /** The user: `sub`, or the Hasura claim `x-hasura-user-id`; null for the keys of an application. */
  readonly user: string | null;
  /** Unix seconds; null for keys that do not expire. */
  readonly exp: number | null;
  /** All claims as the token has them: row-level security reads them. */
  readonly all: Readonly<Record<string, unknown>>;
}
