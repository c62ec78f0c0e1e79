// The acceptance rows of docs/acceptance.md: runs the tests that name them and says of each row whether it holds.
// usage: npm run acceptance -- [--write] [filters of test files]

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";

const project = dirname(import.meta.dirname);
const document = join(project, "docs", "acceptance.md");
const ROW = /^\| (AC-\d{3}) +\| (.+?) +\| ([^|]+?) +\|$/;

/** What vitest's JSON reporter says, as far as it is read. */
const results = z.object({
  testResults: z.array(z.object({ assertionResults: z.array(z.object({ title: z.string(), status: z.string() })) })),
});

const { values, positionals } = parseArgs({ options: { write: { type: "boolean" } }, allowPositionals: true });
const found = await runTests(positionals);
let rows = 0;
let held = 0;
const lines = readFileSync(document, "utf8").split("\n").map(judge);
process.stdout.write(`${held} of ${rows} held\n`);
if (values.write) {
  writeFileSync(document, lines.join("\n"));
  execFileSync(join(project, "node_modules", ".bin", "biome"), ["format", "--write", document], { stdio: "ignore" });
}

/** The line of the document with the state found; prints it when it is a row. */
function judge(line: string): string {
  const [, number, promise, before] = ROW.exec(line) ?? [];
  if (number === undefined || promise === undefined || before === undefined) return line;
  rows += 1;
  const state = stateOf(found.get(number), before);
  if (state === "held") held += 1;
  process.stdout.write(
    `${state === "held" ? "✓" : "✗"} ${number}  ${promise}${state === "held" ? "" : `  [${state}]`}\n`,
  );
  return `| ${number} | ${promise} | ${state} |`;
}

function stateOf(outcomes: string[] | undefined, before: string): string {
  if (before.startsWith("judged: ")) return before;
  if (outcomes === undefined) return "open: no test";
  const failed = outcomes.filter((status) => status !== "passed").length;
  return failed === 0 ? "held" : `open: ${failed} of ${outcomes.length} tests fail`;
}

/** Whole files: a test may need what those before it left. */
function filesNamingRows(filters: string[]): string[] {
  return globSync("test/**/*.test.ts", { cwd: project }).filter(
    (path) =>
      readFileSync(join(project, path), "utf8").includes("AC-") &&
      (filters.length === 0 || filters.some((filter) => path.includes(filter))),
  );
}

/** @returns the outcomes of the tests that name a row, by its number */
async function runTests(filters: string[]): Promise<Map<string, string[]>> {
  const directory = mkdtempSync(join(tmpdir(), "acceptance-"));
  const report = join(directory, "report.json");
  try {
    const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    // The progress of the tests is not the result.
    const tests = spawn(join(project, "node_modules", ".bin", "vitest"), [...args, ...filesNamingRows(filters)], {
      cwd: project,
      stdio: ["ignore", 2, 2],
    });
    await once(tests, "exit");
    const outcomes = new Map<string, string[]>();
    const { testResults } = results.parse(JSON.parse(readFileSync(report, "utf8")));
    for (const { title, status } of testResults.flatMap(({ assertionResults }) => assertionResults)) {
      for (const [number] of title.matchAll(/AC-\d{3}/g)) {
        outcomes.set(number, [...(outcomes.get(number) ?? []), status]);
      }
    }
    return outcomes;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
