// The listener's HTTP: GET /health and /metrics, open to whoever reaches it, and POST /sql, for who knows its key.
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Config } from "./config.ts";
import type { Listener } from "./listener.ts";
import type { Log } from "./log.ts";
import { metricsText } from "./metrics.ts";
import type { SqlOverHttp } from "./sql-over-http.ts";

/** The largest body of a SQL request, bytes. */
const mostBytes = 10_000_000;

/** Starts the server and resolves with it and its port. Rejects when the port is taken, naming the setting. */
export async function serve(
  config: Config,
  sql: SqlOverHttp,
  listener: Listener,
  log: Log,
): Promise<{ server: Server; port: number }> {
  const server = createServer({ requestTimeout: 30_000 }, (request, response) => {
    route(request, response).catch((error: unknown) => {
      log.error("a request failed", { error });
      send(response, 500, { message: "the listener failed on this request; its log says why" });
    });
  });

  async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split("?")[0];
    if (path === "/health") {
      if (request.method !== "GET") return send(response, 405, { message: "use GET" });
      const now = listener.status();
      return send(response, now.ok ? 200 : 503, now);
    }
    if (path === "/metrics") {
      if (request.method !== "GET") return send(response, 405, { message: "use GET" });
      return void response
        .writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" })
        .end(metricsText(listener, sql));
    }
    if (path !== "/sql") return send(response, 404, { message: "there are GET /health, GET /metrics and POST /sql" });
    if (request.method !== "POST") return send(response, 405, { message: "use POST" });
    if (!isSecret(request.headers.authorization, config.sql.secret)) {
      return send(response, 401, { message: "authorization must be Bearer and the key of SQL (REALTIME_SQL_SECRET)" });
    }
    const body = await readBody(request);
    if (body === null) {
      response.setHeader("connection", "close");
      return send(response, 413, { message: `the body is over ${mostBytes} bytes` });
    }
    const answer = await sql.answer(request.headers, body);
    send(response, answer.status, answer.body);
  }

  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        error.code === "EADDRINUSE"
          ? new Error(`port ${config.port} is taken: set REALTIME_LISTENER_PORT to another`, { cause: error })
          : error,
      ),
    );
    server.listen(config.port, config.host, resolve);
  });
  const address = server.address();
  return { server, port: typeof address === "object" && address ? address.port : config.port };
}

/** Compares in constant time, whatever the lengths. */
function isSecret(authorization: string | undefined, secret: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(authorization ?? ""), digest(`Bearer ${secret}`));
}

async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  // A stream that is left early would take the connection, and our answer, with it.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > mostBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return;
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
