// What the stack tells the person who started it: steps and the result on stdout, trouble on stderr.

import { NO_DATABASE } from "../settings/database.ts";
import type { Config } from "./config.ts";
import type { LogFile } from "./log-file.ts";
import type { StackFile } from "./stack-file.ts";

const LABEL_WIDTH = 46;

export class Report {
  readonly #startedAt = performance.now();
  #log: LogFile | undefined;

  constructor() {
    // A closed terminal or a `| head` must not end the stack halfway through.
    for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  }

  /** From now on, what is told is kept as well. */
  keepIn(log: LogFile): void {
    this.#log = log;
  }

  /** Does one step of the start and shows it with the time it took. */
  async step<T>(label: string, work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const result = await work();
    const time = `${Math.round(performance.now() - startedAt)} ms`;
    print(`  ${paint("green", "✓")} ${label.padEnd(LABEL_WIDTH)} ${paint("dim", time.padStart(8))}`);
    return result;
  }

  note(text: string): void {
    this.#log?.write("stack", text);
    print(`  ${text}`);
  }

  warn(text: string): void {
    this.#log?.write("stack", `warning: ${text}`);
    process.stderr.write(`${paint("yellow", "!", process.stderr)} ${text}\n`);
  }

  error(text: string): void {
    this.#log?.write("stack", `error: ${text}`);
    process.stderr.write(`${paint("red", "✗", process.stderr)} ${text}\n`);
  }

  /** `shown`: whether it is worth a person's attention; all of it is kept. */
  childSays(name: string, line: string, shown: boolean): void {
    this.#log?.write(name, printable(line));
    if (!shown) return;
    process.stderr.write(`${paint("dim", `${name} │`, process.stderr)} ${printable(line)}\n`);
  }

  ready(stack: StackFile, { home, databaseUrl }: Config): void {
    this.#log?.write("stack", `ready at ${stack.url} (process ${stack.pid})`);
    // The table to play with is in our own database only.
    const next =
      databaseUrl === undefined
        ? ["npx nself realtime subscribe public.todos", "npm run quickstart"]
        : databaseUrl === NO_DATABASE
          ? ["npx nself realtime listen channel:room-1"]
          : ["npx nself realtime subscribe <schema.table>", "npx nself realtime listen <schema.table>"];
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1);
    print(`
${paint("bold", "nself realtime")} is ready after ${seconds} s

  URL          ${paint("bold", stack.url)}
  anon key     ${stack.anonKey}
  service key  ${stack.serviceKey}
  database     ${placeOf(stack.databaseUrl)}
  admin API    ${stack.url}/admin/v1/reference (the password is the service key)

Next, in a second terminal:

  ${next.join("\n  ")}
  npx nself realtime status

Ctrl+C stops everything. State is kept in ${home}`);
  }
}

/** What a child repeats may be anybody's text: control characters must not steer the terminal. */
function printable(text: string): string {
  return text.replaceAll(/[^\P{Cc}\t]/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** The whole address stands in the stack file; a terminal is looked at by others too. */
function placeOf(databaseUrl: string): string {
  if (databaseUrl === NO_DATABASE) return "none: no registered channels, no row changes";
  const { host, pathname } = new URL(databaseUrl);
  return `${host}${pathname}`;
}

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 };

function paint(style: keyof typeof codes, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  const coloured = stream.isTTY && !process.env.NO_COLOR;
  return coloured ? `\x1b[${codes[style]}m${text}\x1b[0m` : text;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
