// Output: every line that `nself` writes, its marks and colours, and the four formats of what it reads.
import { columns, csv, oneLine, table } from "./table.ts";

/** Forms of a result: `text` for people, `table` as psql draws it, `json` and `csv` for programs. */
export const FORMATS = ["text", "table", "json", "csv"] as const;
export type Format = (typeof FORMATS)[number];

const COLOURS = { green: 32, red: 31, yellow: 33, blue: 34, bold: 1 } as const;

/** A line of a result: what is in it does not begin another, whoever wrote it. */
export function line(text = ""): void {
  process.stdout.write(`${oneLine(printable(text))}\n`);
}

export function heading(text: string): void {
  process.stdout.write(`${paint(process.stdout, "bold", oneLine(printable(text)))}\n`);
}

/** `✓` on stdout: done. */
export function success(text: string): void {
  process.stdout.write(`${paint(process.stdout, "green", "✓")} ${oneLine(printable(text))}\n`);
}

/** `✗` on stdout: a state that is bad; a failure of the command itself goes to `failure`. */
export function bad(text: string): void {
  process.stdout.write(`${paint(process.stdout, "red", "✗")} ${inset(text)}\n`);
}

/** `ℹ`: under way. On stdout, unless that carries a result for programs. */
export function progress(text: string, stream: NodeJS.WriteStream = process.stdout): void {
  stream.write(`${paint(stream, "blue", "ℹ")} ${oneLine(printable(text))}\n`);
}

/** `✱` on stderr: done, but. */
export function warning(text: string): void {
  process.stderr.write(`${paint(process.stderr, "yellow", "✱")} ${oneLine(printable(text))}\n`);
}

/** `✗` on stderr: failed. */
export function failure(text: string): void {
  process.stderr.write(`${paint(process.stderr, "red", "✗")} ${inset(text)}\n`);
}

/** A text of several lines, of which only the first begins a line of ours: what it quotes may look like one. */
function inset(text: string): string {
  return printable(asTyped(text)).replaceAll("\n", "\n  ");
}

/** What is said when a name stands for no registered channel and is used all the same. */
export function openChannel(name: string): string {
  return `"${name}" is not registered; this is the open channel of that name`;
}

/** A result as one line of JSON. */
export function jsonLine(value: unknown): void {
  writeJson(value);
}

/** Escapes of control characters are JSON's own: what is written stays JSON. */
function writeJson(value: unknown, indent?: number): void {
  process.stdout.write(`${printable(JSON.stringify(value, null, indent))}\n`);
}

/** Lines of cells, as the text format shows lists: indented, each cell at least as wide as `widths` says. */
export function list(rows: string[][], widths: number[]): void {
  for (const text of columns(rows, widths)) line(`  ${text}`);
}

/**
 * Shows a result in the format asked for. `value` is one object or a list of objects, `keys` the columns of `table`
 * and `csv`, `text` writes the form for people.
 */
export function show<Row extends object>(
  format: Format,
  { value, keys, text }: { value: Row | Row[]; keys: (keyof Row & string)[]; text: () => void },
): void {
  if (format === "json") writeJson(value, 2);
  else if (format === "text") text();
  else {
    const cells = (Array.isArray(value) ? value : [value]).map((row) => keys.map((key) => row[key]));
    // A terminal gets what it can show; a file gets the cells as they are.
    if (format === "csv")
      process.stdout.write(process.stdout.isTTY ? printable(csv(keys, cells, "\n")) : csv(keys, cells));
    else for (const row of table(keys, cells)) line(row);
  }
}

/**
 * Commands in a text as they can be typed here: npm puts `nself` within reach only of what it runs itself (npx), and says
 * so in the environment.
 */
export function asTyped(text: string): string {
  return process.env.npm_execpath === undefined
    ? text
    : text.replaceAll(/(?<!npx )\bnself (realtime|profile|migrate|completion)\b/g, "npx nself $1");
}

/**
 * What others wrote must not steer a terminal, nor turn a line's letters around: control characters other than line ends
 * and marks of direction are shown as escapes.
 */
export function printable(text: string): string {
  return text.replaceAll(
    /[^\P{Cc}\n]|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function paint(stream: NodeJS.WriteStream, colour: keyof typeof COLOURS, text: string): string {
  return stream.isTTY && !process.env.NO_COLOR ? `\u001b[${COLOURS[colour]}m${text}\u001b[0m` : text;
}
