// Admin API: registered channels.
import { Hono } from "hono";
import * as z from "zod";
import { CHANNEL_TYPES, type ListedChannel, type RegisteredChannel } from "../../store/channels.ts";
import { deleteChannel, setMetadata } from "../acts.ts";
import type { PresenceEntry } from "../objects/rpc.ts";
import { body, channelMetadata, name, query } from "./input.ts";
import { archived, configureRooms, findChannel, objectOf } from "./objects.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { Problem } from "./problem.ts";
import { slugOf } from "./slug.ts";

const typeNames = "public, private, presence or direct";
const type = z.enum(CHANNEL_TYPES, { error: `must be ${typeNames}` });

const draft = z.strictObject({
  name,
  type: type.optional(),
  metadata: channelMetadata.optional(),
  /** Overwrite a channel of this slug whose type differs; without it that is a conflict. */
  update: z.boolean().optional(),
});
const filter = z.strictObject({
  type: z.enum(["all", ...CHANNEL_TYPES], { error: `must be all, ${typeNames}` }).optional(),
});

export const channels = new Hono<AdminEnv>()
  .get("/", query(filter), async (c) => {
    const { ports } = c.var;
    const { type } = c.req.valid("query");
    const [rows, presence] = await Promise.all([
      ports.store.channels.list(type === "all" ? undefined : type),
      ports.directory().presence({}),
    ]);
    const online = countOnline(presence);
    return c.json(rows.map((row) => listView(row, online.get(row.slug) ?? 0)));
  })
  .post("/", body(draft), async (c) => {
    const { update, ...wish } = c.req.valid("json");
    const { created, channel } = await register(c.var.ports, wish, update ?? false);
    return c.json({ ...channelView(channel), created }, created ? 201 : 200);
  })
  .get("/:channel", async (c) => {
    const { ports } = c.var;
    const channel = await findChannel(ports, c.req.param("channel"));
    const object = objectOf(ports, channel);
    const [presence, messages] = await Promise.all([
      object.presence(),
      archived(ports, channel).then(({ id }) => ports.store.messages.statistics(id)),
    ]);
    return c.json({
      ...channelView(channel),
      total_members: channel.members,
      online_members: countOnline(presence).get(channel.slug) ?? 0,
      messages_24h: messages.messages_last_day,
    });
  })
  .patch("/:channel", body(z.strictObject({ metadata: channelMetadata })), async (c) => {
    const { ports } = c.var;
    const channel = await findChannel(ports, c.req.param("channel"));
    const { outcome, tell } = await setMetadata(ports, channel, c.req.valid("json").metadata);
    await tell();
    return c.json(channelView(outcome));
  })
  .delete("/:channel", async (c) => {
    const { ports } = c.var;
    const channel = await findChannel(ports, c.req.param("channel"));
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

/** Users online (not away) in each channel. */
function countOnline(presence: PresenceEntry[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { channel, status } of presence) {
    if (status === "online") counts.set(channel, (counts.get(channel) ?? 0) + 1);
  }
  return counts;
}

function channelView({ id, slug, name, type, metadata, created_at, updated_at }: RegisteredChannel) {
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

function listView({ id, slug, name, type, members, created_at, updated_at }: ListedChannel, online: number) {
  const times = { created_at: created_at.toISOString(), updated_at: updated_at.toISOString() };
  return { id, slug, name, type, members, online, ...times };
}
