// The bench of what was promised in numbers: each figure from real sockets, beside its promise. `npm run bench:promises`.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FILES_A_SOCKET, openFiles } from "../../../src/stack/open-files.ts";
import { startStack, type TestStack } from "../../../test/support/stack.ts";
import { quantile, type Summary, summaryOf } from "../statistics.ts";
import { measureChanges, measureDelivery, measureFanOut, measureHeld, measurePresence } from "./measures.ts";

const usage = `Measures what was promised in numbers, on a stack of its own, on free ports of loopback.

usage: npm run bench:promises -- [--quick] [--write] [--help]

  --quick      one short round with 1,000 sockets instead of 10,000: under a minute; the full run takes about five
  --write      keep the figures in docs/benchmarks.md
  -h, --help   this text

The limits of rates are off for its stack (REALTIME_CONNECTIONS_PER_MINUTE=0 and the like): all its clients have one address.`;

interface Plan {
  readonly rounds: number;
  readonly samples: number;
  readonly broadcasts: number;
  readonly held: number;
}
const plans = {
  full: { rounds: 3, samples: 300, broadcasts: 30, held: 10_000 },
  quick: { rounds: 1, samples: 50, broadcasts: 5, held: 1_000 },
} as const satisfies Record<string, Plan>;
const SUBSCRIBERS = 1_000;
/** A core is quiet when it had nothing to do in this share of so many milliseconds. */
const QUIET_MS = 1_000;
const QUIET_SHARE = 0.7;
const QUIET_LIMIT_MS = 90_000;
/** Of the server, besides those of its clients. */
const SPARE_FILES = 160;

const project = fileURLToPath(new URL("../../..", import.meta.url));
const document = join(project, "docs", "benchmarks.md");
/** Between these lines of it the figures stand. */
const [BEGIN, END] = ["<!-- figures -->", "<!-- end of figures -->"];

/** One line of the table; what is measured has a value a round. */
interface Figure {
  readonly row: string;
  readonly what: string;
  readonly promised: string;
  readonly unit: string;
  readonly rounds: number[];
}

const flags = readFlags();
if (flags.help) process.stdout.write(`${usage}\n`);
else await bench(flags.quick ? plans.quick : plans.full, flags.write ?? false);

function readFlags() {
  const options = {
    quick: { type: "boolean" },
    write: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  return parseArgs({ options }).values;
}

async function bench(plan: Plan, write: boolean): Promise<void> {
  const figures: Figure[] = [];
  const figure = (row: string, what: string, promised: string, unit = "ms"): number[] => {
    const rounds: number[] = [];
    figures.push({ row, what, promised, unit, rounds });
    return rounds;
  };
  const delivery = figure("AC-221", "message, socket to socket, median", "< 10 ms");
  const presence = figure("AC-222", "presence update, socket to socket, median", "< 50 ms");
  const changes = figure("AC-073", "row change, commit to socket, median", "< 20 ms");
  const spread = figure(
    "AC-223",
    `broadcast to ${SUBSCRIBERS.toLocaleString("en-US")} sockets, first to last, median`,
    "< 30 ms",
  );
  const reach = figure("AC-223", "the same, from the sender to the last", "");
  const count = figure("AC-224, AC-225", "sockets held at once, as `nself realtime status` counts them", "10,000", "");
  const openedIn = figure("AC-224", "until all of them were open and joined", "", "s");
  const heldSpread = figure("AC-225", "one broadcast to all of them, first to last", "all receive it");

  const loadBefore = loadavg()[0] ?? Number.NaN;
  for (let round = 1; round <= plan.rounds; round++) {
    const progress = (what: string): void => void process.stderr.write(`round ${round} of ${plan.rounds}: ${what}\n`);
    await withStack({}, async (stack) => {
      await quiet();
      progress("messages");
      delivery.push(quantile(await measureDelivery(stack, plan.samples), 0.5));
      progress("presence");
      presence.push(quantile(await measurePresence(stack, plan.samples), 0.5));
      progress("row changes");
      changes.push(quantile(await measureChanges(stack, plan.samples), 0.5));
      await quiet();
      progress("broadcasts");
      const { firstToLast, sentToLast } = await measureFanOut(stack, SUBSCRIBERS, plan.broadcasts);
      spread.push(quantile(firstToLast, 0.5));
      reach.push(quantile(sentToLast, 0.5));
    });
    const sockets = Math.min(plan.held, mostSockets());
    progress(`${sockets} sockets`);
    await withStack({ REALTIME_MAX_CONNECTIONS: String(sockets) }, async (stack) => {
      const held = await measureHeld(stack, sockets);
      count.push(held.connections);
      openedIn.push(held.openedIn / 1_000);
      heldSpread.push(held.firstToLast);
    });
  }
  const report = render(figures, plan, loadBefore);
  process.stdout.write(`\n${report}\n`);
  if (write) keep(report);
}

function keep(report: string): void {
  const text = readFileSync(document, "utf8");
  const [before, after] = [text.slice(0, text.indexOf(BEGIN)), text.slice(text.indexOf(END))];
  writeFileSync(document, `${before}${BEGIN}\n\n${report}\n\n${after}`);
  execFileSync(join(project, "node_modules", ".bin", "biome"), ["format", "--write", document], { stdio: "ignore" });
}

/** As many as can be held at all by a process that may open so few files, when nothing else is open. */
function mostSockets(): number {
  const files = openFiles();
  return files === undefined ? Number.POSITIVE_INFINITY : Math.floor((files - SPARE_FILES) / FILES_A_SOCKET);
}

/** Waits until the machine has little else to do, but not for ever: what it then does is part of the figures. */
async function quiet(): Promise<void> {
  for (const giveUpAt = Date.now() + QUIET_LIMIT_MS; Date.now() < giveUpAt; ) {
    const before = cpus();
    await sleep(QUIET_MS);
    const idle = cpus().map(({ times }, core) => times.idle - (before[core]?.times.idle ?? 0));
    if (Math.min(...idle) > QUIET_MS * QUIET_SHARE) return;
  }
}

async function withStack(env: Record<string, string>, work: (stack: TestStack) => Promise<void>): Promise<void> {
  const stack = await startStack({ env });
  try {
    await work(stack);
  } finally {
    await stack.stop();
  }
}

function render(figures: readonly Figure[], plan: Plan, loadBefore: number): string {
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown CPU"}`;
  const memory = `${Math.round(totalmem() / 2 ** 30)} GB`;
  const rows = figures.map(({ row, what, promised, unit, rounds }) => [
    row,
    what,
    promised,
    show(summaryOf(rounds), unit),
  ]);
  const load = `load of the machine before: ${loadBefore.toFixed(1)}`;
  const cells = [["row", "figure", "promised", "measured"], ["---", "---", "---", "---"], ...rows];
  return [
    `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC · ${machine}, ${memory} · ${type()} ${release()} · ` +
      `Node ${process.versions.node} · ${load}`,
    "",
    `${plan.rounds} rounds, begun when the machine had little else to do, if that came soon; of ${plan.samples} samples a median and ${plan.broadcasts} broadcasts: the middle round (lowest–highest).`,
    "",
    ...cells.map((line) => `| ${line.join(" | ")} |`),
  ].join("\n");
}

function show({ median, lowest, highest }: Summary, unit: string): string {
  const digits = unit === "" ? 0 : 1;
  const text = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: digits });
  const range = lowest === highest ? "" : ` (${text(lowest)}–${text(highest)})`;
  return `${text(median)}${unit === "" ? "" : ` ${unit}`}${range}`;
}
