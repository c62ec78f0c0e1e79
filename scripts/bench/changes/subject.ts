// The subject of the bench of row changes: a whole stack, its processes and their CPU, and a way into its database.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { childrenOf } from "../../../test/support/processes.ts";
import { startStack, type TestStack } from "../../../test/support/stack.ts";
import { cpuOf, cpuOfTree } from "../proc.ts";

/** CPU so far, microseconds. */
export interface Cpu {
  readonly postgres: number;
  readonly listener: number;
  readonly edge: number;
}

const DRAIN_LIMIT_MS = 60_000;

export class Subject implements AsyncDisposable {
  readonly stack: TestStack;
  readonly db: pg.Client;

  private constructor(stack: TestStack, db: pg.Client) {
    this.stack = stack;
    this.db = db;
  }

  /** Starts a stack whose PostgreSQL can decode its log, for the sake of what ours is compared with. */
  static async start(): Promise<Subject> {
    const stack = await startStack();
    try {
      const before = await connected(stack);
      await before.query("alter system set wal_level = logical");
      await before.query("alter system set max_wal_size = '4GB'");
      await before.end();
      await stack.crashPostgres();
      const subject = new Subject(stack, await connected(stack));
      await subject.drained();
      return subject;
    } catch (error) {
      await stack.stop();
      throw error;
    }
  }

  connect(): Promise<pg.Client> {
    return connected(this.stack);
  }

  cpu(): Cpu {
    return {
      postgres: cpuOfTree(this.#pid("postgres -D")),
      listener: cpuOf(this.#pid("listener/main.ts")),
      edge: cpuOf(this.#pid("workerd")),
    };
  }

  /** Holds the listener where it is, until disposed of: nobody reads, and nobody asks writers to ring. */
  withoutListener(): Disposable {
    const pid = this.#pid("listener/main.ts");
    process.kill(pid, "SIGSTOP");
    return { [Symbol.dispose]: () => process.kill(pid, "SIGCONT") };
  }

  #pid(command: string): number {
    const child = childrenOf(this.stack.pid).find((candidate) => candidate.command.includes(command));
    if (child === undefined) throw new Error(`the stack runs without ${command}:\n${this.stack.logs()}`);
    return child.pid;
  }

  /** Waits until the edge has taken every change, and empties the outbox. */
  async drained(): Promise<void> {
    const unread = `select exists (
      select from realtime.cdc_consumers r, lateral (
        select xid from realtime.changes_a union all select xid from realtime.changes_b) c
      where not pg_visible_in_snapshot(c.xid, r.seen)) as unread`;
    for (const giveUpAt = Date.now() + DRAIN_LIMIT_MS; ; await sleep(100)) {
      const { rows } = await this.db.query<{ unread: boolean }>(unread);
      if (!rows[0]?.unread) break;
      if (Date.now() > giveUpAt) throw new Error("the listener does not catch up");
    }
    for (let turn = 0; turn < 2; turn++) await this.db.query("select realtime.cdc_rotate()");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.db.end().catch(() => undefined);
    await this.stack.stop();
  }
}

async function connected({ databaseUrl }: TestStack): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** CPU a change between two readings, microseconds. */
export function cpuPer(count: number, from: Cpu, to: Cpu): Cpu {
  return {
    postgres: (to.postgres - from.postgres) / count,
    listener: (to.listener - from.listener) / count,
    edge: (to.edge - from.edge) / count,
  };
}
