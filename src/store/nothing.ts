// Where there is no database by choice, nothing is registered, kept or captured, so there is nothing to find. What would
// have to be written, or judged, is refused by the query itself (`database.ts`).
import type { ChannelStore } from "./channels.ts";
import type { MessageStore } from "./messages.ts";
import type { SubscriptionStore } from "./subscriptions.ts";

interface Nothing {
  readonly channels: Pick<
    ChannelStore,
    "find" | "findSlug" | "findSlugs" | "list" | "countByType" | "countMembersBesides"
  >;
  readonly messages: Pick<MessageStore, "expire" | "events">;
  readonly subscriptions: Pick<SubscriptionStore, "list" | "removeOrphans">;
}

export const nothing: Nothing = {
  channels: {
    find: async () => undefined,
    findSlug: async () => undefined,
    findSlugs: async () => [],
    list: async () => [],
    countByType: async () => ({ public: 0, private: 0, presence: 0, direct: 0 }),
    countMembersBesides: async () => 0,
  },
  messages: {
    expire: async () => ({ deleted: 0, topics: new Set() }),
    events: async () => [],
  },
  subscriptions: {
    list: async () => [],
    removeOrphans: async () => 0,
  },
};
