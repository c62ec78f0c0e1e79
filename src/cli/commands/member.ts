// Commands on members: channel members, join, leave.
import { Argument, type Command } from "commander";
import { type ReadOptions, reading, text } from "../arguments.ts";
import { heading, line, list, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { count } from "../time.ts";

const ROLES = ["member", "moderator", "admin"] as const;
type Role = (typeof ROLES)[number];

/** Adds members, join and leave to the group channel. */
export function memberCommands(channel: Command): void {
  reading(
    channel
      .command("members")
      .description("list the members of a channel, newest first")
      .argument("<channel>", "slug, id or name", text),
  ).action(members);
  channel
    .command("join")
    .description("add a member, or change the role of one")
    .argument("<channel>", "slug, id or name", text)
    .argument("<user>", "id of the user", text)
    .addArgument(
      new Argument("[role]", "what they may do (default: member, or the role they have)").choices([...ROLES, "owner"]),
    )
    .action(join);
  channel
    .command("leave")
    .description("remove a member: they are out at once")
    .argument("<channel>", "slug, id or name", text)
    .argument("<user>", "id of the user", text)
    .action(leave);
}

async function members(reference: string, _json: unknown, { format }: ReadOptions): Promise<void> {
  const param = { channel: segment(reference) };
  const { members } = admin().channels[":channel"];
  const value = await rows((page) => members.$get({ param, query: page }));
  show(format, {
    value,
    keys: ["user_id", "role", "status", "joined_at", "last_seen_at"],
    text: () => {
      heading(`Members of #${reference} (${count(value.length)}):`);
      line();
      list(
        value.map(({ user_id, name, role, status }) => [user_id, name ?? "(no name)", status, role]),
        [10, 13, 7],
      );
    },
  });
}

async function join(channel: string, user: string, role: Role | "owner" | undefined): Promise<void> {
  const put = await answer(
    admin().channels[":channel"].members[":user"].$put({
      param: { channel: segment(channel), user: segment(user) },
      // `owner` is what an earlier schema called an admin.
      json: role === undefined ? {} : { role: role === "owner" ? "admin" : role },
    }),
  );
  success(`Member ${put.added ? "added to" : "of"} channel: ${user} is ${put.role} in ${put.channel}`);
}

async function leave(channel: string, user: string): Promise<void> {
  const { removed } = await answer(
    admin().channels[":channel"].members[":user"].$delete({
      param: { channel: segment(channel), user: segment(user) },
    }),
  );
  if (removed) success(`Member removed from channel: ${user}`);
  else warning(`${user} was not a member of ${channel}`);
}
