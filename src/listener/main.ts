// The listener process: reads its settings, says when it is ready, ends cleanly on a signal.
import { ConfigError, readConfig } from "./config.ts";
import { Listener } from "./listener.ts";
import { createLog } from "./log.ts";
import { serve } from "./server.ts";
import { SqlOverHttp } from "./sql-over-http.ts";

/** Milliseconds after which a stop that hangs is ended. */
const stopPatience = 5_000;

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ConfigError ? 2 : 1);
}

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog(config.logLevel);
  const sql = new SqlOverHttp(config.sql, log);
  const listener = new Listener(config, log);
  const { server, port } = await serve(config, sql, listener, log);
  listener.start();

  let stopping = false;
  const stop = async (signal: string) => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { signal });
    setTimeout(() => process.exit(1), stopPatience).unref();
    server.close();
    server.closeIdleConnections();
    await listener.stop();
    server.closeAllConnections();
    await sql.close();
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  process.stdout.write(`${JSON.stringify({ ready: true, port })}\n`);
}
