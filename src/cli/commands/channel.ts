// Commands on channels: channel create, list, get, delete.
import { Argument, type Command } from "commander";
import { confirm, jsonObject, type ReadOptions, reading, text } from "../arguments.ts";
import { heading, line, list, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { count, some, stamp } from "../time.ts";
import { memberCommands } from "./member.ts";

const TYPES = ["public", "private", "presence", "direct"] as const;
type ChannelType = (typeof TYPES)[number];

/** Adds the group channel: create, list, get and delete. */
export function channelCommands(realtime: Command): void {
  const channel = realtime.command("channel").description("make, list, show and delete channels");
  channel
    .command("create")
    .description("make a channel; a channel of that name and type is left as it is")
    .argument("<name>", "its name; letters and digits of it, and . _ : - make the slug", text)
    .addArgument(new Argument("[type]", "its type (default: public)").choices(TYPES))
    .argument("[metadata]", "a JSON object, such as '{\"max_members\": 10}'", jsonObject)
    .option("--update", "overwrite name, type and metadata of a channel that is there")
    .action(create);
  reading(
    channel
      .command("list")
      .description("list channels, newest first")
      .addArgument(
        new Argument("[type]", "only channels of this type (default: all)").choices(["all", ...TYPES, "json"]),
      ),
  ).action(listChannels);
  reading(channel.command("get").description("show a channel").argument("<channel>", "slug, id or name", text)).action(
    get,
  );
  channel
    .command("delete")
    .description("delete a channel with its messages and members")
    .argument("<channel>", "slug, id or name", text)
    .addArgument(new Argument("[force]", "true: do not ask").choices(["true", "false"]))
    .option("-f, --force", "do not ask")
    .option("-y, --yes", "do not ask")
    .action(remove);
  memberCommands(channel);
}

async function create(
  name: string,
  type: ChannelType | undefined,
  metadata: Record<string, unknown> | undefined,
  options: { update?: boolean },
): Promise<void> {
  const wish = {
    name,
    ...(type === undefined ? {} : { type }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(options.update === undefined ? {} : { update: options.update }),
  };
  const made = await answer(admin().channels.$post({ json: wish }));
  const verb = made.created ? "created" : options.update ? "updated" : "is there already";
  success(`Channel ${verb}: ${made.slug} (${made.type})`);
  if (!made.created && !options.update && metadata !== undefined) {
    warning("its metadata was left as it is; --update overwrites it");
  }
  line(made.id);
}

async function listChannels(
  type: ChannelType | "all" | undefined,
  _json: unknown,
  { format }: ReadOptions,
): Promise<void> {
  const { channels } = admin();
  const value = await rows((page) => channels.$get({ query: { ...page, ...(type === undefined ? {} : { type }) } }));
  show(format, {
    value,
    keys: ["id", "slug", "name", "type", "members", "online", "created_at"],
    text: () => {
      heading("Channels:");
      line();
      list(
        value.map(({ slug, type, members, online }) => [
          slug,
          type,
          type === "presence" ? `${count(online)} online` : some(members, "member"),
        ]),
        [15, 10],
      );
    },
  });
}

async function get(reference: string, _json: unknown, { format }: ReadOptions): Promise<void> {
  const value = await answer(admin().channels[":channel"].$get({ param: { channel: segment(reference) } }));
  show(format, {
    value,
    keys: ["id", "slug", "name", "type", "metadata", "total_members", "online_members", "created_at", "updated_at"],
    text: () => {
      line(`Channel: ${value.slug}`);
      line(`Type: ${value.type}`);
      line(`Members: ${count(value.total_members)}`);
      line(`Created: ${stamp(value.created_at)}`);
      line(`Messages (24h): ${count(value.messages_24h)}`);
    },
  });
}

async function remove(
  reference: string,
  force: string | undefined,
  options: { force?: boolean; yes?: boolean },
): Promise<void> {
  const param = { channel: segment(reference) };
  const api = admin();
  if (force !== "true" && !options.force && !options.yes) {
    const { slug } = await answer(api.channels[":channel"].$get({ param }));
    if (!(await confirm(`Delete channel "${slug}" with its messages and members?`))) {
      line("Deletion cancelled");
      return;
    }
  }
  const { slug } = await answer(api.channels[":channel"].$delete({ param }));
  success(`Channel deleted: ${slug}`);
}
