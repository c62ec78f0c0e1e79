// A database that is followed by a listener, whose batches are recorded.
import pg from "pg";
import { expect } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { type RecordedChange, RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, secret, startListener, until } from "./process.ts";

export interface Following {
  postgres: TestPostgres;
  edge: RecordingEdge;
  listener: ListenerProcess;
  db: pg.Client;
  /** What the server warned `db` of. */
  warnings: string[];
  /** Major version of the server. */
  version: number;
  /** The changes of a feed, once there are as many; a moment later there must not be more. */
  changes(feed: string, count: number): Promise<RecordedChange[]>;
  stop(): Promise<void>;
}

export async function startFollowing(settings: Record<string, string> = {}): Promise<Following> {
  const postgres = await startPostgres(settings);
  await migrate(postgres.url);
  const db = new pg.Client({ connectionString: postgres.url });
  const warnings: string[] = [];
  db.on("notice", ({ message = "" }) => warnings.push(message));
  await db.connect();
  const { rows } = await db.query("select current_setting('server_version_num')::int / 10000 as version");
  const edge = await RecordingEdge.start(secret);
  const listener = await startListener(postgres.url, edge.url);
  return {
    postgres,
    edge,
    listener,
    db,
    warnings,
    version: rows[0].version,
    async changes(feed, count) {
      await until(`${count} changes of ${feed}`, () => edge.changes(feed).length >= count, 20_000);
      await new Promise((resolve) => setTimeout(resolve, 60));
      const seen = edge.changes(feed);
      expect(seen).toHaveLength(count);
      return seen;
    },
    async stop() {
      await listener.end("SIGTERM");
      await edge.stop();
      await db.end();
      await postgres.stop();
    },
  };
}
