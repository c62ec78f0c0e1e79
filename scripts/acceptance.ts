// The acceptance rows of docs/acceptance.md: runs the tests that name them and says of each row whether it holds.
// usage: npm run acceptance -- [--write] [filters of test files]
// With filters, a row keeps its state unless all files that name it were run, or a test of it failed.

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
const naming = filesNamingRows();
const chosen = naming.filter(({ path }) => positionals.length === 0 || positionals.some((text) => path.includes(text)));
if (chosen.length === 0)
  throw new Error(`no test file that names a row has a path with ${positionals.join(" or ")} in it`);
const found = await runTests(chosen.map(({ path }) => path));
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
  const isWhole = naming.every((file) => !file.rows.has(number) || chosen.includes(file));
  const state = stateOf(found.get(number), before, isWhole);
  if (state === "held") held += 1;
  process.stdout.write(
    `${state === "held" ? "✓" : "✗"} ${number}  ${promise}${state === "held" ? "" : `  [${state}]`}\n`,
  );
  return `| ${number} | ${promise} | ${state} |`;
}

/** `isWhole`: every test of the row was run. */
function stateOf(outcomes: string[] | undefined, before: string, isWhole: boolean): string {
  if (before.startsWith("judged: ")) return before;
  const failed = outcomes?.filter((status) => status !== "passed").length ?? 0;
  if (outcomes !== undefined && failed > 0) return `open: ${failed} of ${outcomes.length} tests fail`;
  if (!isWhole) return before;
  return outcomes === undefined ? "open: no test" : "held";
}

/** The test files that name rows, and which. They are run whole: a test may need what those before it left. */
function filesNamingRows(): { path: string; rows: Set<string> }[] {
  return globSync("test/**/*.test.ts", { cwd: project })
    .map((path) => ({ path, rows: new Set(readFileSync(join(project, path), "utf8").match(/AC-\d{3}/g)) }))
    .filter(({ rows }) => rows.size > 0);
}

/** @returns the outcomes of the tests that name a row, by its number */
async function runTests(files: string[]): Promise<Map<string, string[]>> {
  const directory = mkdtempSync(join(tmpdir(), "acceptance-"));
  const report = join(directory, "report.json");
  try {
    const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    // The progress of the tests is not the result.
    const tests = spawn(join(project, "node_modules", ".bin", "vitest"), [...args, ...files], {
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
