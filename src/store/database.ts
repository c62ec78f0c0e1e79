// The database as the edge sees it: parametrised SQL over HTTP, rows parsed at the door, failures typed.
import { NeonDbError, neon, neonConfig } from "@neondatabase/serverless";
import * as z from "zod";
import { NO_DATABASE } from "../settings/database.ts";

/** What the edge must be told to reach PostgreSQL. */
export interface DatabaseEnv {
  /** Connection string, or NO_DATABASE. With REALTIME_SQL_URL it is only sent along: the listener has its own. */
  DATABASE_URL: string;
  /** SQL endpoint of the listener, where the database is not Neon. */
  REALTIME_SQL_URL?: string;
  /** What the listener's SQL endpoint asks for; without it a key made of the listener's secret. */
  REALTIME_SQL_SECRET?: string;
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
  /** Has PostgreSQL end the statement after so long, which is told as StatementTooSlow. */
  readonly statementTimeoutMs?: number;
  /** Has it write nothing. Only with a timeout. */
  readonly readOnly?: boolean;
}

/** PostgreSQL, or the way to it, does not answer. */
export class StoreUnavailable extends Error {
  override readonly name: string = "StoreUnavailable";
}

/** There is none, by choice. */
export class NoDatabase extends StoreUnavailable {
  override readonly name = "NoDatabase";
}

/** PostgreSQL has ended a statement that took longer than it may: of others nothing is said by that. */
export class StatementTooSlow extends StoreUnavailable {
  override readonly name = "StatementTooSlow";
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
/** Those, and classes of rows that a constraint or the trigger of an application refuses. */
const REFUSED_VALUES = /^(22|54|23)|^P0001$/;
/** A lock was not had in time: somebody else's transaction holds the table. */
export const LOCKED = "55P03";
/** The statement was ended, as its time was over. */
const TOO_SLOW = "57014";
/** Classes of "not now": connection lost, out of resources, operator intervention, database starting up. */
const AWAY = /^(08|53|57|58)/;

/** Whether a statement failed by the values that it brought: it would fail by them the next time too. */
export function refusesValues(error: unknown): boolean {
  if (error instanceof StatementRefused) return REFUSED_VALUES.test(error.sqlstate);
  return error instanceof NeonDbError && REFUSED_VALUES.test(error.code ?? "");
}

/** Opens the way to the database. Holds no connection: every statement is one HTTP request. */
export function openDatabase(env: DatabaseEnv): Query {
  if (env.DATABASE_URL === NO_DATABASE) {
    return async () => {
      throw new NoDatabase("this server runs without a database (DATABASE_URL=none), and this needs one");
    };
  }
  const { REALTIME_SQL_URL: endpoint } = env;
  if (endpoint !== undefined) neonConfig.fetchEndpoint = () => endpoint;
  // The driver lets `fetchOptions.headers` replace its own headers, so the secret travels as its auth token.
  const sql = neon(env.DATABASE_URL, endpoint === undefined ? {} : { authToken: () => sqlKey(env) });
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
      throw storeError(error, endpoint);
    }
  };
}

let made: { readonly secret: string; readonly key: Promise<string> } | undefined;

/** The key of SQL: the one given, or the one that the listener makes of its secret too. */
async function sqlKey({
  REALTIME_SQL_SECRET: given,
  REALTIME_LISTENER_SECRET: secret = "",
}: DatabaseEnv): Promise<string> {
  if (given !== undefined) return given;
  if (made?.secret !== secret) made = { secret, key: hmac(secret, "nself realtime sql") };
  return made.key;
}

async function hmac(secret: string, text: string): Promise<string> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["sign"]);
  const digest = await crypto.subtle.sign("HMAC", key, encoder.encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function storeError(error: unknown, endpoint: string | undefined): unknown {
  if (!(error instanceof NeonDbError)) return error;
  const { code } = error;
  if (code === TOO_SLOW) return new StatementTooSlow("PostgreSQL took too long to answer", { cause: error });
  if (endpoint !== undefined && isNoAnswer(error)) {
    return new StoreUnavailable(
      "the listener, by which the server reaches PostgreSQL, does not answer: check that it runs, and REALTIME_SQL_URL",
      { cause: error },
    );
  }
  if (code === undefined || AWAY.test(code)) {
    // The driver's message may hold addresses; it stays in `cause`, for the log.
    return new StoreUnavailable(
      "PostgreSQL does not answer: check that the database and the listener run, and DATABASE_URL and REALTIME_SQL_URL",
      { cause: error },
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

/** Nobody took the request. One that was taken and not answered in time may be held up by PostgreSQL itself. */
function isNoAnswer({ sourceError }: NeonDbError): boolean {
  return sourceError !== undefined && sourceError.name !== "TimeoutError";
}
