// Registrations and memberships that have changed, by whatever way: the rooms of their channels are told.
import { roomObject } from "../protocol/topics.ts";
import { openStore } from "../store/store.ts";
import { forEachAtOnce } from "./at-once.ts";
import type { Env } from "./env.ts";
import type { Channel } from "./objects/channel.ts";

/** Tells both rooms of each slug what it is registered as now. Throws what the store throws. */
export async function configureChannels(env: Env, slugs: readonly string[]): Promise<void> {
  const found = await openStore(env).channels.findSlugs(slugs);
  const bySlug = new Map(found.map(({ id, slug, name, type, metadata }) => [slug, { id, slug, name, type, metadata }]));
  await forEachRoom(env, slugs, (room, slug) => room.configure(bySlug.get(slug) ?? null));
}

/** Has both rooms of each slug judge these users anew, or everybody. */
export async function reauthorizeMembers(env: Env, members: ReadonlyMap<string, string[] | undefined>): Promise<void> {
  await forEachRoom(env, [...members.keys()], (room, slug) => room.reauthorize(members.get(slug)));
}

function forEachRoom(
  env: Env,
  slugs: readonly string[],
  tell: (room: DurableObjectStub<Channel>, slug: string) => Promise<void>,
): Promise<void> {
  return forEachAtOnce(slugs, async (slug) => {
    await Promise.all([true, false].map((side) => tell(env.CHANNEL.getByName(roomObject(slug, side)), slug)));
  });
}
