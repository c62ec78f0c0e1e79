// The bench: a bare Durable Object and ours, side by side in one run. What `npm run bench` runs.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { z } from "zod";
import { renderReport, reportOf } from "./report.ts";
import { runScenario } from "./run.ts";
import { plans, scenarios } from "./scenarios.ts";

const usage = `Measures the server beside a bare Durable Object that loops over its sockets, on this machine.

usage: npm run bench -- [--quick] [--json] [--help]

  --quick      two short rounds, under a minute; the full run takes under four
  --json       the report as JSON on stdout
  -h, --help   this text

It starts everything it needs, on free ports of loopback, and stops it again. Linux only: CPU time is read from /proc.`;

const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stopping.abort());

try {
  const flags = readFlags();
  if (flags.help) process.stdout.write(`${usage}\n`);
  else await bench(flags.quick ? plans.quick : plans.full, flags.json ?? false);
} catch (error) {
  process.exitCode = 1;
  if (!stopping.signal.aborted) console.error(error instanceof Error ? error.message : error);
}

function readFlags() {
  const options = {
    quick: { type: "boolean" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

async function bench(plan: (typeof plans)[keyof typeof plans], json: boolean): Promise<void> {
  if (process.platform !== "linux") throw new Error("The bench reads CPU time from /proc, which only Linux has.");
  const results = [];
  for (const scenario of scenarios) {
    const progress = (what: string): void => void process.stderr.write(`${scenario.name}: ${what}\n`);
    results.push({ ...scenario, findings: await runScenario(scenario, plan, stopping.signal, progress) });
  }
  const report = reportOf(plan, workerdVersion(), results);
  process.stdout.write(`${json ? JSON.stringify(report, null, 2) : `\n${renderReport(report)}`}\n`);
}

function workerdVersion(): string {
  const path = createRequire(import.meta.url).resolve("workerd/package.json");
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(path, "utf8"))).version;
}
