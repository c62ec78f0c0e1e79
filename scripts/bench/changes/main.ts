// The bench of row changes: what capture costs writers, and how fast and how many changes arrive. `npm run bench:changes`.
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { measureBacklog } from "./backlog.ts";
import { measureBulk } from "./bulk.ts";
import { measureFilters } from "./filters.ts";
import { measureLatency } from "./latency.ts";
import { type Plan, plans } from "./plans.ts";
import { measurePolicies } from "./policies.ts";
import { type Line, render } from "./result.ts";
import { Subject } from "./subject.ts";
import { measureThroughput } from "./throughput.ts";
import { measureWriters } from "./writers.ts";

const sections = {
  writers: { title: "Writers: 8 clients, one row a transaction", measure: measureWriters },
  bulk: { title: "An UPDATE of 100,000 rows", measure: measureBulk },
  backlog: { title: "A backlog, from the listener's start to the edge, 100 rows a statement", measure: measureBacklog },
  throughput: { title: "Commit to the sockets of 10 subscribers, 10 rows a statement", measure: measureThroughput },
  latency: { title: "Latency, one subscriber", measure: measureLatency },
  policies: {
    title: "Row-level security, each row for one principal, 4 writers, 20 rows a statement",
    measure: measurePolicies,
  },
  filters: { title: "Filters, each change for one subscription", measure: measureFilters },
};

const usage = `Measures row changes on a stack of its own, on free ports of loopback. Linux only; needs pgbench on the PATH.

usage: npm run bench:changes -- [--quick] [--help] [${Object.keys(sections).join("|")}] …

  --quick      fewer and shorter rounds: about two minutes; the full run takes about eight
  -h, --help   this text

Named sections are run alone.`;

const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stopping.abort());

try {
  const { values, positionals } = readArguments();
  if (values.help) process.stdout.write(`${usage}\n`);
  else await bench(values.quick ? plans.quick : plans.full, positionals);
} catch (error) {
  process.exitCode = 1;
  if (!stopping.signal.aborted) console.error(error instanceof Error ? error.message : error);
}

function readArguments() {
  const options = { quick: { type: "boolean" }, help: { type: "boolean", short: "h" } } as const;
  try {
    const parsed = parseArgs({ options, allowPositionals: true });
    const strange = parsed.positionals.find((name) => !(name in sections));
    if (strange !== undefined) throw new Error(`there is no section "${strange}"`);
    return parsed;
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

async function bench(plan: Plan, names: readonly string[]): Promise<void> {
  const { signal } = stopping;
  const progress = (what: string): void => void process.stderr.write(`${what}\n`);
  const results: { title: string; lines: Line[] }[] = [];
  for (const [name, { title, measure }] of Object.entries(sections)) {
    if (names.length > 0 && !names.includes(name)) continue;
    signal.throwIfAborted();
    // A stack of its own each: what one leaves behind is no part of the next.
    await using subject = await Subject.start();
    results.push({ title, lines: await measure(subject, { plan, signal, progress }) });
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown CPU"}`;
  // What else the machine does shows in every figure that is not a ratio or CPU.
  const load = loadavg().map((average) => average.toFixed(1));
  const head = `${new Date().toISOString()} · ${machine} · load ${load.join(", ")} · ${plan.rounds} rounds of ${plan.seconds} s; medians (lowest–highest)`;
  process.stdout.write(`\n${head}\n\n${render(results)}\n`);
}
