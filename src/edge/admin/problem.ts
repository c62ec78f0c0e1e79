// Problems: how the admin API says no (RFC 9457, application/problem+json).
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import * as z from "zod";
import { type ProblemCode, problems } from "../../protocol/errors.ts";
import { LOCKED, StatementRefused, StoreNotReady, StoreUnavailable } from "../../store/database.ts";

/** What a problem document holds. */
export const problemDocument = z
  .object({
    type: z.string().meta({ description: "A URN of the code." }),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().meta({ description: "What is wrong, and what to do." }),
    code: z.string().meta({ description: "What a program tests; docs/errors.md lists them." }),
  })
  .meta({ id: "Problem", description: "How the API says no (RFC 9457)." });
export type ProblemDocument = z.infer<typeof problemDocument>;

/** SQLSTATEs that mean more than a bad request: no such table, no such subscription, a full channel, a table in use. */
const REFUSALS = new Map<string, ProblemCode>([
  ["NS002", "not_found"],
  ["NS006", "not_found"],
  ["NS010", "full"],
  [LOCKED, "conflict"],
]);

/** An answer that is no. Thrown by routes, turned into a problem document by `problemOf`. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: ProblemCode;
  /** What the answer says in headers. */
  readonly headers: Readonly<Record<string, string>>;
  constructor(
    code: ProblemCode,
    detail: string,
    { headers = {}, ...options }: ErrorOptions & { headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(detail, options);
    this.code = code;
    this.headers = headers;
  }
}

/** The error handler of the admin API: any error becomes a problem document. */
export function answerProblem(error: Error, c: Context): Response {
  const problem = problemOf(error);
  // What a user can cause and mend is no news; what they cannot is for whoever reads the log.
  if (problems[problem.code].status >= 500) logFailure(error, c);
  const { status, title } = problems[problem.code];
  const type = `urn:nself:realtime:problem:${problem.code}`;
  const document: ProblemDocument = { type, title, status, detail: problem.message, code: problem.code };
  return c.body(JSON.stringify(document), status, { ...problem.headers, "content-type": "application/problem+json" });
}

function logFailure(error: Error, c: Context): void {
  const reason = String(error.cause ?? error);
  console.error(JSON.stringify({ event: "admin request failed", method: c.req.method, path: c.req.path, reason }));
}

/** What an error is to who caused it. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof StoreUnavailable) return new Problem("store_unavailable", error.message, { cause: error });
  if (error instanceof StoreNotReady) return new Problem("store_not_ready", error.message, { cause: error });
  if (error instanceof StatementRefused) {
    return new Problem(REFUSALS.get(error.sqlstate) ?? "statement_refused", error.message, { cause: error });
  }
  if (error instanceof HTTPException && error.status < 500) return new Problem("invalid_request", error.message);
  return new Problem("internal", "the request failed; the server's log says why", { cause: error });
}
