// The command line: the tree of commands, and how a run of it ends.
import { Command, CommanderError } from "commander";
import project from "../../package.json" with { type: "json" };
import { channelCommands } from "./commands/channel.ts";
import { cleanupCommand } from "./commands/cleanup.ts";
import { controlCommands } from "./commands/control.ts";
import { eventsCommand } from "./commands/events.ts";
import { listenCommand } from "./commands/listen.ts";
import { messageCommands } from "./commands/message.ts";
import { presenceCommands } from "./commands/presence.ts";
import { statsCommand } from "./commands/stats.ts";
import { subscriptionCommands } from "./commands/subscription.ts";
import { systemCommands } from "./commands/system.ts";
import { CliError, EXIT, type ExitCode, ToldError } from "./errors.ts";
import { asTyped, failure } from "./output.ts";

/** Runs one command line (without the program's own name) and answers its exit code. Errors are on stderr by then. */
export async function run(args: string[]): Promise<ExitCode> {
  const program = buildProgram();
  const group = groupAlone(program, args);
  if (group !== undefined) {
    group.outputHelp();
    return EXIT.usage;
  }
  try {
    await program.parseAsync(args, { from: "user" });
    return EXIT.ok;
  } catch (error) {
    // Commander has written its own errors by now.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (error instanceof ToldError) return EXIT.failure;
    if (error instanceof CliError) {
      failure(error.message);
      return error.exit;
    }
    failure(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return EXIT.failure;
  }
}

function buildProgram(): Command {
  const program = new Command("nself").description("administers a realtime server").version(project.version);
  // Set before commands are added: they inherit it.
  program.exitOverride().configureOutput({
    outputError: (text) => failure(text.replace(/^error: (command-argument value )?/, "").trimEnd()),
  });
  realtimeCommands(program.command("realtime"));
  // The name that the command had under `nself service`.
  realtimeCommands(program.command("service").description("services of a project").command("realtime").alias("rt"));
  explainErrors(program);
  return program;
}

/** After an error, its command's usage in one line: the whole help would push the reason out of sight. */
function explainErrors(command: Command): void {
  const help = command.createHelp();
  command.showHelpAfterError(asTyped(`Usage: ${help.commandUsage(command)}\nHelp: ${pathOf(command)} --help`));
  for (const child of command.commands) explainErrors(child);
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function realtimeCommands(realtime: Command): void {
  realtime
    .description("channels, messages, presence and row changes")
    .addHelpText("after", "\nTimes are shown in UTC.");
  systemCommands(realtime);
  subscriptionCommands(realtime);
  listenCommand(realtime);
  channelCommands(realtime);
  messageCommands(realtime);
  eventsCommand(realtime);
  presenceCommands(realtime);
  controlCommands(realtime);
  statsCommand(realtime);
  cleanupCommand(realtime);
}

/** The group of commands that the arguments name, when they name none of its commands. */
function groupAlone(program: Command, args: string[]): Command | undefined {
  let group = program;
  for (const name of args) {
    const next = group.commands.find((command) => command.name() === name || command.alias() === name);
    if (next === undefined) return undefined;
    group = next;
  }
  return group.commands.length > 0 ? group : undefined;
}
