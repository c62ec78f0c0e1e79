// The database as the edge sees it: parametrised SQL over HTTP, rows parsed at the door, failures typed.
import { NeonDbError, neon, neonConfig } from "@neondatabase/serverless";
import * as z from "zod";

/** What the edge must be told to reach PostgreSQL. */
export interface DatabaseEnv {
  /** Connection string. With REALTIME_SQL_URL it is only sent along: the listener has its own. */
  DATABASE_URL: string;
  /** SQL endpoint of the listener, where the database is not Neon. */
  REALTIME_SQL_URL?: string;
  /** Secret that the listener's SQL endpoint asks for. */
  REALTIME_LISTENER_SECRET?: string;
}

/** Runs one statement and parses its rows. Throws StoreUnavailable, StoreNotReady or StatementRefused. */
export type Query = <Row extends z.ZodType>(
  row: Row,
  statement: string,
  params?: unknown[],
  options?: QueryOptions,
) => Promise<z.output<Row>[]>;

export interface QueryOptions {
  /** Has PostgreSQL end the statement after so long, which is told as StoreUnavailable. */
  readonly statementTimeoutMs?: number;
  /** Has it write nothing. Only with a timeout. */
  readonly readOnly?: boolean;
}

/** PostgreSQL, or the way to it, does not answer. */
export class StoreUnavailable extends Error {
  override readonly name = "StoreUnavailable";
  /** PostgreSQL's own word for it, where it had one. */
  readonly sqlstate: string | undefined;
  constructor(message: string, options: ErrorOptions & { sqlstate?: string | undefined }) {
    super(message, options);
    this.sqlstate = options.sqlstate;
  }
}

/** PostgreSQL answers but the schema `realtime` is not there. */
export class StoreNotReady extends Error {
  override readonly name = "StoreNotReady";
}

/** A statement was refused for what the user asked. The message is written for them by the functions of the schema. */
export class StatementRefused extends Error {
  override readonly name = "StatementRefused";
  readonly sqlstate: string;
  constructor(sqlstate: string, message: string, options: ErrorOptions) {
    super(message, options);
    this.sqlstate = sqlstate;
  }
}

/** Longest wait for a statement; the objects behind a request must not pile up on a database that hangs. */
const STATEMENT_TIMEOUT_MS = 10_000;

/** Undefined table, schema, function or column: the migrations have not run, or not all of them. */
const NOT_MIGRATED = new Set(["42P01", "3F000", "42883", "42703"]);
/** Class of the errors that the schema's own functions raise. */
const OWN_CLASS = "NS";
/** Classes of values that PostgreSQL cannot hold, such as the character NUL, or JSON nested deeper than its stack. */
const UNFIT = /^(22|54)/;
/** A lock was not had in time: somebody else's transaction holds the table. */
export const LOCKED = "55P03";
/** Classes of "not now": connection lost, out of resources, operator intervention, database starting up. */
const AWAY = /^(08|53|57|58)/;

/** Opens the way to the database. Holds no connection: every statement is one HTTP request. */
export function openDatabase(env: DatabaseEnv): Query {
  const { REALTIME_SQL_URL: endpoint } = env;
  if (endpoint !== undefined) neonConfig.fetchEndpoint = () => endpoint;
  // The driver lets `fetchOptions.headers` replace its own headers, so the secret travels as its auth token.
  const token = endpoint === undefined ? undefined : env.REALTIME_LISTENER_SECRET;
  const sql = neon(env.DATABASE_URL, token === undefined ? {} : { authToken: token });
  return async (row, statement, params = [], { statementTimeoutMs, readOnly = false } = {}) => {
    try {
      const fetchOptions = { signal: AbortSignal.timeout(STATEMENT_TIMEOUT_MS) };
      if (statementTimeoutMs === undefined) {
        return z.array(row).parse(await sql.query(statement, params, { fetchOptions }));
      }
      // Both in one round trip.
      const limit = sql.query("select set_config('statement_timeout', $1, true)", [String(statementTimeoutMs)]);
      const [, rows] = await sql.transaction([limit, sql.query(statement, params)], { fetchOptions, readOnly });
      return z.array(row).parse(rows);
    } catch (error) {
      throw storeError(error);
    }
  };
}

function storeError(error: unknown): unknown {
  if (!(error instanceof NeonDbError)) return error;
  const { code } = error;
  if (code === undefined || AWAY.test(code)) {
    // The driver's message may hold addresses; it stays in `cause`, for the log.
    return new StoreUnavailable(
      "PostgreSQL does not answer: check that the database and the listener run, and DATABASE_URL and REALTIME_SQL_URL",
      { cause: error, sqlstate: code },
    );
  }
  if (NOT_MIGRATED.has(code)) {
    return new StoreNotReady("the schema `realtime` is missing or incomplete: run `nself realtime init`", {
      cause: error,
    });
  }
  if (code.startsWith(OWN_CLASS)) {
    const message = error.hint === undefined ? error.message : `${error.message}. ${error.hint}`;
    return new StatementRefused(code, message, { cause: error });
  }
  if (UNFIT.test(code)) {
    return new StatementRefused(code, `PostgreSQL cannot hold a value given: ${error.message}`, { cause: error });
  }
  if (code === LOCKED) {
    const message = "another transaction holds a lock on the table: try again when it has ended";
    return new StatementRefused(code, message, { cause: error });
  }
  return error;
}
