// Arguments: what the commands share in reading what the user typed.
import { createInterface } from "node:readline/promises";
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { parseJson } from "../protocol/json.ts";
import { CliError, EXIT } from "./errors.ts";
import { FORMATS, type Format, printable } from "./output.ts";
import { oneLine } from "./table.ts";

/** Blanks and escapes may double what is at most 1 MB when parsed; the server counts exactly. */
const MAX_INPUT_BYTES = 2_000_000;

export interface ReadOptions {
  format: Format;
}

/**
 * Makes a command that shows something: it takes `--format`, `--json` and a trailing `json`, which may also stand in
 * place of optional arguments (`messages general json`).
 */
export function reading(command: Command, usual: Format = "text"): Command {
  return command
    .addArgument(new Argument("[json]", "the same as --format json").choices(["json"]))
    .addOption(new Option("--format <format>", "form of the output").choices(FORMATS).default(usual))
    .addOption(new Option("--json", "the same as --format json").implies({ format: "json" }))
    .hook("preAction", (self) => {
      const required = self.registeredArguments.filter((argument) => argument.required).length;
      const last = self.args.length - 1;
      if (last < required || self.args[last] !== "json") return;
      self.processedArgs[last] = undefined;
      self.setOptionValue("format", "json");
    });
}

/** A text that must not be empty. */
export function text(value: string): string {
  if (value.trim() === "") throw new InvalidArgumentError("It must not be empty.");
  return value;
}

/** A whole number from 1 on. */
export function positive(value: string): string {
  if (!/^\d{1,9}$/.test(value) || Number(value) < 1)
    throw new InvalidArgumentError("It must be a whole number from 1 on.");
  return value;
}

/** A JSON object. */
export function jsonObject(value: string): Record<string, unknown> {
  const parsed = parseJson(value);
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new InvalidArgumentError("It must be a JSON object, such as '{\"key\": 1}'.");
  }
  return { ...parsed };
}

/**
 * Reads a payload: JSON, or `-` for JSON on standard input, since a command line holds no more than 128 kB an argument.
 * Throws CliError.
 */
export async function readPayload(value: string): Promise<unknown> {
  const source = value === "-" ? await standardInput() : value;
  const parsed = parseJson(source);
  if (parsed === undefined)
    throw new CliError("the payload must be JSON, such as '{\"key\": 1}'", { exit: EXIT.usage });
  return parsed;
}

/** Asks on stderr, so that stdout holds results only, and answers the next line of standard input. Throws CliError at its end. */
export async function readLine(question: string, silence = "nothing came on standard input"): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  prompt.setPrompt(oneLine(printable(question)));
  prompt.prompt();
  for await (const answer of prompt) {
    prompt.close();
    return answer.trim();
  }
  throw new CliError(silence);
}

/** Asks before something is deleted; `y` alone is consent. Throws CliError when nobody is there to answer. */
export async function confirm(question: string): Promise<boolean> {
  const silence = "nobody answered: to delete without asking, add --yes, --force or `true`";
  return /^y$/i.test(await readLine(`${question} [y/N] `, silence));
}

async function standardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_INPUT_BYTES) throw new CliError("the payload is larger than the limit of 1 MB");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
