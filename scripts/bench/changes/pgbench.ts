// pgbench as the bench uses it: clients that write as fast as they can, or at a rate, and cost next to nothing.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Load {
  readonly sql: string;
  readonly clients: number;
  readonly seconds: number;
  /** Statements a second of all clients together; without it as many as can be. */
  readonly rate?: number;
}

/** Rejects when pgbench is not there, or a statement failed. @returns committed statements, and how many a second */
export async function pgbench(url: string, load: Load, signal: AbortSignal): Promise<{ count: number; tps: number }> {
  const directory = await mkdtemp(join(tmpdir(), "nself-pgbench-"));
  try {
    const script = join(directory, "script.sql");
    await writeFile(script, `${load.sql.replaceAll("\n", " ")};\n`);
    const rate = load.rate === undefined ? [] : ["-R", String(load.rate)];
    const args = ["-n", "-M", "prepared", "-c", load.clients, "-j", 1, "-T", load.seconds, ...rate, "-f", script, url];
    const { stdout } = await run("pgbench", args.map(String), { signal });
    const [, count] = /number of transactions actually processed: (\d+)/.exec(stdout) ?? [];
    const [, tps] = /tps = ([\d.]+)/.exec(stdout) ?? [];
    return { count: Number(count), tps: Number(tps) };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new Error("The bench writes with pgbench, which is not here: install PostgreSQL's client tools.");
    }
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
