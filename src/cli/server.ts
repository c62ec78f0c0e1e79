// The server that `nself` talks to: where it is, with which key, and how its answers are read.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientResponse } from "hono/client";
import { hc } from "hono/client";
import type { StatusCode } from "hono/utils/http-status";
import type { AdminApi } from "../edge/admin/api.ts";
import type { NEXT_HEADER } from "../edge/admin/cursor.ts";
import type { IDEMPOTENCY_HEADER } from "../edge/admin/idempotency.ts";
import type { ProblemDocument } from "../edge/admin/problem.ts";
import { readStackFile } from "../stack/stack-file.ts";
import { CliError, EXIT } from "./errors.ts";
import { findProfile, readProfiles } from "./profiles.ts";

/** Longest wait for an answer of the admin API. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Waits before a request that did not get through is sent again. */
const RETRIES_MS = [250, 1_000];

const nextHeader: typeof NEXT_HEADER = "realtime-next-cursor";
const idempotencyHeader: typeof IDEMPOTENCY_HEADER = "Idempotency-Key";

export interface Server {
  /** Without a slash at the end. */
  url: string;
  serviceKey: string;
  /** That of the stack on this machine; for a server elsewhere DATABASE_URL, if it is set. */
  databaseUrl: string | undefined;
}

/**
 * Finds the server: that of NSELF_PROFILE (or --profile), else NSELF_REALTIME_URL with NSELF_REALTIME_SERVICE_KEY, else the
 * profile in use, else the stack running on this machine.
 * Throws CliError that names the ways when there is none.
 */
export function findServer(environment: NodeJS.ProcessEnv = process.env): Server {
  const { NSELF_REALTIME_URL: url, NSELF_REALTIME_SERVICE_KEY: serviceKey, DATABASE_URL: databaseUrl } = environment;
  if (!environment.NSELF_PROFILE && (url || serviceKey)) {
    if (!url) throw new CliError("NSELF_REALTIME_SERVICE_KEY is set, NSELF_REALTIME_URL is not: set both or none");
    if (!serviceKey)
      throw new CliError("NSELF_REALTIME_URL is set, NSELF_REALTIME_SERVICE_KEY is not: set both or none");
    return { url: httpUrl(url), serviceKey, databaseUrl };
  }
  const profiles = readProfiles(environment);
  const profile = findProfile(profiles, environment.NSELF_PROFILE || profiles.current);
  if (profile !== undefined) return { ...profile, databaseUrl };
  const stack = stackFile(environment);
  if (stack === undefined) {
    throw new CliError(
      "no server found: start one on this machine with `nself realtime start` or `npm start` (it writes .nself/stack.json; " +
        "NSELF_HOME says where), name one with `nself profile add`, or set NSELF_REALTIME_URL and NSELF_REALTIME_SERVICE_KEY",
      { code: "no_server" },
    );
  }
  return { url: stack.url, serviceKey: stack.serviceKey, databaseUrl: stack.databaseUrl };
}

function stackFile(environment: NodeJS.ProcessEnv) {
  try {
    return readStackFile(environment);
  } catch (error) {
    throw new CliError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function httpUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new CliError(`NSELF_REALTIME_URL: "${text}" is no http or https URL`, { exit: EXIT.usage });
  }
  return text.replace(/\/+$/, "");
}

/** The admin API of a server, typed as the server defines it. Path parameters must go through `segment`. */
export function admin(server: Server = findServer()) {
  return hc<AdminApi>(`${server.url}/admin/v1`, {
    headers: { authorization: `Bearer ${server.serviceKey}`, apikey: server.serviceKey },
    fetch: send,
  });
}

/** Sends a request, and again if the network failed: a write has a key by which the server knows it. */
async function send(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const headers = new Headers(init?.headers);
  if (init?.method !== "GET") headers.set(idempotencyHeader, randomUUID());
  for (const wait of RETRIES_MS) {
    try {
      return await sendOnce(input, { ...init, headers });
    } catch (error) {
      if (isTimeout(error)) throw error;
      await sleep(wait);
    }
  }
  return sendOnce(input, { ...init, headers });
}

function sendOnce(input: string | URL | Request, init: RequestInit): Promise<Response> {
  return fetch(input, { ...init, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === "TimeoutError";
}

/** A user's text as one path segment. */
export const segment = encodeURIComponent;

/** Waits for an answer of the admin API. Throws CliError with the server's reason, or saying that it is away. */
export async function answer<Body>(pending: Promise<ClientResponse<Body, StatusCode, "json">>): Promise<Body> {
  const response = await pending.catch((cause: unknown) => {
    throw away(cause);
  });
  if (response.ok) return response.json();
  throw refusal(response.status, await response.text());
}

/** All rows of a list, or so many, page by page. Throws what `answer` throws. */
export async function rows<Row>(
  ask: (page: { cursor?: string }) => Promise<ClientResponse<Row[], StatusCode, "json">>,
  most = Number.POSITIVE_INFINITY,
): Promise<Row[]> {
  const found: Row[] = [];
  let cursor: string | null = null;
  do {
    const pending: ReturnType<typeof ask> = ask(cursor === null ? {} : { cursor });
    found.push(...(await answer(pending)));
    cursor = (await pending).headers.get(nextHeader);
  } while (cursor !== null && found.length < most);
  return found.slice(0, most);
}

function away(cause: unknown): CliError {
  const { url } = findServer();
  const what = isTimeout(cause) ? `did not answer within ${REQUEST_TIMEOUT_MS / 1000} s` : "does not answer";
  return new CliError(`the server at ${url} ${what}: is it running?`, { code: "server_away", cause });
}

function refusal(status: number, text: string): CliError {
  const problem = parseProblem(text);
  if (problem === undefined || problem.code === "unauthorized" || problem.code === "forbidden") {
    if (status === 401 || status === 403) {
      return new CliError(`the server refused the service key (${status}): check NSELF_REALTIME_SERVICE_KEY`);
    }
    return new CliError(`the server answered ${status} and gave no reason: is NSELF_REALTIME_URL right?`);
  }
  return new CliError(problem.detail, { exit: status === 400 ? EXIT.usage : EXIT.failure, code: problem.code });
}

function parseProblem(text: string): Pick<ProblemDocument, "detail" | "code"> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { detail, code }: { detail?: unknown; code?: unknown } = value;
  return typeof detail === "string" && typeof code === "string" ? { detail, code } : undefined;
}
