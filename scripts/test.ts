// Everything that must hold before a change goes in: `npm test`. With arguments (`npm test -- presence`) only the tests,
// and of these the files whose path holds one of them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync } from "node:fs";
import { dirname, join } from "node:path";

interface Check {
  readonly title: string;
  readonly command: string;
  readonly args: readonly string[];
}

const project = dirname(import.meta.dirname);
const filters = process.argv.slice(2);

const typeChecks = globSync("{,src/*/,test/*/,scripts/*/}tsconfig.json", { cwd: project })
  .sort()
  .map((path): Check => ({ title: `types (${path})`, command: "tsc", args: ["--noEmit", "--project", path] }));
const lint: Check = { title: "format and lint", command: "biome", args: ["ci", "."] };
const tests: Check = { title: "tests", command: "vitest", args: ["run", ...filters] };

await installPostgres15();
for (const check of filters.length > 0 ? [tests] : [...typeChecks, lint, tests]) {
  const startedAt = performance.now();
  process.stdout.write(`\n▶ ${check.title}\n`);
  const failure = await run(check);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  if (failure !== undefined) {
    process.stderr.write(`\n✗ ${check.title}: ${failure} after ${seconds} s. What follows was not run.\n`);
    process.exitCode = 1;
    break;
  }
  process.stdout.write(`✓ ${check.title}: ${seconds} s\n`);
}

/** Without PostgreSQL 15 its tests are left out, which is said; nothing fails of it. */
async function installPostgres15(): Promise<void> {
  if (existsSync("/usr/lib/postgresql/15/bin/initdb")) return;
  process.stdout.write("\n▶ PostgreSQL 15\n");
  const child = spawn("sh", [join(project, "scripts", "install-postgres-15.sh")], { stdio: "inherit" });
  const [code]: (number | null)[] = await once(child, "exit");
  if (code !== 0) process.stdout.write("✱ the tests against PostgreSQL 15 are left out; those against 18 are run\n");
}

/** @returns how it failed, undefined when it did not */
async function run({ command, args }: Check): Promise<string | undefined> {
  const child = spawn(join(project, "node_modules", ".bin", command), args, { cwd: project, stdio: "inherit" });
  const passOn = (signal: NodeJS.Signals): boolean => child.kill(signal);
  process.once("SIGTERM", passOn);
  process.once("SIGINT", passOn);
  try {
    const [code, signal]: (number | string | null)[] = await once(child, "exit");
    return code === 0 ? undefined : `ended with ${signal ?? `code ${code}`}`;
  } finally {
    process.removeListener("SIGTERM", passOn);
    process.removeListener("SIGINT", passOn);
  }
}
