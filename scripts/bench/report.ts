// The report: findings as one table that lines up, with ratios to the bare object.
import { cpus } from "node:os";
import { versions } from "node:process";
import { FRAME_BYTES } from "./dialects.ts";
import type { Finding } from "./run.ts";
import type { Plan, Scenario } from "./scenarios.ts";
import type { Summary } from "./statistics.ts";

export interface Report {
  readonly date: string;
  readonly machine: string;
  readonly versions: { readonly node: string; readonly workerd: string };
  readonly plan: Plan;
  readonly frameBytes: number;
  readonly scenarios: readonly (Scenario & { readonly findings: readonly Finding[] })[];
}

export function reportOf(plan: Plan, workerd: string, scenarios: Report["scenarios"]): Report {
  const cores = cpus();
  return {
    date: new Date().toISOString(),
    machine: `${cores.length} × ${cores[0]?.model.trim() ?? "unknown CPU"}`,
    versions: { node: versions.node, workerd },
    plan,
    frameBytes: FRAME_BYTES,
    scenarios,
  };
}

/** One line of the table: what is shown, and how to read it from a finding. */
interface Figure {
  readonly label: string;
  readonly digits: number;
  read(finding: Finding): Summary | number;
}

const figures: readonly Figure[] = [
  { label: "µs CPU a delivery", digits: 1, read: ({ cpu }) => cpu },
  { label: "p50 ms", digits: 1, read: ({ p50 }) => p50 },
  { label: "p99 ms", digits: 1, read: ({ p99 }) => p99 },
  { label: "first to last ms", digits: 1, read: ({ spread }) => spread },
  { label: "saturated: deliveries/s", digits: 0, read: ({ deliveriesPerSecond }) => deliveriesPerSecond },
  { label: "saturated: µs CPU a delivery", digits: 1, read: ({ saturatedCpu }) => saturatedCpu },
  { label: "saturated: µs CPU of the load", digits: 1, read: ({ loadCpu }) => loadCpu },
  { label: "µs CPU to connect and join", digits: 0, read: ({ joinCpu }) => joinCpu },
  { label: "KB memory a socket", digits: 0, read: ({ memory }) => memory / 1024 },
];

/** The report as text. Each figure: the median of the rounds, lowest and highest in brackets, and the ratio to bare. */
export function renderReport({ date, machine, versions: { node, workerd }, plan, ...report }: Report): string {
  const { rounds, moderateSeconds, saturatedSeconds } = plan;
  const head = [
    `${date} · ${machine} · Node ${node} · workerd ${workerd}`,
    `${rounds} rounds of ${moderateSeconds} s at a moderate rate and ${saturatedSeconds} s saturated, ` +
      `${report.frameBytes}-byte frames, loopback; median (lowest–highest) × bare`,
  ];
  const tables = report.scenarios.map((scenario) => {
    const rate = scenario.publishesPerSecond;
    const title = `${scenario.name}, ${rate} publishes/s = ${rate * scenario.socketsPerChannel} deliveries/s`;
    return [title, ...linedUp(rowsOf(scenario.findings)), ...lossesOf(scenario.findings)].join("\n");
  });
  return [head.join("\n"), ...tables].join("\n\n");
}

function rowsOf(findings: readonly Finding[]): string[][] {
  const [bare] = findings;
  return [
    ["", ...findings.map(({ server }) => server)],
    ...figures.map(({ label, digits, read }) => [
      label,
      ...findings.map((finding) => {
        const ratio = finding === bare || bare === undefined ? "" : ` ×${ratioOf(read(finding), read(bare))}`;
        return render(read(finding), digits) + ratio;
      }),
    ]),
  ];
}

function render(value: Summary | number, digits: number): string {
  const text = (number: number): string =>
    number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  if (typeof value === "number") return text(value);
  return `${text(value.median)} (${text(value.lowest)}–${text(value.highest)})`;
}

function ratioOf(value: Summary | number, base: Summary | number): string {
  const middle = (of: Summary | number): number => (typeof of === "number" ? of : of.median);
  return (middle(value) / middle(base)).toFixed(2);
}

/** Columns as wide as their widest cell, labels to the left and figures to the right. */
function linedUp(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("   "),
  );
}

function lossesOf(findings: readonly Finding[]): string[] {
  return findings
    .filter(({ missing }) => missing > 0)
    .map(({ server, missing, due }) => `${server}: ${missing} of ${due} deliveries never came`);
}
