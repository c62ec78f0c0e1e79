// Through a pooler that shares sessions among transactions (PgBouncer's): no LISTEN, nothing that stays, and still all of it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { freePort, startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { secret, startListener, until } from "./process.ts";

const pgbouncer = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"].find(existsSync);
if (pgbouncer === undefined) process.stderr.write("PgBouncer is not installed: the tests through it are skipped\n");

let postgres: TestPostgres;
let stop: (() => Promise<void>) | undefined;
let url: string;

beforeAll(async () => {
  if (pgbouncer === undefined) return;
  postgres = await startPostgres();
  await migrate(postgres.url);
  ({ url, stop } = await startPgBouncer(pgbouncer, postgres.url));
}, 60_000);

afterAll(async () => {
  await stop?.();
  await postgres?.stop();
});

/** PgBouncer in transaction mode in front of a server. It refuses to run as root. */
async function startPgBouncer(binary: string, target: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const home = await mkdtemp(join(tmpdir(), "nself-pgbouncer-"));
  await chmod(home, 0o755);
  const { hostname, port, username, password } = new URL(target);
  const own = await freePort();
  await writeFile(join(home, "users.txt"), `"${username}" "${decodeURIComponent(password)}"\n`);
  await writeFile(
    join(home, "pgbouncer.ini"),
    `[databases]
* = host=${hostname} port=${port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = plain
auth_file = ${join(home, "users.txt")}
pool_mode = transaction
default_pool_size = 10
`,
  );
  const asRoot = process.getuid?.() === 0;
  const child = spawn(binary, [join(home, "pgbouncer.ini")], {
    stdio: "ignore",
    ...(asRoot && { uid: 65534, gid: 65534 }),
  });
  const pooled = new URL(target);
  pooled.port = String(own);
  await until("PgBouncer", async () => {
    const client = new pg.Client({ connectionString: pooled.href });
    return client.connect().then(
      () => client.end().then(() => true),
      () => false,
    );
  });
  return {
    url: pooled.href,
    stop: async () => {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      const mercy = setTimeout(() => child.kill("SIGKILL"), 2_000);
      await exited;
      clearTimeout(mercy);
      await rm(home, { recursive: true, force: true });
    },
  };
}

test.skipIf(pgbouncer === undefined)(
  "polls and says why, delivers everything once, leaves no setting behind, and a second listener takes over",
  async () => {
    const edge = await RecordingEdge.start(secret);
    const pool = new pg.Pool({ connectionString: url, max: 6 });
    const direct = new pg.Pool({ connectionString: postgres.url, max: 2 });
    // Sessions that are idle when the servers stop.
    for (const one of [pool, direct]) one.on("error", () => {});
    await direct.query("create table items (id int); select realtime.subscribe('items')");
    const first = await startListener(url, edge.url);
    let second: typeof first | undefined;
    try {
      const { body } = await until("polling", async () => {
        const health = await first.health();
        return health.body.state === "polling" && health;
      });
      expect(body).toMatchObject({ ok: true, polling: expect.stringContaining("pooler") });
      expect(first.log.some((line) => line.includes("polled") && line.includes("pooler"))).toBe(true);
      // Others use the same sessions meanwhile.
      await Promise.all(
        Array.from({ length: 6 }, async (_, writer) => {
          for (let n = 0; n < 50; n += 1) {
            await pool.query("insert into public.items values ($1)", [writer * 1_000 + n]);
            const { rows } = await pool.query("show search_path");
            expect(rows[0]?.search_path).not.toBe('""');
          }
        }),
      );
      await until("all changes", () => edge.changes("public.items").length === 300, 20_000);
      second = await startListener(url, edge.url);
      const standby = second;
      await until("standby", async () => (await standby.health()).body.state === "standby");
      // The pooler's sessions live on, so that only the lease can tell.
      await first.end("SIGKILL");
      const killedAt = performance.now();
      await until("the take-over", async () => (await standby.health()).body.leaseHolder, 8_000);
      expect(performance.now() - killedAt).toBeLessThan(5_000);
      await pool.query("insert into public.items values (9999)");
      await until("the change", () => edge.changes("public.items").length === 301);
    } finally {
      await first.end("SIGKILL");
      await second?.end("SIGTERM");
      await pool.end();
      await direct.end();
      await edge.stop();
    }
  },
  60_000,
);
