// Admin API: registered channels.
import { Hono } from "hono";
import * as z from "zod";
import { CHANNEL_TYPES, type ChannelCursor, type ListedChannel, type RegisteredChannel } from "../../store/channels.ts";
import { deleteChannel, setMetadata } from "../acts.ts";
import type { PresenceEntry } from "../objects/rpc.ts";
import { cursorIn, cut, MAX_PAGE, pageFields, sizeOf } from "./cursor.ts";
import { body, channelMetadata, channelPath, name, query, time } from "./input.ts";
import { archived, configureRooms, findChannel, objectOf } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";
import { slugOf } from "./slug.ts";

const typeNames = "public, private, presence or direct";
const type = z.enum(CHANNEL_TYPES, { error: `must be ${typeNames}` });

const draft = z.strictObject({
  name,
  type: type.optional(),
  metadata: channelMetadata.optional(),
  update: z
    .boolean()
    .meta({ description: "Overwrite a channel of this slug; without it another type is a conflict." })
    .optional(),
});
const filter = z.strictObject({
  type: z.enum(["all", ...CHANNEL_TYPES], { error: `must be all, ${typeNames}` }).optional(),
  ...pageFields(MAX_PAGE),
});
const cursorSchema = z.tuple([time.transform((text) => new Date(text)), z.string()]);

const channel = z
  .object({
    id: z.guid(),
    slug: z.string().meta({ description: "The part of the name that is its topic." }),
    name: z.string(),
    type: z.enum(CHANNEL_TYPES),
    metadata: z.record(z.string(), z.unknown()),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "Channel" });
const made = channel.extend({ created: z.boolean() }).meta({ id: "MadeChannel" });
const shown = channel
  .extend({ total_members: z.number().int(), online_members: z.number().int(), messages_24h: z.number().int() })
  .meta({ id: "ShownChannel" });
const listed = channel
  .omit({ metadata: true })
  .extend({ members: z.number().int(), online: z.number().int() })
  .meta({ id: "ListedChannel" });

const operations = {
  list: operation({
    id: "listChannels",
    tag: "Channels",
    summary: "List channels, newest first",
    answers: { 200: z.array(listed) },
    commands: ["channel list"],
  }),
  create: operation({
    id: "createChannel",
    tag: "Channels",
    summary: "Make a channel",
    description: "A channel of that name and type is left as it is, unless `update` says to overwrite it.",
    answers: { 201: made, 200: made },
    problems: ["conflict"],
    commands: ["channel create"],
  }),
  show: operation({
    id: "getChannel",
    tag: "Channels",
    summary: "Show a channel",
    answers: { 200: shown },
    problems: ["not_found"],
    commands: ["channel get"],
  }),
  change: operation({
    id: "changeChannel",
    tag: "Channels",
    summary: "Replace the metadata of a channel",
    description: "Limits and rules that it sets are in force at once.",
    answers: { 200: channel },
    problems: ["not_found"],
    commands: [],
  }),
  remove: operation({
    id: "deleteChannel",
    tag: "Channels",
    summary: "Delete a channel with its messages and members",
    answers: { 200: channel },
    problems: ["not_found"],
    commands: ["channel delete"],
  }),
};

export const channels = new Hono<AdminEnv>()
  .get("/", operations.list, query(filter), async (c) => {
    const { ports } = c.var;
    const { type, cursor, ...paging } = c.req.valid("query");
    const size = sizeOf(paging);
    const [found, presence] = await Promise.all([
      ports.store.channels.list(
        type === "all" ? undefined : type,
        size + 1,
        cursor === undefined ? undefined : startOf(cursor),
      ),
      ports.directory().presence({}),
    ]);
    const rows = cut(c, found, size, ({ created_at, slug }) => [created_at.toISOString(), slug]);
    const online = countOnline(presence);
    return c.json(rows.map((row) => listView(row, online.get(row.slug) ?? 0)));
  })
  .post("/", operations.create, body(draft), async (c) => {
    const { update, ...wish } = c.req.valid("json");
    const { created, channel } = await register(c.var.ports, wish, update ?? false);
    const view: z.infer<typeof made> = { ...channelView(channel), created };
    return c.json(view, created ? 201 : 200);
  })
  .get("/:channel", operations.show, channelPath, async (c) => {
    const { ports } = c.var;
    const channel = await findChannel(ports, c.req.valid("param").channel);
    const object = objectOf(ports, channel);
    const [presence, messages] = await Promise.all([
      object.presence(),
      archived(ports, channel).then(({ id }) => ports.store.messages.statistics(id)),
    ]);
    const view: z.infer<typeof shown> = {
      ...channelView(channel),
      total_members: channel.members,
      online_members: countOnline(presence).get(channel.slug) ?? 0,
      messages_24h: messages.messages_last_day,
    };
    return c.json(view);
  })
  .patch(
    "/:channel",
    operations.change,
    channelPath,
    body(z.strictObject({ metadata: channelMetadata })),
    async (c) => {
      const { ports } = c.var;
      const channel = await findChannel(ports, c.req.valid("param").channel);
      const { outcome, tell } = await setMetadata(ports, channel, c.req.valid("json").metadata);
      await tell();
      return c.json(channelView(outcome));
    },
  )
  .delete("/:channel", operations.remove, channelPath, async (c) => {
    const { ports } = c.var;
    const channel = await findChannel(ports, c.req.valid("param").channel);
    const { outcome, tell } = await deleteChannel(ports, channel);
    await tell();
    return c.json(channelView(outcome));
  });

/** Makes a channel, or finds the one of the same slug and type. Throws `conflict` when the type differs. */
export async function register(
  ports: AdminPorts,
  wish: { name: string; type?: RegisteredChannel["type"] | undefined; metadata?: Record<string, unknown> | undefined },
  update: boolean,
): Promise<{ created: boolean; channel: RegisteredChannel }> {
  const made = slugOf(wish.name);
  if ("reason" in made) throw new Problem("invalid_request", `name: ${made.reason}`);
  const { slug } = made;
  const draft = {
    slug,
    name: wish.name,
    type: wish.type ?? "public",
    ...(wish.metadata === undefined ? {} : { metadata: wish.metadata }),
  };
  const created = await ports.store.channels.create(draft);
  const channel =
    created ?? (update ? await ports.store.channels.update(draft) : await ports.store.channels.findSlug(slug));
  if (channel === undefined) throw new Problem("conflict", `channel "${slug}" was deleted meanwhile: try again`);
  if (channel.type !== draft.type) {
    throw new Problem(
      "conflict",
      `channel "${slug}" is there already and is ${channel.type}, not ${draft.type}: to change it, say so (--update)`,
    );
  }
  await configureRooms(ports, channel, false);
  return { created: created !== undefined, channel };
}

function startOf(cursor: string): ChannelCursor {
  const [created_at, slug] = cursorIn(cursor, cursorSchema);
  return { created_at, slug };
}

/** Users online (not away) in each channel. */
function countOnline(presence: PresenceEntry[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { channel, status } of presence) {
    if (status === "online") counts.set(channel, (counts.get(channel) ?? 0) + 1);
  }
  return counts;
}

function channelView(row: RegisteredChannel): z.infer<typeof channel> {
  const { id, slug, name, type, metadata, created_at, updated_at } = row;
  return {
    id,
    slug,
    name,
    type,
    metadata,
    created_at: created_at.toISOString(),
    updated_at: updated_at.toISOString(),
  };
}

function listView(row: ListedChannel, online: number): z.infer<typeof listed> {
  const { id, slug, name, type, members, created_at, updated_at } = row;
  const times = { created_at: created_at.toISOString(), updated_at: updated_at.toISOString() };
  return { id, slug, name, type, members, online, ...times };
}
