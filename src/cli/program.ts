// The command line: the tree of commands, and how a run of it ends.
import completion from "@bomb.sh/tab/commander";
import { Command, CommanderError } from "commander";
import project from "../../package.json" with { type: "json" };
import { channelCommands } from "./commands/channel.ts";
import { cleanupCommand } from "./commands/cleanup.ts";
import { controlCommands } from "./commands/control.ts";
import { eventsCommand } from "./commands/events.ts";
import { listenCommand } from "./commands/listen.ts";
import { messageCommands } from "./commands/message.ts";
import { migrateCommands } from "./commands/migrate.ts";
import { presenceCommands } from "./commands/presence.ts";
import { profileCommands } from "./commands/profile.ts";
import { stackCommands } from "./commands/stack.ts";
import { statsCommand } from "./commands/stats.ts";
import { subscriptionCommands } from "./commands/subscription.ts";
import { systemCommands } from "./commands/system.ts";
import { CliError, EXIT, type ExitCode, ToldError } from "./errors.ts";
import { examples } from "./examples.ts";
import { asTyped, failure } from "./output.ts";

/** What stands under `nself realtime`, in the order of its help. */
const realtimeGroups = [
  systemCommands,
  stackCommands,
  subscriptionCommands,
  listenCommand,
  channelCommands,
  messageCommands,
  eventsCommand,
  presenceCommands,
  controlCommands,
  statsCommand,
  cleanupCommand,
];

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

/** The whole tree; what walks it (help, completion) sees what a user can type. */
export function buildProgram(): Command {
  const program = new Command("nself")
    .description("administers a realtime server")
    .version(project.version)
    .option("--profile <name>", "the server to use; see nself profile list")
    .option("--no-color", "no colours")
    // Heard as they are read, so that an error in what follows is told in the form asked for.
    .on("option:profile", (name: string) => {
      process.env.NSELF_PROFILE = name;
    })
    .on("option:no-color", () => {
      process.env.NO_COLOR = "1";
    });
  // Set before commands are added: they inherit it.
  program
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      outputError: (text) => failure(text.replace(/^error: (command-argument value )?/, "").trimEnd()),
    });
  realtimeCommands(program.command("realtime"));
  // The name that the command had under `nself service`.
  realtimeCommands(program.command("service").description("services of a project").command("realtime").alias("rt"));
  profileCommands(program);
  migrateCommands(program);
  completion(program, { completionCommandName: "completion" });
  explain(program);
  return program;
}

function realtimeCommands(realtime: Command): void {
  realtime
    .description("channels, messages, presence and row changes")
    .addHelpText("after", "\nTimes are shown in UTC.");
  for (const add of realtimeGroups) add(realtime);
}

/** Adds to each command its examples, and to its errors its usage in one line: all of the help would hide the reason. */
function explain(command: Command): void {
  const help = command.createHelp();
  const path = pathOf(command);
  command.showHelpAfterError(asTyped(`Usage: ${help.commandUsage(command)}\nHelp: ${path} --help`));
  const lines = examples[path.replace(/^nself (realtime |service realtime )?/, "")] ?? [];
  if (lines.length > 0) {
    const start =
      path.startsWith("nself service realtime") || path.startsWith("nself realtime") ? "nself realtime" : "nself";
    command.addHelpText("after", asTyped(`\nExamples:\n${lines.map((line) => `  ${start} ${line}`).join("\n")}`));
  }
  for (const child of command.commands) explain(child);
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
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
